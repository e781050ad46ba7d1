"""Runs the commands of docs/protocol.md against a real mosquitto, and reads what they publish."""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest

import reader

DOCUMENT = pathlib.Path(__file__).resolve().parent.parent.parent / "docs" / "protocol.md"
# Debian installs the broker where only root's PATH looks.
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
DEADLINE = 20
# The one that the document's example signs with.
KEYS = {"2026-11": bytes(range(32))}


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


class Broker:
    """A mosquitto of our own on a free port of the loopback interface."""

    def __enter__(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.folder = tempfile.TemporaryDirectory()
        config = pathlib.Path(self.folder.name) / "mosquitto.conf"
        config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\n")
        self.process = subprocess.Popen(
            [shutil.which("mosquitto", path=PATH) or "mosquitto", "-c", str(config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until(self.answers)
        return self

    def answers(self):
        if self.process.poll() is not None:
            raise AssertionError("mosquitto ended at once")
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            return True
        except OSError:
            return False

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.folder.cleanup()


class Shell:
    """A command of the document, its clients pointed at our broker."""

    def __init__(self, broker, command):
        point = "".join(
            f'{name}() {{ command {name} -h 127.0.0.1 -p {broker.port} "$@"; }}\n'
            for name in ("mosquitto_pub", "mosquitto_sub")
        )
        self.output = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            ["/bin/sh", "-c", point + command],
            stdout=self.output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=dict(os.environ, PATH=PATH),
        )

    def lines(self):
        self.output.seek(0)
        return self.output.read().decode("utf-8").splitlines()

    def stop(self):
        # The shell's own session: the client that it started ends too.
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self.output.close()


def until(condition):
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError(f"not within {DEADLINE} s")


class Examples(unittest.TestCase):
    def test_the_commands_of_the_document_publish_what_it_says(self):
        commands = blocks("sh")
        publishers = [command for command in commands if "mosquitto_sub" not in command]
        subscribers = [command for command in commands if "mosquitto_sub" in command]
        self.assertTrue(len(publishers) >= 3 and len(subscribers) >= 1)
        with Broker() as broker:
            shells = [Shell(broker, command) for command in subscribers]
            try:
                # A retained message comes as soon as the subscription stands, and an empty one clears it.
                topic = "cache/invalidate/users"
                ready = Shell(broker, f"mosquitto_pub -q 1 -r -t {topic} -m ready")
                self.assertEqual(ready.process.wait(DEADLINE), 0)
                ready.stop()
                until(lambda: all(f"{topic} ready" in shell.lines() for shell in shells))
                for command in publishers:
                    shell = Shell(broker, command)
                    self.assertEqual(shell.process.wait(DEADLINE), 0, shell.lines())
                    shell.stop()
                count = sum(command.count("mosquitto_pub") for command in publishers)
                until(lambda: all(len(shell.lines()) == 1 + count for shell in shells))
                for shell in shells:
                    read = [line.split(" ", 1) for line in shell.lines()[1:]]
                    self.assertEqual({topic for topic, _ in read}, {topic})
                    outcomes = [reader.outcome(payload.encode("utf-8")) for _, payload in read]
                    self.assertEqual(outcomes[0], {"plain": "user:42"})
                    self.assertTrue(all("envelope" in outcome for outcome in outcomes[1:]), outcomes)
                    self.assertTrue(any(outcome["envelope"].get("bye") for outcome in outcomes[1:]))
                    signed = [payload.encode("utf-8") for _, payload in read if '"sig"' in payload]
                    self.assertEqual([reader.verdict(payload, topic, KEYS) for payload in signed], ["valid"])
            finally:
                for shell in shells:
                    shell.stop()

    def test_the_envelopes_of_the_document_are_valid(self):
        lines = [line for block in blocks("json") for line in block.splitlines()]
        self.assertGreaterEqual(len(lines), 6)
        for line in lines:
            with self.subTest(line):
                self.assertIn("envelope", reader.outcome(line.encode("utf-8")))
                json.loads(line)


if __name__ == "__main__":
    unittest.main()
