//! Memory of ours that JavaScript sees as an `ArrayBuffer`.

use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use napi::bindgen_prelude::Unknown;
use napi::{sys, Env};

/// Part of an object that lives as long as the object, at one place: it consists of atomics and is shared by reference.
pub struct View<T> {
    owner: Arc<T>,
    start: NonNull<c_void>,
    len: usize,
}

impl<T: Send + Sync + 'static> View<T> {
    /// The part that `choose` finds.
    pub fn of<P: ?Sized>(owner: Arc<T>, choose: impl FnOnce(&T) -> &P) -> Self {
        let part = choose(&owner);
        let (start, len) = (NonNull::from(part).cast(), size_of_val(part));
        View { owner, start, len }
    }

    /// An `ArrayBuffer` of this memory, which keeps the owner alive.
    ///
    /// It is not a `SharedArrayBuffer`, which cannot be made over memory of ours; V8 reads both with the same instructions.
    pub fn into_buffer(self, env: &Env) -> napi::Result<Unknown<'_>> {
        let (start, len) = (self.start.as_ptr(), self.len);
        let owner = Arc::into_raw(self.owner);
        let mut buffer = ptr::null_mut();
        // SAFETY: `env` is the environment of the call that we are in. The memory is valid until `released` gives the owner
        // back, for it is part of it, and aligned for the typed arrays that are put over it.
        let status = unsafe {
            let hint = owner.cast_mut().cast();
            sys::napi_create_external_arraybuffer(env.raw(), start, len, Some(released::<T>), hint, &mut buffer)
        };
        if status != sys::Status::napi_ok {
            // SAFETY: no buffer was made, so nobody else gives it back.
            drop(unsafe { Arc::from_raw(owner) });
            return Err(napi::Error::from_reason(
                "unstale: this runtime does not let addons share memory (Electron with V8's memory cage does not)",
            ));
        }
        // SAFETY: `buffer` is a value of this environment.
        Ok(unsafe { Unknown::from_raw_unchecked(env.raw(), buffer) })
    }
}

unsafe extern "C" fn released<T>(_: sys::napi_env, _: *mut c_void, owner: *mut c_void) {
    // SAFETY: `owner` came from `Arc::into_raw` in `into_buffer`; Node calls this once.
    drop(unsafe { Arc::from_raw(owner.cast::<T>()) });
}
