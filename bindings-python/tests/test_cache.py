"""What each method of a cache does in one process."""

import time
from datetime import timedelta

import pytest

import unstale


def test_a_hit_is_the_very_object_that_was_stored(cache):
    value = ["live"]
    assert cache.set("k", value) is True
    assert cache.get("k") is value
    assert cache["k"] is value
    assert cache.get_or_load("k", pytest.fail) is value


def test_get_returns_the_default_on_a_miss(cache):
    default = object()
    assert cache.get("k") is None
    assert cache.get("k", default) is default
    assert cache.get("k", default=default) is default
    assert cache.get(key="k", default=default) is default
    cache.set("k", 1)
    assert cache.get(key="k") == 1


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda c: c.get(), "missing 1 required"),
        (lambda c: c.get("k", 1, 2), "3 arguments"),
        (lambda c: c.get("k", defualt=1), "unexpected keyword argument 'defualt'"),
        (lambda c: c.get("k", key="k"), "multiple values for argument 'key'"),
        (lambda c: c.get("k", 1, default=1), "multiple values for argument 'default'"),
    ],
)
def test_get_checks_its_arguments_as_python_does(cache, call, message):
    with pytest.raises(TypeError, match=message):
        call(cache)


def test_it_is_a_mapping_of_what_is_held_here(cache):
    assert len(cache) == 0 and "k" not in cache
    cache["k"] = "v"
    assert len(cache) == 1 and "k" in cache and cache["k"] == "v"
    del cache["k"]
    assert "k" not in cache
    with pytest.raises(KeyError) as missing:
        cache["k"]
    assert missing.value.args == ("k",)
    with pytest.raises(KeyError):
        del cache["k"]


def test_it_is_not_iterable(cache):
    with pytest.raises(TypeError):
        iter(cache)


def test_keys_are_text_of_any_script(cache):
    for key in ["ä", "钥匙", "🔑", "a b", "x" * 1024, "é" * 512]:
        assert cache.set(key, key)
        assert cache.get(key) == key and key in cache
        assert cache.evict(key)


def test_an_entry_ends_with_its_ttl(cache):
    cache.set("float", 1, ttl=0.05)
    cache.set("delta", 1, ttl=timedelta(milliseconds=50))
    cache.set("long", 1, ttl=60)
    end = time.monotonic() + 5
    while ("float" in cache or "delta" in cache) and time.monotonic() < end:
        time.sleep(0.005)
    assert "float" not in cache and "delta" not in cache
    assert "long" in cache


def test_the_options_of_a_cache_are_the_cores(client):
    cache = client.cache("short", ttl=timedelta(milliseconds=40), ttl_jitter=0, max_entries=100, negative_ttl="10s")
    cache.set("k", 1)
    assert cache.get("k") == 1
    end = time.monotonic() + 5
    while "k" in cache and time.monotonic() < end:
        time.sleep(0.005)
    assert "k" not in cache
    for i in range(1000):
        cache.set(f"k{i}", i)
    assert len(cache) <= 100


def test_a_lower_version_is_refused(cache):
    assert cache.set("k", "five", version=5)
    assert cache.set("k", "four", version=4) is False
    assert cache["k"] == "five"
    cache.invalidate("k", version=7)
    assert "k" not in cache
    assert cache.set("k", "six", version=6) is False
    assert cache.set("k", "seven", version=7) is True
    cache.invalidate("k", version=7)
    assert cache["k"] == "seven"


def test_a_lease_that_was_fenced_stores_nothing(cache):
    lease = cache.lease("k")
    assert lease.key == "k"
    cache.invalidate("k")
    assert cache.set("k", "old", lease=lease) is False
    assert "k" not in cache
    lease = cache.lease("k")
    assert cache.set("k", "new", lease=lease) is True
    assert cache.set("k", "again", lease=lease) is False
    assert cache["k"] == "new"


def test_a_lease_is_given_back_when_it_is_dropped(cache):
    lease = cache.lease("k")
    assert cache.stats()["open_loads"] == 1
    del lease
    assert cache.stats()["open_loads"] == 0


def test_update_stores_under_a_lease_or_a_version(cache):
    with pytest.raises(unstale.InvalidArgument, match="lease"):
        cache.update("k", 1)
    lease = cache.lease("k")
    receipt = cache.update("k", "one", lease=lease)
    assert receipt.stored is True and cache["k"] == "one"
    assert cache.update("k", "two", version=2).stored is True
    assert cache.update("k", "one", version=1).stored is False
    lease = cache.lease("k")
    cache.invalidate("k")
    assert cache.update("k", "late", lease=lease).stored is False
    assert "k" not in cache


def test_update_drops_what_depends_on_the_old_value(cache):
    cache.set("list", [1], depends_on=["k"])
    cache.update("k", 2, version=1)
    assert "list" not in cache


def test_each_way_to_invalidate(cache):
    def fill():
        cache.set("a:1", 1, tags=["red"])
        cache.set("a:2", 2, tags=["blue"])
        cache.set("b:1", 3, tags={"red", "blue"})
        cache.set("sum", 6, depends_on=("a:1", "a:2"))

    def held():
        return {k for k in ["a:1", "a:2", "b:1", "sum"] if k in cache}

    fill()
    cache.invalidate("a:1")
    assert held() == {"a:2", "b:1"}
    fill()
    cache.invalidate_many(["a:1", "b:1"])
    assert held() == {"a:2"}
    fill()
    cache.invalidate_many({"a:1": None, "a:2": 3})
    assert held() == {"b:1"}
    fill()
    cache.invalidate_tags(["red"])
    assert held() == {"a:2"}
    fill()
    cache.invalidate_tags(tag for tag in ["red", "blue"])
    assert held() == set()
    fill()
    cache.invalidate_prefix("a:")
    assert held() == {"b:1"}
    fill()
    cache.invalidate_all()
    assert held() == set()


def test_local_removals_publish_nothing(cache):
    before = cache.stats()["invalidations_local"]
    cache.set("k", 1)
    assert cache.evict("k") is True
    assert cache.evict("k") is False
    cache.set("k", 1)
    cache.clear_local()
    assert "k" not in cache
    assert cache.stats()["invalidations_local"] == before


def test_a_receipt_names_its_invalidation(cache):
    receipt = cache.invalidate("k")
    assert receipt.token.startswith("u1:") and receipt.token.endswith(":things")
    assert receipt.stored is False
    assert receipt.delivered(5) is True
    assert receipt.token in repr(receipt)


def test_stats_count(cache):
    before = cache.stats()
    cache.get("k")
    cache.set("k", 1)
    cache.get("k")
    cache["k"]
    cache.get_or_load("k", pytest.fail)
    cache.get_or_load("other", lambda: 2)
    after = cache.stats()
    counted = {name: after[name] - before[name] for name in ["hits", "misses", "loads", "sets", "entries"]}
    assert counted == {"hits": 3, "misses": 2, "loads": 1, "sets": 1, "entries": 2}


def test_status_names_the_transport(client):
    status = client.status()
    assert status["transport"] == "memory"
    assert status["caches"] == 0
    client.cache("one")
    assert client.status()["caches"] == 1


def test_the_empty_namespace_is_a_cache_of_its_own(client):
    root, named = client.cache(""), client.cache("named")
    root.set("k", 1)
    assert root.namespace == "" and "k" not in named
    assert root.invalidate("k").token.endswith(":")


def test_a_namespace_is_opened_once(client):
    first = client.cache("once")
    with pytest.raises(unstale.InvalidArgument, match="once"):
        client.cache("once")
    first.set("k", 1)
    assert first["k"] == 1


def test_wait_for_without_a_cache_of_that_namespace_is_true_at_once(client):
    assert client.wait_for("u1:someone-else:7:nowhere", 0) is True


def test_the_generic_forms_exist_at_run_time(cache):
    assert unstale.Cache[int].__origin__ is unstale.Cache
    assert isinstance(cache, unstale.Cache)
    assert repr(cache) == "<unstale.Cache namespace='things' entries=0>"
