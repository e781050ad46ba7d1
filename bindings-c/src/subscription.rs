//! Subscriptions, and the callback with its userdata that stands behind each.

use std::ffi::{c_char, c_void, CString};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use serde::Serialize;
use unstale_core::{Result, Subscription};

use crate::error::invalid;
use crate::handle::Table;
use crate::panic::boundary_or;
use crate::value::unstale_free_fn;

/// An event, as a JSON object of `json_len` bytes that is NUL-terminated too and lives until the callback returns.
pub type unstale_event_fn = Option<unsafe extern "C" fn(userdata: *mut c_void, json: *const c_char, json_len: usize)>;

/// A subscription to events. Ended and freed with `unstale_subscription_cancel`.
pub struct unstale_subscription {
    _opaque: [u8; 0],
}

pub(crate) static SUBSCRIPTIONS: Table<unstale_subscription, (Subscription, Arc<Listener>)> =
    Table::new("subscription", 3);

/// Ends a subscription and frees the handle. No call of its callback starts after this returned; one that runs right
/// now on another thread goes on, and `userdata_free` is called when it is over. May be called from the callback. NULL,
/// or one cancelled before: does nothing.
#[no_mangle]
pub extern "C" fn unstale_subscription_cancel(subscription: *mut unstale_subscription) {
    boundary_or!((), {
        if let Some((subscription, listener)) = SUBSCRIPTIONS.remove(subscription) {
            listener.ended.store(true, Ordering::SeqCst);
            subscription.cancel();
        }
    })
}

/// # Safety
/// `place` is NULL (nobody will cancel) or writable.
pub(crate) unsafe fn hand_out(made: Subscription, listener: Arc<Listener>, place: *mut *mut unstale_subscription) {
    if !place.is_null() {
        // SAFETY: the caller's promise.
        unsafe { *place = SUBSCRIPTIONS.insert((made, listener)) };
    }
}

/// A pointer of the caller's and what frees it, exactly once.
pub(crate) struct Userdata {
    pointer: *mut c_void,
    free: unstale_free_fn,
}

// SAFETY: the functions that take one demand that it may be used and freed on any thread.
unsafe impl Send for Userdata {}
// SAFETY: as above.
unsafe impl Sync for Userdata {}

impl Userdata {
    pub(crate) fn new(pointer: *mut c_void, free: unstale_free_fn) -> Self {
        Userdata { pointer, free }
    }

    pub(crate) fn pointer(&self) -> *mut c_void {
        self.pointer
    }
}

impl Drop for Userdata {
    fn drop(&mut self) {
        if let Some(free) = self.free {
            // SAFETY: the creator vouches for the pair; this drop is its only call.
            unsafe { free(self.pointer) }
        }
    }
}

/// A callback for events.
pub(crate) struct Listener {
    callback: unsafe extern "C" fn(*mut c_void, *const c_char, usize),
    userdata: Userdata,
    /// Events that already wait are not told once this is set.
    ended: AtomicBool,
}

impl Listener {
    /// Takes the userdata over in every case.
    pub(crate) fn new(callback: unstale_event_fn, userdata: *mut c_void, free: unstale_free_fn) -> Result<Arc<Self>> {
        let userdata = Userdata::new(userdata, free);
        let callback = callback.ok_or_else(|| invalid("callback is NULL"))?;
        Ok(Arc::new(Listener { callback, userdata, ended: AtomicBool::new(false) }))
    }

    pub(crate) fn call(&self, event: &impl Serialize) {
        if self.ended.load(Ordering::SeqCst) {
            return;
        }
        // JSON has no raw NUL, and these types have no map with other than string keys.
        let Some(json) = serde_json::to_string(event).ok().and_then(|json| CString::new(json).ok()) else {
            return;
        };
        // SAFETY: the subscriber vouches for the pair on any thread; the text outlives the call.
        unsafe { (self.callback)(self.userdata.pointer(), json.as_ptr(), json.as_bytes().len()) }
    }
}
