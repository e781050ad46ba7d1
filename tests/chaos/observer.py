"""A reader and its observer, in a process of its own: whatever holds up the harness, the asking goes on.

It reads all keys in turn, and those that were written at once, at 1 s and at the bound after their acceptance.
"""

import heapq
import multiprocessing
import random
import threading
import time
import traceback

from node import Broken, Node, Refused

# Between bursts of reads: the nodes are to be tested, not the machine.
PAUSE = 0.004
IN_TURN = 4
ASKED = 16
# Asks for the same key this close together are one.
ROUGHLY = 0.05
ANSWER_SECONDS = 40


class Observer:
    """The process's side."""

    def __init__(self, pipe, name, language, url, reader_bound, bound, database):
        self.pipe, self.bound = pipe, bound
        self.node = Node(name, language, url, reader_bound, database, random.Random(0))
        self.keys, self.next = 0, 0
        self.asks, self.asked, self.seen = [], set(), []
        self.holds = False

    def serve(self):
        while True:
            while self.pipe.poll(PAUSE):
                name, fields = self.pipe.recv()
                if name == "quit":
                    self.node.driver.quit()
                    return
                self.pipe.send(("ok", getattr(self, "do_" + name)(*fields)))
            if self.keys and not self.holds:
                self._watch()

    def _watch(self):
        self._plan()
        now = time.monotonic()
        for _ in range(ASKED):
            if not self.asks or self.asks[0][0] > now:
                break
            due, key = heapq.heappop(self.asks)
            self.asked.discard((round(due / ROUGHLY), key))
            self.node.read(key)
        for _ in range(IN_TURN):
            self.next = (self.next + 1) % self.keys
            self.node.read(self.next)
        self.node.go_on()

    def _plan(self):
        """Asks for what was accepted since the last look."""
        seen, self.seen = self.seen, self.node.database.accepted[: self.keys]
        for key, (before, accepted) in enumerate(zip(seen, self.seen)):
            if accepted != before:
                for due in (accepted, accepted + min(1.0, self.bound / 2), accepted + self.bound + 0.001):
                    mark = (round(due / ROUGHLY), key)
                    if mark not in self.asked:
                        self.asked.add(mark)
                        heapq.heappush(self.asks, (due, key))

    def do_open(self, namespace, keys, seed):
        self.node.rng.seed(seed)
        self.node.open(namespace)
        self.keys, self.next = keys, 0
        self.asks, self.asked = [], set()
        self.seen = self.node.database.accepted[:keys]

    def do_survey(self):
        """The version of each key, and how many fills were begun so far."""
        return [self.node.read(key) for key in range(self.keys)], self.node.begun

    def do_hold(self):
        """Asks nothing until `salvo`."""
        self.holds = True

    def do_salvo(self):
        self.node.read_at_once(range(self.keys))
        self.holds = False

    def do_collect(self):
        self.keys = 0
        return self.node.reads_log, self.node.fills_log

    def do_status(self):
        return self.node.ask("status")

    def do_stats(self):
        return self.node.ask("stats", ns=self.node.namespace)


def _main(pipe, *arguments):
    observer = None
    try:
        observer = Observer(pipe, *arguments)
        pipe.send(("ok", observer.node.driver.process.pid))
        observer.serve()
        pipe.send(("ok", None))
    except EOFError:
        pass  # the harness is gone
    except (Broken, Refused) as error:
        pipe.send(("failed", str(error)))
    except Exception:  # a mistake in the harness must not look like a silent node
        pipe.send(("failed", traceback.format_exc()))
    finally:
        if observer is not None:
            observer.node.driver.kill()


class Reader:
    """The harness's side: the reader `name`, whose node is the process `pid`. Thread-safe."""

    def __init__(self, name, *arguments):
        context = multiprocessing.get_context("spawn")
        self.name, self.lock = name, threading.Lock()
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_main, args=(theirs, name, *arguments), daemon=True)
        self.process.start()
        theirs.close()
        try:
            self.pid = self._answer()
        except BaseException:
            self.kill()
            raise

    def _answer(self):
        if not self.pipe.poll(ANSWER_SECONDS):
            raise Broken(f"the observer of {self.name} did not answer within {ANSWER_SECONDS} s")
        try:
            kind, answer = self.pipe.recv()
        except EOFError:
            raise Broken(f"the observer of {self.name} is gone") from None
        if kind == "failed":
            raise Broken(answer)
        return answer

    def ask(self, name, *fields):
        with self.lock:
            self._send(name, fields)
            return self._answer()

    def _send(self, name, fields):
        try:
            self.pipe.send((name, fields))
        except OSError:
            pass  # its last word says why it has ended

    def begin_salvo(self):
        """The node is asked for all keys together, perhaps while it stands still."""
        self.lock.acquire()
        self._send("salvo", ())

    def end_salvo(self):
        try:
            self._answer()
        finally:
            self.lock.release()

    def status(self):
        return self.ask("status")

    def quit(self):
        """Ends the node politely, and checks how it ends."""
        try:
            self.ask("quit")
        finally:
            self.kill()

    def kill(self):
        # The end of its pipe ends an observer, which ends its node.
        self.pipe.close()
        self.process.join(10)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
