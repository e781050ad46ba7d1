//! What the cache holds: a Python object that threads without the GIL may copy and drop.
//!
//! The store copies and drops values on whatever thread removes them, often the link's, and taking the GIL there costs up
//! to 5 ms while Python is busy. So a [`Held`] shares one reference to its object by a counter of its own, and when the last
//! share goes the object is put in the graveyard, which is emptied by a thread that has the GIL anyway.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use std::arch::asm;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::atomic::{fence, AtomicUsize, Ordering};

use pyo3::ffi;
use pyo3::prelude::*;

use crate::post;

/// One reference to a Python object, shared by every [`Held`] that points here.
struct Shared {
    object: NonNull<ffi::PyObject>,
    shares: AtomicUsize,
}

/// A cached Python object.
///
/// The lowest bit tells the two forms apart. Clear: a share of a [`Shared`]; the only form that is ever put in a store.
/// Set: a reference of its own, taken with [`with_direct_copies`]; it makes a hit cost one `Py_INCREF` instead of two
/// atomic operations and a `Py_INCREF`.
pub struct Held {
    tagged: NonNull<u8>,
    _owns: PhantomData<Shared>,
}

const DIRECT: usize = 1;

/// The thread whose copies are direct ones, or 0. Only who has the GIL writes it, so one is enough; a thread-local flag would
/// cost a call of the dynamic linker's at each of three places.
static DIRECT_COPIES: AtomicUsize = AtomicUsize::new(0);

/// A number of this thread's own, never 0: where its thread-local storage is.
#[inline]
fn this_thread() -> usize {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    {
        let at: usize;
        // SAFETY: the first word that `fs` points to is its own address (System V ABI, thread-local storage).
        unsafe { asm!("mov {}, fs:0", out(reg) at, options(nostack, preserves_flags, readonly, pure)) };
        at
    }
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    {
        thread_local!(static HERE: u8 = const { 0 });
        HERE.with(|here| std::ptr::from_ref(here).addr())
    }
}

// SAFETY: without the GIL a `Held` only touches its own atomic counter and the graveyard; the object itself is reached
// through methods that ask for the GIL.
unsafe impl Send for Held {}
// SAFETY: as above.
unsafe impl Sync for Held {}

impl Held {
    /// Takes over a reference.
    pub fn new(object: Bound<'_, PyAny>) -> Held {
        // SAFETY: `into_ptr` never gives null.
        let object = unsafe { NonNull::new_unchecked(object.into_ptr()) };
        let shared = Box::into_raw(Box::new(Shared { object, shares: AtomicUsize::new(1) }));
        // SAFETY: a box is never null; its alignment leaves the lowest bit clear.
        Held { tagged: unsafe { NonNull::new_unchecked(shared.cast()) }, _owns: PhantomData }
    }

    fn direct(object: NonNull<ffi::PyObject>) -> Held {
        // SAFETY: objects are aligned to more than one byte, so the lowest bit is free; and setting a bit gives no null.
        let tagged = unsafe { NonNull::new_unchecked(object.as_ptr().cast::<u8>().map_addr(|a| a | DIRECT)) };
        Held { tagged, _owns: PhantomData }
    }

    #[inline]
    fn is_direct(&self) -> bool {
        self.tagged.as_ptr().addr() & DIRECT != 0
    }

    #[inline]
    fn shared(&self) -> &Shared {
        debug_assert!(!self.is_direct());
        // SAFETY: the bit is clear, so this points to a `Shared` of which we own a share.
        unsafe { self.tagged.cast::<Shared>().as_ref() }
    }

    /// The object, still owned by this.
    #[inline]
    pub fn as_ptr(&self) -> *mut ffi::PyObject {
        if self.is_direct() {
            self.tagged.as_ptr().map_addr(|a| a & !DIRECT).cast()
        } else {
            self.shared().object.as_ptr()
        }
    }

    /// A reference for the caller.
    pub fn to_py(&self, py: Python<'_>) -> Py<PyAny> {
        // SAFETY: we keep the object alive, and the GIL is held.
        unsafe { Bound::from_borrowed_ptr(py, self.as_ptr()) }.unbind()
    }

    /// A reference for the caller; no cost if this is a direct copy. The caller has the GIL.
    #[inline]
    pub fn into_ptr(self, _py: Python<'_>) -> *mut ffi::PyObject {
        let object = self.as_ptr();
        if self.is_direct() {
            std::mem::forget(self);
        } else {
            // SAFETY: the GIL is held and we keep the object alive until after this line.
            unsafe { ffi::Py_INCREF(object) };
        }
        object
    }

    /// Shows the object to Python's garbage collector as a reference owned by the visitor's caller.
    pub fn traverse(&self, visit: &pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        // SAFETY: the collector runs with the GIL held; `ManuallyDrop` gives back no reference that we did not take.
        let object =
            unsafe { ManuallyDrop::new(Bound::from_owned_ptr(Python::assume_attached(), self.as_ptr()).unbind()) };
        visit.call(&*object)
    }
}

/// Runs a look-up whose copies of a [`Held`] are references of their own. Python code must not run inside.
#[inline]
pub fn with_direct_copies<R>(_py: Python<'_>, look_up: impl FnOnce() -> R) -> R {
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            DIRECT_COPIES.store(0, Ordering::Relaxed);
        }
    }
    DIRECT_COPIES.store(this_thread(), Ordering::Relaxed);
    let _reset = Reset;
    look_up()
}

impl Clone for Held {
    #[inline]
    fn clone(&self) -> Held {
        if self.is_direct() {
            return Python::attach(|py| Held::new(self.to_py(py).into_bound(py)));
        }
        let shared = self.shared();
        if DIRECT_COPIES.load(Ordering::Relaxed) == this_thread() {
            // SAFETY: that is only so on a thread that holds the GIL, for as long as it does.
            unsafe { ffi::Py_INCREF(shared.object.as_ptr()) };
            return Held::direct(shared.object);
        }
        // Relaxed, as in `Arc`: who copies has a share, so the object cannot go.
        shared.shares.fetch_add(1, Ordering::Relaxed);
        Held { tagged: self.tagged, _owns: PhantomData }
    }
}

impl Drop for Held {
    #[inline]
    fn drop(&mut self) {
        let object = if self.is_direct() {
            // SAFETY: without its tag it is the pointer that `direct` was given.
            unsafe { NonNull::new_unchecked(self.as_ptr()) }
        } else {
            if self.shared().shares.fetch_sub(1, Ordering::Release) != 1 {
                return;
            }
            // As in `Arc`: what other threads did with the object happens before it goes.
            fence(Ordering::Acquire);
            // SAFETY: that was the last share, and `new` made it from a box.
            unsafe { Box::from_raw(self.tagged.cast::<Shared>().as_ptr()) }.object
        };
        post::bury(object);
    }
}
