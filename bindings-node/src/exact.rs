//! Nanoseconds as doubles, which is what JavaScript compares.
//!
//! Above 2^53 ns (a machine that is up for 104 days) a double no longer tells neighbours apart. Rounding goes the way in
//! which a value is served too short, never too long; then the core is asked, and it decides exactly.

const EXACT: u64 = 1 << 53;

/// The largest double that is not above `nanos`: for ends of validity and for the time of a load. `u64::MAX` is "never".
pub fn at_most(nanos: u64) -> f64 {
    match nanos {
        u64::MAX => f64::INFINITY,
        ..=EXACT => nanos as f64,
        _ if (nanos as f64) as u64 > nanos => (nanos as f64).next_down(),
        _ => nanos as f64,
    }
}

/// The smallest double that is not below `nanos`: for the present and for the floor.
pub fn at_least(nanos: u64) -> f64 {
    match nanos {
        ..=EXACT => nanos as f64,
        _ if ((nanos as f64) as u64) < nanos => (nanos as f64).next_up(),
        _ => nanos as f64,
    }
}
