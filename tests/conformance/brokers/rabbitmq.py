"""RabbitMQ's MQTT plugin, from Debian: 3.10, which speaks MQTT 3.1.1 (MQTT 5 came with 3.13)."""

import os
import subprocess
from pathlib import Path

from broker import free_port

from .service import Service

CONFIG = """\
listeners.tcp = none
mqtt.listeners.tcp.1 = 127.0.0.1:{port}
mqtt.allow_anonymous = true
"""


class RabbitMq(Service):
    """A node of its own, with an epmd of its own: both end with it."""

    name, account, package = "rabbitmq", "rabbitmq", "rabbitmq-server"
    query, pub_options = "?mqtt_version=3.1.1", ("-V", "mqttv311")
    start_seconds = 60

    def __init__(self):
        super().__init__()
        # One for all starts: a node that is killed leaves its epmd running.
        self.epmd = {"ERL_EPMD_PORT": str(free_port()), "ERL_EPMD_ADDRESS": "127.0.0.1"}

    def _launch(self, log):
        server = self.need("/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server")
        folder = Path(self.folder.name)
        (folder / "rabbitmq.conf").write_text(CONFIG.format(port=self.port))
        (folder / "enabled_plugins").write_text("[rabbitmq_mqtt].\n")
        environment = {
            "RABBITMQ_NODENAME": f"unstale-{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_BASE": str(folder),
            "RABBITMQ_MNESIA_BASE": str(folder / "db"),
            "RABBITMQ_LOG_BASE": str(folder),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            # The script then becomes the server, instead of waiting for it: signals reach it.
            "RABBITMQ_ALLOW_INPUT": "true",
            **self.epmd,
        }
        return self.spawn([server, "-noinput"], environment, log)

    def _stop(self):
        super()._stop()
        # It was started as a daemon, by the node.
        subprocess.run(["epmd", "-kill"], env={**os.environ, **self.epmd}, capture_output=True, timeout=20)
