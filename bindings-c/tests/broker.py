"""A real mosquitto with a plain and a TLS listener on free loopback ports, for as long as a `with` block lasts."""

import os
import shutil
import socket
import subprocess
import sys
import time

# Debian puts the broker where a user's PATH often does not look.
SEARCH = os.environ.get("PATH", "") + os.pathsep + "/usr/sbin" + os.pathsep + "/usr/local/sbin"
START_SECONDS = 15


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Broker:
    """`environment()` is what the test programs are told."""

    def __init__(self, folder):
        self.folder = folder
        self.program = shutil.which("mosquitto", path=SEARCH)
        if self.program is None or shutil.which("openssl") is None:
            sys.exit("mosquitto or openssl is missing; run .ci/setup broker")

    def __enter__(self):
        self._certificate()
        for _ in range(5):  # another process may take a free port first
            if self._start():
                return self
        sys.exit("mosquitto did not start:\n" + (self.folder / "mosquitto.log").read_text(errors="replace"))

    def _certificate(self):
        """A certificate for localhost that signs itself, so that it is its own authority."""
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
             "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
             "-keyout", str(self.folder / "key.pem"), "-out", str(self.folder / "ca.pem")],
            check=True, capture_output=True,
        )  # fmt: skip

    def _start(self):
        self.port, self.tls_port = free_port(), free_port()
        config = self.folder / "mosquitto.conf"
        config.write_text(
            "per_listener_settings false\nallow_anonymous true\npersistence false\nset_tcp_nodelay true\nuser root\n"
            f"listener {self.port} 127.0.0.1\n"
            f"listener {self.tls_port} 127.0.0.1\ncertfile {self.folder}/ca.pem\nkeyfile {self.folder}/key.pem\n"
        )
        with open(self.folder / "mosquitto.log", "wb") as log:
            self.process = subprocess.Popen([self.program, "-c", str(config)], stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                for port in (self.port, self.tls_port):
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return True
            except OSError:
                time.sleep(0.01)
        self._stop()
        return False

    def environment(self):
        return {
            "US_BROKER": f"mqtt://127.0.0.1:{self.port}",
            "US_TLS_BROKER": f"mqtts://localhost:{self.tls_port}",
            "US_CA": str(self.folder / "ca.pem"),
        }

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
