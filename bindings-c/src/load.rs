//! Read through: with a loader callback, or in two phases for callers that run loads in their own way.

use std::error::Error as StdError;
use std::ffi::{c_char, c_void};
use std::fmt;
use std::ptr;
use std::sync::Arc;

use unstale_core::{blocking, Begin, Joined, Load, Pending};

use crate::cache::{open, unstale_cache};
use crate::error::{invalid, unstale_result};
use crate::ffi::{input, limit, output, text};
use crate::handle::Table;
use crate::options::{options, unstale_set_options};
use crate::panic::{boundary, boundary_or};
use crate::value::{unstale_value, Blob};

/// Loads the value of a key from the source. Runs on the thread that called `unstale_cache_get_or_load`, before that
/// returns.
///
/// Returns 0 and fills `value` with a counted value (`unstale_value_copy`, `unstale_value_new`) whose reference the
/// library takes over, or with memory that outlives the callback and is copied; left as it is (`data` NULL), it means
/// "not found". Any other return value is a failure code of yours, for which `value` may hold a description (text, by
/// convention) or an error object.
pub type unstale_loader_fn = Option<
    unsafe extern "C" fn(userdata: *mut c_void, key: *const c_char, key_len: usize, value: *mut unstale_value) -> i32,
>;

/// How a load failed: the loader's own code, and what it put beside it.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct unstale_failure {
    /// The loader's code, not 0.
    pub code: i32,
    /// The loader's description or error object; `data` is NULL if it gave none. Released by who receives it.
    pub error: unstale_value,
}

/// What `unstale_cache_begin` found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum unstale_begin_state {
    /// The key is cached: `value` is a counted view.
    UNSTALE_BEGIN_HIT = 1,
    /// That the source has no such key is cached (`negative_ttl`).
    UNSTALE_BEGIN_ABSENT = 2,
    /// Load it: `load` is yours, and others may wait for it.
    UNSTALE_BEGIN_LEAD = 3,
    /// Somebody loads it: wait with `join`.
    UNSTALE_BEGIN_JOIN = 4,
}

/// The answer of `unstale_cache_begin`. Fields that do not belong to `state` are NULL or 0.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct unstale_begun {
    /// For `UNSTALE_BEGIN_HIT`.
    pub value: unstale_value,
    /// For `UNSTALE_BEGIN_LEAD`: to be ended with `unstale_load_finish`, `unstale_load_fail` or `unstale_load_abandon`.
    pub load: *mut unstale_load,
    /// For `UNSTALE_BEGIN_JOIN`: freed with `unstale_join_free`.
    pub join: *mut unstale_join,
    /// For both: the number of the load, unique in this process; a join has that of the load it waits for.
    pub load_id: u64,
    /// A number of `unstale_begin_state`.
    pub state: u32,
    /// 0.
    pub reserved: u32,
}

/// What `unstale_join_wait` brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum unstale_join_state {
    /// The load ended: `value` is a counted view.
    UNSTALE_JOIN_VALUE = 1,
    /// The load ended: the source has no such key.
    UNSTALE_JOIN_ABSENT = 2,
    /// The load failed: see `failure`.
    UNSTALE_JOIN_FAILED = 3,
    /// The load was abandoned, or took longer than the staleness bound: call `unstale_cache_begin` again.
    UNSTALE_JOIN_AGAIN = 4,
    /// `timeout_ms`, or the cache's `load_timeout`, ran out; the join can wait again.
    UNSTALE_JOIN_TIMED_OUT = 5,
}

/// The answer of `unstale_join_wait`. Fields that do not belong to `state` are NULL or 0.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct unstale_joined {
    /// For `UNSTALE_JOIN_VALUE`.
    pub value: unstale_value,
    /// For `UNSTALE_JOIN_FAILED`.
    pub failure: unstale_failure,
    /// A number of `unstale_join_state`.
    pub state: u32,
    /// 0.
    pub reserved: u32,
}

/// A load that this caller leads.
pub struct unstale_load {
    _opaque: [u8; 0],
}

/// A wait for a load that somebody else leads.
pub struct unstale_join {
    _opaque: [u8; 0],
}

pub(crate) static LOADS: Table<unstale_load, Load<Blob>> = Table::new("load", 4);
pub(crate) static JOINS: Table<unstale_join, Arc<Waiting>> = Table::new("join", 5);

/// Gets a key, or loads it by calling `loader` on this thread; if another thread loads it already, waits for that one's
/// answer instead (single flight). A value that was invalidated while it was being loaded is returned to those who
/// waited for it, but not stored. `options` (or NULL) is what the value is stored with, and is checked before anything
/// is loaded.
///
/// `value` is released with `unstale_value_release`; not found: `data` is NULL. If this or the joined loader failed,
/// the result is `UNSTALE_LOAD` and `failure` (or NULL) says how; its `error` is released by the caller. `failure` is
/// written only then.
///
/// Errors: `UNSTALE_INVALID_ARGUMENT` (NULL, a bad key or option), `UNSTALE_LOAD`, `UNSTALE_TIMEOUT` (`load_timeout`),
/// `UNSTALE_CLOSED`, `UNSTALE_FORKED`. The loader may call the library, but not for the same key of the same cache.
///
/// # Safety
/// The pointers are valid for the lengths given with them; `loader` keeps its contract.
#[no_mangle]
pub unsafe extern "C" fn unstale_cache_get_or_load(
    cache: *mut unstale_cache,
    key: *const c_char,
    key_len: usize,
    options: *const unstale_set_options,
    loader: unstale_loader_fn,
    userdata: *mut c_void,
    value: *mut unstale_value,
    failure: *mut unstale_failure,
) -> unstale_result {
    boundary! {
        // SAFETY: the caller's promises.
        let (cache, key, value) = unsafe { (open(cache)?, text("key", key, key_len)?, output("value", value)?) };
        let loader = loader.ok_or_else(|| invalid("loader is NULL"))?;
        // SAFETY: the caller's promises.
        let options = unsafe { self::options(options)? };
        // SAFETY: the caller's promise on `loader`.
        let load = || unsafe { run(loader, userdata, key) };
        match blocking::get_or_load(cache, key, &options, load) {
            Ok(found) => {
                *value = found.map_or(unstale_value::NONE, Blob::into_view);
                Ok(())
            }
            Err(error) => {
                if let (Some(source), false) = (error.load_source(), failure.is_null()) {
                    // SAFETY: non-NULL, and writable by the caller's promise.
                    unsafe { *failure = Failure::of(source).into_c() };
                }
                Err(error)
            }
        }
    }
}

/// The first half of a read-through for callers that run loads in their own way (another thread, an event loop, another
/// language's cancellation): look up, and if it is a miss, become the leader of a load or join the one that runs. Does
/// not block. `options` (or NULL) is what the value will be stored with. The caller's loop:
///
///     begin → HIT: value. ABSENT: not found. LEAD: load, then unstale_load_finish or unstale_load_fail.
///             JOIN: unstale_join_wait → VALUE, ABSENT or FAILED: that. AGAIN: begin again.
///                   TIMED_OUT: wait again or give up.
///
/// Errors: `UNSTALE_INVALID_ARGUMENT` (NULL, a bad key or option), `UNSTALE_CLOSED`, `UNSTALE_FORKED`.
///
/// # Safety
/// The pointers are valid for the lengths given with them.
#[no_mangle]
pub unsafe extern "C" fn unstale_cache_begin(
    cache: *mut unstale_cache,
    key: *const c_char,
    key_len: usize,
    options: *const unstale_set_options,
    begun: *mut unstale_begun,
) -> unstale_result {
    boundary! {
        // SAFETY: the caller's promises.
        let (cache, key, begun) = unsafe { (open(cache)?, text("key", key, key_len)?, output("begun", begun)?) };
        // SAFETY: the caller's promises.
        let options = unsafe { self::options(options)? };
        let mut answer = unstale_begun {
            value: unstale_value::NONE,
            load: ptr::null_mut(),
            join: ptr::null_mut(),
            load_id: 0,
            state: unstale_begin_state::UNSTALE_BEGIN_ABSENT as u32,
            reserved: 0,
        };
        match cache.begin_with(key, &options)? {
            Begin::Hit(blob) => {
                answer.state = unstale_begin_state::UNSTALE_BEGIN_HIT as u32;
                answer.value = blob.into_view();
            }
            Begin::Absent => {}
            Begin::Lead(load) => {
                answer.state = unstale_begin_state::UNSTALE_BEGIN_LEAD as u32;
                answer.load_id = load.id();
                answer.load = LOADS.insert(load);
            }
            Begin::Join(pending) => {
                answer.state = unstale_begin_state::UNSTALE_BEGIN_JOIN as u32;
                answer.load_id = pending.load_id();
                answer.join = JOINS.insert(Arc::new(Waiting { pending, key: key.into() }));
            }
        }
        *begun = answer;
        Ok(())
    }
}

/// Ends a load with its value and frees the handle; whoever joined gets the value. `value` NULL or without data means
/// "not found". `stored` (or NULL) becomes false if it was not stored, because an invalidation came meanwhile, or
/// because "not found" is not cached.
///
/// Errors: `UNSTALE_INVALID_ARGUMENT` (a load that was ended before; a bad value, which leaves the load open).
///
/// # Safety
/// `value` is NULL or valid.
#[no_mangle]
pub unsafe extern "C" fn unstale_load_finish(
    load: *mut unstale_load,
    value: *const unstale_value,
    stored: *mut bool,
) -> unstale_result {
    boundary! {
        // SAFETY: the caller's promises.
        let value = match unsafe { value.as_ref() } {
            // SAFETY: as above.
            Some(value) => unsafe { Blob::optional(value, "value")? },
            None => None,
        };
        let done = LOADS.take(load)?.finish(value);
        if !stored.is_null() {
            // SAFETY: non-NULL, and writable by the caller's promise.
            unsafe { *stored = done };
        }
        Ok(())
    }
}

/// Ends a load with a failure and frees the handle; whoever joined gets the same code and error.
///
/// Errors: `UNSTALE_INVALID_ARGUMENT` (a load that was ended before; `failure` NULL or with code 0 or with a bad error,
/// which leaves the load open).
///
/// # Safety
/// `failure` is NULL or valid.
#[no_mangle]
pub unsafe extern "C" fn unstale_load_fail(load: *mut unstale_load, failure: *const unstale_failure) -> unstale_result {
    boundary! {
        // SAFETY: the caller's promise.
        let failure = unsafe { input("failure", failure)? };
        if failure.code == 0 {
            return Err(invalid("failure.code is 0, which stands for success"));
        }
        // SAFETY: as above.
        let error = unsafe { Blob::optional(&failure.error, "failure.error")? };
        LOADS.take(load)?.fail(Arc::new(Failure { code: failure.code, error }));
        Ok(())
    }
}

/// Gives a load up and frees the handle; whoever joined begins again. NULL, or one ended before: does nothing.
#[no_mangle]
pub extern "C" fn unstale_load_abandon(load: *mut unstale_load) {
    boundary_or!((), { drop(LOADS.remove(load)) })
}

/// Waits until the joined load ends, for at most `timeout_ms` (0: only looks; `UNSTALE_NO_LIMIT`: no limit). Several
/// threads may wait with one join, and it may wait again; each answer's `value` or `failure.error` is released apart.
///
/// Errors: `UNSTALE_INVALID_ARGUMENT` (NULL, a freed join, a wait in the loader of the same load).
///
/// # Safety
/// `joined` is writable.
#[no_mangle]
pub unsafe extern "C" fn unstale_join_wait(
    join: *mut unstale_join,
    timeout_ms: u64,
    joined: *mut unstale_joined,
) -> unstale_result {
    boundary! {
        let join = JOINS.get(join)?;
        // SAFETY: the caller's promise.
        let joined = unsafe { output("joined", joined)? };
        let mut answer = unstale_joined {
            value: unstale_value::NONE,
            failure: unstale_failure { code: 0, error: unstale_value::NONE },
            state: unstale_join_state::UNSTALE_JOIN_AGAIN as u32,
            reserved: 0,
        };
        match blocking::join(&join.pending, &join.key, limit(timeout_ms))? {
            Joined::Value(blob) => {
                answer.state = unstale_join_state::UNSTALE_JOIN_VALUE as u32;
                answer.value = blob.into_view();
            }
            Joined::Absent => answer.state = unstale_join_state::UNSTALE_JOIN_ABSENT as u32,
            Joined::Failed(source) => {
                answer.state = unstale_join_state::UNSTALE_JOIN_FAILED as u32;
                answer.failure = Failure::of(&source).into_c();
            }
            Joined::Again => {}
            Joined::TimedOut => answer.state = unstale_join_state::UNSTALE_JOIN_TIMED_OUT as u32,
        }
        *joined = answer;
        Ok(())
    }
}

/// Frees a join; threads that wait with it go on. NULL, or one freed before: does nothing.
#[no_mangle]
pub extern "C" fn unstale_join_free(join: *mut unstale_join) {
    boundary_or!((), { drop(JOINS.remove(join)) })
}

/// What stands behind an `unstale_join`.
pub(crate) struct Waiting {
    pending: Pending<Blob>,
    /// For messages.
    key: Box<str>,
}

/// A loader's failure on its way through the core to whoever waits.
#[derive(Clone)]
struct Failure {
    code: i32,
    error: Option<Blob>,
}

impl Failure {
    fn of(source: &Arc<dyn StdError + Send + Sync>) -> Failure {
        match source.downcast_ref::<Failure>() {
            Some(failure) => failure.clone(),
            // The core's own reason, for instance a loader of the library that panicked.
            None => Failure { code: -1, error: None },
        }
    }

    fn into_c(self) -> unstale_failure {
        unstale_failure { code: self.code, error: self.error.map_or(unstale_value::NONE, Blob::into_view) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.error.as_ref().and_then(Blob::bytes).and_then(|b| std::str::from_utf8(b).ok());
        match text {
            Some(text) => write!(f, "{} (code {})", text.chars().take(300).collect::<String>(), self.code),
            None => write!(f, "code {}", self.code),
        }
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl StdError for Failure {}

/// # Safety
/// `loader` keeps its contract.
unsafe fn run(
    loader: unsafe extern "C" fn(*mut c_void, *const c_char, usize, *mut unstale_value) -> i32,
    userdata: *mut c_void,
    key: &str,
) -> std::result::Result<Option<Blob>, Failure> {
    let mut value = unstale_value::NONE;
    // SAFETY: the caller's promise; key and value outlive the call.
    let code = unsafe { loader(userdata, key.as_ptr().cast(), key.len(), &mut value) };
    // SAFETY: the loader gives its reference away, or memory that is still readable.
    match (code, unsafe { Blob::take(&mut value, "the loader's value") }) {
        (0, Ok(found)) => Ok(found),
        (0, Err(bad)) => Err(Failure { code: -1, error: Some(Blob::copied(bad.message().as_bytes())) }),
        (code, error) => Err(Failure { code, error: error.unwrap_or(None) }),
    }
}
