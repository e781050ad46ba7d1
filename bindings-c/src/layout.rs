//! Size and offsets of every struct that crosses. `tests/c/layout.c` asserts the same numbers on C's side, and the
//! bindings of Go and .NET rely on them.

use std::mem::{align_of, offset_of, size_of};

use crate::error::unstale_result;
use crate::ffi::unstale_str;
use crate::invalidate::unstale_key_version;
use crate::load::{unstale_begun, unstale_failure, unstale_joined};
use crate::options::unstale_set_options;
use crate::value::unstale_value;

macro_rules! assert_layout {
    ($type:ident, $size:literal, $($field:ident = $offset:literal),+) => {
        assert_eq!(size_of::<$type>(), $size, stringify!($type));
        $(assert_eq!(offset_of!($type, $field), $offset, concat!(stringify!($type), ".", stringify!($field)));)+
    };
}

#[test]
#[cfg(target_pointer_width = "64")]
fn structs_have_the_layout_that_other_languages_rely_on() {
    assert_layout!(unstale_result, 8, code = 0, detail = 4);
    assert_layout!(unstale_str, 16, data = 0, len = 8);
    assert_layout!(unstale_value, 24, data = 0, len = 8, owner = 16);
    assert_layout!(
        unstale_set_options,
        64,
        ttl_ms = 0,
        tags = 8,
        tags_len = 16,
        depends_on = 24,
        depends_on_len = 32,
        version = 40,
        lease = 48,
        has_version = 56,
        reserved = 57
    );
    assert_layout!(unstale_key_version, 32, key = 0, key_len = 8, version = 16, has_version = 24, reserved = 25);
    assert_layout!(unstale_failure, 32, code = 0, error = 8);
    assert_layout!(unstale_begun, 56, value = 0, load = 24, join = 32, load_id = 40, state = 48, reserved = 52);
    assert_layout!(unstale_joined, 64, value = 0, failure = 24, state = 56, reserved = 60);
    assert_eq!(align_of::<unstale_set_options>(), 8);
}
