//! The quotas of "AWS IoT Core endpoints and quotas" (AWS General Reference, section "AWS IoT Core message broker and protocol
//! limits and quotas"), each with AWS's value, which a test may lower; and the sliding windows that measure rates.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Deserialize;

use crate::rules::Rule;

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Quota "Message size": "The payload for every publish request can be no larger than 128 KB".
    pub payload_bytes: usize,
    /// MQTT 5 property Maximum Packet Size: "Cannot exceed 128 KB" ("MQTT 5 properties"). So in MQTT 5 the head counts too.
    pub packet_bytes: u32,
    /// Quota "Topic size": 256 bytes of UTF-8.
    pub topic_bytes: usize,
    /// Quota "Maximum number of slashes in topic and topic filter".
    pub topic_slashes: usize,
    /// Quota "Maximum subscriptions per subscribe request".
    pub filters_per_subscribe: usize,
    /// Quota "Subscriptions per connection": above, refused, "and the connection is closed".
    pub subscriptions: usize,
    /// Quota "Publish requests per second per connection", each way: "Publish requests that exceed that quota are discarded".
    pub publishes_per_second: usize,
    /// Quota "Throughput per second per connection": "Data that exceeds the maximum throughput is delayed in processing".
    pub bytes_per_second: usize,
    /// Quota "Maximum inbound unacknowledged QoS 1 publish requests": above, no publish is accepted.
    pub unacknowledged_in: usize,
    /// Quota "Maximum outbound unacknowledged QoS 1 publish requests": above, nothing is sent until the client acknowledges.
    pub unacknowledged_out: usize,
    /// How much waits for such a client before more is dropped. AWS does not say; this is on the strict side.
    pub waiting_out: usize,
    /// Quota "Maximum keep alive": 1,200 s, also for a client that asks for 0 or for more.
    pub keep_alive_max_s: u16,
    /// "Minimum keep alive": one that asks for less, but not 0, gets 30 s.
    pub keep_alive_min_s: u16,
    /// Quota "Connect requests per second per client ID": 1.
    pub connect_interval_ms: u64,
    /// Quota "Client ID size": 128 bytes of UTF-8.
    pub client_id_bytes: usize,
    /// Quota "Persistent session expiry period": 1 hour.
    pub session_expiry_s: u32,
    /// "MQTT persistent sessions": stored messages are sent at "a maximum rate of 10 messages per second".
    pub replay_per_second: u32,
    /// How many are stored for a session; AWS has a quota by account only.
    pub stored: usize,
    /// "Topic aliases": "a default limit of 8 topic aliases".
    pub topic_aliases: u16,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            payload_bytes: 128 * 1024,
            packet_bytes: 128 * 1024,
            topic_bytes: 256,
            topic_slashes: 7,
            filters_per_subscribe: 8,
            subscriptions: 50,
            publishes_per_second: 100,
            bytes_per_second: 512 * 1024,
            unacknowledged_in: 100,
            unacknowledged_out: 100,
            waiting_out: 1000,
            keep_alive_max_s: 1200,
            keep_alive_min_s: 30,
            connect_interval_ms: 1000,
            client_id_bytes: 128,
            session_expiry_s: 3600,
            replay_per_second: 10,
            stored: 1000,
            topic_aliases: 8,
        }
    }
}

impl Limits {
    /// The keep-alive that the broker goes by, in seconds.
    pub fn keep_alive(&self, asked: u16) -> u16 {
        match asked {
            0 => self.keep_alive_max_s,
            asked => asked.clamp(self.keep_alive_min_s, self.keep_alive_max_s),
        }
    }

    /// Is this topic or filter within the size and the depth? What it broke, otherwise.
    pub fn topic(&self, topic: &str) -> Result<(), Rule> {
        if topic.len() > self.topic_bytes {
            return Err(Rule::TopicSize);
        }
        if topic.matches('/').count() > self.topic_slashes {
            return Err(Rule::TopicSlashes);
        }
        Ok(())
    }
}

/// Events in any one second: stricter than a bucket, which lets a burst through.
#[derive(Debug, Default)]
pub struct Window {
    events: VecDeque<Duration>,
    /// The most that one second has held.
    pub peak: usize,
}

const SECOND: Duration = Duration::from_secs(1);

impl Window {
    /// Counts one more, or, when there are `limit` already, says when there is room again.
    pub fn admit(&mut self, now: Duration, limit: usize) -> Result<(), Duration> {
        while self.events.front().is_some_and(|at| now.saturating_sub(*at) >= SECOND) {
            self.events.pop_front();
        }
        match self.events.front() {
            Some(first) if self.events.len() >= limit => Err(*first + SECOND),
            _ => {
                self.events.push_back(now);
                self.peak = self.peak.max(self.events.len());
                Ok(())
            }
        }
    }
}

/// A budget of bytes per second; what exceeds it is delayed.
#[derive(Debug)]
pub struct Pace {
    limit: f64,
    left: f64,
    at: Duration,
}

impl Pace {
    pub fn new(limit: usize) -> Pace {
        Pace { limit: limit as f64, left: limit as f64, at: Duration::ZERO }
    }

    /// How long to wait now that `bytes` were moved.
    pub fn spend(&mut self, now: Duration, bytes: usize) -> Duration {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.at = now;
        self.left = (self.left + passed * self.limit).min(self.limit) - bytes as f64;
        if self.left >= 0.0 {
            return Duration::ZERO;
        }
        Duration::from_secs_f64(-self.left / self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    #[test]
    fn no_second_holds_more_than_the_limit() {
        let mut window = Window::default();
        let admitted: Vec<u64> = (0..3000).step_by(5).filter(|at| window.admit(ms(*at), 100).is_ok()).collect();
        for first in &admitted {
            assert!(admitted.iter().filter(|at| (*first..first + 1000).contains(at)).count() <= 100);
        }
        assert_eq!(admitted.len(), 300);
        assert_eq!(window.peak, 100);
    }

    #[test]
    fn a_refused_event_is_told_when_there_is_room() {
        let mut window = Window::default();
        assert!(window.admit(ms(300), 1).is_ok());
        assert_eq!(window.admit(ms(700), 1), Err(ms(1300)));
        assert!(window.admit(ms(1300), 1).is_ok());
    }

    #[test]
    fn throughput_above_the_limit_is_delayed_by_what_it_exceeds() {
        let mut pace = Pace::new(1000);
        assert_eq!(pace.spend(ms(0), 1000), ms(0));
        assert_eq!(pace.spend(ms(0), 500), ms(500));
        assert_eq!(pace.spend(ms(1500), 1000), ms(0));
    }

    #[test]
    fn keep_alive_is_brought_into_range() {
        let limits = Limits::default();
        assert_eq!([0, 5, 30, 600, 1200, 1201].map(|asked| limits.keep_alive(asked)), [1200, 30, 30, 600, 1200, 1200]);
    }

    #[test]
    fn topics_are_limited_in_bytes_and_in_slashes() {
        let limits = Limits::default();
        assert_eq!(limits.topic(&"ä".repeat(128)), Ok(()));
        assert_eq!(limits.topic(&("ä".repeat(128) + "a")), Err(Rule::TopicSize));
        assert_eq!(limits.topic("1/2/3/4/5/6/7/8"), Ok(()));
        assert_eq!(limits.topic("1/2/3/4/5/6/7/8/9"), Err(Rule::TopicSlashes));
    }
}
