"""examples/brokers/mosquitto.conf and its access rules do what they say, on the mosquitto that is installed."""

import os
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from broker import Broker, find, free_port  # noqa: E402
from driver import Driver  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLES = ROOT / "examples" / "brokers"
TOOL = ROOT / "target" / "release" / "unstale"
PASSWORD = "open-sesame"
SECONDS = 10


def openssl(folder, *arguments):
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=60)


def certificates(folder):
    """An authority, the server's certificate for 127.0.0.1, and one for each service."""
    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl(folder, "req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=test", "-days", "2")
    Path(folder, "san").write_text("subjectAltName=IP:127.0.0.1\n")
    for name in ("server", "prices-service", "shop-service"):
        openssl(folder, "req", *new, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        sign = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "san")
        openssl(folder, "x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.crt", *sign)


class Example(Broker):
    """The file as it is, but for paths and ports."""

    def __init__(self, folder):
        super().__init__()
        self.here, self.tls_port = folder, free_port()

    def _launch(self, log):
        text = (EXAMPLES / "mosquitto.conf").read_text()
        for theirs, ours in (
            ("/etc/mosquitto/certs/", f"{self.here}/"),
            ("/etc/mosquitto/", f"{self.here}/"),
            ("listener 8883\n", f"listener {self.tls_port} 127.0.0.1\n"),
            ("listener 1883 127.0.0.1\n", f"listener {self.port} 127.0.0.1\n"),
        ):
            assert theirs in text, f"{theirs!r} is not in the example any more"
            text = text.replace(theirs, ours)
        if os.geteuid() == 0:
            text += "user root\n"  # the files are in a folder of ours
        config = Path(self.here, "mosquitto.conf")
        config.write_text(text)
        return subprocess.Popen([find("mosquitto"), "-c", str(config)], stdout=log, stderr=log)

    def publish_as(self, user, payload, topic="cache/invalidate/prices"):
        command = [find("mosquitto_pub"), "-V", "5", "-p", str(self.port), "-u", user, "-P", PASSWORD, "-q", "1"]
        done = subprocess.run([*command, "-t", topic, "-s"], input=payload.encode(), capture_output=True, timeout=SECONDS)
        return done.returncode == 0 and b"failed" not in done.stderr


class MosquittoConf(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory(prefix="us-mosquitto-")
        cls.addClassCleanup(cls.temporary.cleanup)
        cls.folder = cls.temporary.name
        certificates(cls.folder)
        Path(cls.folder, "unstale.acl").write_text((EXAMPLES / "mosquitto.acl").read_text())
        Path(cls.folder, "passwd").touch(mode=0o600)
        for user in ("nightly-import", "operator", "shop-service"):
            command = [find("mosquitto_passwd"), "-b", f"{cls.folder}/passwd", user, PASSWORD]
            subprocess.run(command, check=True, capture_output=True)
        cls.broker = cls.enterClassContext(Example(cls.folder))

    def connect(self, url, **options):
        driver = Driver("rust")
        self.addCleanup(driver.kill)
        return driver, driver.ask("connect", url=url, options={"staleness_bound": "2s", **options})

    def service(self, name):
        """A service of this name, with its certificate."""
        tls = {"ca_file": f"{self.folder}/ca.crt", "cert_file": f"{self.folder}/{name}.crt"}
        tls["key_file"] = f"{self.folder}/{name}.key"
        driver, answer = self.connect(f"mqtts://127.0.0.1:{self.broker.tls_port}", tls=tls)
        self.assertEqual(answer, {"ok": None})
        return driver

    def cache(self, driver, namespace):
        self.assertEqual(driver.ask("cache", ns=namespace, options={}), {"ok": None})

    def until(self, condition, what):
        deadline = time.monotonic() + SECONDS
        while not condition():
            self.assertLess(time.monotonic(), deadline, f"{what}: not within {SECONDS} s")
            time.sleep(0.02)

    def holds(self, driver, key):
        return driver.ask("get", ns="prices", key=key) == {"ok": "old"}

    def live(self, driver):
        self.until(lambda: driver.ask("status")["ok"]["state"] == "live", "a live link")

    def test_a_service_invalidates_in_another_through_both_listeners(self):
        writer = self.service("prices-service")
        url = f"mqtt://shop-service:{PASSWORD}@127.0.0.1:{self.broker.port}"
        reader, answer = self.connect(url)
        self.assertEqual(answer, {"ok": None})
        for driver in (writer, reader):
            self.cache(driver, "prices")
            self.live(driver)
        self.assertEqual(reader.ask("set", ns="prices", key="lamp", value="old"), {"ok": True})
        token = writer.ask("invalidate", ns="prices", key="lamp")["ok"]["token"]
        self.assertEqual(reader.ask("wait_for", token=token, timeout_ms=5000), {"ok": True})
        self.assertFalse(self.holds(reader, "lamp"))

    def test_a_publisher_without_a_cache_may_publish_and_no_more(self):
        reader = self.service("shop-service")
        self.cache(reader, "prices")
        self.live(reader)
        self.assertEqual(reader.ask("set", ns="prices", key="lamp", value="old"), {"ok": True})
        self.assertTrue(self.broker.publish_as("nightly-import", "lamp"))
        self.until(lambda: not self.holds(reader, "lamp"), "gone")
        self.assertFalse(self.broker.publish_as("nightly-import", "user:42", "cache/invalidate/users"))
        self.assertFalse(self.broker.publish_as("operator", "lamp"))

    def test_a_service_may_not_publish_to_a_cache_that_is_not_its_own(self):
        driver = self.service("shop-service")
        self.cache(driver, "users")
        token = driver.ask("invalidate", ns="users", key="user:42")["ok"]["token"]
        self.assertEqual(driver.ask("delivered", token=token, timeout_ms=1000), {"ok": False})

    def seen_by(self, command, environment=None):
        """The first line that a watcher prints, while somebody goes on publishing: it hears nothing before it has subscribed."""
        watch = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.addCleanup(watch.stdout.close)
        try:

            def has_ended():
                self.broker.publish_as("nightly-import", "lamp")
                return watch.poll() is not None

            self.until(has_ended, "the watcher has seen one")
            return watch.stdout.read()
        finally:
            watch.kill()
            watch.wait()

    def test_an_operator_sees_what_is_said(self):
        url = f"mqtt://127.0.0.1:{self.broker.port}"
        command = [str(TOOL), "watch", "--url", url, "--username", "operator", "--count", "1"]
        self.assertIn("lamp", self.seen_by(command, {**os.environ, "UNSTALE_PASSWORD": PASSWORD}))

    def test_nobody_gets_in_without_a_certificate_or_a_password(self):
        _, answer = self.connect(f"mqtt://127.0.0.1:{self.broker.port}")
        self.assertEqual(answer["error"]["kind"], "Auth")
        _, answer = self.connect(f"mqtts://127.0.0.1:{self.broker.tls_port}", tls={"ca_file": f"{self.folder}/ca.crt"})
        self.assertIn(answer["error"]["kind"], ("Tls", "Connect"))

    def test_a_payload_that_no_cache_reads_is_refused(self):
        self.assertTrue(self.broker.publish_as("nightly-import", "x" * 262_144))
        self.assertFalse(self.broker.publish_as("nightly-import", "x" * 262_145))

    def test_the_document_shows_the_file(self):
        self.assertIn((EXAMPLES / "mosquitto.conf").read_text(), (ROOT / "docs" / "brokers.md").read_text(encoding="utf-8"))

    def test_nothing_is_retained(self):
        login = ["-V", "5", "-p", str(self.broker.port), "-P", PASSWORD, "-q", "1"]
        topic = ["-t", "cache/invalidate/prices"]
        publish = [find("mosquitto_pub"), *login, "-u", "nightly-import", *topic, "-r", "-m", "kept"]
        subprocess.run(publish, capture_output=True, timeout=SECONDS)
        watched = self.seen_by([find("mosquitto_sub"), *login, "-u", "operator", *topic, "-C", "1"])
        self.assertEqual(watched, "lamp\n")


if __name__ == "__main__":
    unittest.main()
