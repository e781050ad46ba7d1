"""The cluster under test: a broker, a proxy for each node, a reader and a writer in each language; and the faults."""

import os
import random
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "conformance"))

from brokers import BROKERS  # noqa: E402
from node import Database, Node  # noqa: E402
from observer import Reader  # noqa: E402
from proxy import Proxies  # noqa: E402
from writer import Writer  # noqa: E402

LANGUAGES = ("rust", "python", "node")
KEYS = 400
STOP_SECONDS = 5
SALVO_SECONDS = 0.1
# mosquitto's default: beyond, it accepts a message for a subscriber and drops it, without a word to either side.
QUEUE = 1000
# On the stand-in for AWS. Late by less than the reorder window, which is an eighth of the bound.
AWS_FAULTS = {"reorder": 0.1, "reorder_ms": 150, "duplicate": 0.05, "suback_delay_ms": 100}


class Faults:
    """Mixed into a broker: it can be killed, started again on its port, and stopped for a while."""

    def kill(self):
        self.process.kill()
        self.process.wait()

    def restart(self):
        """After `kill`, on the same port."""
        if not self._start():
            raise RuntimeError(f"{self.name} did not start again:\n{self._log()}")

    def __exit__(self, *details):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
        super().__exit__(*details)


class FaultyMosquitto(Faults, BROKERS["mosquitto"]):
    """Its settings can be changed, and it logs for whom it drops messages."""

    def __init__(self):
        super().__init__()
        self.configure()

    def configure(self, persistent=False, queue=QUEUE):
        """From the next start on."""
        kept = ("persistence false",)
        if persistent:
            kept = ("persistence true", f"persistence_location {self.folder.name}/", "autosave_interval 1")
        self.lines = ("user root", "set_tcp_nodelay true", f"max_queued_messages {queue}", *kept)

    def dropped_for(self):
        """For how many clients it has said so far that it drops messages."""
        return self._log().count("Outgoing messages are being dropped for client")


def faulty(name):
    """The broker of this name, with faults."""
    if name == FaultyMosquitto.name:
        return FaultyMosquitto()
    if name == "aws-standin":
        return BROKERS[name](AWS_FAULTS)
    return type("FaultyBroker", (Faults, BROKERS[name]), {})()


class Cluster:
    """Everything is up on entry, and gone on exit. Numbers are those of the proxies: readers first, then writers."""

    def __init__(self, bound, reader_bound=None, broker="mosquitto"):
        self.broker = faulty(broker)
        self.bound, self.reader_bound = bound, f"{reader_bound or bound}s"
        self.readers, self.writers, self.pauses, self.stopped = [], [], [], {}

    def __enter__(self):
        self.database = Database(KEYS)
        self.broker.__enter__()
        try:
            self.proxies = Proxies(self.broker.port, 2 * len(LANGUAGES))
            for number, language in enumerate(LANGUAGES):
                name = f"{language} reader"
                shared = (self.reader_bound, self.bound, self.database)
                self.readers.append(Reader(name, language, self._url(number), *shared))
            for number in range(len(LANGUAGES)):
                self.writers.append(self._new_writer(number))
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def _url(self, number):
        return self.broker.url_at(self.proxies.ports[number])

    def _new_writer(self, number):
        language = LANGUAGES[number]
        url = self._url(len(LANGUAGES) + number)
        return Writer(Node(f"{language} writer", language, url, f"{self.bound}s", self.database, random.Random(0)))

    def replace_writer(self, number):
        """A new process instead of one that was killed; returns the old one, for what it has written."""
        old = self.writers[number]
        old.end(politely=False)
        self.writers[number] = self._new_writer(number)
        return old

    def reader_numbers(self):
        return list(range(len(LANGUAGES)))

    def all_numbers(self):
        return list(range(2 * len(LANGUAGES)))

    def connects(self):
        """How many connections each node has made."""
        return [node.status()["connects"] for node in [*self.readers, *self.writers]]

    def stop(self, readers):
        """SIGSTOP; returns when every thread of these nodes stands still, and their observers hold their breath."""
        for reader in readers:
            reader.ask("hold")
            os.kill(reader.pid, signal.SIGSTOP)
        deadline = time.monotonic() + STOP_SECONDS
        for reader in readers:
            while not _stands_still(reader.pid):
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{reader.name} does not stop")
                time.sleep(0.001)
            self.stopped[reader] = time.monotonic()

    def go_on(self, readers):
        """SIGCONT, with all keys already asked for: what a node answers first is what it had before the fault."""
        for reader in readers:
            reader.begin_salvo()
        # The salvos are written to the pipes of processes that stand still.
        time.sleep(SALVO_SECONDS)
        self._wake(readers)
        for reader in readers:
            reader.end_salvo()

    def _wake(self, readers):
        for reader in readers:
            # Before the signal: no read of this node runs in between.
            self.pauses.append((reader.name, self.stopped.pop(reader), time.monotonic()))
            os.kill(reader.pid, signal.SIGCONT)

    def close(self):
        """Ends the nodes politely, and so checks that they end."""
        try:
            for node in [*self.writers, *self.readers]:
                (node.end if isinstance(node, Writer) else node.quit)()
        finally:
            self.kill()

    def kill(self):
        for writer in self.writers:
            writer.end(politely=False)
        self._wake(list(self.stopped))
        for reader in self.readers:
            reader.kill()
        self.readers, self.writers = [], []

    def __exit__(self, *details):
        self.kill()
        if hasattr(self, "proxies"):
            self.proxies.close()
        self.broker.__exit__(*details)


def _stands_still(pid):
    for task in Path(f"/proc/{pid}/task").iterdir():
        # The name in parentheses may hold anything, also spaces.
        if (task / "stat").read_text().rpartition(")")[2].split()[0] not in "Tt":
            return False
    return True
