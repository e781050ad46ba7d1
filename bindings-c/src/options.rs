//! Per-call options of `set`, `update`, `get_or_load` and `begin`.

use unstale_core::{Result, SetOptions};

use crate::error::invalid;
use crate::ffi::{duration, texts, unstale_str};
use crate::lease::{unstale_lease, LEASES};

/// What a value is stored with. Zero-initialise it (`unstale_set_options options = {0};`): zero means "as the cache's
/// configuration says" or "none" throughout. NULL in its place means the same.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct unstale_set_options {
    /// How long the entry may live, in milliseconds, at most ten years; 0: the cache's `ttl`.
    pub ttl_ms: u64,
    /// Tags with which the entry can be invalidated; `tags_len` of them (at most 1,000), each 1 to 1,024 bytes.
    pub tags: *const unstale_str,
    /// Number of `tags`.
    pub tags_len: usize,
    /// Keys whose invalidation, by whomever, makes this entry fall too; `depends_on_len` of them (at most 1,000).
    pub depends_on: *const unstale_str,
    /// Number of `depends_on`.
    pub depends_on_len: usize,
    /// The value's version, 0 to 2^53 - 1. Counts only if `has_version` is not 0.
    pub version: u64,
    /// A lease of this key taken before the source was read (or, for `update`, before it was written); NULL: none. The
    /// call that uses it consumes it, so that a second use stores nothing; it is freed with `unstale_lease_free` all
    /// the same. Not for read-throughs, which take their own.
    pub lease: *mut unstale_lease,
    /// Not 0: `version` counts.
    pub has_version: u8,
    /// Must be 0.
    pub reserved: [u8; 7],
}

/// What the core wants.
///
/// # Safety
/// NULL, or a readable struct whose arrays have the lengths that it says.
pub(crate) unsafe fn options(given: *const unstale_set_options) -> Result<SetOptions> {
    // SAFETY: the caller's promise.
    let Some(given) = (unsafe { given.as_ref() }) else {
        return Ok(SetOptions::default());
    };
    if given.reserved != [0; 7] {
        return Err(invalid("options.reserved is not 0; zero-initialise the struct"));
    }
    // SAFETY: the caller's promise.
    let (tags, depends_on) = unsafe {
        (
            texts("options.tags", given.tags, given.tags_len)?,
            texts("options.depends_on", given.depends_on, given.depends_on_len)?,
        )
    };
    let mut options = SetOptions::new();
    options.ttl = match given.ttl_ms {
        0 => None,
        ms => Some(duration("options.ttl_ms", ms)?),
    };
    options.tags = tags.into_iter().map(str::to_owned).collect();
    options.depends_on = depends_on.into_iter().map(str::to_owned).collect();
    options.version = (given.has_version != 0).then_some(given.version);
    options.lease = if given.lease.is_null() { None } else { Some(LEASES.get(given.lease)?) };
    Ok(options)
}
