//! Handles that notice when they are misused.
//!
//! Clients and caches are few and are on the hit path: their handle is the address of a small shell that is emptied
//! when it is freed, but never given back to the allocator. Everything else is many: its handle is a number in the
//! shape of a pointer, good for one life of one slot in a table.
//!
//! In a child of `fork` every inherited handle is dead, and what it holds is left alone for good: the core behind it
//! may have locks that a thread of the parent had taken, and has no threads of its own any more.

use std::cell::UnsafeCell;
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
// Not parking_lot's: it hands a lock over to a waiting thread, which in a child of `fork` does not exist.
use std::sync::{Mutex, MutexGuard, PoisonError};

use unstale_core::{Error, ErrorKind, Result};

use crate::error::invalid;

/// The holder of a `T` behind an address that stays readable.
pub(crate) struct Shell<T> {
    state: AtomicU32,
    content: UnsafeCell<MaybeUninit<T>>,
}

/// Not a number that memory is likely to hold by chance.
const LIVE: u32 = 0x5e1f_a11e;
const FREED: u32 = 0x5e1f_dead;
const INHERITED: u32 = 0x5e1f_f02c;

impl<T: Send + Sync> Shell<T> {
    /// A new shell. Its few bytes are leaked on purpose, see the top of this file.
    pub(crate) fn new(content: T) -> *mut Shell<T> {
        let shell =
            Box::new(Shell { state: AtomicU32::new(LIVE), content: UnsafeCell::new(MaybeUninit::new(content)) });
        let shell = Box::into_raw(shell);
        // SAFETY: the box is leaked.
        lock(&KEPT).push(unsafe { &(*shell).state });
        shell
    }

    /// What the shell holds.
    ///
    /// # Safety
    /// `shell` is NULL or from [`Shell::new`] of the same `T`, and is not freed by another thread before the reference
    /// ends.
    #[inline]
    pub(crate) unsafe fn open<'a>(what: &str, shell: *const Shell<T>) -> Result<&'a T> {
        // SAFETY: a shell stays readable for good.
        let Some(shell) = (unsafe { shell.as_ref() }) else { return Err(misused(what, true)) };
        match shell.state.load(Ordering::Acquire) {
            // SAFETY: live means initialised, and nobody frees it meanwhile, by the caller's promise.
            LIVE => Ok(unsafe { (*shell.content.get()).assume_init_ref() }),
            INHERITED => Err(inherited()),
            _ => Err(misused(what, false)),
        }
    }

    /// Drops what the shell holds; the second time, nothing; in a child that inherited it, nothing either.
    ///
    /// # Safety
    /// As for [`Shell::open`], and no reference to the content is in use.
    pub(crate) unsafe fn free(shell: *const Shell<T>) {
        // SAFETY: a shell stays readable for good.
        let Some(shell) = (unsafe { shell.as_ref() }) else { return };
        if shell.state.compare_exchange(LIVE, FREED, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            // SAFETY: the exchange succeeds once, so the content is initialised and ours; nobody uses it, by the caller's promise.
            unsafe { (*shell.content.get()).assume_init_drop() }
        }
    }
}

/// The states of all shells; also what makes leak checkers see that they are kept on purpose.
pub(crate) static KEPT: Mutex<Vec<&'static AtomicU32>> = Mutex::new(Vec::new());

/// For a child of `fork`, which has no other thread.
pub(crate) fn inherit_shells(kept: &mut [&'static AtomicU32]) {
    for state in kept {
        if state.load(Ordering::Relaxed) == LIVE {
            state.store(INHERITED, Ordering::Relaxed);
        }
    }
}

/// The lock, also after a panic under it: nothing here is left half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cold]
fn inherited() -> Error {
    Error::new(
        ErrorKind::Forked,
        "this handle was made before the process forked, and its connection stayed in the parent; fork before the first connection and connect then, or start the child with exec",
    )
}

#[cold]
fn misused(what: &str, null: bool) -> Error {
    match null {
        true => invalid(format!("{what} is NULL")),
        false => invalid(format!("{what} was freed before, or was never a {what}")),
    }
}

#[cfg(target_pointer_width = "64")]
const INDEX_BITS: u32 = 32;
#[cfg(not(target_pointer_width = "64"))]
const INDEX_BITS: u32 = 18;
const KIND_BITS: u32 = 3;
const LIVES: usize = 1 << (usize::BITS - INDEX_BITS - KIND_BITS);

/// The table of all `T` that C knows as `*mut H`.
pub(crate) struct Table<H, T> {
    what: &'static str,
    /// So that a handle of one table is none of another's.
    kind: usize,
    slots: Mutex<Slots<T>>,
    handle: PhantomData<fn(H)>,
}

pub(crate) struct Slots<T> {
    all: Vec<Slot<T>>,
    /// First freed, first used again: the longest time until a number comes back.
    free: VecDeque<usize>,
}

struct Slot<T> {
    life: usize,
    content: Content<T>,
}

enum Content<T> {
    None,
    Live(T),
    /// Never to be touched again, not even dropped.
    Inherited(ManuallyDrop<T>),
}

impl<T> Slots<T> {
    /// For a child of `fork`.
    pub(crate) fn inherit(&mut self) {
        for slot in &mut self.all {
            slot.content = match std::mem::replace(&mut slot.content, Content::None) {
                Content::Live(content) => Content::Inherited(ManuallyDrop::new(content)),
                other => other,
            };
        }
    }
}

impl<H, T> Table<H, T> {
    /// `kind` is 1 to 7, a different one for each table.
    pub(crate) const fn new(what: &'static str, kind: usize) -> Self {
        assert!(kind > 0 && kind < 1 << KIND_BITS);
        Table { what, kind, slots: Mutex::new(Slots { all: Vec::new(), free: VecDeque::new() }), handle: PhantomData }
    }

    pub(crate) fn insert(&self, content: T) -> *mut H {
        let mut slots = self.lock();
        let index = match slots.free.pop_front() {
            Some(index) => index,
            None => {
                slots.all.push(Slot { life: 0, content: Content::None });
                slots.all.len() - 1
            }
        };
        assert!(index < 1 << INDEX_BITS, "too many open handles");
        let slot = &mut slots.all[index];
        slot.content = Content::Live(content);
        ptr::without_provenance_mut(self.kind | slot.life << KIND_BITS | index << (usize::BITS - INDEX_BITS))
    }

    pub(crate) fn get(&self, handle: *const H) -> Result<T>
    where
        T: Clone,
    {
        let mut slots = self.lock();
        match self.find(&mut slots, handle).map(|(_, slot)| &slot.content) {
            Some(Content::Live(content)) => Ok(content.clone()),
            Some(Content::Inherited(_)) => Err(inherited()),
            Some(Content::None) | None => Err(misused(self.what, handle.is_null())),
        }
    }

    /// Takes the content out; the handle is dead from then on, unless it was inherited.
    pub(crate) fn take(&self, handle: *const H) -> Result<T> {
        let mut slots = self.lock();
        if let Some((index, slot)) = self.find(&mut slots, handle) {
            match std::mem::replace(&mut slot.content, Content::None) {
                Content::Live(content) => {
                    Self::end(&mut slots, index);
                    return Ok(content);
                }
                other => {
                    slot.content = other;
                    return Err(inherited());
                }
            }
        }
        Err(misused(self.what, handle.is_null()))
    }

    /// As [`Table::take`] for a handle that may be anything, and is dead afterwards in any case. The caller drops the
    /// content, outside the table's lock.
    pub(crate) fn remove(&self, handle: *const H) -> Option<T> {
        let mut slots = self.lock();
        let (index, slot) = self.find(&mut slots, handle)?;
        let content = std::mem::replace(&mut slot.content, Content::None);
        Self::end(&mut slots, index);
        match content {
            Content::Live(content) => Some(content),
            Content::Inherited(_) | Content::None => None,
        }
    }

    fn end(slots: &mut Slots<T>, index: usize) {
        slots.all[index].life += 1;
        // A slot whose lives are used up is never used again.
        if slots.all[index].life < LIVES {
            slots.free.push_back(index);
        }
    }

    /// The table's lock, for the moment of a `fork`.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Slots<T>> {
        lock(&self.slots)
    }

    fn find<'a>(&self, slots: &'a mut Slots<T>, handle: *const H) -> Option<(usize, &'a mut Slot<T>)> {
        let number = handle.addr();
        let kind = number & ((1 << KIND_BITS) - 1);
        let life = (number >> KIND_BITS) & (LIVES - 1);
        let index = number >> (usize::BITS - INDEX_BITS);
        let slot = slots.all.get_mut(index)?;
        let used = !matches!(slot.content, Content::None);
        (used && kind == self.kind && life == slot.life).then_some((index, slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Handle;

    #[test]
    fn a_removed_handle_is_dead_and_its_slot_lives_again_under_another_number() {
        let table: Table<Handle, u32> = Table::new("thing", 1);
        let first = table.insert(1);
        assert_eq!(table.get(first).ok(), Some(1));
        assert_eq!(table.remove(first), Some(1));
        assert_eq!(table.remove(first), None);
        let second = table.insert(2);
        assert_ne!(first, second);
        assert!(table.get(first).is_err());
        assert_eq!(table.get(second).ok(), Some(2));
    }

    #[test]
    fn null_garbage_and_handles_of_other_tables_are_errors() {
        let (one, other): (Table<Handle, u32>, Table<Handle, u32>) = (Table::new("one", 1), Table::new("other", 2));
        let handle = one.insert(1);
        other.insert(2);
        assert!(other.get(handle).is_err());
        assert_eq!(one.get(ptr::null()).unwrap_err().message(), "one is NULL");
        for garbage in [1_usize, 9, usize::MAX, 1 << 40] {
            assert!(one.get(ptr::without_provenance(garbage)).is_err() || garbage == handle.addr());
        }
    }

    #[test]
    fn a_freed_shell_is_noticed_and_its_content_dropped_once() {
        let content = std::sync::Arc::new(());
        let shell = Shell::new(content.clone());
        // SAFETY: made here, used by this thread alone.
        unsafe {
            assert!(Shell::open("thing", shell).is_ok());
            Shell::free(shell);
            Shell::free(shell);
            assert!(Shell::open("thing", shell).is_err());
        }
        assert_eq!(std::sync::Arc::strong_count(&content), 1);
    }
}
