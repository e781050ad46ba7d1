//! The present, in memory that a hit reads instead of asking the system.
//!
//! The word holds a time that is never behind the library's clock by more than the reader may tolerate, or infinity, which
//! means: unknown, ask [`Clock::tick`]. It is unknown at the end of every turn of the event loop (see `turn`), so that a
//! process that was stopped or suspended while it waited reads the time anew. While a turn lasts, however long, one thread
//! of the process keeps the word current; it stops a second after the last `tick`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::exact::at_least;

/// How often the word is brought up to date within a turn.
const PERIOD: Duration = Duration::from_millis(10);
/// What is added to the time, so that the word is ahead of the clock until the next update even if that comes late.
const AHEAD: u64 = 2 * PERIOD.as_nanos() as u64;
/// After this long without a `tick` the thread rests.
const LINGER: u64 = 1_000_000_000;

const UNKNOWN: u64 = f64::INFINITY.to_bits();

/// One environment's present.
#[repr(C)]
pub struct Clock {
    /// Bits of a double: nanoseconds on the library's clock plus [`AHEAD`].
    now: AtomicU64,
    /// Where a call leaves a second result: bits of a double.
    pub scratch: AtomicU64,
}

struct Ticker {
    clocks: Mutex<Vec<Weak<Clock>>>,
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
    /// A clock whose time is unknown. The first one of the process starts the thread.
    pub fn new() -> std::io::Result<Arc<Self>> {
        let clock = Arc::new(Clock { now: AtomicU64::new(UNKNOWN), scratch: AtomicU64::new(0) });
        let mut clocks = TICKER.clocks.lock();
        static STARTED: AtomicBool = AtomicBool::new(false);
        if !STARTED.load(Ordering::Relaxed) {
            std::thread::Builder::new().name("unstale-clock".into()).stack_size(128 << 10).spawn(|| TICKER.run())?;
            STARTED.store(true, Ordering::Relaxed);
        }
        clocks.retain(|clock| clock.strong_count() > 0);
        clocks.push(Arc::downgrade(&clock));
        Ok(clock)
    }

    /// Reads the system's clock into the word. On the environment's thread.
    pub fn tick(&self) -> f64 {
        let now = read();
        let word = at_least(now + AHEAD);
        self.now.store(word.to_bits(), Ordering::SeqCst);
        TICKER.last_tick.store(now, Ordering::Relaxed);
        // After the store: the thread clears the flag before it makes the words unknown, so either it sees this time and
        // takes it away, or this sees that it rests.
        if !TICKER.awake.load(Ordering::SeqCst) {
            let _clocks = TICKER.clocks.lock();
            TICKER.awake.store(true, Ordering::SeqCst);
            TICKER.woken.notify_one();
        }
        word
    }

    /// The turn is over: the next hit reads the clock.
    pub fn forget(&self) {
        self.now.store(UNKNOWN, Ordering::SeqCst);
    }

    /// Brings a known time up to date. Not a plain store: the turn may end meanwhile.
    fn advance(&self, to: u64) {
        let known = self.now.load(Ordering::SeqCst);
        if known != UNKNOWN && f64::from_bits(known) < f64::from_bits(to) {
            let _ = self.now.compare_exchange(known, to, Ordering::SeqCst, Ordering::SeqCst);
        }
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
            let clocks = self.clocks.lock();
            let alive = clocks.iter().filter_map(Weak::upgrade);
            if now.saturating_sub(self.last_tick.load(Ordering::Relaxed)) > LINGER {
                self.awake.store(false, Ordering::SeqCst);
                alive.for_each(|clock| clock.forget());
            } else {
                let word = at_least(now + AHEAD).to_bits();
                alive.for_each(|clock| clock.advance(word));
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
