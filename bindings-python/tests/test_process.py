"""The process around the cache: exit, Ctrl-C, fork, logging, the environment, the shared library itself."""

import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from conftest import DEADLINE, eventually, link

import unstale

NATIVE = Path(sys.modules["unstale._native"].__file__)


def python(program, *args, env=None, **options):
    """Runs a program of its own; its output. Fails if it does not end well within a minute."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("UNSTALE_")}
    environment.update(env or {})
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-W", "error", "-c", textwrap.dedent(program), *args],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        **options,
    )
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def test_a_program_that_closes_nothing_ends_and_is_quiet():
    assert (
        python(
            """
            import unstale
            client = unstale.connect("memory://x")
            cache = client.cache("x")
            cache.on_invalidated(print)
            cache.set("k", object())
            cache.set("cycle", cache)
            """
        )
        == ""
    )


def test_what_is_unsent_at_exit_is_sent(broker):
    with unstale.connect(broker.url) as client:
        cache = client.cache("exit")
        with unstale.connect(broker.url) as other:
            link(other.cache("exit"), cache)
        for i in range(300):
            cache.set(f"k{i}", i)
        python(
            """
            import sys, unstale
            cache = unstale.connect(sys.argv[1]).cache("exit")
            for i in range(300):
                cache.invalidate(f"k{i}")
            """,
            broker.url,
        )
        eventually(lambda: not any(f"k{i}" in cache for i in range(300)))


def test_an_exit_in_the_middle_of_everything():
    for _ in range(3):
        python(
            """
            import threading, unstale
            client = unstale.connect("memory://x")
            cache = client.cache("x", max_entries=10)
            def work(n):
                i = 0
                while True:
                    i += 1
                    cache.set(f"k{i % 50}", [i])
                    cache.get_or_load(f"l{i % 50}", lambda: [i])
                    cache.invalidate(f"k{i % 7}")
            for n in range(6):
                threading.Thread(target=work, args=(n,), daemon=True).start()
            import time
            time.sleep(0.2)
            """
        )


@pytest.mark.parametrize("inside", ["loader", "join", "wait_for", "delivered", "listener"])
def test_an_exit_while_a_daemon_thread_is_inside(inside):
    """Python before 3.14 ends such a thread by unwinding its stack, which no frame of ours may see."""
    python(
        """
        import sys, threading, time, unstale
        client = unstale.connect("memory://x")
        cache = client.cache("x")
        inside = threading.Event()
        def loader():
            inside.set()
            while True:
                time.sleep(0.001)
        def listener(event):
            loader()
        lazy = unstale.connect("mqtt://127.0.0.1:1", lazy=True)
        receipt = lazy.cache("x").invalidate("k")
        def run(what):
            threading.Thread(target=what, daemon=True).start()
        if sys.argv[1] == "listener":
            cache.on_invalidated(listener)
            cache.invalidate("k")
        else:
            run(lambda: cache.get_or_load("k", loader))
        inside.wait()
        waiting = {
            "join": lambda: cache.get_or_load("k", loader),
            "wait_for": lambda: client.wait_for("u1:nobody:1:x", 3600),
            "delivered": lambda: receipt.delivered(3600),
        }
        if sys.argv[1] in waiting:
            run(waiting[sys.argv[1]])
            time.sleep(0.05)
        """,
        inside,
    )


def interrupted(program, ready="waiting\n"):
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == ready
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=DEADLINE)
    finally:
        process.kill()
    return out, err


WAITS = {
    "a load": """
        started = threading.Event()
        def loader():
            started.set()
            time.sleep(3600)
        threading.Thread(target=cache.get_or_load, args=("k", loader), daemon=True).start()
        started.wait()
        print("waiting", flush=True)
        cache.get_or_load("k", lambda: 1)
    """,
    "wait_for": """
        print("waiting", flush=True)
        client.wait_for("u1:nobody:1:x", 3600)
    """,
    "connect": """
        import socket
        silent = socket.socket()
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        print("waiting", flush=True)
        unstale.connect(f"mqtt://127.0.0.1:{silent.getsockname()[1]}", connect_timeout=600)
    """,
}


@pytest.mark.parametrize("what", WAITS)
def test_ctrl_c_ends_a_wait(what):
    # A shell starts background jobs with SIGINT ignored, and the test run may be one.
    program = "import signal, threading, time, unstale\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    program += "client = unstale.connect('memory://x')\ncache = client.cache('x')\n"
    program += "try:\n" + textwrap.indent(textwrap.dedent(WAITS[what]), "    ")
    program += "except KeyboardInterrupt:\n    print('interrupted', flush=True)\n"
    out, err = interrupted(program)
    assert out == "interrupted\n", err


def test_a_forked_child_is_told_and_can_connect_itself():
    out = python(
        """
        import os, sys, unstale, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        client = unstale.connect("memory://x")
        cache = client.cache("x")
        cache.set("k", 1)
        cache.on_invalidated(lambda event: None)
        child = os.fork()
        if child == 0:
            try:
                for call in [lambda: cache["k"], lambda: cache.get("k"), lambda: cache.set("k", 1),
                             lambda: cache.invalidate("k"), lambda: cache.get_or_load("k", lambda: 1),
                             lambda: client.cache("y"), lambda: client.close()]:
                    try:
                        call()
                    except unstale.ForkedError as error:
                        assert error.code == 10 and "fork before the first connection" in str(error)
                    else:
                        raise SystemExit("no error")
                with unstale.connect("memory://x") as own:
                    mine = own.cache("x")
                    mine.set("k", 2)
                    seen = []
                    mine.on_invalidated(seen.append)
                    mine.invalidate("k")
                    import time
                    end = time.monotonic() + 10
                    while not seen and time.monotonic() < end:
                        time.sleep(0.001)
                    assert seen and "k" not in mine
                print("child fine", flush=True)
                os._exit(0)
            except BaseException as error:
                print("child:", repr(error), flush=True)
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        assert cache["k"] == 1
        assert client.close() == 0
        """
    )
    assert out == "child fine\n"


def test_forks_while_threads_work():
    """The child must not inherit a lock of a thread that it does not have."""
    python(
        """
        import os, threading, time, unstale, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        client = unstale.connect("memory://x")
        cache = client.cache("x")
        stop = False
        def work(n):
            i = 0
            while not stop:
                i += 1
                cache.set(f"{n}:{i % 20}", [i])
                cache.invalidate(f"{n}:{i % 20}")
        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(20):
            child = os.fork()
            if child == 0:
                try:
                    cache.get("0:1")
                except unstale.ForkedError:
                    with unstale.connect("memory://y") as own:
                        mine = own.cache("y")
                        mine.set("k", 1)
                        os._exit(0 if mine["k"] == 1 else 1)
                os._exit(2)
            end = time.monotonic() + 20
            while True:
                done, code = os.waitpid(child, os.WNOHANG)
                if done:
                    break
                if time.monotonic() > end:
                    os.kill(child, 9)
                    raise SystemExit("the child hangs")
                time.sleep(0.002)
            assert code == 0, code
        stop = True
        for thread in threads:
            thread.join()
        client.close()
        """
    )


def test_logging_is_quiet_until_it_is_configured():
    program = """
        import logging, sys, time, unstale
        if sys.argv[1] == "on":
            logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(levelname)s %(name)s %(message)s")
        client = unstale.connect("mqtt://127.0.0.1:1", lazy=True)
        end = time.monotonic() + 20
        while "refused" not in client.status()["reason"] and time.monotonic() < end:
            time.sleep(0.01)
        client.close(0.01)
    """
    assert python(program, "off") == ""
    assert "WARNING unstale not connected" in python(program, "on")


def test_options_come_from_the_environment():
    program = """
        import unstale
        try:
            with unstale.connect() as client:
                print(client.status()["url"], client.status()["staleness_bound_ms"])
        except unstale.Error as error:
            print(error.kind, error)
    """
    assert python(program, env={"UNSTALE_URL": "memory://env", "UNSTALE_STALENESS_BOUND": "7s"}) == "memory://env 7000\n"
    assert "UNSTALE_STALENES_BOUND" in python(program, env={"UNSTALE_STALENES_BOUND": "7s"})


def test_the_library_exports_its_entry_point_only():
    listed = subprocess.run(["nm", "-D", "--defined-only", str(NATIVE)], capture_output=True, text=True, check=True)
    assert [line.split()[-1] for line in listed.stdout.splitlines()] == ["PyInit__native"]
    needed = subprocess.run(["readelf", "-d", str(NATIVE)], capture_output=True, text=True, check=True).stdout
    assert "libssl" not in needed and "libcrypto" not in needed and "libpython" not in needed


def test_no_second_interpreter():
    program = """
        import unstale
        try:
            import _xxsubinterpreters as interpreters
        except ImportError:
            try:
                import _interpreters as interpreters
            except ImportError:
                raise SystemExit(0)
        other = interpreters.create()
        try:
            told = interpreters.run_string(other, "import unstale")
        except Exception as error:
            told = error
        print(told)
    """
    if sys.version_info < (3, 12):
        assert "ImportError" in python(program)
    else:
        assert "subinterpreters" in python(program)


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    """A mosquitto with TLS, a certificate of its own authority: its port, and the authority's file."""
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*args):
        subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True)

    # With all that Python 3.13 wants to see.
    authority = "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=test"
    openssl(*authority.split(), "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    openssl(*"req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=localhost".split())
    Path(folder, "extensions").write_text(
        "subjectAltName=DNS:localhost,IP:127.0.0.1\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
    )
    sign = "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -days 2 -extfile extensions"
    openssl(*sign.split())
    for file in folder.iterdir():
        file.chmod(0o644)
    folder.chmod(0o755)
    extra = f"certfile {folder}/server.pem\nkeyfile {folder}/server.key\n"
    with running(folder, extra) as port:
        yield port, str(folder / "ca.pem")


class running:
    """mosquitto with more lines in its configuration; gives the port."""

    def __init__(self, folder, extra):
        self.folder, self.extra = folder, extra

    def __enter__(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        config = Path(self.folder, "mosquitto.conf")
        # Under root it would give its rights up, and with them the way to our files.
        anonymous = "false" if "password_file" in self.extra else "true"
        config.write_text(f"listener {port} 127.0.0.1\nuser root\nallow_anonymous {anonymous}\n{self.extra}")
        program = shutil.which("mosquitto", path=os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin")
        self.process = subprocess.Popen([program, "-c", str(config)], stderr=subprocess.PIPE)

        def listening():
            assert self.process.poll() is None, self.process.stderr.read()
            with socket.socket() as attempt:
                return attempt.connect_ex(("127.0.0.1", port)) == 0

        eventually(listening, "mosquitto")
        return port

    def __exit__(self, *_):
        self.process.terminate()
        self.process.communicate()


def test_tls_beside_pythons_own(tls):
    """Two OpenSSLs in one process, in use before, during and after each other."""
    port, authority = tls

    def own_handshake():
        context = ssl.create_default_context(cafile=authority)
        with socket.create_connection(("localhost", port)) as plain:
            with context.wrap_socket(plain, server_hostname="localhost") as encrypted:
                return encrypted.version()

    assert own_handshake().startswith("TLS")
    with unstale.connect(f"mqtts://localhost:{port}", tls={"ca_file": Path(authority)}) as a:
        assert own_handshake().startswith("TLS")
        with unstale.connect(f"mqtts://localhost:{port}", tls={"ca_file": authority}) as b:
            here, there = a.cache("tls"), b.cache("tls")
            link(here, there)
            there.set("k", 1)
            assert b.wait_for(here.invalidate("k").token, DEADLINE)
            assert "k" not in there and a.status()["transport"] == "mqtts"
            assert own_handshake().startswith("TLS")
    assert own_handshake().startswith("TLS")


def test_a_certificate_of_an_unknown_authority(tls):
    port, _ = tls
    with pytest.raises(unstale.TlsError):
        unstale.connect(f"mqtts://localhost:{port}", connect_timeout=5)


def test_a_ca_file_that_is_not_there(tls):
    port, _ = tls
    with pytest.raises((unstale.TlsError, unstale.ConfigError), match="nowhere"):
        unstale.connect(f"mqtts://localhost:{port}", tls={"ca_file": "/nowhere.pem"}, connect_timeout=5)


def test_a_password_that_the_broker_refuses(tmp_path):
    passwords = tmp_path / "passwords"
    passwords.write_text("")
    subprocess.run(["mosquitto_passwd", "-b", str(passwords), "ann", "right"], check=True, capture_output=True)
    passwords.chmod(0o644)
    tmp_path.chmod(0o755)
    with running(tmp_path, f"password_file {passwords}\n") as port:
        with unstale.connect(f"mqtt://127.0.0.1:{port}", username="ann", password="right") as client:
            assert client.status()["connects"] == 1
        with pytest.raises(unstale.AuthError) as raised:
            unstale.connect(f"mqtt://127.0.0.1:{port}", username="ann", password="wrong", connect_timeout=5)
        assert isinstance(raised.value, PermissionError) and "wrong" not in str(raised.value)
