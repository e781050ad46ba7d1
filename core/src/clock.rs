//! The one clock: monotonic nanoseconds, with the time that the machine was suspended added.
//!
//! Never the wall clock. A hit reads the coarse clock (a memory read in the vDSO) and adds its resolution, so that a
//! deadline is only ever seen too early.

use std::sync::atomic::{AtomicU64, Ordering};

/// Nanoseconds on the library's clock.
pub type Nanos = u64;

/// Time spent suspended, as last measured by [`suspended`].
static SUSPENDED: AtomicU64 = AtomicU64::new(0);
/// How far the coarse clock may lag: its resolution (one kernel tick) and [`LATE_TICK`].
static LAG: AtomicU64 = AtomicU64::new(0);

/// Ticks come late when the virtual CPU that keeps the time is not running: 6 ms of lag were seen at a resolution of 4 ms.
const LATE_TICK: Nanos = 16_000_000;

#[cfg(target_os = "linux")]
mod sys {
    use super::Nanos;

    fn read(clock: libc::clockid_t) -> Nanos {
        let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `t` is a valid timespec to write to; the clock ids used here exist on every Linux since 2.6.39.
        unsafe { libc::clock_gettime(clock, &mut t) };
        t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
    }

    pub fn precise() -> Nanos {
        read(libc::CLOCK_MONOTONIC)
    }

    #[inline]
    pub fn coarse() -> Nanos {
        read(libc::CLOCK_MONOTONIC_COARSE)
    }

    pub fn suspended() -> Nanos {
        // MONOTONIC first: an interruption between the two reads can only make the difference larger, which is doubt, never trust.
        let monotonic = precise();
        read(libc::CLOCK_BOOTTIME).saturating_sub(monotonic)
    }

    pub fn resolution() -> Nanos {
        let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `t` is a valid timespec to write to.
        unsafe { libc::clock_getres(libc::CLOCK_MONOTONIC_COARSE, &mut t) };
        t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
    }
}

#[cfg(not(target_os = "linux"))]
mod sys {
    use super::Nanos;
    use std::sync::OnceLock;
    use std::time::Instant;

    pub fn precise() -> Nanos {
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed().as_nanos() as u64 + 1_000_000_000
    }

    pub fn coarse() -> Nanos {
        precise()
    }

    pub fn suspended() -> Nanos {
        0
    }

    pub fn resolution() -> Nanos {
        0
    }
}

/// Now, exactly: for what a load, a proof or an invalidation is stamped with.
pub fn now() -> Nanos {
    sys::precise() + SUSPENDED.load(Ordering::Relaxed)
}

/// Now or up to one tick later, cheaply: for the deadlines that a hit checks.
#[inline]
pub fn upper() -> Nanos {
    sys::coarse() + LAG.load(Ordering::Relaxed) + SUSPENDED.load(Ordering::Relaxed)
}

/// Measures the time that the machine was suspended since it booted, and adds it to the clock. Whoever wants to know of a
/// suspension compares with what it got before.
///
/// The two clocks behind it are read one after the other, so growth under a millisecond is noise and ignored.
pub fn suspended() -> Nanos {
    LAG.store(sys::resolution() + LATE_TICK, Ordering::Relaxed);
    let measured = sys::suspended();
    if measured >= SUSPENDED.load(Ordering::Relaxed) + 1_000_000 {
        SUSPENDED.fetch_max(measured, Ordering::Relaxed);
    }
    SUSPENDED.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cheap_clock_is_ahead_of_the_exact_one() {
        suspended();
        let behind = (0..100_000).filter(|_| now() > upper()).count();
        // None on a machine of its own; a hypervisor may stop the CPU that ticks for longer than any margin.
        assert!(behind < 1_000, "{behind} of 100,000 readings were behind");
    }

    #[test]
    fn the_cheap_clock_is_close_to_the_exact_one() {
        suspended();
        let cheap = upper();
        assert!(cheap <= now() + 50_000_000, "deadlines are shortened by no more than the stated lag");
    }
}
