"""The proxy's faults do what they say: a fault that does nothing would make every scenario pass."""

import socket
import sys
import threading
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from proxy import Proxies  # noqa: E402

SECONDS = 5
SILENCE = 0.3


class Echo:
    """A server that sends back what it gets, and remembers it."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.got = b""
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with connection:
            try:
                while data := connection.recv(65536):
                    self.got += data
                    connection.sendall(data)
            except OSError:
                pass


class Faults(unittest.TestCase):
    def setUp(self):
        self.echo = Echo()
        self.addCleanup(self.echo.listener.close)
        self.proxies = Proxies(self.echo.port, 2)
        self.addCleanup(self.proxies.close)

    def connect(self, number=0):
        connection = socket.create_connection(("127.0.0.1", self.proxies.ports[number]), timeout=SECONDS)
        self.addCleanup(connection.close)
        self.assertEqual(self.echoed(connection, b"hello"), b"hello")
        return connection

    def echoed(self, connection, data):
        connection.sendall(data)
        return connection.recv(100)

    def assert_silent(self, connection):
        connection.settimeout(SILENCE)
        with self.assertRaises(socket.timeout):
            connection.recv(100)
        connection.settimeout(SECONDS)

    def test_a_black_hole_is_silent_but_open_and_heals(self):
        connection, other = self.connect(0), self.connect(1)
        self.proxies.change([0], alive=False)
        connection.sendall(b"lost?")
        self.assert_silent(connection)
        self.assertEqual(self.echoed(other, b"x"), b"x")
        self.proxies.heal()
        self.assertEqual(connection.recv(100), b"lost?")

    def test_a_black_hole_hides_the_end_of_the_other_side(self):
        connection = self.connect()
        self.proxies.change([0], alive=False)
        connection.shutdown(socket.SHUT_WR)
        self.assert_silent(connection)
        self.proxies.heal()
        self.assertEqual(connection.recv(100), b"")

    def test_half_open_passes_one_way_only(self):
        connection = self.connect()
        self.proxies.change([0], ways=["down"], alive=False)
        connection.sendall(b"there")
        self.assert_silent(connection)
        self.assertTrue(self.echo.got.endswith(b"there"))
        self.proxies.heal()
        self.assertEqual(connection.recv(100), b"there")
        self.proxies.change([0], ways=["up"], alive=False)
        connection.sendall(b"again")
        self.assert_silent(connection)
        self.assertFalse(self.echo.got.endswith(b"again"))

    def test_delay_counts_both_ways(self):
        connection = self.connect()
        self.proxies.change([0], delay=0.2)
        began = time.monotonic()
        self.assertEqual(self.echoed(connection, b"x"), b"x")
        self.assertGreaterEqual(time.monotonic() - began, 0.4)

    def test_rate_limits_what_passes(self):
        connection = self.connect()
        self.proxies.change([0], ways=["up"], rate=100_000)
        began = time.monotonic()
        connection.sendall(b"x" * 40_000)
        got = 0
        while got < 40_000:
            got += len(connection.recv(65536))
        # The last chunk is not waited for.
        self.assertGreaterEqual(time.monotonic() - began, 0.2)

    def test_reset_ends_connections_and_is_counted(self):
        connection = self.connect()
        self.assertEqual(self.proxies.reset([0, 1]), 1)
        with self.assertRaises(ConnectionResetError):
            connection.recv(100)
        self.connect()


if __name__ == "__main__":
    unittest.main()
