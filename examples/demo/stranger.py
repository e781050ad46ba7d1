"""The broker, and a stranger: somebody who has never heard of unstale and publishes plain keys.

With mosquitto installed, the stranger is one `mosquitto_pub -l`. Without it, the broker is the one embedded in
the `unstale` tool and the stranger some thirty lines of MQTT 5.
"""

import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SEARCH = "/usr/local/sbin:/usr/sbin:/sbin"


def installed(program):
    return shutil.which(program) or shutil.which(program, path=SEARCH)


def broker(wanted, mosquitto):
    """A context manager with `name`, `url` and `port`."""
    if wanted == "embedded" or (wanted is None and not (installed("mosquitto") and installed("mosquitto_pub"))):
        return Embedded()
    started = mosquitto()
    started.name = "mosquitto"
    return started


class Embedded:
    """`unstale broker`: rumqttd inside the command-line tool."""

    name = "the embedded broker"

    def __enter__(self):
        tool = ROOT / "target/release/unstale"
        self.process = subprocess.Popen([str(tool), "broker", "--port", "0"], stdout=subprocess.PIPE, text=True)
        for line in self.process.stdout:
            found = re.search(r"mqtt://127\.0\.0\.1:(\d+)", line)
            if found:
                self.url, self.port = found.group(0), int(found.group(1))
                return self
        raise SystemExit(f"the embedded broker did not start (exit code {self.process.wait()})")

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


class Publisher:
    """Publishes plain keys to one topic, QoS 1, over one connection that stands before it is needed."""

    def __init__(self, broker, topic):
        self.topic, self.number = topic, 0
        self.process = self.socket = None
        if broker.name == "mosquitto":
            to = ["-h", "127.0.0.1", "-p", str(broker.port), "-q", "1", "-t", topic]
            self.process = subprocess.Popen([installed("mosquitto_pub"), *to, "-l"], stdin=subprocess.PIPE)
            return
        self.socket = socket.create_connection(("127.0.0.1", broker.port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # CONNECT: protocol MQTT 5, clean start, keep-alive 60 s, no properties, client id "stranger".
        self._send(0x10, b"\0\4MQTT\5\2\0\x3c\0" + self._text("stranger"))
        self._expect(0x20)

    def publish(self, key):
        if self.process:
            self.process.stdin.write(key.encode() + b"\n")
            self.process.stdin.flush()
            return
        self.number += 1
        self._send(0x32, self._text(self.topic) + self.number.to_bytes(2, "big") + b"\0" + key.encode())
        self._expect(0x40)

    @staticmethod
    def _text(text):
        return len(text.encode()).to_bytes(2, "big") + text.encode()

    def _send(self, kind, body):
        assert len(body) < 128, "one byte of length is enough for this client"
        self.socket.sendall(bytes([kind, len(body)]) + body)

    def _expect(self, kind):
        got = b""
        while len(got) < 2 or len(got) < 2 + got[1]:
            more = self.socket.recv(256)
            if not more:
                raise SystemExit("the broker closed the stranger's connection")
            got += more
        if got[0] & 0xF0 != kind:
            raise SystemExit(f"the broker answered {got.hex()} to the stranger")

    def close(self):
        if self.process:
            self.process.stdin.close()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        else:
            self.socket.close()
