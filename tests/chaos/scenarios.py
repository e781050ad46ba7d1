"""The faults. Each scenario makes sure that its fault did happen: `expect` is for that, reads are the oracle's.

A scenario gets its stage with writers and readers at work in all three languages, and returns with the fault ended.
"""

import os
import signal

BEFORE = 1.2
AFTER = 1.0
# Longer than the bound, so that what was cached before the fault would be a violation if it were still served.
BEYOND = 1.5
# A stale read so long after acceptance comes of the fault, not of the machine.
FELT = 0.5
BURST = 10_000
BURST_KEYS = 400
RECONNECTS = 30
# More than the broker keeps for a subscriber: 20 in flight and 1,000 queued.
OVERFLOW = 1_800
SMALL_QUEUE = 10
SMALL_OVERFLOW = 20
CUTS = 4
ABOVE_RATE = 120
# Doubts that come of numbers and heartbeats.
TOLD = {"hole", "unconfirmed", "unknown_stream"}


def healthy(stage):
    stage.last(BEFORE + 2 * stage.bound)


def check_healthy(stage, found):
    stage.expect(found.quantile(0.99) < 0.5, f"p99 of staleness without a fault is {found.quantile(0.99):.3f} s")
    stage.expect(found.lapsed <= 0.01 * found.hits, f"{found.lapsed} entries lapsed without a fault, of {found.hits} hits")


def broker_killed(stage):
    _kill_broker(stage, persistent=False)


def broker_killed_persistent(stage):
    _kill_broker(stage, persistent=True)


def _kill_broker(stage, persistent):
    broker, writers = stage.cluster.broker, stage.cluster.writers
    if persistent:
        _reconfigure(stage, persistent=True)
    stage.last(BEFORE)
    each = BURST // len(writers) + 1
    done = [writer.do(writer.invalidate_in_turn, each, n * each) for n, writer in enumerate(writers)]
    stage.until(lambda: stage.issued() > BURST // 3, 20, "a third of the burst is issued")
    broker.kill()
    stage.expect(stage.pending() > 0, "nothing was under way when the broker was killed")
    stage.last(1)
    broker.restart()
    stage.until(lambda: all(event.is_set() for event in done), 20, "the burst is issued")
    stage.expect(stage.issued() >= BURST, f"only {stage.issued()} invalidations were issued")
    stage.last(AFTER)
    if persistent:
        _reconfigure(stage)


def _reconfigure(stage, **options):
    """Starts the broker again, with these options."""
    cluster = stage.cluster
    before = cluster.connects()
    cluster.broker.configure(**options)
    cluster.broker.kill()
    cluster.broker.restart()
    stage.until(lambda: all(n > m for n, m in zip(cluster.connects(), before)), 20, "all reconnect")


def black_hole(stage):
    stage.last(BEFORE)
    stage.cluster.proxies.change(stage.cluster.reader_numbers(), alive=False)
    accepted = stage.accepted()
    stage.last(stage.bound + BEYOND)
    stage.expect(stage.accepted() > accepted, "nothing was written while the readers were cut off")
    _expect_degraded(stage, stage.cluster.readers)
    stage.cluster.proxies.heal()
    stage.last(AFTER)


def _expect_degraded(stage, readers):
    states = [reader.status()["state"] for reader in readers]
    stage.expect(set(states) == {"degraded"}, f"cut off for longer than the bound, the readers say that they are {states}")


def check_late(stage, found):
    """A reader has noticed that its probes came back late: so the fault did reach it."""
    for reader in stage.cluster.readers:
        doubts = reader.ask("stats")["doubts"]
        stage.expect(doubts.get("late_probe"), f"no probe of {reader.name} came back late: {doubts}")


def check_cut_off(stage, found):
    """As it heard nothing, a reader also has served what was older, within the bound."""
    check_late(stage, found)
    for reader in stage.cluster.readers:
        stalest = found.stalest[reader.name]
        stage.expect(stalest > FELT, f"{reader.name} was not cut off: its stalest read was {stalest * 1000:.0f} ms late")


def slow_link(stage):
    """First slow, then so slow that no probe returns in time."""
    stage.last(BEFORE)
    stage.cluster.proxies.change(stage.cluster.all_numbers(), delay=0.15, rate=20_000)
    stage.last(stage.bound)
    stage.cluster.proxies.change(stage.cluster.all_numbers(), delay=0.6 * stage.bound)
    stage.last(stage.bound + BEYOND)
    stage.cluster.proxies.heal()
    stage.last(AFTER)


def broker_stopped(stage):
    broker = stage.cluster.broker.process
    stage.last(BEFORE)
    broker.send_signal(signal.SIGSTOP)
    stage.last(stage.bound + BEYOND)
    stage.expect(stage.pending() > 0, "a stopped broker accepted everything")
    _expect_degraded(stage, stage.cluster.readers)
    broker.send_signal(signal.SIGCONT)
    stage.last(AFTER)


def queue_overflow(stage):
    """The readers stand still until the broker has dropped what it had accepted for them."""
    cluster = stage.cluster
    stage.last(BEFORE)
    epochs = [reader.ask("stats")["epoch"] for reader in cluster.readers]
    dropped = cluster.broker.dropped_for()
    cluster.stop(cluster.readers)
    each = OVERFLOW // len(cluster.writers)
    done = [writer.do(writer.invalidate_apart, each, n * 7) for n, writer in enumerate(cluster.writers)]
    stage.last(stage.bound + 0.5)
    stage.until(lambda: all(event.is_set() for event in done), 25, "the flood is accepted")
    dropped = cluster.broker.dropped_for() - dropped
    stage.expect(dropped >= len(cluster.readers), f"the broker dropped messages for {dropped} of the stopped readers")
    cluster.go_on(cluster.readers)
    stage.last(AFTER)
    for reader, epoch in zip(cluster.readers, epochs):
        stats = reader.ask("stats")
        stage.expect(stats["epoch"] > epoch, f"{reader.name} did not notice what was dropped: {stats}")


def queue_overflow_unnoticed(stage):
    """The same with a small queue, and so quickly that no probe is late; then nothing more is written. What was dropped can only
    be told by the publishers' numbers and heartbeats."""
    cluster = stage.cluster
    _reconfigure(stage, queue=SMALL_QUEUE)
    # Until what was cached before lives by proofs again.
    stage.last(stage.bound + BEFORE)
    for writer in cluster.writers:
        writer.rest()
    dropped = cluster.broker.dropped_for()
    cluster.stop(cluster.readers)
    done = [writer.do(writer.invalidate_apart, SMALL_OVERFLOW, n * 20) for n, writer in enumerate(cluster.writers)]
    stage.until(lambda: all(event.is_set() for event in done), 10, "the flood is accepted")
    cluster.go_on(cluster.readers)
    dropped = cluster.broker.dropped_for() - dropped
    stage.expect(dropped >= len(cluster.readers), f"the broker dropped messages for {dropped} of the stopped readers")
    stage.last(stage.bound + AFTER)
    for reader in cluster.readers:
        doubts = reader.ask("stats")["doubts"]
        stage.expect(TOLD & set(doubts), f"{reader.name} was not told of what was dropped: {doubts}")
    _reconfigure(stage)


def publisher_killed(stage):
    """In the midst of a batch, one writer after the other."""
    for number, writer in enumerate(stage.cluster.writers):
        stage.last(0.5)
        writer.do(_batch, writer, stage.keys)
        issued = len(writer.writes)
        stage.until(lambda w=writer, i=issued: len(w.writes) > i + 150, 20, f"{writer.node.name} is in its batch")
        os.kill(writer.pid, signal.SIGKILL)
        writer.is_ended = True
        stage.replace_writer(number)
        stage.expect(stage.orphans, f"{writer.node.name} had nothing under way when it was killed")
    stage.last(stage.bound + AFTER)


def _batch(writer, keys):
    for number in range(3000):
        writer.invalidate(number % keys)
        if number % 50 == 0:
            writer.invalidate_many(range(keys))
            writer.poll()


def one_cut_off(stage):
    """Each reader in its turn, while the others go on."""
    cluster = stage.cluster
    for number in stage.rng.sample(cluster.reader_numbers(), len(cluster.readers)):
        stage.last(0.6)
        cluster.proxies.change([number], alive=False)
        stage.last(stage.bound + 1)
        _expect_degraded(stage, [cluster.readers[number]])
        cluster.proxies.heal()
    stage.last(AFTER)


def reconnects(stage):
    """All connections are reset as soon as all stand again, 30 times."""
    cluster = stage.cluster
    stage.last(BEFORE)
    for _ in range(RECONNECTS):
        before = cluster.connects()
        stage.expect(cluster.proxies.reset(cluster.all_numbers()) > 0, "there was no connection to reset")
        stage.until(lambda b=before: all(n > m for n, m in zip(cluster.connects(), b)), 20, "all reconnect")
    stage.last(AFTER)


def process_stopped(stage):
    """The readers stand still beyond the bound, with entries in them, and wake up among writes that they missed."""
    cluster = stage.cluster
    stage.last(BEFORE)
    cluster.stop(cluster.readers)
    stage.last(stage.bound + BEYOND)
    cluster.go_on(cluster.readers)
    stage.last(AFTER)


def half_open_down(stage):
    """The readers are heard, and hear nothing."""
    _half_open(stage, "down")


def half_open_up(stage):
    """The readers hear, and are not heard."""
    _half_open(stage, "up")


def _half_open(stage, way):
    stage.last(BEFORE)
    stage.cluster.proxies.change(stage.cluster.reader_numbers(), ways=[way], alive=False)
    stage.last(stage.bound + BEYOND)
    _expect_degraded(stage, stage.cluster.readers)
    stage.cluster.proxies.heal()
    stage.last(AFTER)


# They change mosquitto's settings, or read its log.
MOSQUITTO_ONLY = {"broker_killed_persistent", "queue_overflow", "queue_overflow_unnoticed"}

# Each of these counts on what mosquitto does, and AWS does not.
NOT_ON_AWS = {
    "broker_killed": "the service is not one process; that every connection ends at once is `cut`",
    "broker_killed_persistent": "the same",
    "broker_stopped": "the same; that it says nothing is `black_hole`",
    "queue_overflow": "what AWS drops it drops by rate: `above_rate`",
    "queue_overflow_unnoticed": "the same",
    "reconnects": "30 resets in a row ask for more than one CONNECT a second; `cut` keeps to that",
}

# name, what happens, what else is checked of its figures, how many keys (none: the usual number)
SCENARIOS = [
    ("healthy", healthy, check_healthy, None),
    ("broker_killed", broker_killed, None, BURST_KEYS),
    ("broker_killed_persistent", broker_killed_persistent, None, BURST_KEYS),
    ("black_hole", black_hole, check_cut_off, None),
    ("slow_link", slow_link, check_late, None),
    ("broker_stopped", broker_stopped, check_late, None),
    ("queue_overflow", queue_overflow, None, None),
    ("queue_overflow_unnoticed", queue_overflow_unnoticed, None, None),
    ("publisher_killed", publisher_killed, None, None),
    ("one_cut_off", one_cut_off, check_cut_off, None),
    ("reconnects", reconnects, None, None),
    ("process_stopped", process_stopped, None, None),
    ("half_open_down", half_open_down, check_cut_off, None),
    ("half_open_up", half_open_up, check_late, None),
]


def cut(stage):
    """The broker ends all connections, as it does with WebSockets after a day; never sooner than a client may connect again."""
    stage.last(BEFORE)
    for _ in range(CUTS):
        before = stage.cluster.connects()
        sums = stage.cluster.broker.ask("cut")
        stage.until(lambda b=before: all(n > m for n, m in zip(stage.cluster.connects(), b)), 20, "all reconnect")
        stage.last(1.5)
    stage.expect(sums["counts"].get("cut"), "no connection was cut")
    stage.last(AFTER)


def above_rate(stage):
    """Together the writers publish more than the broker sends to one client: it drops what it has acknowledged."""
    cluster = stage.cluster
    stage.last(BEFORE)
    before = cluster.broker.ask()["losses"].get("outbound_rate", 0)
    done = [writer.do(writer.invalidate_apart, ABOVE_RATE, n * 7) for n, writer in enumerate(cluster.writers)]
    stage.until(lambda: all(event.is_set() for event in done), 30, "the flood is accepted")
    dropped = cluster.broker.ask()["losses"].get("outbound_rate", 0) - before
    stage.expect(dropped > 0, "nothing was dropped")
    stage.last(stage.bound + AFTER)



# Played on the stand-in for AWS only.
AWS_ONLY = [
    ("cut", cut, None, None),
    ("above_rate", above_rate, None, None),
]


def playable(broker):
    """What makes sense on the broker of this name."""
    if broker == "aws-standin":
        return [entry for entry in SCENARIOS if entry[0] not in NOT_ON_AWS] + AWS_ONLY
    return [entry for entry in SCENARIOS if broker == "mosquitto" or entry[0] not in MOSQUITTO_ONLY]
