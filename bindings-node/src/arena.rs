//! The memory that a hit reads: one record per value held, written here, compared in JavaScript.
//!
//! The values themselves are live objects in JavaScript, each with a *slot* here. What the core's store holds as the value
//! is a [`Guard`] of that slot: whoever drops it, on whatever thread and for whatever reason (an invalidation that arrived,
//! eviction, replacement), ends the slot with one atomic store, which the next hit in JavaScript sees. The slot is then on
//! a list that JavaScript empties when it comes by, to forget the object and to use the slot again.
//!
//! The memory is ours and JavaScript sees it through external `ArrayBuffer`s, each of which keeps the arena alive: memory
//! owned by JavaScript would end with its environment, while the link's thread may still be dropping guards.
//! `lib/slots.js` reads it by offsets.

use std::mem::offset_of;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use unstale::{Facts, Vitals};

use crate::exact::{at_least, at_most};
use crate::view::View;

/// A record's state while its value may be served. Any other state is a link of the list of ended slots.
const LIVE: i32 = -1;
/// Records in the first chunk: at least, at most. It has room for all entries and some ended ones, unless the cache is very
/// large; its memory is not touched before it is used.
const FIRST_CHUNK: (u64, u64) = (1 << 10, 1 << 20);
/// Each further chunk doubles; so many make at least a million slots and fewer than 2^30.
const MAX_CHUNKS: usize = 10;
/// Generations whose horizon has a cell of its own at the same time.
const CELLS: usize = 64;

/// A double that no time reaches.
const NEVER: u64 = f64::NEG_INFINITY.to_bits();
/// The present while it is unknown: nothing is served by it.
pub const UNKNOWN: u64 = f64::INFINITY.to_bits();

/// What is known of the whole cache, at the start of the first chunk. Times are bits of doubles: nanoseconds.
#[repr(C)]
struct Board {
    /// The newest ended slot plus one; 0: none.
    ended: AtomicI32,
    /// Changes with the epoch and with the floor: a value of the present generation is of the present epoch and was loaded
    /// after the floor.
    generation: AtomicI32,
    /// Values loaded before it are not served.
    floor: AtomicU64,
    /// The present, or [`UNKNOWN`]; see `clock`.
    now: AtomicU64,
    /// Until when values of a generation are served by the proofs; minus infinity but for the present one.
    ///
    /// A cell per generation, so that a hit needs no order between two loads: the design's rule 4 has the link bump the epoch
    /// and then store `fresh`, and readers load them the other way round; plain loads in JavaScript promise no such order on
    /// every machine. Here a new proof is only ever written to the new generation's cell, which no older value looks at.
    horizons: [AtomicU64; CELLS],
}

/// What is known of one value: four words of eight bytes.
#[repr(C)]
struct Record {
    /// [`LIVE`], or: ended, and the number of the next ended slot plus one (0: none).
    state: AtomicI32,
    /// The board's generation when the value was stored.
    generation: AtomicI32,
    /// When the load started, on the library's clock.
    loaded_at: AtomicU64,
    /// Until then the value is served by its age alone.
    young: AtomicU64,
    /// Then its `ttl` ends.
    expires_at: AtomicU64,
}

// What `lib/slots.js` counts on.
const _: () = assert!(size_of::<Board>() <= BOARD_WORDS * 8 && offset_of!(Board, horizons) == 24);
const _: () = assert!(offset_of!(Board, floor) == 8 && offset_of!(Board, now) == 16);
const _: () = assert!(size_of::<Record>() == RECORD_WORDS * 8 && offset_of!(Record, expires_at) == 24);
#[cfg(target_endian = "big")]
compile_error!("untested: pairs of 32-bit words in memory that JavaScript reads");

/// Whole cache lines, so that no record straddles two.
const BOARD_WORDS: usize = 72;
const RECORD_WORDS: usize = 4;

/// A board (used in the first chunk only) and records, in memory that starts as zeros.
struct Chunk(Box<[AtomicU64]>);

impl Chunk {
    fn new(records: usize) -> Self {
        // A zeroed vector is memory that the system hands out when it is first used.
        let words = Box::into_raw(vec![0u64; BOARD_WORDS + records * RECORD_WORDS].into_boxed_slice());
        // SAFETY: `AtomicU64` has the layout of `u64`, and the box was just given up.
        Chunk(unsafe { Box::from_raw(words as *mut [AtomicU64]) })
    }

    fn board(&self) -> &Board {
        // SAFETY: the chunk begins with at least as many words as a board has; atomics may hold any bits, and no field wants
        // more alignment than a word. Nothing uses these words other than as fields of a board.
        unsafe { &*self.0.as_ptr().cast::<Board>() }
    }

    fn records(&self) -> &[Record] {
        let (start, words) = (&self.0[BOARD_WORDS..], self.0.len() - BOARD_WORDS);
        // SAFETY: as for the board; `words` is a multiple of a record's.
        unsafe { std::slice::from_raw_parts(start.as_ptr().cast::<Record>(), words / RECORD_WORDS) }
    }
}

/// What the board says, for writers.
struct Present {
    epoch: u64,
    floor: u64,
    generation: i32,
}

/// The slots of one cache.
pub struct Arena {
    /// Slots in the first chunk.
    first: u32,
    chunks: [OnceLock<Chunk>; MAX_CHUNKS],
    present: Mutex<Present>,
    /// The staleness bound in nanoseconds; zero until the first [`Arena::mirror`].
    bound: AtomicU64,
    /// Called when the list of ended slots turns non-empty, on the thread that ended the slot.
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Arena {
    /// An arena for about so many entries.
    pub fn new(entries: u64, wake: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        let (least, most) = FIRST_CHUNK;
        let first = (entries + entries / 16 + least).min(most) as u32;
        let chunk = Chunk::new(first as usize);
        let board = chunk.board();
        board.floor.store(f64::INFINITY.to_bits(), Ordering::Relaxed);
        board.now.store(UNKNOWN, Ordering::Relaxed);
        board.horizons.iter().for_each(|cell| cell.store(NEVER, Ordering::Relaxed));
        let chunks = [const { OnceLock::new() }; MAX_CHUNKS];
        let _ = chunks[0].set(chunk);
        let present = Mutex::new(Present { epoch: 0, floor: 0, generation: 0 });
        Arc::new(Arena { first, chunks, present, bound: AtomicU64::new(0), wake: Box::new(wake) })
    }

    /// Slots in the first chunk.
    pub fn first(&self) -> u32 {
        self.first
    }

    /// The memory of the first chunk.
    pub fn memory(self: &Arc<Self>) -> View<Arena> {
        self.view(0)
    }

    /// Makes the next chunk of slots; none when there are as many as there can be.
    pub fn grow(self: &Arc<Self>) -> Option<View<Arena>> {
        let index = self.chunks.iter().position(|chunk| chunk.get().is_none())?;
        self.chunks[index].get_or_init(|| Chunk::new((self.first as usize) << index));
        Some(self.view(index))
    }

    fn view(self: &Arc<Self>, index: usize) -> View<Arena> {
        View::of(self.clone(), |arena| &*arena.chunks[index].get().expect("the chunk was made").0)
    }

    fn board(&self) -> &Board {
        self.chunks[0].get().expect("made with the arena").board()
    }

    /// A guard for a slot that JavaScript took from its free ones. The slot is on no list and has no other guard.
    pub fn guard(self: &Arc<Self>, slot: u32) -> Option<Slot> {
        let record = self.record(slot)?;
        // Nothing may be served before `describe`.
        record.expires_at.store(NEVER, Ordering::Relaxed);
        record.young.store(NEVER, Ordering::Relaxed);
        record.state.store(LIVE, Ordering::Release);
        Some(Arc::new(Guard { arena: self.clone(), slot }))
    }

    /// Writes what the core knows of a value that it stored, so that JavaScript can serve it.
    pub fn describe(&self, slot: u32, facts: &Facts) {
        let Some(record) = self.record(slot) else { return };
        let young = facts.loaded_at.saturating_add(self.bound()).min(facts.expires_at);
        record.loaded_at.store(at_most(facts.loaded_at).to_bits(), Ordering::Relaxed);
        record.young.store(at_most(young).to_bits(), Ordering::Relaxed);
        record.expires_at.store(at_most(facts.expires_at).to_bits(), Ordering::Relaxed);
        let present = self.present.lock();
        let current = facts.epoch == present.epoch && facts.loaded_at >= present.floor;
        // A generation that was before is not met again.
        let generation = if current { present.generation } else { present.generation.wrapping_sub(1) };
        record.generation.store(generation, Ordering::Relaxed);
    }

    /// Mirrors the cache's state. Called in order, by whoever changed it.
    pub fn mirror(&self, vitals: Vitals) {
        self.bound.store(vitals.bound, Ordering::Relaxed);
        let board = self.board();
        let mut present = self.present.lock();
        if (vitals.epoch, vitals.floor) != (present.epoch, present.floor) {
            board.horizon(present.generation).store(NEVER, Ordering::Release);
            let generation = present.generation.wrapping_add(1);
            *present = Present { epoch: vitals.epoch, floor: vitals.floor, generation };
            board.generation.store(generation, Ordering::Release);
        }
        let horizon = if vitals.fresh == 0 { NEVER } else { at_most(vitals.fresh + vitals.grace).to_bits() };
        board.horizon(present.generation).store(horizon, Ordering::Release);
        board.floor.store(at_least(vitals.floor).to_bits(), Ordering::Release);
    }

    /// The staleness bound in nanoseconds.
    pub fn bound(&self) -> u64 {
        self.bound.load(Ordering::Relaxed)
    }

    /// The present as hits read it.
    pub fn now(&self) -> &AtomicU64 {
        &self.board().now
    }

    fn record(&self, slot: u32) -> Option<&Record> {
        let chunk = ((slot / self.first) + 1).ilog2();
        let first = self.first * ((1 << chunk) - 1);
        self.chunks.get(chunk as usize)?.get()?.records().get((slot - first) as usize)
    }

    fn end(&self, slot: u32) {
        let record = self.record(slot).expect("a guard's slot exists");
        let board = self.board();
        let mut newest = board.ended.load(Ordering::Relaxed);
        loop {
            // From here on no hit serves it. Pushing is all that is done to the list here, and JavaScript takes it as a
            // whole, so there is no ABA problem.
            record.state.store(newest, Ordering::Release);
            let pushed = slot as i32 + 1;
            match board.ended.compare_exchange_weak(newest, pushed, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => break,
                Err(other) => newest = other,
            }
        }
        if newest == 0 {
            (self.wake)();
        }
    }
}

impl Board {
    fn horizon(&self, generation: i32) -> &AtomicU64 {
        &self.horizons[generation as u32 as usize % CELLS]
    }
}

/// Ends its slot when it is dropped.
pub struct Guard {
    arena: Arc<Arena>,
    slot: u32,
}

/// What the core's store holds for a value. Clones are short-lived: one in a binding's hands only delays the end.
pub type Slot = Arc<Guard>;

impl Guard {
    /// The slot's number.
    pub fn slot(&self) -> u32 {
        self.slot
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.arena.end(self.slot);
    }
}
