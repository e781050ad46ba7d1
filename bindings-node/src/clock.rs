//! The present, in memory that a hit reads instead of asking the system.
//!
//! Each cache's memory has a word that is never behind the library's clock for longer than [`PERIOD`], or is infinity, which
//! means: unknown, ask [`Clock::tick`]. It is unknown at the end of every turn of the event loop (see `turn`), so that a
//! process that was stopped or suspended while it waited reads the time anew. While a turn lasts, however long, one thread
//! of the process keeps the words current; it rests a second after the last `tick`.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::arena::{Arena, UNKNOWN};
use crate::exact::at_least;

/// How often the words are brought up to date within a turn.
const PERIOD: Duration = Duration::from_millis(10);
/// What is added to the time, so that the words are ahead of the clock until the next update even if that comes late.
const AHEAD: u64 = 2 * PERIOD.as_nanos() as u64;
/// After this long without a `tick` the thread rests.
const LINGER: u64 = 1_000_000_000;

/// The words of one environment's caches. But for the thread's, all calls come on the environment's thread.
pub struct Clock {
    words: Arc<Words>,
    /// Whether there was a `tick` in this turn.
    ticked: Cell<bool>,
}

#[derive(Default)]
struct Words(Mutex<Vec<Weak<Arena>>>);

struct Ticker {
    clocks: Mutex<Vec<Weak<Words>>>,
    woken: Condvar,
    awake: AtomicBool,
    last_tick: AtomicU64,
}

static TICKER: Ticker = Ticker {
    clocks: Mutex::new(Vec::new()),
    woken: Condvar::new(),
    awake: AtomicBool::new(false),
    last_tick: AtomicU64::new(0),
};

impl Clock {
    /// A clock without caches. The first one of the process starts the thread.
    pub fn new() -> std::io::Result<Self> {
        let words = Arc::<Words>::default();
        let mut clocks = TICKER.clocks.lock();
        static STARTED: AtomicBool = AtomicBool::new(false);
        if !STARTED.load(Ordering::Relaxed) {
            std::thread::Builder::new().name("unstale-clock".into()).stack_size(128 << 10).spawn(|| TICKER.run())?;
            STARTED.store(true, Ordering::Relaxed);
        }
        clocks.retain(|words| words.strong_count() > 0);
        clocks.push(Arc::downgrade(&words));
        Ok(Clock { words, ticked: Cell::new(false) })
    }

    /// Keeps this cache's word too. It is unknown now.
    pub fn add(&self, arena: &Arc<Arena>) {
        let mut words = self.words.0.lock();
        words.retain(|arena| arena.strong_count() > 0);
        words.push(Arc::downgrade(arena));
    }

    /// Reads the system's clock into the words.
    pub fn tick(&self) {
        let now = read();
        self.ticked.set(true);
        let word = at_least(now + AHEAD).to_bits();
        self.words.each(|known| known.store(word, Ordering::SeqCst));
        TICKER.last_tick.store(now, Ordering::Relaxed);
        // After the stores: the thread clears the flag before it makes the words unknown, so either it takes this time away
        // again, or this sees that it rests.
        if !TICKER.awake.load(Ordering::SeqCst) {
            let _clocks = TICKER.clocks.lock();
            TICKER.awake.store(true, Ordering::SeqCst);
            TICKER.woken.notify_one();
        }
    }

    /// The turn is over: the next hit reads the clock.
    pub fn forget(&self) {
        if self.ticked.replace(false) {
            self.words.forget();
        }
    }
}

impl Words {
    fn each(&self, visit: impl Fn(&AtomicU64)) {
        self.0.lock().iter().filter_map(Weak::upgrade).for_each(|arena| visit(arena.now()));
    }

    fn forget(&self) {
        self.each(|known| known.store(UNKNOWN, Ordering::SeqCst));
    }

    /// Brings known times up to date. Not a plain store: the turn may end meanwhile.
    fn advance(&self, to: u64) {
        self.each(|word| {
            let known = word.load(Ordering::SeqCst);
            if known != UNKNOWN && f64::from_bits(known) < f64::from_bits(to) {
                let _ = word.compare_exchange(known, to, Ordering::SeqCst, Ordering::SeqCst);
            }
        });
    }
}

impl Ticker {
    fn run(&self) {
        loop {
            {
                let mut clocks = self.clocks.lock();
                while !self.awake.load(Ordering::SeqCst) {
                    self.woken.wait(&mut clocks);
                }
            }
            std::thread::sleep(PERIOD);
            let now = read();
            let clocks: Vec<Arc<Words>> = self.clocks.lock().iter().filter_map(Weak::upgrade).collect();
            if now.saturating_sub(self.last_tick.load(Ordering::Relaxed)) > LINGER {
                self.awake.store(false, Ordering::SeqCst);
                clocks.iter().for_each(|words| words.forget());
            } else {
                let word = at_least(now + AHEAD).to_bits();
                clocks.iter().for_each(|words| words.advance(word));
            }
        }
    }
}

/// The library's clock, or ahead of it: time spent suspended counts here at once, there when the link notices it.
#[cfg(target_os = "linux")]
fn read() -> u64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is a valid timespec to write to; the clock exists on every Linux since 2.6.39.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut t) };
    (t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64).max(unstale::now_ns())
}

#[cfg(not(target_os = "linux"))]
fn read() -> u64 {
    unstale::now_ns()
}
