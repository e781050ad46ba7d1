//! What AWS IoT Core asks of one connection.

use super::*;
use crate::link::session::Phase;

const AWS: &str = "awsiot://a-ats.iot.eu-west-1.amazonaws.com";

impl Rig {
    /// The most publications in any second.
    fn busiest_second(&self) -> usize {
        let at: Vec<Nanos> = self.published.iter().map(|(at, _)| *at).collect();
        at.iter().map(|from| at.iter().filter(|t| (*from..from + S).contains(*t)).count()).max().unwrap_or(0)
    }

    fn full() -> (Rig, Vec<Arc<Channel>>) {
        let mut rig = Rig::at(AWS, Broker::Healthy);
        let mut channels = vec![rig.channel.clone()];
        channels.extend((1..49).map(|i| rig.open(&format!("n{i}"))));
        (rig, channels)
    }
}

#[test]
fn a_client_full_of_caches_never_publishes_faster_than_aws_takes_and_says_all() {
    let (mut rig, channels) = Rig::full();
    rig.run(2 * S);
    assert_eq!(rig.hellos.len(), 49, "every cache has said hello");
    for i in 0..2_000 {
        for channel in &channels {
            channel.push(Operations { keys: vec![(format!("k{i}"), None)], ..Operations::default() });
        }
        rig.run(MS);
    }
    rig.run(20 * S);
    assert!(channels.iter().all(|c| c.outbox.lock().pending() == 0), "all was sent");
    let heartbeats =
        rig.published.iter().filter(|(at, m)| *at > 1_003 * S && !m.contains("keys") && m.contains("seq")).count();
    assert!(heartbeats >= 49 * 2, "{heartbeats}");
    // Of 49 streams that end, one after the other.
    rig.session.command(Command::Close { timeout: Duration::from_secs(60), reply: None }, rig.now);
    rig.run(60 * S);
    assert_eq!(rig.byes.len(), 2 * 49);
    assert!(rig.session.ended());
    let most = rig.busiest_second();
    assert!((50..=100).contains(&most), "{most} publications in one second");
    assert!(rig.turns < 50_000, "{} turns of the loop in 84 s: it spins", rig.turns);
}

#[test]
fn a_cache_waits_for_no_busier_one_when_the_pace_is_limited() {
    let (mut rig, channels) = Rig::full();
    rig.run(5 * S);
    let begin = rig.now;
    channels[48].push(Operations { keys: vec![("quiet".into(), None)], ..Operations::default() });
    while channels[48].outbox.lock().pending() > 0 {
        for channel in &channels[..48] {
            channel.push(Operations { keys: vec![(format!("k{}", rig.now), None)], ..Operations::default() });
        }
        rig.run(MS);
        assert!(rig.now < begin + 3 * S, "it waits for ever");
    }
}

#[test]
fn what_is_dropped_without_an_answer_is_sent_again_under_its_number() {
    let mut rig = Rig::at(AWS, Broker::Healthy);
    rig.run(S);
    rig.broker = Broker::Drops(2);
    rig.published.clear();
    let seq = rig.channel.push(Operations { keys: vec![("k".into(), None)], ..Operations::default() });
    rig.run(4 * S);
    assert_eq!(rig.channel.acked(), 0);
    rig.run(8 * S);
    assert_eq!(rig.channel.acked(), seq, "the third copy was acknowledged");
    let copies: Vec<_> = rig.published.iter().filter(|(_, m)| m.contains("\"keys\"")).collect();
    assert_eq!(copies.len(), 3);
    assert!(copies.iter().all(|(_, m)| *m == copies[0].1), "{copies:?}");
}

#[test]
fn a_connection_that_swallows_publications_is_replaced() {
    let mut rig = Rig::at(AWS, Broker::Healthy);
    rig.run(S);
    rig.broker = Broker::Drops(usize::MAX);
    rig.channel.push(Operations { keys: vec![("k".into(), None)], ..Operations::default() });
    rig.run(300 * S);
    assert!(rig.disconnected);
}

#[test]
fn a_policy_that_denies_is_named_and_asked_again_after_minutes() {
    let mut rig = Rig::at(AWS, Broker::HangsUpOnSubscribe);
    rig.run(S);
    let reason = rig.shared.status().reason;
    assert!(reason.contains("`iot:Subscribe` on `topicfilter/cache/invalidate`"), "{reason}");
    rig.run(30 * 60 * S);
    let gaps: Vec<Nanos> = rig.connects.windows(2).map(|w| w[1] - w[0]).collect();
    assert!(gaps[0] >= S && gaps[0] < 10 * S, "the first time it may be the network: {gaps:?}");
    assert!(gaps[1..].iter().all(|gap| (60 * S..=360 * S).contains(gap)), "{gaps:?}");
    assert!(gaps.len() > 4, "{gaps:?}");

    let silent = Error::new(ErrorKind::Connect, "the connection was lost");
    let mut rig = Rig::at(AWS, Broker::PushesOut(silent));
    rig.run(S);
    let reason = rig.shared.status().reason;
    assert!(reason.contains("`iot:Publish`") && reason.contains("_probe/me"), "{reason}");

    let mut rig = Rig::at(AWS, Broker::Refuses(Error::new(ErrorKind::Auth, "not authorized")));
    rig.run(S);
    let reason = rig.shared.status().reason;
    assert!(reason.contains("`iot:Connect` on `client/me`"), "{reason}");
    rig.run(20 * 60 * S);
    assert!(rig.connects.windows(2).all(|w| w[1] - w[0] >= 60 * S));
}

const TOPIC: &str = "cache/invalidate/n";
const MUST_ALLOW: &str =
    "the policy of this client's identity must allow `iot:Publish` on `topic/cache/invalidate/n`; \
                          a change of it takes up to 8 minutes to be seen";

fn network_is_gone() -> Event {
    Event::Lost(Error::new(ErrorKind::Connect, "the connection was lost"))
}

#[test]
fn a_topic_that_may_not_be_published_to_costs_minutes_though_probes_return() {
    for says in [false, true] {
        let mut rig = Rig::at(AWS, Broker::Forbids(TOPIC, says));
        rig.run(S / 2);
        let reason = rig.shared.status().reason;
        assert_eq!(reason.contains("iot:"), says, "unsaid, the first time it may be the network: {reason}");
        rig.run(30 * 60 * S);
        let reason = rig.shared.status().reason;
        assert_eq!(reason, format!("the connection was lost; {MUST_ALLOW}"));
        let gaps = rig.gaps();
        let (first, rest) = if says { (&[][..], &gaps[..]) } else { gaps.split_at(1) };
        assert!(first.iter().all(|gap| (S..10 * S).contains(gap)), "{gaps:?}");
        assert!(rest.iter().all(|gap| (60 * S..=360 * S).contains(gap)) && rest.len() > 4, "{gaps:?}");
    }
}

#[test]
fn a_cache_that_may_not_be_subscribed_to_is_named_and_no_other() {
    for (says, denied) in [(true, TOPIC), (false, TOPIC), (true, "cache/invalidate/other")] {
        let mut rig = Rig::at(AWS, Broker::DeniesTopic(denied, says));
        rig.open("other");
        rig.run(30 * 60 * S);
        assert_eq!(
            rig.shared.status().reason,
            format!(
                "the connection was lost; the policy of this client's identity must allow `iot:Subscribe` on \
                 `topicfilter/{denied}`; a change of it takes up to 8 minutes to be seen"
            )
        );
        assert!(rig.gaps().iter().all(|gap| (60 * S..=360 * S).contains(gap)), "{:?}", rig.gaps());
    }
}

#[test]
fn a_policy_that_is_changed_while_connected_is_named_too() {
    let mut rig = Rig::at(AWS, Broker::Healthy);
    rig.run(10 * S);
    rig.broker = Broker::Forbids(TOPIC, false);
    rig.channel.push(Operations { all: true, ..Operations::default() });
    rig.run(60 * S);
    assert!(rig.connects.len() <= 3, "{:?}", rig.connects);
    let reason = rig.shared.status().reason;
    assert!(reason.contains(MUST_ALLOW), "{reason}");
}

#[test]
fn a_network_that_is_lost_is_not_blamed_on_the_policy() {
    let mut rig = Rig::at(AWS, Broker::Healthy);
    let blamed = |rig: &Rig| rig.shared.status().reason.contains("iot:");
    // Later on, with a publication on its way each time.
    for _ in 0..20 {
        rig.broker = Broker::Healthy;
        rig.run(20 * S);
        rig.broker = Broker::AnswersNoPublication;
        rig.channel.push(Operations { all: true, ..Operations::default() });
        rig.run(S);
        rig.event(network_is_gone());
        assert!(!blamed(&rig));
    }
    // Right at the beginning, once, before `hello` was answered.
    for _ in 0..5 {
        rig.broker = Broker::Forbids(TOPIC, false);
        let before = rig.connects.len();
        while rig.connects.len() == before || matches!(rig.session.phase, Phase::Up) {
            rig.run(100 * MS);
        }
        assert!(!blamed(&rig), "{}", rig.shared.status().reason);
        rig.broker = Broker::Healthy;
        rig.run(20 * S);
        rig.event(network_is_gone());
    }
    // Packets that get nowhere, until the keep-alive ends it: a denial is quicker.
    for _ in 0..5 {
        rig.broker = Broker::Healthy;
        while !rig.session.proved || !matches!(rig.session.phase, Phase::Up) {
            rig.run(100 * MS);
        }
        rig.broker = Broker::AnswersNoPublication;
        let late = rig.open(&format!("late{}", rig.connects.len()));
        late.push(Operations { all: true, ..Operations::default() });
        rig.run(45 * S);
        rig.event(network_is_gone());
        assert!(!blamed(&rig), "{}", rig.shared.status().reason);
    }
    assert!(rig.gaps().iter().all(|gap| *gap < 60 * S), "{:?}", rig.gaps());
}

#[test]
fn a_connection_that_is_lost_again_and_again_is_made_once_a_second_at_most() {
    let mut rig = Rig::at(AWS, Broker::Healthy);
    for _ in 0..20 {
        rig.run(S / 2);
        if rig.state() == LinkState::Live {
            rig.event(Event::Lost(Error::new(ErrorKind::Connect, "the connection was lost")));
        }
    }
    assert!(rig.connects.len() > 3);
    assert!(rig.connects.windows(2).all(|w| w[1] - w[0] >= S), "{:?}", rig.connects);
}

#[test]
fn other_brokers_have_no_such_limits() {
    let mut rig = Rig::new(Broker::HangsUpOnSubscribe);
    rig.run(60 * S);
    assert!(!rig.shared.status().reason.contains("iot:"));
    assert!(rig.connects.len() > 4);
    let mut rig = Rig::new(Broker::Healthy);
    let channels: Vec<_> = (0..200).map(|i| rig.open(&format!("n{i}"))).collect();
    rig.run(S);
    for channel in &channels {
        channel.push(Operations { all: true, ..Operations::default() });
    }
    rig.run(MS);
    assert!(channels.iter().all(|c| c.acked() == 1));
}

#[test]
fn a_policy_is_blamed_only_for_what_it_explains() {
    let lost = || Error::new(ErrorKind::Connect, "the connection was lost");
    let reason = |rig: &Rig| rig.shared.status().reason;
    // Not let in without a word: the transport has said what that may mean.
    let mut rig = Rig::at(AWS, Broker::Refuses(lost()));
    rig.run(S);
    assert_eq!(reason(&rig), "the connection was lost");
    // After a probe came back it is the network.
    let mut rig = Rig::at(AWS, Broker::Healthy);
    rig.run(S);
    assert_eq!(rig.state(), LinkState::Live);
    rig.event(Event::Lost(lost()));
    assert_eq!(reason(&rig), "the connection was lost");
    // What an earlier connection proved says nothing of the next: policies change.
    rig.broker = Broker::PushesOut(lost());
    rig.run(5 * S);
    assert!(reason(&rig).contains("`iot:Publish`"), "{}", reason(&rig));
    // The broker said why.
    let taken_over = Error::config("another client connected with the client id \"x\"");
    let mut rig = Rig::at(AWS, Broker::PushesOut(taken_over.clone()));
    rig.run(S);
    assert_eq!(reason(&rig), taken_over.message());
}

#[test]
fn a_message_stays_within_one_step_of_what_aws_meters() {
    let mut rig = Rig::at(AWS, Broker::Healthy);
    rig.run(S);
    for i in 0..2_000 {
        rig.channel.push(Operations { keys: vec![(format!("key-number-{i}"), None)], ..Operations::default() });
    }
    rig.run(20 * S);
    assert_eq!(rig.channel.outbox.lock().pending(), 0);
    let longest = rig.payloads.iter().map(|(_, payload)| payload.len()).max().unwrap();
    assert!((4_000..=5_000).contains(&longest), "{longest} bytes");
}

#[test]
fn what_one_connection_swallowed_is_not_held_against_the_next() {
    let mut rig = Rig::at(AWS, Broker::Healthy);
    rig.run(S);
    for i in 0..2 {
        rig.broker = Broker::Drops(25);
        let seq = rig.channel.push(Operations { keys: vec![(format!("k{i}"), None)], ..Operations::default() });
        rig.run(300 * S);
        assert_eq!(rig.channel.acked(), seq, "all copies but the last were dropped");
        rig.event(Event::Lost(Error::new(ErrorKind::Connect, "the connection was lost")));
        rig.run(5 * S);
    }
    assert!(!rig.disconnected, "no connection swallowed 40");
}

#[test]
fn what_a_dead_process_left_is_sent_again_when_aws_drops_it() {
    let folder = std::env::temp_dir().join(format!("unstale-left-{}", std::process::id()));
    let config = || ClientConfig { url: AWS.into(), outbox_dir: Some(folder.clone()), ..ClientConfig::default() };
    let (dead, _) = Shared::new(config(), "dead").unwrap();
    let channel = Channel::new(&dead, "n");
    channel.push(Operations { keys: vec![("left".into(), None)], ..Operations::default() });
    channel.end_journal(false);
    let mut rig = Rig::configured(Broker::Healthy, config());
    rig.run(S);
    rig.broker = Broker::Drops(1);
    let left = rig.shared.outbox_dir.as_ref().unwrap().take_up();
    rig.session.restore(left);
    rig.run(120 * S);
    let copies: Vec<_> = rig.published.iter().filter(|(_, m)| m.contains("left")).map(|(_, m)| m.clone()).collect();
    assert_eq!(copies.len(), 2, "{copies:?}");
    assert_eq!(copies[0], copies[1], "under its number");
    assert!(!rig.byes.is_empty(), "then its stream ends");
    std::fs::remove_dir_all(&folder).unwrap();
}
