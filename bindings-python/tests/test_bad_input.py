"""Design section 7: each entry point gives its documented error and changes nothing."""

import copy
import pickle
from datetime import timedelta

import pytest

import unstale
from unstale import InvalidArgument

BAD_TEXT = {"empty": "", "NUL": "a\0b", "too long": "k" * 1025, "too long in UTF-8": "é" * 513, "surrogate": "\ud800"}
NOT_TEXT = {"None": None, "bytes": b"k", "int": 1, "list": ["k"]}

BY_KEY = {
    "get": lambda c, k: c.get(k),
    "get with default": lambda c, k: c.get(k, 1),
    "cache[key]": lambda c, k: c[k],
    "in": lambda c, k: k in c,
    "cache[key] = v": lambda c, k: c.__setitem__(k, 1),
    "del": lambda c, k: c.__delitem__(k),
    "set": lambda c, k: c.set(k, 1),
    "get_or_load": lambda c, k: c.get_or_load(k, lambda: 1),
    "lease": lambda c, k: c.lease(k),
    "update": lambda c, k: c.update(k, 1, version=1),
    "invalidate": lambda c, k: c.invalidate(k),
    "invalidate with version": lambda c, k: c.invalidate(k, version=1),
    "invalidate_many list": lambda c, k: c.invalidate_many(["good", k]),
    "invalidate_many dict": lambda c, k: c.invalidate_many({"good": None, k: 1}),
    "evict": lambda c, k: c.evict(k),
    "depends_on": lambda c, k: c.set("k", 1, depends_on=[k]),
    "tags": lambda c, k: c.set("k", 1, tags=[k]),
    "invalidate_tags": lambda c, k: c.invalidate_tags(["good", k]),
    "invalidate_prefix": lambda c, k: c.invalidate_prefix(k),
}


@pytest.mark.parametrize("call", BY_KEY.values(), ids=BY_KEY)
@pytest.mark.parametrize("text", BAD_TEXT.values(), ids=BAD_TEXT)
def test_malformed_text(cache, call, text):
    cache.set("good", "kept")
    before = cache.stats()
    with pytest.raises(InvalidArgument) as raised:
        call(cache, text)
    assert len(str(raised.value)) < 300
    assert cache["good"] == "kept"
    after = cache.stats()
    assert [after[n] for n in ("entries", "invalidations_local")] == [before[n] for n in ("entries", "invalidations_local")]


@pytest.mark.parametrize("call", BY_KEY.values(), ids=BY_KEY)
@pytest.mark.parametrize("value", NOT_TEXT.values(), ids=NOT_TEXT)
def test_what_is_no_text(cache, call, value):
    cache.set("good", "kept")
    with pytest.raises(TypeError):
        call(cache, value)
    assert cache["good"] == "kept"


DURATIONS = {"negative": -1, "NaN": float("nan"), "infinite": float("inf"), "huge": 1e12, "beyond float": 10**400}
DURATIONS["negative timedelta"] = timedelta(seconds=-1)
BY_DURATION = {
    "set": lambda c, client, d: c.set("k", 1, ttl=d),
    "update": lambda c, client, d: c.update("k", 1, version=1, ttl=d),
    "get_or_load": lambda c, client, d: c.get_or_load("k", lambda: 1, ttl=d),
    "delivered": lambda c, client, d: c.invalidate("other").delivered(d),
    "delivered_async": lambda c, client, d: c.invalidate("other").delivered_async(d),
    "wait_for": lambda c, client, d: client.wait_for("u1:x:1:y", d),
    "close": lambda c, client, d: client.close(d),
}


@pytest.mark.parametrize("call", BY_DURATION.values(), ids=BY_DURATION)
@pytest.mark.parametrize("value", DURATIONS.values(), ids=DURATIONS)
def test_durations_out_of_range(cache, client, call, value):
    with pytest.raises(InvalidArgument, match="ttl|timeout"):
        call(cache, client, value)
    assert "k" not in cache
    assert cache.set("open still", 1)


@pytest.mark.parametrize("call", BY_DURATION.values(), ids=BY_DURATION)
@pytest.mark.parametrize("value", ["1s", True, [1], object()], ids=["text", "bool", "list", "object"])
def test_what_is_no_duration(cache, client, call, value):
    with pytest.raises(TypeError, match="seconds"):
        call(cache, client, value)
    assert "k" not in cache


def test_a_ttl_of_zero(cache):
    with pytest.raises(InvalidArgument, match="ttl"):
        cache.set("k", 1, ttl=0)


@pytest.mark.parametrize("version", [-1, 2**53, 2**64])
def test_versions_out_of_range(cache, version):
    for call in [
        lambda: cache.set("k", 1, version=version),
        lambda: cache.update("k", 1, version=version),
        lambda: cache.invalidate("k", version=version),
        lambda: cache.invalidate_many({"k": version}),
        lambda: cache.get_or_load("k", lambda: 1, version=version),
    ]:
        with pytest.raises(InvalidArgument, match="version"):
            call()
    assert "k" not in cache


@pytest.mark.parametrize("version", [1.0, True, "1"])
def test_what_is_no_version(cache, version):
    with pytest.raises(TypeError, match="version"):
        cache.set("k", 1, version=version)


def test_none_cannot_be_stored(cache):
    for call in [
        lambda: cache.set("k", None),
        lambda: cache.update("k", None, version=1),
        lambda: cache.__setitem__("k", None),
    ]:
        with pytest.raises(InvalidArgument, match="None"):
            call()


def test_text_where_a_list_is_meant(cache):
    for call in [
        lambda: cache.set("k", 1, tags="red"),
        lambda: cache.set("k", 1, depends_on="k2"),
        lambda: cache.invalidate_tags("red"),
        lambda: cache.invalidate_many("k"),
        lambda: cache.cached("k", tags="red"),
        lambda: cache.get_or_load("k", lambda: 1, tags="red"),
    ]:
        with pytest.raises(TypeError, match=r"\["):
            call()


def test_a_lease_of_another_key(cache):
    lease = cache.lease("a")
    with pytest.raises(InvalidArgument, match="lease"):
        cache.set("b", 1, lease=lease)
    with pytest.raises(TypeError):
        cache.set("a", 1, lease="lease")
    assert cache.set("a", 1, lease=lease) is True


def test_unknown_keyword_arguments(cache):
    for call in [
        lambda: cache.set("k", 1, tll=1),
        lambda: cache.update("k", 1, ver=1),
        lambda: cache.get_or_load("k", lambda: 1, tag=["a"]),
        lambda: cache.cached("k", tll=1),
    ]:
        with pytest.raises(TypeError, match="unexpected keyword"):
            call()


@pytest.mark.parametrize("loader", [None, 1, "text"])
def test_a_loader_that_is_no_function(cache, loader):
    with pytest.raises(TypeError, match="loader"):
        cache.get_or_load("k", loader)
    assert cache.stats()["open_loads"] == 0


def test_get_or_load_needs_two_arguments(cache):
    for call in [lambda: cache.get_or_load(), lambda: cache.get_or_load("k"), lambda: cache.get_or_load("k", 1, 2)]:
        with pytest.raises(TypeError):
            call()


@pytest.mark.parametrize("namespace", ["_x", "a/b", "a+b", "#", "x" * 65, "ä"])
def test_malformed_namespaces(client, namespace):
    with pytest.raises(InvalidArgument, match="namespace"):
        client.cache(namespace)


@pytest.mark.parametrize("namespace", [None, 1, b"x"])
def test_what_is_no_namespace(client, namespace):
    with pytest.raises(TypeError, match="namespace"):
        client.cache(namespace)


@pytest.mark.parametrize(
    "option, value",
    [
        ("tll", 1),
        ("ttl", -1),
        ("ttl", "soon"),
        ("ttl", float("nan")),
        ("max_entries", 0),
        ("max_entries", 1.5),
        ("ttl_jitter", 2),
        ("negative_ttl", True),
        ("idle_ttl", 1),
        ("max_bytes", 1),
        ("stale_while_revalidate", 1),
    ],
)
def test_options_of_a_cache(client, option, value):
    with pytest.raises(unstale.ConfigError, match=option):
        client.cache("x", **{option: value})
    client.cache("x")


@pytest.mark.parametrize(
    "options",
    [
        {"stalenes_bound": 1},
        {"staleness_bound": 0.1},
        {"staleness_bound": "never"},
        {"connect_timeout": -1},
        {"outbox_limit": 0},
        {"topic": "a/#"},
        {"app": "ä"},
        {"tls": {"ca_file": "x"}},
        {"tls": {"unknown": 1}},
        {"aws": {}},
        {"signing_key": "x"},
        {"signing_key": ["k:" + "5e" * 31]},
        {"require_signatures": True},
        {"outbox_dir": "/dev/null"},
        {"lazy": "perhaps"},
    ],
    ids=repr,
)
def test_options_of_a_client(options):
    with pytest.raises(unstale.ConfigError) as raised:
        unstale.connect("memory://bad", **options)
    assert next(iter(options)) in str(raised.value)


@pytest.mark.parametrize("url", ["", "localhost", "http://x", "mqtt://", "mqtt://x/path", "mqtt://x?nope=1"])
def test_malformed_urls(url):
    with pytest.raises(unstale.ConfigError):
        unstale.connect(url)


@pytest.mark.parametrize("url", [1, b"memory://", ["memory://"]])
def test_what_is_no_url(url):
    with pytest.raises(TypeError, match="url"):
        unstale.connect(url)


def test_options_of_a_type_that_no_option_has():
    with pytest.raises(TypeError, match="app"):
        unstale.connect("memory://bad", app=object())


@pytest.mark.parametrize("token", ["", "nonsense", "u2:a:1:b", "u1:a:x:b", "u1:ä:1:b"])
def test_tokens_that_no_receipt_gave(client, token):
    with pytest.raises(InvalidArgument):
        client.wait_for(token, 0)


def test_what_is_no_token(client):
    with pytest.raises(TypeError, match="token"):
        client.wait_for(1, 0)


@pytest.mark.parametrize("listener", [None, 1, "print"])
def test_what_is_no_listener(client, cache, listener):
    with pytest.raises(TypeError, match="listener"):
        cache.on_invalidated(listener)
    with pytest.raises(TypeError, match="listener"):
        client.on_status(listener)


def test_classes_that_have_no_constructor():
    for make in [
        unstale.Client,
        unstale.Cache,
        unstale.Lease,
        unstale.Receipt,
        lambda: unstale.Cache("client", "namespace", {}),
    ]:
        with pytest.raises(TypeError):
            make()


def test_slots_called_with_foreign_objects():
    for call in [
        lambda: unstale.Cache.get({}, "k"),
        lambda: unstale.Cache.__getitem__([], "k"),
        lambda: unstale.Cache.get_or_load(object(), "k", lambda: 1),
        lambda: unstale.Cache.__len__(1),
    ]:
        with pytest.raises(TypeError):
            call()


def test_nothing_can_be_pickled_or_copied(client, cache):
    for thing in [client, cache, cache.lease("k"), cache.invalidate("k")]:
        for attempt in [pickle.dumps, copy.copy, copy.deepcopy]:
            with pytest.raises(TypeError, match="belongs to this process"):
                attempt(thing)


def test_a_closed_client(memory):
    client = unstale.connect(memory)
    cache = client.cache("x")
    cache.set("k", 1)
    lease = cache.lease("k")
    receipt = cache.invalidate("other")
    loaded = cache.cached("y")(lambda: 1)
    assert client.close() == 0
    assert client.close() == 0
    for call in [
        lambda: cache.get("k"),
        lambda: cache["k"],
        lambda: "k" in cache,
        lambda: cache.set("k", 1),
        lambda: cache.set("k", 1, lease=lease),
        lambda: cache.__setitem__("k", 1),
        lambda: cache.__delitem__("k"),
        lambda: cache.get_or_load("k", pytest.fail),
        lambda: loaded(),
        lambda: cache.lease("k"),
        lambda: cache.update("k", 1, version=1),
        lambda: cache.invalidate("k"),
        lambda: cache.invalidate_many(["k"]),
        lambda: cache.invalidate_tags(["k"]),
        lambda: cache.invalidate_prefix("k"),
        lambda: cache.invalidate_all(),
        lambda: cache.evict("k"),
        lambda: cache.clear_local(),
        lambda: client.cache("y"),
        lambda: client.wait_for(receipt.token, 0),
    ]:
        with pytest.raises(unstale.ClosedError) as raised:
            call()
        assert raised.value.code == 7
    assert client.status()["state"] == "closed"
    assert receipt.delivered(0) is True
    assert cache.stats()["open_loads"] <= 1
    assert cache.namespace == "x"
    len(cache)
