//! Strings and lists of strings from JavaScript.
//!
//! JavaScript's strings may hold half of a surrogate pair, which UTF-8 cannot. Node replaces it silently, which would make
//! two different keys of JavaScript one key of ours, so it is an error here. Reading an argument never fails by itself:
//! what is wrong with it is told by the function that knows the argument's name.

use std::ptr;

use napi::bindgen_prelude::{FromNapiValue, TypeName, ValidateNapiValue};
use napi::{sys, ValueType};
use unstale::{Error, ErrorKind, Result};

/// A little over the longest key, so that almost every string is read in one call.
const SHORT: usize = 1028;

/// A string argument, or what was there instead.
pub struct Text(std::result::Result<String, &'static str>);

impl Text {
    /// The string; `name` is the argument's name in error messages.
    pub fn get(self, name: &str) -> Result<String> {
        self.0.map_err(|instead| {
            Error::new(ErrorKind::InvalidArgument, format!("`{name}` must be a well-formed string, not {instead}"))
        })
    }
}

impl TypeName for Text {
    fn type_name() -> &'static str {
        "string"
    }

    fn value_type() -> ValueType {
        ValueType::String
    }
}

impl ValidateNapiValue for Text {}

impl FromNapiValue for Text {
    unsafe fn from_napi_value(env: sys::napi_env, value: sys::napi_value) -> napi::Result<Self> {
        let mut short = [0u8; SHORT];
        let mut len = 0;
        // SAFETY: the caller gives a value of this environment; the buffer has the length that is passed.
        let status = unsafe { sys::napi_get_value_string_utf8(env, value, short.as_mut_ptr().cast(), SHORT, &mut len) };
        if status != sys::Status::napi_ok {
            // SAFETY: as above.
            return Ok(Text(Err(unsafe { type_of(env, value) })));
        }
        // Node writes whole characters and leaves room for a NUL, so a full buffer is at least three bytes short of it.
        if len + 4 >= SHORT || short[..len].windows(3).any(|bytes| bytes == "\u{fffd}".as_bytes()) {
            // SAFETY: as above.
            return Ok(Text(unsafe { exactly(env, value) }));
        }
        Ok(Text(Ok(String::from_utf8_lossy(&short[..len]).into_owned())))
    }
}

/// Reads a string of any length and notices lone surrogates.
///
/// # Safety
/// `value` is a string of `env`, whose thread this is.
unsafe fn exactly(env: sys::napi_env, value: sys::napi_value) -> std::result::Result<String, &'static str> {
    let mut len = 0;
    // SAFETY: by the caller's promise; without a buffer Node only measures.
    unsafe { sys::napi_get_value_string_utf16(env, value, ptr::null_mut(), 0, &mut len) };
    let mut units = vec![0u16; len + 1];
    // SAFETY: as above; Node writes at most `len` units and a NUL.
    unsafe { sys::napi_get_value_string_utf16(env, value, units.as_mut_ptr(), len + 1, &mut len) };
    String::from_utf16(&units[..len]).map_err(|_| "one with half of a surrogate pair")
}

/// # Safety
/// `value` is a value of `env`, whose thread this is.
unsafe fn type_of(env: sys::napi_env, value: sys::napi_value) -> &'static str {
    let mut kind = 0;
    // SAFETY: by the caller's promise.
    unsafe { sys::napi_typeof(env, value, &mut kind) };
    match kind {
        sys::ValueType::napi_undefined => "undefined",
        sys::ValueType::napi_null => "null",
        sys::ValueType::napi_boolean => "a boolean",
        sys::ValueType::napi_number => "a number",
        sys::ValueType::napi_symbol => "a symbol",
        sys::ValueType::napi_function => "a function",
        sys::ValueType::napi_bigint => "a bigint",
        _ => "an object",
    }
}
