"""Plays the script between two drivers, W and R."""

import json
import tempfile
import time

from driver import Broken, Driver
from matching import fill, mismatch

MEET_SECONDS = 20
POLL_SECONDS = 0.003
# On a broker that keeps no order, and sends no more than 100 messages a second to one client: what is held back has come by then,
SETTLE_SECONDS = 0.09
# and so long a scenario lasts at least.
SCENARIO_SECONDS = 0.2
# Commands that have no `ns` of their own; every other one gets the scenario's.
WITHOUT_NS = set("hello connect load_state load_finish lease_drop delivered wait_for status close quit".split())


class Failed(Exception):
    """A step did not give what the script says."""


class Pair:
    """One writer and one reader language on one broker. `play` gives None or what went wrong."""

    def __init__(self, broker, writer, reader):
        self.broker = broker
        self.languages = {"W": writer, "R": reader}
        # Pairs run side by side on one broker, each below a topic of its own.
        self.topic = f"conformance/{writer}-{reader}"
        self.drivers = {}
        self.folder = tempfile.TemporaryDirectory(prefix="unstale-conformance-")
        self.steps = 0

    def play(self, scenario):
        """Plays one scenario; None when it passed, else a text. A failure costs the drivers: the next starts clean."""
        where, began = "start", time.monotonic()
        try:
            fresh = scenario.get("fresh", False)
            if fresh:
                self.end()
            self._start(connected=not fresh)
            self.linked = () if fresh else ("W", "R")
            names = {"ns": scenario["name"], "url": self.broker.url, "topic": self.topic, "dir": self.folder.name}
            if not fresh:
                self._open(scenario)
            saved = {"W": {}, "R": {}, "pub": {}}
            for index, step in enumerate(scenario["steps"]):
                for at in ("W", "R") if step["at"] == "both" else (step["at"],):
                    where = f"step {index + 1}, {self._who(at)}, {json.dumps(step['do'], ensure_ascii=False)[:200]}"
                    self._step(at, step, names, saved)
                    self.steps += 1
            where = "end"
            if fresh:
                self.end()
            if not self.broker.ordered:
                time.sleep(max(0, began + SCENARIO_SECONDS - time.monotonic()))
        except (Failed, Broken) as problem:
            self.kill()
            return f"{where}: {problem}"
        return None

    def _who(self, at):
        return f"{at} ({self.languages[at]})" if at in self.languages else at

    def _start(self, connected):
        for at, language in self.languages.items():
            if at in self.drivers:
                continue
            self.drivers[at] = driver = Driver(language)
            self._expect(driver, "hello", {"language": language, "protocol": 1})
            if connected:
                self._expect(driver, "connect", None, url=self.broker.url, options={"topic": self.topic})

    def _open(self, scenario):
        """Opens the scenario's cache on both sides and waits until both hear each other."""
        ns = scenario["name"]
        for driver in self.drivers.values():
            self._expect(driver, "cache", None, ns=ns, options=scenario.get("cache", {}))
        for speaker, hearer in (("W", "R"), ("R", "W")):
            deadline = time.monotonic() + MEET_SECONDS
            # A subscription that is not in force yet misses the first ones: say it again until it is heard.
            while not self._heard(self.drivers[speaker], self.drivers[hearer], ns):
                if time.monotonic() > deadline:
                    raise Failed(f"{self._who(hearer)} never heard an invalidation by {self._who(speaker)}")

    def _heard(self, speaker, hearer, ns):
        self._expect(hearer, "set", True, ns=ns, key="meet", value="v")
        token = self._ok(speaker, "invalidate", ns=ns, key="meet")["token"]
        if not self.broker.ordered:
            time.sleep(SETTLE_SECONDS)
        return self._ok(hearer, "wait_for", token=token, timeout_ms=250)

    def _ok(self, driver, command, **fields):
        answer = driver.ask(command, **fields)
        if "error" in answer:
            raise Failed(f"{driver.language} answered {answer['error']} to {command}")
        return answer["ok"]

    def _expect(self, driver, command, result, **fields):
        problem = mismatch(result, self._ok(driver, command, **fields), {}, f"{driver.language}'s answer to {command}")
        if problem:
            raise Failed(problem)

    def _step(self, at, step, names, saved):
        command, fields = step["do"]
        if at == "pub":
            payload = fill(fields["payload"], names)
            text = payload if isinstance(payload, str) else json.dumps(payload, ensure_ascii=False)
            self.broker.publish(f"{self.topic}/{names['ns']}", text)
            if not self.broker.ordered:
                time.sleep(SETTLE_SECONDS)
            return
        # What was saved at one side is known at the other too; W and R may each save under one name in a `both` step.
        known = {**saved["W"], **saved["R"], **saved[at]} if step["at"] == "both" else saved["W"] | saved["R"]
        fields = fill(fields, names, known)
        if command not in WITHOUT_NS:
            fields.setdefault("ns", names["ns"])
        deadline = time.monotonic() + step.get("within_ms", 0) / 1000
        while True:
            answer = self.drivers[at].ask(command, **fields)
            problem = self._judge(step, answer, names, known)
            if problem is None:
                break
            if time.monotonic() >= deadline:
                raise Failed(problem)
            time.sleep(POLL_SECONDS)
        # In a fresh scenario the two may be on brokers of their own.
        if not self.broker.ordered and at in self.linked:
            self._settle(at, answer)
        if "save" in step:
            for side in saved:
                # The newest answer counts for whoever asks; a `both` step leaves each side its own.
                if step["at"] != "both" or side == at:
                    saved[side][step["save"]] = answer["ok"]

    def _settle(self, at, answer):
        """The script counts on order: a later message that has arrived tells that the earlier ones have. So each gets its time. It is
        not asked for at once: `wait_for` empties a cache that has heard of a message and not the message."""
        token = answer["ok"].get("token") if isinstance(answer.get("ok"), dict) else None
        if not token:
            return
        time.sleep(SETTLE_SECONDS)
        other = self.drivers["W" if at == "R" else "R"]
        if other.ask("wait_for", token=token, timeout_ms=5000).get("ok") is False:
            raise Failed(f"{other.language} never heard {token}")

    def _judge(self, step, answer, names, saved):
        if "error" in step:
            if "ok" in answer:
                return f"no error, but {answer['ok']!r}; expected {step['error']}"
            error = answer["error"]
            if error["kind"] != step["error"]:
                return f"error {error}; expected the kind {step['error']}"
            if error["code"] != KINDS.get(error["kind"]):
                return f"error {error}; the number of this kind is {KINDS.get(error['kind'])}"
            return mismatch({"$contains": step.get("message", "")}, error["message"], saved, "the message")
        if "error" in answer:
            return f"error {answer['error']}"
        if "ok" in step:
            return mismatch(fill(step["ok"], names), answer["ok"], saved)
        return None

    def end(self):
        """Ends both drivers as their protocol says: one by `quit`, one by the end of its input."""
        drivers, self.drivers = self.drivers, {}
        try:
            for at, driver in drivers.items():
                driver.quit(politely=at == "W")
        finally:
            for driver in drivers.values():
                driver.kill()

    def kill(self):
        for driver in self.drivers.values():
            driver.kill()
        self.drivers = {}


KINDS = {
    "InvalidArgument": 1,
    "Config": 2,
    "Connect": 3,
    "Auth": 4,
    "Tls": 5,
    "Timeout": 6,
    "Closed": 7,
    "Load": 8,
    "Internal": 9,
    "Forked": 10,
}
