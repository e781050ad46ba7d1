"""What is judged: every read of every node, against the writes that the broker had accepted. Pure, no clock of its own.

All times are `time.monotonic()`: CLOCK_MONOTONIC, one clock for all processes of a machine. A read begins before its command
is sent to the node, and an invalidation counts as accepted only after the node's `delivered` has returned here. Both errors of
measurement (a pipe's latency, a poll's interval) make the allowed time longer, never shorter: what is reported did happen.
"""

import bisect
import math
from collections import defaultdict, namedtuple

# A node was asked for a key; `version` is None for a miss.
Read = namedtuple("Read", "node begin end key version")
# A node was given a value that was read from the database after `taken`; `stored` is its answer.
Fill = namedtuple("Fill", "node taken end key version stored")
# `version` of `key` was committed before `issued`; `accepted` is None for as long as nobody has seen that it was.
Invalidation = namedtuple("Invalidation", "key version issued accepted")
Violation = namedtuple("Violation", "read required accepted late")

# A message is on its way for a moment after it was accepted: a miss so soon after it is not one without need.
ON_ITS_WAY = 0.5


class Judgement:
    """The figures of one history."""

    def __init__(self):
        self.reads = self.hits = self.lapsed = 0
        self.violations = []
        self.staleness = []
        self.stalest = defaultdict(float)  # node -> the longest

    def quantile(self, share):
        """Nearest rank, over invalidation × node: for how long after its acceptance an older value was still read."""
        ordered = sorted(self.staleness)
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


def judge(bound, reads, fills, invalidations, pauses=()):
    """`pauses` are (node, stopped, continued): the node stood still from before `stopped` until after `continued`."""
    found = Judgement()
    reads = _awake(reads, pauses)
    accepted_of, issued_of = defaultdict(list), defaultdict(list)
    for entry in invalidations:
        issued_of[entry.key].append(entry)
        if entry.accepted is not None:
            accepted_of[entry.key].append((entry.accepted, entry.version))
    floors = {key: _floor(entries) for key, entries in accepted_of.items()}

    found.reads = len(reads)
    for read in reads:
        if read.version is None:
            continue
        found.hits += 1
        moments, newest = floors.get(read.key, ((), ()))
        # Accepted more than the bound before the read began.
        at = bisect.bisect_left(moments, read.begin - bound) - 1
        if at >= 0 and read.version < newest[at]:
            since = next(m for m, n in zip(moments, newest) if n > read.version)
            found.violations.append(Violation(read, newest[at], since, read.begin - since - bound))
    _measure_staleness(found, reads, accepted_of)
    found.lapsed = _count_lapses(reads, fills, issued_of)
    return found


def _awake(reads, pauses):
    """A command that was sent to a stopped process begins when that process goes on; the first read after waking is the one
    that matters, and would otherwise count as begun before the fault."""
    adjusted = []
    for read in reads:
        for node, stopped, continued in pauses:
            if node == read.node and stopped <= read.begin <= continued:
                read = read._replace(begin=continued)
        adjusted.append(read)
    return adjusted


def _floor(accepted):
    """Moments in order, and the newest version accepted by each."""
    moments, newest, top = [], [], 0
    for moment, version in sorted(accepted):
        top = max(top, version)
        moments.append(moment)
        newest.append(top)
    return moments, newest


def _measure_staleness(found, reads, accepted_of):
    last_read = defaultdict(dict)  # (node, key) -> version -> begin of its last read
    for read in reads:
        if read.version is not None:
            versions = last_read[read.node, read.key]
            versions[read.version] = max(read.begin, versions.get(read.version, 0))
    for (node, key), versions in last_read.items():
        events = sorted([(v, 1, begin) for v, begin in versions.items()] + [(v, 0, a) for a, v in accepted_of[key]])
        last_older = -math.inf
        for _, is_read, moment in events:  # by version; an invalidation before reads of its own version
            if is_read:
                last_older = max(last_older, moment)
            else:
                staleness = max(0.0, last_older - moment)
                found.staleness.append(staleness)
                found.stalest[node] = max(found.stalest[node], staleness)


def _count_lapses(reads, fills, issued_of):
    """Misses on a key that was stored, and that nobody invalidated since or just before."""
    events = defaultdict(list)
    for fill in fills:
        events[fill.node, fill.key].append((fill.end, 0, fill))
    for read in reads:
        events[read.node, read.key].append((read.begin, 1, read))
    lapsed = 0
    for (_, key), of_key in events.items():
        held = None
        for _, is_read, event in sorted(of_key, key=lambda e: e[:2]):
            if not is_read:
                held = event if event.stored else held
            elif held is not None and event.version is None:
                lapsed += not _was_invalidated(issued_of[key], held.taken, event.end)
                held = None
    return lapsed


def _was_invalidated(issued, taken, end):
    return any(i.issued <= end and (i.accepted is None or i.accepted >= taken - ON_ITS_WAY) for i in issued)
