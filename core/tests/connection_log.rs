//! The log tells of a connection's end and of its return, alone in its process because of the log.

mod common;
#[path = "common/logs.rs"]
mod logs;

use common::{until, Mosquitto};
use logs::Logs;
use unstale::{blocking, ClientConfig, LinkState};

#[test]
fn the_last_word_in_the_log_is_true() {
    let logs = Logs::keep();
    let mut broker = Mosquitto::start();
    let client = blocking::connect(ClientConfig::from_url(&broker.url()).unwrap()).unwrap();
    let live = || client.status().state == LinkState::Live;
    until("live", live);
    assert!(logs.with("connected").is_empty(), "nothing was lost yet");
    broker.restart();
    until("the loss is told", || logs.with("not connected").len() == 1);
    until("the return is told", || logs.with("again, and proved fresh").len() == 1);
    assert!(live());
    // Within the same minute the next loss is not told, and its end therefore neither.
    broker.restart();
    until("another connection", || client.status().connects == 3 && live());
    assert_eq!((logs.with("not connected").len(), logs.with("again, and").len()), (1, 1));
    blocking::close(&client, std::time::Duration::from_secs(5)).unwrap();
}
