//! What `fork` needs: a child must find the tables of handles unlocked, so that it can free what it inherited.

use std::sync::Once;

use crate::handle;
use crate::lease::LEASES;
use crate::load::{JOINS, LOADS};
use crate::receipt::RECEIPTS;
use crate::subscription::SUBSCRIPTIONS;

/// Registers the handlers, once per process.
pub(crate) fn prepare() {
    static ONCE: Once = Once::new();
    #[cfg(unix)]
    ONCE.call_once(|| {
        // SAFETY: the handlers only take and release locks whose holders never fork.
        // It can only fail for lack of memory, and then a child may hang in a free: nothing to be done about it here.
        unsafe { libc::pthread_atfork(Some(hold), Some(release), Some(release)) };
    });
    #[cfg(not(unix))]
    let _ = &ONCE;
}

#[cfg(unix)]
unsafe extern "C" fn hold() {
    handle::KEPT.hold();
    RECEIPTS.hold();
    LEASES.hold();
    SUBSCRIPTIONS.hold();
    LOADS.hold();
    JOINS.hold();
}

#[cfg(unix)]
unsafe extern "C" fn release() {
    // SAFETY: `hold` ran on this thread right before.
    unsafe {
        JOINS.release();
        LOADS.release();
        SUBSCRIPTIONS.release();
        LEASES.release();
        RECEIPTS.release();
        handle::KEPT.release();
    }
}
