"""The stand-in for AWS IoT Core (tests/standin), for as long as a `with` block lasts. Has what `broker.Broker` has."""

import itertools
import json
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import urlencode

from broker import find

PROGRAM = Path(__file__).resolve().parents[3] / "target" / "release" / "aws-standin"
END_SECONDS = 10
# What AWS may do to anyone. Late by less than the reorder window of the shortest bound in use (500 ms: 62 ms).
FAULTS = {"reorder": 0.1, "reorder_ms": 60, "suback_delay_ms": 100}


class AwsStandin:
    """Clients come in with a certificate, as on AWS's port 8883. `ask` gives the sums so far, `refusals` what was refused."""

    name = "aws-standin"
    ordered = False

    def __init__(self, faults=None, limits=None):
        self.strangers = itertools.count()
        # A stranger is `mosquitto_pub`, which is spared the certificate.
        listeners = {"mtls": {"port": 0}, "plain": {"port": 0}}
        self.config = {"listeners": listeners, "faults": FAULTS | (faults or {}), "limits": limits or {}}

    def __enter__(self):
        if not PROGRAM.exists():
            raise SystemExit(f"{PROGRAM} is not built: run make build")
        self.folder = tempfile.TemporaryDirectory(prefix="us-standin-")
        subprocess.run([str(PROGRAM), "--certificates", self.folder.name], check=True)
        self.config["tls"] = {
            "cert_file": self._file("server.pem"),
            "key_file": self._file("server.key"),
            "client_ca_file": self._file("ca.pem"),
        }
        config, self.report = Path(self._file("config.json")), Path(self._file("report"))
        config.write_text(json.dumps(self.config))
        command = [str(PROGRAM), "--config", str(config), "--report", str(self.report)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        ports = json.loads(self.process.stdout.readline())["ports"]
        self.port, self.plain = ports["mtls"], ports["plain"]
        self.url = self.url_at(self.port)
        return self

    def _file(self, name):
        return str(Path(self.folder.name, name))

    def url_at(self, port):
        """Of the broker behind this port."""
        files = {"tls.ca_file": "ca.pem", "tls.cert_file": "client.pem", "tls.key_file": "client.key"}
        query = urlencode({option: self._file(name) for option, name in files.items()})
        # By name: an IP address is no server name, and AWS refuses who names none.
        return f"awsiot://localhost:{port}?{query}"

    def ask(self, command="summary"):
        """One of its commands; the sums so far."""
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def refusals(self):
        """Its lines about what it refused, so far."""
        lines = [json.loads(line) for line in self.report.read_text().splitlines()]
        return [f"{line['rejection']}: {line['client']}: {line['detail']}" for line in lines if "rejection" in line]

    def publish(self, topic, payload):
        """Publishes as a stranger would: `mosquitto_pub -q 1`. Returns after the broker's PUBACK."""
        # Each with an id of its own: one client may connect once a second.
        name = f"stranger-{next(self.strangers)}"
        command = [find("mosquitto_pub"), "-h", "127.0.0.1", "-p", str(self.plain), "-i", name, "-q", "1", "-t", topic]
        subprocess.run([*command, "-s" if payload else "-n"], input=payload.encode(), check=True, timeout=20)

    def __exit__(self, *_):
        self.process.stdin.close()
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.folder.cleanup()
