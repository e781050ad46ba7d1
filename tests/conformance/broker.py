"""A real broker on a free loopback port, for as long as a `with` block lasts: mosquitto here, others in `brokers/`."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

# Debian puts the broker where a user's PATH often does not look.
SEARCH = os.environ.get("PATH", "") + os.pathsep + "/usr/sbin" + os.pathsep + "/usr/local/sbin"
START_SECONDS = 15
# Nothing is dropped, and nothing outlives the broker. Nagle's delay would be measured as ours.
LINES = ("persistence false", "max_queued_messages 0", "set_tcp_nodelay true")


def find(program):
    path = shutil.which(program, path=SEARCH)
    if path is None:
        raise SystemExit(f"{program} is not installed: run .ci/setup (or apt-get install mosquitto mosquitto-clients)")
    return path


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Broker:
    """Starts on entry, ends on exit. `port` and `url` are known in between.

    Another broker is a subclass that says how it is launched, and by what a client must differ.
    """

    name = "mosquitto"
    start_seconds = START_SECONDS
    # What clients need beside the address: `name:password@` and `?option=value` in the URL, and the same for mosquitto_pub.
    user, query, pub_options = "", "", ()

    # One publisher's messages arrive in order.
    ordered = True

    def __init__(self, lines=LINES):
        self.lines = lines

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="us-broker-")
        for _ in range(5):  # another process may take the free port first
            self.port = free_port()
            self.url = self.url_at(self.port)
            if self._start():
                return self
        log = self._log()
        self.folder.cleanup()
        raise SystemExit(f"{self.name} did not start:\n{log}")

    def url_at(self, port):
        """For a client that gets there by another port, through a proxy."""
        return f"mqtt://{self.user}127.0.0.1:{port}{self.query}"

    def _start(self):
        with open(Path(self.folder.name, "log"), "ab") as log:
            self.process = self._launch(log)
        deadline = time.monotonic() + self.start_seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            if self._is_up():
                return True
            time.sleep(0.01)
        self._stop()
        return False

    def _launch(self, log):
        config = Path(self.folder.name, "mosquitto.conf")
        config.write_text("\n".join([f"listener {self.port} 127.0.0.1", "allow_anonymous true", *self.lines]) + "\n")
        return subprocess.Popen([find("mosquitto"), "-c", str(config)], stdout=log, stderr=log)

    def _is_up(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            return True
        except OSError:
            return False

    def _log(self):
        return Path(self.folder.name, "log").read_text(errors="replace")

    def _stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def __exit__(self, *_):
        self._stop()
        self.folder.cleanup()

    def publish(self, topic, payload):
        """Publishes as a stranger would: `mosquitto_pub -q 1`. Returns after the broker's PUBACK."""
        command = [find("mosquitto_pub"), "-h", "127.0.0.1", "-p", str(self.port), *self.pub_options, "-q", "1", "-t", topic]
        # `-s` sends standard input as it is, but refuses an empty one.
        subprocess.run([*command, "-s" if payload else "-n"], input=payload.encode(), check=True, timeout=20)
