"""The life of cached objects: kept as they are, freed with the GIL, seen by the garbage collector."""

import gc
import threading
import weakref

from conftest import DEADLINE, eventually

import unstale


class Thing:
    pass


def kept(cache, key="k", **options):
    thing = Thing()
    cache.set(key, thing, **options)
    return weakref.ref(thing)


def test_a_removed_object_is_freed_by_the_call_that_removed_it(cache):
    for remove in [
        lambda: cache.evict("k"),
        lambda: cache.invalidate("k"),
        lambda: cache.invalidate_tags(["t"]),
        lambda: cache.invalidate_prefix("k"),
        lambda: cache.set("k", 1),
        lambda: cache.update("k", 1, version=9),
        lambda: cache.__delitem__("k"),
    ]:
        thing = kept(cache, tags=["t"])
        assert thing() is not None
        remove()
        assert thing() is None
        cache.invalidate_all()
        cache.clear_local()


def test_objects_removed_from_afar_are_freed_while_python_is_idle(pair):
    here, there = pair
    things = [kept(there, f"k{i}") for i in range(3000)]
    idle = threading.Event()
    here.invalidate_prefix("k")
    eventually(lambda: idle.wait(0.01) or all(thing() is None for thing in things), "freeing")


def test_evicted_objects_are_freed(client):
    cache = client.cache("small", max_entries=50)
    things = [kept(cache, f"k{i}") for i in range(1000)]
    eventually(lambda: sum(thing() is not None for thing in things) <= 50)


def test_cleared_objects_are_freed(cache):
    things = [kept(cache, f"k{i}") for i in range(1000)]
    cache.clear_local()
    eventually(lambda: all(thing() is None for thing in things))


def test_hits_and_misses_leak_nothing(cache):
    import sys

    thing = Thing()
    cache.set("k", thing)
    before = sys.getrefcount(thing)
    for _ in range(1000):
        cache.get("k")
        cache["k"]
        cache.get_or_load("k", None)
        "k" in cache  # noqa: B015
        cache.get("nothing", thing)
    assert sys.getrefcount(thing) == before
    function = cache.cached("{n}")(lambda n: thing)
    for _ in range(1000):
        function("k")
        function(1)
        cache.get_or_load("loaded", lambda: thing)
        cache.evict("loaded")
        cache.evict("1")
    assert sys.getrefcount(thing) == before


def test_a_destructor_may_use_the_cache(cache):
    log = []

    class Talkative:
        def __del__(self):
            cache.set("from the destructor", 1)
            cache.invalidate("k2")
            log.append(cache.get("k"))

    cache.set("k", Talkative())
    cache.set("k", "next")
    assert log == ["next"] and cache["from the destructor"] == 1
    cache.set("k", Talkative())
    cache.invalidate("k")
    assert log == ["next", None]


def test_a_destructor_that_raises_harms_nobody(cache, recwarn):
    import sys

    class Bad:
        def __del__(self):
            raise ZeroDivisionError

    seen = []
    hook, sys.unraisablehook = sys.unraisablehook, lambda args: seen.append(args.exc_type)
    try:
        cache.set("k", Bad())
        cache.evict("k")
    finally:
        sys.unraisablehook = hook
    assert seen == [ZeroDivisionError]


def test_the_collector_finds_cycles_through_a_cache(memory):
    def make():
        client = unstale.connect(memory)
        cache = client.cache("cycle")
        thing = Thing()
        thing.cache = cache
        thing.loaded = cache.cached("{n}")(lambda n: thing)
        cache.set("thing", thing)
        cache.on_invalidated(lambda event: thing)
        client.close()
        return weakref.ref(thing), weakref.ref(cache), weakref.ref(client)

    references = make()

    def collected():
        gc.collect()
        return all(reference() is None for reference in references)

    eventually(collected, "collecting")


def test_the_collector_leaves_what_is_in_use(cache):
    for i in range(2000):
        thing = Thing()
        thing.cycle = thing
        cache.set(f"k{i}", thing)
        del thing
    for _ in range(3):
        gc.collect()
    assert all(cache[f"k{i}"].cycle is cache[f"k{i}"] for i in range(2000))


def test_collecting_while_entries_fall(pair):
    """The collector walks the cache while the link removes from it."""
    here, there = pair
    for _ in range(5):
        for i in range(2000):
            there.set(f"k{i}", [i])
        receipt = here.invalidate_prefix("k")
        for _ in range(5):
            gc.collect()
        assert there._client.wait_for(receipt.token, DEADLINE)
    assert "k1" not in there


def test_a_client_that_nobody_holds_ends(memory):
    def make():
        client = unstale.connect(memory)
        cache = client.cache("x")
        return weakref.ref(client), weakref.ref(cache)

    client, cache = make()
    gc.collect()
    assert client() is None and cache() is None
    before = threading.active_count()
    for _ in range(20):
        make()
    gc.collect()
    assert threading.active_count() <= before
