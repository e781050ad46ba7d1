"""ejabberd's mod_mqtt: MQTT 5, from Debian."""

from pathlib import Path

from .service import Service

# Its default. Outgoing QoS 1 messages go to a client one at a time; what waits is queued, and a full queue ends the connection.
QUEUE = 5_000
CONFIG = """\
hosts: [localhost]
loglevel: warning
log_rotate_count: 0
auth_method: [anonymous]
anonymous_protocol: login_anon
allow_multiple_connections: true
listen:
  - {{port: {port}, ip: "127.0.0.1", module: mod_mqtt, backlog: 1000}}
modules:
  mod_mqtt: {{queue_type: ram, max_queue: {queue}}}
"""


class Ejabberd(Service):
    """A node without a name: no epmd, no distribution port."""

    name = account = package = "ejabberd"
    # An anonymous login needs a name all the same; the password is not looked at.
    user, pub_options = "cache:any@", ("-u", "cache", "-P", "any", "-V", "mqttv5")
    queue = QUEUE

    def _launch(self, log):
        folder = Path(self.folder.name)
        config = folder / "ejabberd.yml"
        config.write_text(CONFIG.format(port=self.port, queue=self.queue))
        libraries = Path(self.need("/usr/lib/*/ejabberd-*/ebin/mod_mqtt.beam")).parents[2]
        # What `ejabberdctl foreground` does, which insists on root or its own user and on /etc/ejabberd.
        command = ["erl", "-noinput", "-mnesia", "dir", f'"{folder}/db"', "-s", "ejabberd"]
        environment = {
            "ERL_LIBS": str(libraries),
            "EJABBERD_CONFIG_PATH": str(config),
            "EJABBERD_LOG_PATH": str(folder / "ejabberd.log"),
        }
        return self.spawn(command, environment, log)
