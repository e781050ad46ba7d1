"""One node of the cluster: a conformance driver that is read through, and a log of all that it answered.

The harness plays the loader. The value of a key is its version.
"""

import ctypes
import multiprocessing
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "conformance"))

from driver import Broken, Driver  # noqa: E402, F401

TAGS = 15
PREFIXES = 10
OPEN_FILLS = 32
# How long a load takes, in seconds, and how often: most are quick, some span a write. None reaches half the bound.
LOADS = [(0.6, 0, 0), (0.3, 0.01, 0.3), (0.1, 0.3, 0.9)]
BACKGROUND = 0.3


class Refused(Exception):
    """A node answered with an error."""


def key_name(key):
    return f"{key % PREFIXES}:{key}"


def tag_name(key):
    return f"t{key % TAGS}"


class Database:
    """key -> version, and when the broker last accepted an invalidation of it: memory that all processes of the harness share,
    so that a process that stands still holds up no other."""

    def __init__(self, keys):
        context = multiprocessing.get_context("spawn")
        self.versions = context.RawArray(ctypes.c_int64, [1] * keys)
        self.accepted = context.RawArray(ctypes.c_double, keys)


class Open:
    """A fill that was begun: a lease, or a load in the background. `version` is what its loader has read."""

    def __init__(self, key, identifier, is_load):
        self.key, self.id, self.is_load = key, identifier, is_load
        self.taken = time.monotonic()
        self.version = self.due = None
        self.is_ending = False


class Node:
    """Not thread-safe: one observer or one writer has it."""

    def __init__(self, name, language, url, bound, database, rng):
        self.name, self.database, self.rng = name, database, rng
        self.driver = Driver(language)
        self.fills, self.begun = {}, 0
        self.reads_log, self.fills_log = [], []
        try:
            self.ask("connect", url=url, options={"staleness_bound": bound})
        except BaseException:
            self.driver.kill()
            raise

    def ask(self, command, **fields):
        answer = self.driver.ask(command, **fields)
        if "error" in answer:
            raise Refused(f"{self.name} answered {command} {fields} with {answer['error']}")
        return answer["ok"]

    def open(self, namespace):
        """A new cache; what was logged of the last one is forgotten."""
        self.namespace = namespace
        self.fills, self.reads_log, self.fills_log = {}, [], []
        self.ask("cache", ns=namespace, options=None)

    def at(self, command, key, **fields):
        return self.ask(command, ns=self.namespace, key=key_name(key), **fields)

    def read(self, key):
        """Reads, and begins a fill after a miss."""
        begin = time.monotonic()
        value = self.at("get", key)
        version = None if value is None else int(value)
        self.reads_log.append((begin, time.monotonic(), key, version))
        if version is None and key not in self.fills and len(self.fills) < OPEN_FILLS:
            self._begin(key)
        return version

    def read_at_once(self, keys):
        """Sends the commands together. To a node that stands still: it reads all of them before it hears of anything else."""
        begins = []
        for key in keys:
            begins.append(time.monotonic())
            self.driver.send("get", ns=self.namespace, key=key_name(key))
        for key, begin in zip(keys, begins):
            value = self.driver.receive("get")["ok"]
            self.reads_log.append((begin, time.monotonic(), key, None if value is None else int(value)))

    def _begin(self, key):
        self.begun += 1
        is_load = self.rng.random() < BACKGROUND
        fill = self.fills[key] = Open(key, f"{self.namespace}-{self.begun}", is_load)
        if is_load:
            self.at("load_start", key, id=fill.id, tags=[tag_name(key)])
        else:
            self.at("lease", key, id=fill.id)
            self._load(fill)

    def _load(self, fill):
        # The load has started: only now may its loader read the source.
        fill.version = self.database.versions[fill.key]
        _, least, most = self.rng.choices(LOADS, [share for share, _, _ in LOADS])[0]
        fill.due = time.monotonic() + self.rng.uniform(least, most)

    def go_on(self):
        """Moves the open fills on, as far as they can."""
        now = time.monotonic()
        for fill in list(self.fills.values()):
            if fill.is_load:
                self._go_on_loading(fill, now)
            elif fill.due <= now:
                stored = self.at("set", fill.key, value=str(fill.version), lease=fill.id, tags=[tag_name(fill.key)])
                self.fills_log.append((fill.taken, time.monotonic(), fill.key, fill.version, stored))
                del self.fills[fill.key]

    def _go_on_loading(self, fill, now):
        if fill.due is not None and not fill.is_ending:
            if fill.due <= now:
                self.ask("load_finish", id=fill.id, value=str(fill.version))
                fill.is_ending = True
            return
        state = self.ask("load_state", id=fill.id)
        if state["done"]:
            # What a load returns is a read that began with it.
            self.reads_log.append((fill.taken, time.monotonic(), fill.key, int(state["value"])))
            del self.fills[fill.key]
        elif state["called"] and fill.due is None:
            self._load(fill)
