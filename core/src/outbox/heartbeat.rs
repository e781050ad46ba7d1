//! When a stream's heartbeats fall due. Pure.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// How long a bound that a `hello` told counts. Clients repeat their `hello` every 20 minutes.
const HEARD_FOR: u64 = nanos(Duration::from_secs(3_600));
/// The bounds a client may have; what a `hello` tells is clamped to them.
const MIN_BOUND_MS: u64 = 500;
const MAX_BOUND_MS: u64 = 3_600_000;
/// Answers to `hello` are this far apart.
const ANSWER_GAP: u64 = nanos(Duration::from_secs(1));
/// The first beat comes no later than this after an acknowledgement.
const FIRST_BEAT: u64 = nanos(Duration::from_secs(1));
const BEATS: usize = 4;
/// More bounds than any fleet mixes; a hostile one cannot make us remember more.
const MAX_HEARD: usize = 64;

const fn nanos(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}

/// Heartbeats after the newest acknowledgement, and answers to `hello`.
#[derive(Debug)]
pub(super) struct Schedule {
    own_bound: u64,
    /// Bounds heard and when, both rising: the front is the smallest that counts.
    heard: VecDeque<(u64, u64)>,
    /// When the newest message was acknowledged.
    acked: Option<u64>,
    /// Which beat after that comes next.
    beat: usize,
    /// When the answer to a `hello` falls due.
    asked: Option<u64>,
    answered: Option<u64>,
    salt: u64,
}

impl Schedule {
    pub fn new(src: &str, own_bound: u64) -> Schedule {
        let mut hasher = DefaultHasher::new();
        src.hash(&mut hasher);
        Schedule {
            own_bound,
            heard: VecDeque::new(),
            acked: None,
            beat: 0,
            asked: None,
            answered: None,
            salt: hasher.finish(),
        }
    }

    pub fn acked(&mut self, now: u64) {
        self.expire(now);
        self.acked = Some(now);
        self.beat = 0;
    }

    pub fn heard_hello(&mut self, bound_ms: Option<u64>, now: u64) {
        self.expire(now);
        if let Some(ms) = bound_ms {
            self.hear(ms.clamp(MIN_BOUND_MS, MAX_BOUND_MS) * 1_000_000, now);
        }
        if self.acked.is_none() {
            return;
        }
        // Spread, so that the answers of many publishers to one `hello` do not come at once.
        let spread = self.offset(0).max(1);
        let jitter = self.jitter(now) % spread;
        let due = (now + jitter).max(self.answered.map_or(0, |at| at + ANSWER_GAP));
        self.asked = Some(self.asked.map_or(due, |earlier| earlier.min(due)));
    }

    pub fn due(&self) -> Option<u64> {
        let beat = self.next_beat();
        match (beat, self.asked) {
            (Some(beat), Some(asked)) => Some(beat.min(asked)),
            (beat, asked) => beat.or(asked),
        }
    }

    pub fn poll(&mut self, now: u64) -> bool {
        self.expire(now);
        let answer = self.asked.is_some_and(|at| at <= now);
        let mut beat = false;
        while self.next_beat().is_some_and(|at| at <= now) {
            self.beat += 1;
            beat = true;
        }
        // A scheduled beat answers too.
        if (answer || beat) && self.asked.take().is_some() {
            self.answered = Some(now);
        }
        answer || beat
    }

    fn next_beat(&self) -> Option<u64> {
        let acked = self.acked?;
        (self.beat < BEATS).then(|| acked.saturating_add(self.offset(self.beat)))
    }

    pub fn bound(&self) -> u64 {
        self.heard.front().map_or(self.own_bound, |(bound, _)| self.own_bound.min(*bound))
    }

    fn offset(&self, beat: usize) -> u64 {
        let bound = self.bound();
        match beat {
            0 => FIRST_BEAT.min(bound / 16),
            1 => bound / 4,
            2 => bound,
            _ => bound.saturating_mul(10),
        }
    }

    fn hear(&mut self, bound: u64, now: u64) {
        while self.heard.back().is_some_and(|(held, _)| *held >= bound) {
            self.heard.pop_back();
        }
        self.heard.push_back((bound, now));
        if self.heard.len() > MAX_HEARD {
            // The smaller of the last two, for as long as the later: more heartbeats than needed, never fewer.
            let newest = self.heard.pop_back();
            if let (Some((_, at)), Some(last)) = (newest, self.heard.back_mut()) {
                last.1 = at;
            }
        }
    }

    fn expire(&mut self, now: u64) {
        while self.heard.front().is_some_and(|(_, at)| now.saturating_sub(*at) > HEARD_FOR) {
            self.heard.pop_front();
        }
    }

    /// Differs between publishers and between moments; a pure module has no source of randomness.
    fn jitter(&self, now: u64) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.salt, now).hash(&mut hasher);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;
    const B: u64 = 30_000 * MS;

    /// Polls at every due time up to `until`; the times at which a beat was sent.
    fn beats(schedule: &mut Schedule, until: u64) -> Vec<u64> {
        let mut sent = Vec::new();
        while let Some(at) = schedule.due().filter(|at| *at <= until) {
            assert!(schedule.poll(at), "due at {at}, yet nothing to send");
            assert!(!schedule.poll(at), "sent twice at {at}");
            sent.push(at);
        }
        sent
    }

    #[test]
    fn beats_come_at_a_sixteenth_a_quarter_one_and_ten_bounds_after_the_newest_acknowledgement() {
        let mut schedule = Schedule::new("a", B);
        assert_eq!(schedule.due(), None);
        schedule.acked(5);
        assert_eq!(beats(&mut schedule, u64::MAX), [1_000 * MS + 5, B / 4 + 5, B + 5, 10 * B + 5]);
        let mut short = Schedule::new("a", 1_600 * MS);
        short.acked(0);
        assert_eq!(beats(&mut short, u64::MAX)[0], 100 * MS);
    }

    #[test]
    fn a_newer_acknowledgement_starts_the_beats_over() {
        let mut schedule = Schedule::new("a", B);
        schedule.acked(0);
        assert_eq!(beats(&mut schedule, B / 2).len(), 2);
        schedule.acked(B / 2);
        assert_eq!(beats(&mut schedule, u64::MAX), [B / 2 + 1_000 * MS, B / 2 + B / 4, B / 2 + B, B / 2 + 10 * B]);
    }

    #[test]
    fn missed_beats_count_as_one() {
        let mut schedule = Schedule::new("a", B);
        schedule.acked(0);
        assert!(schedule.poll(2 * B));
        assert_eq!(schedule.due(), Some(10 * B));
    }

    #[test]
    fn the_smallest_bound_heard_within_an_hour_rules() {
        let mut schedule = Schedule::new("a", B);
        schedule.heard_hello(Some(8_000), 0);
        schedule.heard_hello(Some(16_000), 1);
        schedule.acked(2);
        assert_eq!(schedule.due(), Some(2 + 500 * MS));
        // An hour after the first, the second still counts; an hour after that, this client's own.
        schedule.acked(HEARD_FOR + 1);
        assert_eq!(schedule.offset(1), 4_000 * MS);
        schedule.acked(HEARD_FOR + 2);
        assert_eq!(schedule.offset(1), B / 4);
        // A larger one than this client's own changes nothing; what is heard is clamped.
        schedule.heard_hello(Some(60_000), HEARD_FOR + 3);
        assert_eq!(schedule.offset(2), B);
        schedule.heard_hello(Some(0), HEARD_FOR + 4);
        assert_eq!(schedule.offset(2), 500 * MS);
    }

    #[test]
    fn hello_is_answered_soon_and_at_most_once_a_second() {
        let mut schedule = Schedule::new("a", B);
        schedule.heard_hello(None, 0);
        assert_eq!(schedule.due(), None, "no numbers, no answer");
        schedule.acked(0);
        let start = 20 * B;
        assert!(schedule.poll(start), "the scheduled beats are over");
        schedule.heard_hello(None, start);
        schedule.heard_hello(None, start + MS);
        let first = beats(&mut schedule, u64::MAX);
        assert!(first.len() == 1 && first[0] >= start && first[0] <= start + FIRST_BEAT, "{first:?}");
        let again = first[0] + MS;
        schedule.heard_hello(None, again);
        let second = beats(&mut schedule, u64::MAX);
        assert!(
            second.len() == 1 && second[0] >= first[0] + ANSWER_GAP && second[0] <= first[0] + 2 * ANSWER_GAP,
            "{second:?}"
        );
    }

    #[test]
    fn answers_of_different_publishers_are_spread() {
        let answers: std::collections::HashSet<u64> = (0..50)
            .map(|i| {
                let mut schedule = Schedule::new(&format!("publisher-{i}"), B);
                schedule.acked(0);
                schedule.poll(20 * B);
                schedule.heard_hello(None, 20 * B);
                schedule.due().unwrap() / (20 * MS)
            })
            .collect();
        assert!(answers.len() > 20, "{} distinct of 50", answers.len());
    }

    #[test]
    fn more_bounds_than_are_remembered_make_for_more_heartbeats_and_never_fewer() {
        let mut schedule = Schedule::new("a", u64::MAX / 16);
        let bound_ms = |i: u64| MIN_BOUND_MS + i;
        for i in 0..3 * MAX_HEARD as u64 {
            schedule.heard_hello(Some(bound_ms(i)), i);
        }
        assert_eq!(schedule.heard.len(), MAX_HEARD);
        for i in 0..3 * MAX_HEARD as u64 {
            schedule.acked(HEARD_FOR + i);
            assert!(schedule.offset(2) <= bound_ms(i) * MS, "number {i} still counts");
        }
        schedule.acked(HEARD_FOR + 3 * MAX_HEARD as u64);
        assert_eq!(schedule.offset(2), u64::MAX / 16);
    }

    proptest! {
        #[test]
        fn the_bound_in_use_is_never_larger_than_any_heard_within_the_hour(
            hellos in proptest::collection::vec((0u64..2_000_000, 0u64..1_000_000_000_000), 1..300),
        ) {
            let mut schedule = Schedule::new("a", u64::MAX / 16);
            let mut now = 0;
            let mut model: Vec<(u64, u64)> = Vec::new();
            for (ms, wait) in hellos {
                now += wait;
                schedule.heard_hello(Some(ms), now);
                model.push((ms.clamp(MIN_BOUND_MS, MAX_BOUND_MS) * MS, now));
                model.retain(|(_, at)| now - at <= HEARD_FOR);
                let least = model.iter().map(|(bound, _)| *bound).min().unwrap();
                prop_assert!(schedule.offset(2) <= least);
                if model.len() <= MAX_HEARD {
                    prop_assert!(schedule.heard.len() <= MAX_HEARD);
                }
            }
        }
    }
}
