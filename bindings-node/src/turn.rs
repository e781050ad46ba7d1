//! Tells the clock when a turn of the event loop ends.
//!
//! A `uv_prepare_t` runs just before the loop waits. It costs some nanoseconds a turn, where `setImmediate` costs more than a
//! microsecond, and it does not keep the process alive. libuv's functions are looked up at run time: a host without them
//! (Bun, Deno) still has the thread of `clock`.

use std::ffi::{c_int, c_void, CStr};
use std::rc::Rc;

use napi::sys;

use crate::clock::Clock;

/// `UV_PREPARE` of libuv's `uv_handle_type`, part of its stable interface.
const UV_PREPARE: c_int = 9;

type Callback = unsafe extern "C" fn(*mut c_void);

#[derive(Clone, Copy)]
struct Uv {
    handle_size: unsafe extern "C" fn(c_int) -> usize,
    prepare_init: unsafe extern "C" fn(*mut c_void, *mut c_void) -> c_int,
    prepare_start: unsafe extern "C" fn(*mut c_void, Callback) -> c_int,
    unref: unsafe extern "C" fn(*mut c_void),
    close: unsafe extern "C" fn(*mut c_void, Callback),
    set_data: unsafe extern "C" fn(*mut c_void, *mut c_void),
    get_data: unsafe extern "C" fn(*mut c_void) -> *mut c_void,
}

/// What the handle's data points to.
struct Hook {
    uv: Uv,
    clock: Rc<Clock>,
    /// The handle's memory, which libuv uses until it has called back about the close.
    memory: Vec<u64>,
    /// Tells Node, which waits with the end of the environment until then, that the handle is closed.
    cleanup: sys::napi_async_cleanup_hook_handle,
}

/// Makes `clock` forget the time whenever this environment's loop is about to wait, until the environment ends.
///
/// Returns false where the host has no libuv.
pub fn watch(env: sys::napi_env, clock: Rc<Clock>) -> bool {
    let Some(uv) = Uv::find() else { return false };
    let mut uv_loop = std::ptr::null_mut();
    // SAFETY: `env` is the environment of the call that we are in; `uv_loop` is valid to write to.
    if unsafe { sys::napi_get_uv_event_loop(env, &mut uv_loop) } != sys::Status::napi_ok || uv_loop.is_null() {
        return false;
    }
    // SAFETY: the type is one that libuv knows; then it only returns a number.
    let size = unsafe { (uv.handle_size)(UV_PREPARE) };
    if size == usize::MAX {
        return false;
    }
    let mut hook = Box::new(Hook { uv, clock, memory: vec![0; size.div_ceil(8)], cleanup: std::ptr::null_mut() });
    let handle: *mut c_void = hook.memory.as_mut_ptr().cast();
    // SAFETY: `handle` is `size` bytes, aligned for any of libuv's fields, and lives in the hook, which is freed only after
    // the close was reported (`closed`) or was never given to the loop. We are on the loop's thread.
    unsafe {
        if (uv.prepare_init)(uv_loop.cast(), handle) != 0 {
            return false;
        }
        let hook = Box::into_raw(hook);
        (uv.set_data)(handle, hook.cast());
        let status = sys::napi_add_async_cleanup_hook(env, Some(end), handle, &mut (*hook).cleanup);
        if status != sys::Status::napi_ok {
            (uv.close)(handle, closed);
            return false;
        }
        (uv.prepare_start)(handle, prepare);
        (uv.unref)(handle);
    }
    true
}

unsafe extern "C" fn prepare(handle: *mut c_void) {
    // SAFETY: libuv calls on the loop's thread, with our handle, whose data is the hook until `closed`. Every function of
    // `Uv` is the same in every hook, so one can be used to reach the other.
    unsafe { hook(handle).clock.forget() }
}

/// The environment ends.
unsafe extern "C" fn end(_: sys::napi_async_cleanup_hook_handle, handle: *mut c_void) {
    // SAFETY: as in `prepare`; Node calls this once.
    unsafe { (hook(handle).uv.close)(handle, closed) }
}

unsafe extern "C" fn closed(handle: *mut c_void) {
    // SAFETY: libuv is done with the handle, and this is the last that is heard of it: the hook is ours again. `cleanup` is
    // null only if Node never knew of it.
    unsafe {
        let hook = Box::from_raw(std::ptr::from_ref(hook(handle)).cast_mut());
        if !hook.cleanup.is_null() {
            sys::napi_remove_async_cleanup_hook(hook.cleanup);
        }
    }
}

/// # Safety
/// `handle` was set up by [`watch`] and not yet closed, and this is its loop's thread.
unsafe fn hook<'a>(handle: *mut c_void) -> &'a Hook {
    let uv = Uv::find().expect("it was found when the handle was made");
    // SAFETY: by the caller's promise the data is the hook.
    unsafe { &*(uv.get_data)(handle).cast::<Hook>() }
}

impl Uv {
    fn find() -> Option<Uv> {
        static FOUND: std::sync::OnceLock<Option<Uv>> = std::sync::OnceLock::new();
        *FOUND.get_or_init(|| {
            // SAFETY: each name is a function of libuv with the type of its field, unchanged since libuv 1.19.
            unsafe {
                Some(Uv {
                    handle_size: symbol(c"uv_handle_size")?,
                    prepare_init: symbol(c"uv_prepare_init")?,
                    prepare_start: symbol(c"uv_prepare_start")?,
                    unref: symbol(c"uv_unref")?,
                    close: symbol(c"uv_close")?,
                    set_data: symbol(c"uv_handle_set_data")?,
                    get_data: symbol(c"uv_handle_get_data")?,
                })
            }
        })
    }
}

/// # Safety
/// `F` is a function pointer of the type that the symbol has.
#[cfg(unix)]
unsafe fn symbol<F: Copy>(name: &CStr) -> Option<F> {
    const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
    // SAFETY: `name` ends with NUL.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    // SAFETY: by the caller's promise; the sizes are equal.
    (!found.is_null()).then(|| unsafe { std::mem::transmute_copy(&found) })
}

#[cfg(not(unix))]
unsafe fn symbol<F: Copy>(_: &CStr) -> Option<F> {
    None
}
