//! What AWS is allowed to do to its clients, and does at bad times. All off by default but `drop_above_rate`.

use serde::Deserialize;
use std::time::Duration;

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    pub seed: u64,
    /// Share of deliveries that are held back, so that later ones overtake them.
    // "AWS IoT differences from MQTT specifications": "The message broker doesn't guarantee the order in which messages and ACK are received".
    pub reorder: f64,
    /// For how long at most.
    pub reorder_ms: u64,
    /// Share of deliveries that come twice, the second with a packet id of its own and without DUP.
    // The same section: "On rare occasions, the message broker might resend the same logical PUBLISH message with a different packet ID".
    pub duplicate: f64,
    /// A subscription works only so long after its SUBACK.
    // The same section: "there might be a delay between the time the message broker sends a SUBACK and the time the client starts receiving".
    pub suback_delay_ms: u64,
    /// A PUBACK is sent so late; until then its publish is unacknowledged.
    pub puback_delay_ms: u64,
    /// What exceeds the outbound rate is dropped, QoS 1 too and although its publisher got a PUBACK. Else it waits.
    // Quota "Publish requests per second per connection": "Publish requests that exceed that quota are discarded".
    pub drop_above_rate: bool,
    /// A publish above the inbound rate gets a PUBACK with 0x97 (MQTT 5). Else, as in MQTT 3.1.1, no PUBACK at all.
    pub puback_when_throttled: bool,
    /// Every connection ends after so long.
    // Quota "WebSocket connection duration": 24 hours.
    pub cut_after_s: Option<f64>,
}

impl Default for Faults {
    fn default() -> Faults {
        Faults {
            seed: 1,
            reorder: 0.0,
            reorder_ms: 150,
            duplicate: 0.0,
            suback_delay_ms: 0,
            puback_delay_ms: 0,
            drop_above_rate: true,
            puback_when_throttled: false,
            cut_after_s: None,
        }
    }
}

impl Faults {
    /// How long this delivery is held back, and its second copy, if there is one.
    pub fn delays(&self, random: &mut fastrand::Rng) -> (Duration, Option<Duration>) {
        let late = |random: &mut fastrand::Rng| Duration::from_micros(random.u64(0..=self.reorder_ms * 1000));
        let first = if random.f64() < self.reorder { late(random) } else { Duration::ZERO };
        let second = (random.f64() < self.duplicate).then(|| first + late(random));
        (first, second)
    }
}
