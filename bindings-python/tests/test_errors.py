"""The exceptions."""

import builtins
import pickle
import socket

import pytest

import unstale

KINDS = {
    1: (unstale.InvalidArgument, "InvalidArgument", ValueError),
    2: (unstale.ConfigError, "Config", ValueError),
    3: (unstale.ConnectError, "Connect", ConnectionError),
    4: (unstale.AuthError, "Auth", PermissionError),
    5: (unstale.TlsError, "Tls", ConnectionError),
    6: (unstale.TimeoutError, "Timeout", builtins.TimeoutError),
    7: (unstale.ClosedError, "Closed", RuntimeError),
    8: (unstale.LoadError, "Load", RuntimeError),
    9: (unstale.InternalError, "Internal", RuntimeError),
    10: (unstale.ForkedError, "Forked", RuntimeError),
}


@pytest.mark.parametrize("code", KINDS)
def test_each_kind_has_its_number_its_name_and_its_built_in(code):
    of, kind, built_in = KINDS[code]
    assert issubclass(of, unstale.Error) and issubclass(of, built_in)
    assert (of.code, of.kind, of.__module__) == (code, kind, "unstale")
    error = pickle.loads(pickle.dumps(of("why")))
    assert type(error) is of and str(error) == "why" and error.args == ("why",)


def test_a_broker_that_refuses_connections():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(unstale.ConnectError, match=str(port)) as raised:
        unstale.connect(f"mqtt://127.0.0.1:{port}", connect_timeout=2)
    assert isinstance(raised.value, ConnectionError)


def test_a_broker_that_says_nothing():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises((unstale.TimeoutError, unstale.ConnectError)):
            unstale.connect(f"mqtt://127.0.0.1:{silent.getsockname()[1]}", connect_timeout=0.5)


def test_lazy_connects_later():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    client = unstale.connect(f"mqtt://127.0.0.1:{port}", lazy=True)
    cache = client.cache("x")
    cache.set("k", 1)
    receipt = cache.invalidate("k")
    assert "k" not in cache
    assert client.status()["state"] == "connecting"
    assert receipt.delivered(0.05) is False
    assert client.close(0.05) == 1
