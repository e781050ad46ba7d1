"""get_or_load: one load for all, fences, exceptions, from threads."""

import contextvars
import threading
import time

import pytest
from conftest import eventually

import unstale


class Boom(Exception):
    pass


def in_threads(count, work):
    """Runs `work(i)` in threads and returns the results, exceptions among them, in order."""
    results = [None] * count

    def run(i):
        try:
            results[i] = work(i)
        except BaseException as error:
            results[i] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "deadlock"
    return results


def waiting_for(cache, count):
    return lambda: cache.stats()["joins"] >= count


def test_a_miss_loads_and_stores(cache):
    value = object()
    assert cache.get_or_load("k", lambda: value, ttl=60, tags=["t"], depends_on=["d"], version=3) is value
    assert cache.get_or_load("k", pytest.fail) is value
    cache.invalidate_tags(["t"])
    assert "k" not in cache


def test_concurrent_callers_share_one_load(cache):
    calls = []
    value = object()

    def loader():
        calls.append(threading.get_ident())
        eventually(waiting_for(cache, 7), "seven callers waiting")
        return value

    results = in_threads(8, lambda i: cache.get_or_load("k", loader))
    assert all(result is value for result in results)
    assert len(calls) == 1


def test_the_loaders_own_exception_reaches_every_caller(cache):
    error = Boom("no database")

    def loader():
        eventually(waiting_for(cache, 3), "three callers waiting")
        raise error

    results = in_threads(4, lambda i: cache.get_or_load("k", loader))
    assert all(result is error for result in results)
    assert "k" not in cache and cache.stats()["open_loads"] == 0


def test_an_interrupted_leader_hands_over(cache):
    """KeyboardInterrupt concerns the caller that it hits, and no other."""
    first = threading.Event()

    def loader():
        if not first.is_set():
            first.set()
            eventually(waiting_for(cache, 3), "three callers waiting")
            raise KeyboardInterrupt
        return "loaded"

    results = in_threads(4, lambda i: cache.get_or_load("k", loader))
    assert sorted(map(str, results)) == ["", "loaded", "loaded", "loaded"]
    assert sum(isinstance(result, KeyboardInterrupt) for result in results) == 1


@pytest.mark.parametrize(
    "invalidate",
    [
        lambda c: c.invalidate("k"),
        lambda c: c.invalidate_many(["other", "k"]),
        lambda c: c.invalidate_tags(["t"]),
        lambda c: c.invalidate("d"),
        lambda c: c.invalidate_prefix("k"),
        lambda c: c.invalidate_all(),
        lambda c: c.evict("k"),
        lambda c: c.clear_local(),
        lambda c: c.set("k", "newer"),
    ],
    ids=["key", "many", "tag", "dependency", "prefix", "all", "evict", "clear_local", "set"],
)
def test_a_late_fill_is_refused(cache, invalidate):
    def loader():
        invalidate(cache)
        return "old"

    assert cache.get_or_load("k", loader, tags=["t"], depends_on=["d"]) == "old"
    assert cache.get("k") in (None, "newer")


def test_none_means_not_found(cache, client):
    calls = []
    assert cache.get_or_load("k", lambda: calls.append(1)) is None
    assert cache.get_or_load("k", lambda: calls.append(1)) is None
    assert len(calls) == 2
    remembering = client.cache("negative", negative_ttl=60)
    assert remembering.get_or_load("k", lambda: calls.append(1)) is None
    assert remembering.get_or_load("k", pytest.fail) is None
    assert remembering.get("k", "default") == "default" and "k" not in remembering
    with pytest.raises(KeyError):
        remembering["k"]
    remembering.invalidate("k")
    assert remembering.get_or_load("k", lambda: "found") == "found"


def test_a_loader_may_load_other_keys(cache):
    def outer():
        return [cache.get_or_load("inner", lambda: "in"), "out"]

    assert cache.get_or_load("outer", outer, depends_on=["inner"]) == ["in", "out"]
    cache.invalidate("inner")
    assert "outer" not in cache


def test_a_loader_that_asks_for_its_own_key_is_told(cache):
    def loader():
        return cache.get_or_load("k", loader)

    with pytest.raises(unstale.InvalidArgument, match="'k' itself"):
        cache.get_or_load("k", loader)
    assert cache.get_or_load("k", lambda: 1) == 1


def test_a_coroutine_function_is_no_loader_here(cache):
    async def loader():
        return 1

    with pytest.raises(TypeError, match="get_or_load_async"):
        cache.get_or_load("k", loader)
    assert "k" not in cache and cache.stats()["open_loads"] == 0


def test_waiting_for_anothers_load_ends_after_load_timeout(client):
    cache = client.cache("impatient", load_timeout=0.1)
    release = threading.Event()
    leader = threading.Thread(target=cache.get_or_load, args=("k", lambda: release.wait(60)))
    leader.start()
    eventually(lambda: cache.stats()["loads"] == 1)
    started = time.monotonic()
    with pytest.raises(unstale.TimeoutError, match="load_timeout"):
        cache.get_or_load("k", pytest.fail)
    assert 0.05 < time.monotonic() - started < 10
    release.set()
    leader.join(60)
    assert cache["k"] is True


def test_loaders_see_the_callers_context(cache):
    variable = contextvars.ContextVar("variable")
    variable.set("mine")
    assert cache.get_or_load("k", variable.get) == "mine"


def test_other_threads_run_while_one_waits(cache):
    """Who joins a load waits without the GIL."""
    release = threading.Event()
    leader = threading.Thread(target=cache.get_or_load, args=("k", lambda: release.wait(60)))
    joiner = threading.Thread(target=cache.get_or_load, args=("k", pytest.fail))
    leader.start()
    eventually(lambda: cache.stats()["loads"] == 1)
    joiner.start()
    eventually(waiting_for(cache, 1))
    started, count = time.monotonic(), 0
    while time.monotonic() - started < 0.1:
        count += 1
    assert count > 1000
    release.set()
    leader.join(60)
    joiner.join(60)
    assert not joiner.is_alive()


def test_a_generator_of_tags_survives_a_second_start(cache):
    """A joiner whose leader gives up starts over with the tags that it was given."""
    started, give_up = threading.Event(), threading.Event()

    def failing():
        started.set()
        give_up.wait(60)
        raise SystemExit

    leader = threading.Thread(target=lambda: in_threads(1, lambda i: cache.get_or_load("k", failing)))
    leader.start()
    started.wait(60)
    joiner = threading.Thread(target=lambda: cache.get_or_load("k", lambda: "v", tags=(t for t in ["t"])))
    joiner.start()
    eventually(waiting_for(cache, 1))
    give_up.set()
    joiner.join(60)
    leader.join(60)
    assert cache["k"] == "v"
    cache.invalidate_tags(["t"])
    assert "k" not in cache


def test_a_long_scan_lets_other_threads_run(client):
    cache = client.cache("large", max_entries=200_000)
    for i in range(60_000):
        cache.set(f"a:{i}", i)
        cache.set(f"b:{i}", i)
    stop, counts = threading.Event(), [0]

    def count():
        while not stop.is_set():
            counts[0] += 1

    counter = threading.Thread(target=count)
    counter.start()
    cache.invalidate_prefix("a:")
    stop.set()
    counter.join(60)
    assert counts[0] > 0 and "a:7" not in cache and cache["b:7"] == 7
