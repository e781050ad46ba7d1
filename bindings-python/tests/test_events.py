"""Listeners."""

import logging
import threading

import pytest
from conftest import DEADLINE, eventually


def listen(subscribe):
    seen = []
    return seen, subscribe(seen.append)


def test_local_invalidations_are_told_in_order(cache):
    seen, subscription = listen(cache.on_invalidated)
    cache.invalidate("k")
    cache.invalidate_many({"a": 1, "b": None})
    cache.invalidate_tags(["t"])
    cache.invalidate_prefix("p")
    cache.invalidate_all()
    cache.update("u", 1, version=1)
    cache.evict("k")
    cache.set("k", 1)
    eventually(lambda: len(seen) >= 6)
    assert [(e.keys, e.tags, e.prefixes, e.all) for e in seen] == [
        (["k"], [], [], False),
        (["a", "b"], [], [], False),
        ([], ["t"], [], False),
        ([], [], ["p"], False),
        ([], [], [], True),
        (["u"], [], [], False),
    ]
    assert {(e.namespace, e.origin, e.src, e.seq) for e in seen} == {("things", "local", None, None)}
    assert seen[0]._asdict()["keys"] == ["k"]


def test_remote_invalidations_are_told_after_they_were_applied(pair):
    here, there = pair
    there.set("k", 1)
    held = []
    told = threading.Event()

    def listener(event):
        if event.keys == ["k"]:
            held.append(("k" in there, event, threading.current_thread().name))
            told.set()

    there.on_invalidated(listener)
    receipt = here.invalidate("k")
    assert told.wait(DEADLINE)
    (was_held, event, thread) = held[0]
    assert was_held is False and event.origin == "remote" and thread == "unstale"
    assert receipt.token == f"u1:{event.src}:{event.seq}:{event.namespace}"


def test_cancel_ends_it(cache):
    seen, subscription = listen(cache.on_invalidated)
    with cache.on_invalidated(seen.append):
        pass
    subscription.cancel()
    subscription.cancel()
    last, _ = listen(cache.on_invalidated)
    cache.invalidate("k")
    eventually(lambda: last)
    assert seen == []


def test_a_listener_may_use_the_cache_and_cancel_itself(cache):
    cache.set("other", 1)
    seen = []

    def listener(event):
        subscription.cancel()
        cache.invalidate("other")
        cache.set("seen", event.keys)
        seen.append(cache.get_or_load("loaded", lambda: "in a listener"))

    subscription = cache.on_invalidated(listener)
    cache.invalidate("k")
    eventually(lambda: seen)
    assert cache["seen"] == ["k"] and "other" not in cache and len(seen) == 1


def test_a_listener_that_fails_harms_nobody(cache, caplog):
    seen = []

    def failing(event):
        raise ZeroDivisionError("mine")

    cache.on_invalidated(failing)
    cache.on_invalidated(seen.append)
    with caplog.at_level(logging.ERROR, logger="unstale"):
        cache.invalidate("k")
        eventually(lambda: seen)
        cache.invalidate("k")
        eventually(lambda: len(seen) == 2)
    assert "ZeroDivisionError" in caplog.text


def test_status_changes_are_told(client):
    seen = []
    client.on_status(seen.append)
    client.close()
    eventually(lambda: seen and seen[-1]["state"] == "closed")


def test_many_events_are_collapsed_or_counted(client, cache):
    """A listener that is slow for long is told that everything may be gone; what the core dropped before, it counts."""
    release, seen = threading.Event(), []

    def slow(event):
        release.wait(DEADLINE)
        seen.append(event)

    cache.on_invalidated(slow)
    for i in range(25_000):
        cache.invalidate(f"k{i}")
    release.set()

    def complete():
        return any(e.all for e in seen) or len(seen) + client.status()["events_dropped"] == 25_000

    eventually(complete)


@pytest.mark.parametrize("how", ["partial", "method", "object"])
def test_listeners_of_every_form(cache, how):
    import functools

    seen = []

    class Listener:
        def method(self, event):
            seen.append(event)

        def __call__(self, event):
            seen.append(event)

    forms = {"partial": functools.partial(seen.append), "method": Listener().method, "object": Listener()}
    cache.on_invalidated(forms[how])
    cache.invalidate("k")
    eventually(lambda: seen)
