//! Values: counted bytes, or memory and objects of the caller's with a destructor.

use std::ffi::c_void;
use std::mem::ManuallyDrop;
use std::ptr;
use std::slice;
use std::sync::Arc;

use unstale_core::Result;

use crate::error::{invalid, unstale_result};
use crate::ffi::{input, output};
use crate::panic::{boundary, boundary_or};

/// Frees `userdata`. May be called on any thread, also on one of the library's; must be quick and must not throw.
/// `free` of the C library is one.
pub type unstale_free_fn = Option<unsafe extern "C" fn(userdata: *mut c_void)>;

/// What keeps the bytes of a value alive: a counted reference.
pub struct unstale_owner {
    data: *const c_void,
    len: usize,
    memory: Memory,
}

enum Memory {
    /// `data` points to it.
    Copied(Box<[u8]>),
    External {
        free: unstale_free_fn,
        userdata: *mut c_void,
    },
}

// SAFETY: the bytes are never written after construction; for external memory `unstale_value_new` demands that it may be
// read and freed on any thread.
unsafe impl Send for unstale_owner {}
// SAFETY: as above.
unsafe impl Sync for unstale_owner {}

impl Drop for unstale_owner {
    fn drop(&mut self) {
        if let Memory::External { free: Some(free), userdata } = self.memory {
            // SAFETY: the creator of the value vouches for the pair; this drop is its only call.
            unsafe { free(userdata) }
        }
    }
}

/// A value: `len` bytes at `data`.
///
/// As an input, fill it yourself with `owner` NULL: the bytes are copied before the function returns (`unstale_value
/// price = {"9.99", 4, NULL};`); or pass one with an owner, which is shared without a copy. Functions never take your
/// reference: they add their own.
///
/// As an output it is a counted view without a copy: read-only, valid until you release it with
/// `unstale_value_release`, even if the entry is invalidated or the client freed meanwhile. `data` is NULL exactly if
/// there is no value (not found); an empty value has a non-NULL `data` and a `len` of 0.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct unstale_value {
    /// The first byte; NULL: no value.
    pub data: *const c_void,
    /// Number of bytes.
    pub len: usize,
    /// What keeps `data` alive; NULL: memory of yours that is to be copied.
    pub owner: *mut unstale_owner,
}

/// Makes a counted copy of `len` bytes at `data`, e.g. as a loader's answer. `value` is released by the caller.
///
/// Errors: `UNSTALE_INVALID_ARGUMENT` (NULL). Any thread.
///
/// # Safety
/// `data` points to `len` readable bytes.
#[no_mangle]
pub unsafe extern "C" fn unstale_value_copy(
    data: *const c_void,
    len: usize,
    value: *mut unstale_value,
) -> unstale_result {
    boundary! {
        // SAFETY: the caller's promises, see above.
        let value = unsafe { output("value", value)? };
        let given = unstale_value { data, len, owner: ptr::null_mut() };
        // SAFETY: as above.
        *value = unsafe { Blob::of(&given, "data")? }.into_view();
        Ok(())
    }
}

/// Makes a counted value of memory or of an object of yours, without a copy. `free_fn(userdata)` is called exactly
/// once: when the last reference is gone, on whatever thread that happens, or before this returns if it fails.
///
/// `data` need not be an address: it may be the number of an object in a table of yours, but not NULL; the library
/// never reads it. So live objects of another language can be cached. `value` is released by the caller.
///
/// Errors: `UNSTALE_INVALID_ARGUMENT` (`data` or `value` NULL). Any thread.
///
/// # Safety
/// What `data` points to does not change until `free_fn` is called; `free_fn` may be called on any thread.
#[no_mangle]
pub unsafe extern "C" fn unstale_value_new(
    data: *const c_void,
    len: usize,
    free_fn: unstale_free_fn,
    userdata: *mut c_void,
    value: *mut unstale_value,
) -> unstale_result {
    boundary! {
        // First of all, so that every way out frees.
        let owner = unstale_owner { data, len, memory: Memory::External { free: free_fn, userdata } };
        // SAFETY: the caller's promise.
        let value = unsafe { output("value", value)? };
        if data.is_null() {
            return Err(invalid("data is NULL, which stands for \"no value\"; give a non-NULL pointer"));
        }
        *value = Blob(Arc::new(owner)).into_view();
        Ok(())
    }
}

/// Adds a reference: `copy` views the same bytes and is released apart. A value without an owner is copied.
///
/// Errors: `UNSTALE_INVALID_ARGUMENT` (NULL, or a value that is none). Any thread.
///
/// # Safety
/// `value` is one that the library handed out and that was not released yet, or memory of the caller's.
#[no_mangle]
pub unsafe extern "C" fn unstale_value_clone(value: *const unstale_value, copy: *mut unstale_value) -> unstale_result {
    boundary! {
        // SAFETY: the caller's promises.
        let (value, copy) = unsafe { (input("value", value)?, output("copy", copy)?) };
        // SAFETY: the caller's promise on `value`.
        *copy = unsafe { Blob::of(value, "value")? }.into_view();
        Ok(())
    }
}

/// Gives the reference of `value` back and clears its fields, so that a second call does nothing. NULL is allowed. Any
/// thread.
///
/// # Safety
/// `value` holds what the library wrote, and no other copy of this struct is released too.
#[no_mangle]
pub unsafe extern "C" fn unstale_value_release(value: *mut unstale_value) {
    boundary_or!((), {
        // SAFETY: NULL or valid, by the caller's promise.
        if let Some(value) = unsafe { value.as_mut() } {
            let owner = std::mem::replace(value, unstale_value::NONE).owner;
            if !owner.is_null() {
                // SAFETY: `into_view` made this pointer from an `Arc` and left its count with the view.
                drop(unsafe { Arc::from_raw(owner.cast_const()) });
            }
        }
    })
}

impl unstale_value {
    /// "Not found."
    pub(crate) const NONE: unstale_value = unstale_value { data: ptr::null(), len: 0, owner: ptr::null_mut() };
}

/// The core's `V`: one counted reference.
#[derive(Clone)]
pub(crate) struct Blob(Arc<unstale_owner>);

impl Blob {
    /// A reference of our own to what `given` shows. `what` names the argument in the error.
    ///
    /// # Safety
    /// `given` is a live view, or `len` readable bytes.
    pub(crate) unsafe fn of(given: &unstale_value, what: &str) -> Result<Blob> {
        // SAFETY: the caller's promise.
        unsafe { Blob::optional(given, what)? }.ok_or_else(|| {
            invalid(format!("{what} is NULL, which stands for \"no value\"; an empty one needs a non-NULL pointer"))
        })
    }

    /// The same, with `None` for `data == NULL`.
    ///
    /// # Safety
    /// As for [`Blob::of`].
    pub(crate) unsafe fn optional(given: &unstale_value, what: &str) -> Result<Option<Blob>> {
        if given.data.is_null() {
            return if given.len == 0 && given.owner.is_null() {
                Ok(None)
            } else {
                Err(invalid(format!("{what} has data NULL, yet a length or an owner")))
            };
        }
        if !given.owner.is_null() {
            // SAFETY: a live view's owner is an `Arc` in raw form that still counts; the clone is ours, the original stays.
            let shared = ManuallyDrop::new(unsafe { Arc::from_raw(given.owner.cast_const()) });
            return Ok(Some(Blob(Arc::clone(&shared))));
        }
        if given.len > isize::MAX as usize {
            return Err(invalid(format!("{what} claims a length of {} bytes", given.len)));
        }
        // SAFETY: non-NULL, at most `isize::MAX`, readable by the caller's promise. (No byte is read for a length of 0.)
        Ok(Some(Blob::copied(unsafe { slice::from_raw_parts(given.data.cast::<u8>(), given.len) })))
    }

    /// A counted copy.
    pub(crate) fn copied(bytes: &[u8]) -> Blob {
        let bytes: Box<[u8]> = bytes.into();
        // An empty box points nowhere, yet not to NULL: so an empty value differs from none.
        Blob(Arc::new(unstale_owner { data: bytes.as_ptr().cast(), len: bytes.len(), memory: Memory::Copied(bytes) }))
    }

    /// Takes over a reference that C gives away (a loader's answer): the view is used up.
    ///
    /// # Safety
    /// As for [`Blob::of`]; the view is not used or released afterwards.
    pub(crate) unsafe fn take(given: &mut unstale_value, what: &str) -> Result<Option<Blob>> {
        // SAFETY: the caller's promise.
        let blob = unsafe { Blob::optional(given, what) };
        // SAFETY: as above.
        unsafe { unstale_value_release(given) };
        blob
    }

    /// The view for C, which owns the reference from now on.
    pub(crate) fn into_view(self) -> unstale_value {
        let (data, len) = (self.0.data, self.0.len);
        unstale_value { data, len, owner: Arc::into_raw(self.0).cast_mut() }
    }

    /// Where `data` points, or the number that it is.
    pub(crate) fn address(&self) -> usize {
        self.0.data as usize
    }

    /// The bytes, if they are a copy of ours. An external `data` may be no address at all.
    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        match &self.0.memory {
            Memory::Copied(bytes) => Some(bytes),
            Memory::External { .. } => None,
        }
    }
}
