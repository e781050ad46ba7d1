"""A real mosquitto, clients of it, and a clock for waits."""

import itertools
import sys
import time
from pathlib import Path

import pytest

import unstale

# The broker of the conformance harness serves here too.
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "conformance"))
from broker import Broker  # noqa: E402

DEADLINE = 20
_names = itertools.count()


def eventually(condition, what="it"):
    """Asks again and again, for at most DEADLINE seconds, until `condition` is true; returns what it gave."""
    end = time.monotonic() + DEADLINE
    while True:
        result = condition()
        if result:
            return result
        assert time.monotonic() < end, f"{what} did not happen within {DEADLINE} s"
        time.sleep(0.002)


def link(here, there):
    """Waits until `there` hears what `here` invalidates."""

    def heard():
        there.set("link", 1)
        here.invalidate("link").delivered(DEADLINE)
        end = time.monotonic() + 0.2
        while time.monotonic() < end:
            if "link" not in there:
                return True
            time.sleep(0.001)
        return False

    eventually(heard, "the link")


@pytest.fixture(scope="session")
def broker():
    with Broker() as running:
        yield running


@pytest.fixture
def memory():
    """The URL of an in-process broker of this test's own."""
    return f"memory://test-{next(_names)}"


@pytest.fixture
def client(memory):
    with unstale.connect(memory) as connected:
        yield connected


@pytest.fixture
def cache(client):
    return client.cache("things")


@pytest.fixture(params=["memory", "mosquitto"])
def pair(request):
    """Two caches of one namespace, of two clients that hear each other."""
    if request.param == "memory":
        url = f"memory://test-{next(_names)}"
    else:
        url = request.getfixturevalue("broker").url
    namespace = f"pair-{next(_names)}"
    with unstale.connect(url) as a, unstale.connect(url) as b:
        here, there = a.cache(namespace), b.cache(namespace)
        link(here, there)
        link(there, here)
        yield here, there
