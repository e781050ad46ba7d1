//! What `fork` needs: in a child every inherited handle says so, and no lock of this crate is left taken for good.

use std::cell::RefCell;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, MutexGuard, Once, RwLockWriteGuard};

use unstale_core::{Lease, Load, Receipt, Subscription};

use crate::handle::{self, Slots};
use crate::lease::LEASES;
use crate::load::{Waiting, JOINS, LOADS};
use crate::log::{self, Sink};
use crate::receipt::RECEIPTS;
use crate::subscription::{Listener, SUBSCRIPTIONS};
use crate::value::Blob;

/// Registers the handlers, once per process.
pub(crate) fn prepare() {
    static ONCE: Once = Once::new();
    #[cfg(unix)]
    ONCE.call_once(|| {
        // SAFETY: the handlers take locks whose holders never fork, and give them up; the one in the child writes to memory
        // and frees, which glibc and musl allow there. It can only fail for lack of memory, and then a child may hang in a
        // free: nothing to be done about it here.
        unsafe { libc::pthread_atfork(Some(hold), Some(release), Some(release_in_child)) };
    });
    #[cfg(not(unix))]
    let _ = &ONCE;
}

/// Every lock of this crate.
struct Held {
    kept: MutexGuard<'static, Vec<&'static AtomicU32>>,
    receipts: MutexGuard<'static, Slots<Receipt>>,
    leases: MutexGuard<'static, Slots<Lease>>,
    subscriptions: MutexGuard<'static, Slots<(Subscription, Arc<Listener>)>>,
    loads: MutexGuard<'static, Slots<Load<Blob>>>,
    joins: MutexGuard<'static, Slots<Arc<Waiting>>>,
    _log: RwLockWriteGuard<'static, Option<Sink>>,
}

thread_local! {
    /// By the thread that forks, while it does.
    static HELD: RefCell<Option<Held>> = const { RefCell::new(None) };
}

extern "C" fn hold() {
    let held = Held {
        kept: handle::lock(&handle::KEPT),
        receipts: RECEIPTS.lock(),
        leases: LEASES.lock(),
        subscriptions: SUBSCRIPTIONS.lock(),
        loads: LOADS.lock(),
        joins: JOINS.lock(),
        _log: log::lock(),
    };
    // Without thread-locals (the thread is ending) the locks are given up at once.
    let _ = HELD.try_with(|place| place.replace(Some(held)));
}

extern "C" fn release() {
    let _ = HELD.try_with(|place| place.take());
}

extern "C" fn release_in_child() {
    let Ok(Some(mut held)) = HELD.try_with(|place| place.take()) else { return };
    handle::inherit_shells(&mut held.kept);
    held.receipts.inherit();
    held.leases.inherit();
    held.subscriptions.inherit();
    held.loads.inherit();
    held.joins.inherit();
}
