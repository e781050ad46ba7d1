"""The course of one scenario: open a cache everywhere, write and read all through the fault, settle, judge."""

import random
import time

from node import Broken
from oracle import Fill, Invalidation, Read, judge

KEYS = 60
# On top of the bound, before the last survey.
MARGIN = 0.3
DELIVERY_SECONDS = 30
FILL_SECONDS = 5
# Quiet times in which every entry may stay served beyond the bound; a loaded machine may spoil one of them.
ROUNDS = 5


class Stage:
    """What a scenario gets: the cluster, and words for what is to happen. `problems` are what is wrong beside the reads."""

    def __init__(self, cluster, name, seed, keys=KEYS):
        self.cluster, self.name, self.keys = cluster, name, keys
        self.bound, self.rng = cluster.bound, random.Random(f"{seed} {name}")
        self.problems, self.retired, self.orphans = [], [], []
        self.started = time.monotonic()
        self.namespace = f"{name}-{int(self.started * 1000)}"
        cluster.pauses.clear()
        for reader in cluster.readers:
            reader.ask("open", self.namespace, keys, self.rng.random())
        for writer in cluster.writers:
            writer.begin(self.namespace, keys, random.Random(self.rng.random()))

    def last(self, seconds):
        """The fault, or the health, lasts so long; writers and readers go on."""
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0:
            time.sleep(min(left, 0.2))
            self._check_writers()

    def until(self, reached, seconds, what):
        deadline = time.monotonic() + seconds
        while not reached():
            if time.monotonic() > deadline:
                self.expect(False, f"{what}: not within {seconds} s")
                return
            self._check_writers()
            time.sleep(0.01)

    def expect(self, holds, problem):
        if not holds:
            self.problems.append(problem)

    def _check_writers(self):
        for writer in self.cluster.writers:
            if writer.failure and not writer.is_ended:
                raise Broken(writer.failure)

    def pending(self):
        return sum(len(writer.pending) for writer in self.cluster.writers)

    def accepted(self):
        return sum(write.accepted is not None for writer in self.cluster.writers for write in list(writer.writes))

    def issued(self):
        return sum(len(writer.writes) for writer in self.cluster.writers)

    def replace_writer(self, number):
        """After a SIGKILL: what nobody has seen accepted is invalidated again by the new process, as its owner would."""
        old = self.cluster.replace_writer(number)
        self.retired.append(old)
        self.orphans = [write for write in old.writes if write.accepted is None]
        writer = self.cluster.writers[number]
        writer.begin(self.namespace, self.keys, random.Random(self.rng.random()))
        keys = sorted({key for write in self.orphans for key in write.versions})
        if keys:
            writer.call(writer.invalidate_many, keys)

    def finish(self):
        """After the fault: everything is delivered, nothing is lost, and entries are kept. Returns the figures."""
        for writer in self.cluster.writers:
            writer.rest()
        self.until(lambda: self.pending() == 0, DELIVERY_SECONDS, "every invalidation is delivered")
        undelivered = self.pending()
        lost = self._lost()
        kept = self._is_kept()
        found = self._judge()
        found.lost, found.undelivered, found.kept = lost, undelivered, kept
        found.seconds = time.monotonic() - self.started
        self.expect(kept, f"entries were not served beyond their own age in {ROUNDS} quiet times")
        return found

    def _lost(self):
        """Values that are not the newest although the bound is over, on any node."""
        moments = [w.accepted for writer in self.cluster.writers for w in writer.writes if w.accepted is not None]
        self.last(max(moments, default=0) + self.bound + MARGIN - time.monotonic())
        surveys = [(reader.name, reader.ask("survey")[0]) for reader in self.cluster.readers]
        surveys += [(writer.node.name, writer.survey()) for writer in self.cluster.writers]
        newest = list(self.cluster.database.versions[: self.keys])
        lost = [
            f"{name} still serves version {version} of key {key}, which is at {newest[key]}"
            for name, versions in surveys
            for key, version in enumerate(versions)
            if version not in (None, newest[key])
        ]
        self.problems += lost[:5]
        return len(lost)

    def _is_kept(self):
        """A cache that always misses is never stale either: with nobody writing, all stay served for longer than the bound."""
        for _ in range(ROUNDS):
            before = self._filled()
            self.last(self.bound + MARGIN)
            if before is not None and [r.ask("survey")[1] for r in self.cluster.readers] == before:
                return True
        return False

    def _filled(self):
        """How many fills each reader had begun when it held every key; none when that was not to be."""
        deadline = time.monotonic() + FILL_SECONDS
        while time.monotonic() < deadline:
            surveys = [reader.ask("survey") for reader in self.cluster.readers]
            if all(version is not None for versions, _ in surveys for version in versions):
                return [begun for _, begun in surveys]
            time.sleep(0.05)
        return None

    def _judge(self):
        reads, fills = [], []
        writers = [*self.cluster.writers, *self.retired]
        for reader in self.cluster.readers:
            read, filled = reader.ask("collect")
            reads += [Read(reader.name, *entry) for entry in read]
            fills += [Fill(reader.name, *entry) for entry in filled]
        for writer in writers:
            reads += [Read(writer.node.name, *entry) for entry in writer.node.reads_log]
        invalidations = [
            Invalidation(key, version, write.issued, write.accepted)
            for writer in writers
            for write in writer.writes
            for key, version in write.versions.items()
        ]
        found = judge(self.bound, reads, fills, invalidations, self.cluster.pauses)
        found.invalidations = sum(len(writer.writes) for writer in writers)
        return found
