//! What a broker takes of one connection, kept on this side so that nothing is refused there; and the pace that follows.

use crate::clock::Nanos;
use crate::config::ClientConfig;
use crate::outbox::Limits;

const SECOND: Nanos = 1_000_000_000;
/// How far the publish rate may be run ahead of.
const BURST: Nanos = SECOND / 10;

/// The limits of one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quotas {
    /// Publications a second; none: as many as the connection carries.
    publishes: Option<u32>,
    /// Payload bytes a second.
    bytes: Option<u32>,
    /// Nothing but probes is sent while so many publications, of any kind, wait for their PUBACK.
    unanswered: usize,
    /// Subscriptions at a time, the probe's included.
    pub subscriptions: usize,
    /// A publication without an answer is sent again after this, under its number.
    pub resend_after: Option<Nanos>,
    /// Unanswered for so long, a publication counts as dropped by the broker; with so many of them on one connection the
    /// library's own window fills up, and only another connection helps.
    pub dropped: Option<(Nanos, usize)>,
    /// At least this long between two attempts at a connection.
    pub between_connects: Nanos,
    /// Least and longest back-off where only a person can mend it.
    pub refused_backoff: (Nanos, Nanos),
    payload: Limits,
}

/// A broker without limits that are known.
const ORDINARY: Quotas = Quotas {
    publishes: None,
    bytes: None,
    unanswered: usize::MAX,
    subscriptions: usize::MAX,
    resend_after: None,
    dropped: None,
    between_connects: 0,
    refused_backoff: (SECOND, 30 * SECOND),
    payload: Limits::DEFAULT,
};

/// AWS IoT Core ("AWS IoT Core message broker and protocol limits and quotas"), with some room.
const AWS: Quotas = Quotas {
    // "Publish requests per second per connection": 100.
    publishes: Some(80),
    // "Throughput per second per connection": 512 KiB; room for topics and headers.
    bytes: Some(400 * 1024),
    // "Maximum inbound unacknowledged QoS 1 publish requests": 100; the rest is for probes.
    unanswered: 80,
    // "Subscriptions per connection": 50.
    subscriptions: 50,
    // A publication above a limit of the connection or of the account is dropped without a PUBACK.
    resend_after: Some(5 * SECOND),
    dropped: Some((30 * SECOND, 40)),
    // "Connect requests per second per client ID": 1.
    between_connects: SECOND,
    // A change of a policy takes 6 to 8 minutes to be seen.
    refused_backoff: (60 * SECOND, 300 * SECOND),
    // Metered in steps of 5 KB.
    payload: Limits::AWS,
};

impl Quotas {
    /// Those of the broker in `config`, and the user's `max_publish_rate` instead of its own.
    pub fn of(config: &ClientConfig) -> Quotas {
        let broker = if config.is_aws() { AWS } else { ORDINARY };
        Quotas { publishes: config.max_publish_rate.or(broker.publishes), ..broker }
    }

    /// The limits of an outbox that may hold `limit` operations.
    pub fn outbox(&self, limit: usize) -> Limits {
        Limits { limit, ..self.payload }
    }
}

/// The pace of one client's publications (GCRA, ITU-T I.371): each reserves its share of time.
#[derive(Debug)]
pub(super) struct Pace {
    gap: Nanos,
    per_kib: Nanos,
    unanswered: usize,
    /// Theoretical arrival time of the next publication.
    next: Nanos,
}

impl Pace {
    pub fn new(quotas: &Quotas) -> Pace {
        Pace {
            gap: quotas.publishes.map_or(0, |rate| SECOND / Nanos::from(rate)),
            per_kib: quotas.bytes.map_or(0, |rate| 1024 * SECOND / Nanos::from(rate)),
            unanswered: quotas.unanswered,
            next: 0,
        }
    }

    /// Whether one more may go out while `unanswered` wait for their answer.
    pub fn allows(&self, unanswered: usize, now: Nanos) -> bool {
        unanswered < self.unanswered && self.due().is_none_or(|due| now >= due)
    }

    /// When the next may go out; none if there is no rate.
    pub fn due(&self) -> Option<Nanos> {
        (self.gap > 0).then(|| self.next.saturating_sub(BURST))
    }

    /// A publication of `length` bytes goes out.
    pub fn count(&mut self, length: usize, now: Nanos) {
        let size = self.per_kib * length as Nanos / 1024;
        self.next = self.next.max(now) + self.gap.max(size);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quotas(url: &str) -> Quotas {
        Quotas::of(&ClientConfig::from_url(url).unwrap())
    }

    /// The most publications, and bytes, in any second of a minute in which there is always something to send.
    fn busiest(quotas: &Quotas, length: usize) -> (usize, usize) {
        let mut pace = Pace::new(quotas);
        let (mut now, mut sent) = (7 * SECOND, Vec::new());
        while now < 67 * SECOND {
            if pace.allows(0, now) {
                pace.count(length, now);
                sent.push(now);
            } else {
                now = pace.due().unwrap();
            }
        }
        let within = |from: &Nanos| sent.iter().filter(|at| (*from..from + SECOND).contains(*at)).count();
        let most = sent.iter().map(within).max().unwrap();
        (most, most * length)
    }

    #[test]
    fn no_second_holds_more_than_aws_takes_and_none_much_less_than_it_could() {
        let aws = quotas("awsiot://h");
        let (count, _) = busiest(&aws, 100);
        assert!((80..=90).contains(&count), "{count}");
        for length in [4_800, 12_000, 120_000] {
            let (_, bytes) = busiest(&aws, length);
            assert!((300 * 1024..=512 * 1024 + length).contains(&bytes), "{length}: {bytes}");
        }
    }

    #[test]
    fn without_a_rate_nothing_waits_and_the_users_rate_comes_first() {
        let mut pace = Pace::new(&quotas("mqtt://h"));
        pace.count(1 << 20, 5);
        assert!(pace.allows(1_000_000, 5) && pace.due().is_none());
        assert_eq!(busiest(&quotas("mqtt://h?max_publish_rate=20"), 10).0, 22);
        assert_eq!(busiest(&quotas("awsiot://h?max_publish_rate=20"), 10).0, 22);
    }

    #[test]
    fn under_aws_only_so_many_wait_for_an_answer() {
        let pace = Pace::new(&quotas("awsiot://h"));
        assert!(pace.allows(79, SECOND) && !pace.allows(80, SECOND));
    }
}
