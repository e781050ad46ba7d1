"""What `faults.json` connects to: a mosquitto with a listener per case, and others that mosquitto cannot play."""

import base64
import json
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

from broker import Broker, free_port

START_SECONDS = 15
STANDIN = Path(__file__).resolve().parents[2] / "target" / "release" / "aws-standin"


class Mosquitto(Broker):
    """With more listeners than one."""

    def __init__(self, listeners, fill):
        self.ports = [int(fill("{" + name + "}")) for name in listeners]
        # Started by root it would become another user, who cannot read the keys. For others the line means nothing.
        lines = ["user root", "persistence false", "max_queued_messages 0", "set_tcp_nodelay true"]
        for name, settings in listeners.items():
            lines += [f"listener {fill('{' + name + '}')} 127.0.0.1", "socket_domain ipv4"]
            lines += map(fill, settings)
        super().__init__(lines)

    def __enter__(self):
        super().__enter__()
        for port in self.ports:
            try:
                wait_for(port, self.process)
            except SystemExit:
                log = self._log()
                self.__exit__()
                raise SystemExit(f"mosquitto did not open all its listeners:\n{log}") from None
        return self


def wait_for(port, process):
    """Until somebody listens there."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline or process.poll() is not None:
                raise SystemExit(f"{process.args} did not start") from None
            time.sleep(0.01)


def accept(listener, serve):
    """Each connection on a thread of its own, until the listener is closed."""
    while True:
        try:
            peer, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=serve, args=(peer,), daemon=True).start()


def server_context(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.with_suffix(".crt"), certificate.with_suffix(".key"))
    return context


class Program:
    """`openssl s_server`, for what mosquitto does not refuse or no longer speaks."""

    def __init__(self, port, arguments, fill):
        command = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-quiet", *map(fill, arguments)]
        self.port, self.command = port, command

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for(self.port, self.process)
        except SystemExit:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()


class Silent:
    """Takes connections and says nothing."""

    def __init__(self, port):
        self.port = port

    def __enter__(self):
        self.socket = socket.create_server(("127.0.0.1", self.port), backlog=64)
        return self

    def __exit__(self, *_):
        self.socket.close()


class Server:
    """Serves each connection to its port on a thread of its own, as long as it is entered."""

    def __enter__(self):
        self.socket = socket.create_server(("127.0.0.1", self.port), backlog=64)
        threading.Thread(target=accept, args=(self.socket, self._serve), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.socket.close()


class Stranger(Server):
    """No broker: says its greeting, waits for the client's first words unless it `hangs_up`, and ends the connection."""

    def __init__(self, port, certificate=None, greeting=b"", hangs_up=False):
        self.port, self.greeting, self.hangs_up = port, greeting, hangs_up
        self.context = certificate and server_context(certificate)

    def _serve(self, raw):
        raw.settimeout(START_SECONDS)
        try:
            with self.context.wrap_socket(raw, server_side=True) if self.context else raw as peer:
                peer.sendall(self.greeting)
                if not self.hangs_up:
                    peer.recv(4096)
                if self.context:
                    peer.unwrap()  # so that it is an end, and not a connection that broke
        except OSError:
            pass  # a client that does not like it, and went


class Proxy(Server):
    """A proxy that ends TLS, looks at the upgrade to a WebSocket, and passes the rest on to a broker's port for plain WebSockets."""

    def __init__(self, port, broker_port, certificate):
        self.port, self.broker_port = port, broker_port
        self.context = server_context(certificate)
        self.passed, self.wrong = 0, []

    def _serve(self, raw):
        try:
            with self.context.wrap_socket(raw, server_side=True) as peer:
                head = b""
                while b"\r\n\r\n" not in head:
                    more = peer.recv(4096)
                    if not more:
                        return
                    head += more
                self._upgrade(peer, head)
        except OSError:
            pass  # a client that gave up, or the end of the run

    def _upgrade(self, peer, head):
        request, *lines = head.split(b"\r\n\r\n")[0].decode().split("\r\n")
        path = request.split(" ")[1]
        if path != "/mqtt":
            status = {"/login": "401 Unauthorized", "/busy": "503 Service Unavailable"}.get(path, "404 Not Found")
            peer.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            return
        wrong = self._wrong(dict(line.split(": ", 1) for line in lines))
        self.wrong += wrong
        if wrong:
            peer.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        self.passed += 1
        with socket.create_connection(("127.0.0.1", self.broker_port)) as broker:
            broker.sendall(head)
            back = threading.Thread(target=self._pass_on, args=(broker, peer), daemon=True)
            back.start()
            self._pass_on(peer, broker)
            back.join()

    @staticmethod
    def _pass_on(source, sink):
        # A TLS socket may be read and written by two threads at a time, but not read by two.
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _wrong(self, headers):
        """What RFC 6455, 4.1, and MQTT 5, 6, ask of the headers."""
        here = f"127.0.0.1:{self.port}"
        expected = {
            "Host": here,
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Protocol": "mqtt",
        }
        wrong = [f"{name}: {headers.get(name)}" for name, value in expected.items() if headers.get(name) != value]
        key = base64.b64decode(headers.get("Sec-WebSocket-Key", ""))
        if len(key) != 16:
            wrong.append(f"Sec-WebSocket-Key of {len(key)} bytes")
        if headers.get("Origin", f"https://{here}") not in (f"https://{here}", f"http://{here}"):
            wrong.append(f"Origin: {headers['Origin']}")
        if "Authorization" in headers:
            wrong.append("Authorization, though the user and the password belong into the CONNECT")
        return wrong


class AwsStandin:
    """`tests/standin` as AWS's port 443: WebSockets signed with the planted credentials, an authorizer that knows the planted token."""

    def __init__(self, folder, planted):
        folder = Path(folder)
        tls = {"cert_file": "server.crt", "key_file": "server.key", "client_ca_file": "ca.crt"}
        token = {"key_name": "plantToken", "public_key_file": str(folder / "token.pub")}
        config = {
            "listeners": {"alpn": {"port": 0}},
            "tls": {option: str(folder / name) for option, name in tls.items()},
            "authorizer": {"name": "planted", "token": token},
            "sigv4": {
                "access_key": "AKIAPLANTED",
                "secret_key": planted["secret_access_key"],
                "session_token": planted["session_token"],
            },
        }
        self.config, self.report = folder / "standin.json", folder / "standin.report"
        self.config.write_text(json.dumps(config))

    def __enter__(self):
        if not STANDIN.exists():
            raise SystemExit(f"{STANDIN} is not built: run make build")
        command = [str(STANDIN), "--config", str(self.config), "--report", str(self.report)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = json.loads(self.process.stdout.readline())["ports"]["alpn"]
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        try:
            self.process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def open_all(stack, table, folder, planted):
    """Starts everything; how to fill in `{dir}`, the ports and the planted secrets, and the proxy."""
    server = Path(folder, "server")
    strangers = {
        "silent": lambda port: Silent(port),
        "closing": lambda port: Stranger(port, server, hangs_up=True),
        "other": lambda port: Stranger(port, server),
        "greeting": lambda port: Stranger(port, greeting=b"220 mail.example ESMTP\r\n"),
    }
    names = [*table["listeners"], *table["programs"], *strangers, "proxy"]
    ports = {}
    while len(ports) < len(names):  # no two the same
        port = free_port()
        if port not in ports.values():
            ports[names[len(ports)]] = port
    standin = stack.enter_context(AwsStandin(folder, planted))

    def fill(text):
        for name, value in {"dir": folder, "aws": standin.port, **planted, **ports}.items():
            text = text.replace("{" + name + "}", str(value))
        return text

    stack.enter_context(Mosquitto(table["listeners"], fill))
    for name, arguments in table["programs"].items():
        stack.enter_context(Program(ports[name], arguments, fill))
    for name, stranger in strangers.items():
        stack.enter_context(stranger(ports[name]))
    return fill, stack.enter_context(Proxy(ports["proxy"], ports["websocket"], server))
