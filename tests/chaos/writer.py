"""A writer: commits to the database, invalidates through its node, and learns when the broker had accepted it."""

import queue
import threading
import time
import traceback
from collections import deque

from node import PREFIXES, TAGS, Broken, Refused, key_name, tag_name

# Between two writes of one writer. Most keys must be left alone for longer than the bound at times: only then do they live
# by proofs, and not by their age.
PACE = 0.2
POLL = 0.005
MANY = 5
# In a burst. What is noticed late is judged late.
POLL_EVERY = 50


# All writers commit in one process.
COMMITTING = threading.Lock()


class Write:
    """One invalidation, of one or many keys, under way or accepted."""

    def __init__(self, versions):
        self.versions, self.issued, self.accepted, self.token = versions, time.monotonic(), None, None


class Writer(threading.Thread):
    """Writes at random from `begin` to `rest`, and whatever `do` gives it. Only its own thread talks to its node."""

    def __init__(self, node):
        super().__init__(daemon=True)
        self.node = node
        self.tasks = queue.Queue()
        self.writes, self.pending = [], deque()
        self.keys, self.is_writing, self.failure, self.is_ended = 0, False, None, False
        self.next_write = 0
        self.start()

    @property
    def pid(self):
        return self.node.driver.process.pid

    def do(self, task, *arguments):
        """Runs it in the writer's thread; the returned event is set when it is done."""
        done = threading.Event()
        self.tasks.put((task, arguments, done))
        return done

    def call(self, task, *arguments, seconds=30):
        done = self.do(task, *arguments)
        if not done.wait(seconds):
            raise Broken(f"{self.node.name} did not finish {task.__name__} within {seconds} s")
        if self.failure:
            raise Broken(self.failure)

    def begin(self, namespace, keys, rng):
        self.call(self._begin, namespace, keys, rng)

    def _begin(self, namespace, keys, rng):
        self.node.rng = rng
        self.node.open(namespace)
        self.writes, self.pending = [], deque()
        self.keys, self.is_writing = keys, True
        self.next_write = time.monotonic() + rng.uniform(0, PACE)

    def run(self):
        while not self.is_ended:
            done = None
            try:
                try:
                    task, arguments, done = self.tasks.get(timeout=POLL)
                    if self.failure is None:
                        task(*arguments)
                except queue.Empty:
                    pass
                if self.failure is None and self.keys:
                    self._go_on()
            except (Broken, Refused) as error:
                self.failure = str(error)
            except Exception:  # a mistake in the harness must not look like a silent writer
                self.failure = traceback.format_exc()
            finally:
                if done is not None:
                    done.set()

    def _go_on(self):
        if self.is_writing and time.monotonic() >= self.next_write:
            self.next_write = time.monotonic() + PACE
            self.node.read(self.node.rng.randrange(self.keys))
            self.write_at_random()
        self.node.go_on()
        self.poll()

    def write_at_random(self):
        rng = self.node.rng
        # Some keys are written often, most seldom.
        key = int(self.keys * rng.random() ** 3)
        kind = rng.choices(["one", "update", "many", "tag", "prefix", "all"], [55, 20, 10, 8, 6, 1])[0]
        if kind == "update":
            self._update(key)
        elif kind == "many":
            self.invalidate_many([int(self.keys * rng.random() ** 3) for _ in range(MANY)])
        elif kind == "tag":
            self._issue(range(key % TAGS, self.keys, TAGS), "invalidate_tags", tags=[tag_name(key)])
        elif kind == "prefix":
            self._issue(range(key % PREFIXES, self.keys, PREFIXES), "invalidate_prefix", prefix=f"{key % PREFIXES}:")
        elif kind == "all":
            self._issue(range(self.keys), "invalidate_all")
        else:
            self.invalidate(key)
        self.node.read(key)

    def _commit(self, keys):
        versions = self.node.database.versions
        with COMMITTING:
            for key in keys:
                versions[key] += 1
            return {key: versions[key] for key in keys}

    def _issue(self, changed, command, **fields):
        write = Write(self._commit(changed))
        # Before it is asked for: a node that dies in between has perhaps sent it.
        self.writes.append(write)
        write.token = self.node.ask(command, ns=self.node.namespace, **fields)["token"]
        self.pending.append(write)

    def invalidate(self, key):
        self._issue([key], "invalidate", key=key_name(key))

    def invalidate_many(self, keys):
        keys = sorted(set(keys))
        self._issue(keys, "invalidate_many", keys=[[key_name(key), None] for key in keys])

    def _update(self, key):
        # The lease comes before the write to the source (design, rule 2).
        identifier = f"{self.node.namespace}-u{len(self.writes)}"
        self.node.at("lease", key, id=identifier)
        write = Write(self._commit([key]))
        self.writes.append(write)
        fields = {"value": str(write.versions[key]), "lease": identifier, "tags": [tag_name(key)]}
        write.token = self.node.at("update", key, **fields)["token"]
        self.pending.append(write)

    def invalidate_in_turn(self, count, offset):
        """As fast as it goes; most share a message with others."""
        for number in range(count):
            self.invalidate((offset + number) % self.keys)
            if number % POLL_EVERY == 0:
                self.poll()

    def invalidate_apart(self, count, offset):
        """One message each: the next is issued when the broker has accepted the last."""
        for number in range(count):
            self.invalidate((offset + number) % self.keys)
            self.node.ask("delivered", token=self.pending[-1].token, timeout_ms=2000)
            self.poll()

    def poll(self):
        """Notes what was accepted, in the order of issue."""
        while self.pending:
            write = self.pending[0]
            if not self.node.ask("delivered", token=write.token, timeout_ms=0):
                return
            write.accepted = time.monotonic()
            self.pending.popleft()
            for key in write.versions:
                self.node.database.accepted[key] = write.accepted

    def rest(self):
        self.is_writing = False

    def status(self):
        """As its node says."""
        found = []
        self.call(lambda: found.append(self.node.ask("status")))
        return found[0]

    def survey(self):
        """The version of each key, read in the writer's own thread."""
        found = []
        self.call(lambda: found.extend(self.node.read(key) for key in range(self.keys)))
        return found

    def end(self, politely=True):
        self.is_ended = True
        self.join(30)
        try:
            if politely and self.failure is None:
                self.node.driver.quit()
        finally:
            self.node.driver.kill()
