"""HiveMQ Community Edition: MQTT 5, from Maven Central, by `.ci/setup hivemq` into .cache/hivemq."""

import shutil
import subprocess
from pathlib import Path

from broker import Broker

INSTALLED = Path(__file__).resolve().parents[4] / ".cache" / "hivemq"
CONFIG = """\
<?xml version="1.0"?>
<hivemq>
  <listeners><tcp-listener><port>{port}</port><bind-address>127.0.0.1</bind-address></tcp-listener></listeners>
  <persistence><mode>in-memory</mode></persistence>
  <anonymous-usage-statistics><enabled>false</enabled></anonymous-usage-statistics>
</hivemq>
"""
# What its own bin/run.sh opens to the libraries that reach into the JDK.
OPENS = [word for name in ("lang", "nio") for word in ("--add-opens", f"java.base/java.{name}=ALL-UNNAMED")]


class HiveMq(Broker):
    """Without a security extension it lets nobody in; `allow-all` is a few lines that let in everybody."""

    name, pub_options = "hivemq", ("-V", "mqttv5")
    start_seconds = 60

    def _launch(self, log):
        if not (INSTALLED / "extensions").is_dir():
            raise SystemExit("hivemq is not installed: run .ci/setup hivemq")
        home = Path(self.folder.name, "home")
        for name in ("conf", "data", "log"):
            (home / name).mkdir(parents=True, exist_ok=True)
        shutil.copytree(INSTALLED / "extensions", home / "extensions", dirs_exist_ok=True)
        (home / "conf" / "config.xml").write_text(CONFIG.format(port=self.port))
        command = ["java", f"-Dhivemq.home={home}", "-Xmx512m", *OPENS, "-cp", f"{INSTALLED}/jars/*"]
        return subprocess.Popen(
            [*command, "com.hivemq.HiveMQServer"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=home
        )

    def _is_up(self):
        """The listener stands before the extension lets anybody in."""
        if not super()._is_up():
            return False
        try:
            self.publish("up", "?")
            return True
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            return False
