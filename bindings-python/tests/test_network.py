"""Two clients and a stranger on a real mosquitto."""

import pytest
from conftest import DEADLINE, eventually, link

import unstale

WAYS = {
    "key": lambda c: c.invalidate("k"),
    "many": lambda c: c.invalidate_many(["x", "k"]),
    "tag": lambda c: c.invalidate_tags(["t"]),
    "dependency": lambda c: c.invalidate("d"),
    "prefix": lambda c: c.invalidate_prefix("k"),
    "all": lambda c: c.invalidate_all(),
    "update": lambda c: c.update("k", "new", version=2),
    "version": lambda c: c.invalidate("k", version=2),
}


@pytest.mark.parametrize("way", WAYS)
def test_what_one_invalidates_the_other_no_longer_serves(pair, way):
    here, there = pair
    there.set("k", "old", tags=["t"], depends_on=["d"], version=1)
    receipt = WAYS[way](here)
    assert there._client.wait_for(receipt.token, DEADLINE) is True
    assert "k" not in there
    assert receipt.delivered(DEADLINE) is True


def test_sets_and_evictions_stay_here(pair):
    here, there = pair
    there.set("k", "theirs")
    here.set("k", "ours")
    here.evict("k")
    here.clear_local()
    here.get_or_load("k", lambda: "loaded")
    assert there._client.wait_for(here.invalidate("other").token, DEADLINE)
    assert there["k"] == "theirs"


def test_a_load_is_fenced_from_afar(pair):
    here, there = pair

    def loader():
        assert there._client.wait_for(here.invalidate("k").token, DEADLINE)
        return "old"

    assert there.get_or_load("k", loader) == "old"
    assert "k" not in there


def test_wait_for_ends_with_its_timeout(pair):
    here, there = pair
    assert there._client.wait_for(f"u1:nobody:1:{there.namespace}", 0.05) is False


def test_a_stranger_invalidates_with_a_plain_key(broker):
    with unstale.connect(broker.url) as a, unstale.connect(broker.url) as b:
        here, there = a.cache("plain"), b.cache("plain")
        link(here, there)
        there.set("user:42", 1)
        broker.publish("cache/invalidate/plain", "user:42")
        eventually(lambda: "user:42" not in there)
        eventually(lambda: there.stats()["plain"] >= 1)


def test_close_sends_what_is_unsent(broker):
    with unstale.connect(broker.url) as b:
        there = b.cache("closing")
        with unstale.connect(broker.url) as a:
            here = a.cache("closing")
            link(here, there)
            for i in range(500):
                there.set(f"k{i}", i)
            for i in range(500):
                last = here.invalidate(f"k{i}")
        assert last.delivered(0) is True
        assert b.wait_for(last.token, DEADLINE)
        assert [key for key in (f"k{i}" for i in range(500)) if key in there] == []


def test_options_of_the_url(broker):
    with unstale.connect(f"{broker.url}?topic=elsewhere&staleness_bound=5s") as client:
        status = client.status()
        assert status["staleness_bound_ms"] == 5000 and status["transport"] == "mqtt" and status["connects"] == 1
