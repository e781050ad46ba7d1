"""A hit in Python beside its peers, in one run: JSON lines for `make bench`."""

import json
import statistics
import timeit
from functools import lru_cache

import cachetools
import unstale

KEYS = [f"user:{i}" for i in range(1000)]
ROUNDS = 15

client = unstale.connect("memory://bench")
cache = client.cache("bench", max_entries=10_000)
for key in KEYS:
    cache.set(key, {"id": key})


@lru_cache(maxsize=10_000)
def standard(key):
    return {"id": key}


@cachetools.cached(cachetools.TTLCache(10_000, 300))
def third_party(key):
    return {"id": key}


decorated = client.cache("decorated", max_entries=10_000)


@decorated.cached("user:{key}")
def ours(key):
    return {"id": key}


def row(what, statement, peer, peer_statement, target):
    """Medians of rounds that take turns. The loop over the keys is measured too, and taken off both."""
    names = dict(globals())

    def once(body):
        timer = timeit.Timer(f"for k in KEYS: {body}", globals=names)
        return timer.timeit(200) / 200 / len(KEYS) * 1e9

    rounds = [(once(statement), once(peer_statement), once("pass")) for _ in range(ROUNDS)]
    mine, other, empty = (statistics.median(column) for column in zip(*rounds))
    print(json.dumps({"what": what, "ns": mine - empty, "peer": peer, "peer_ns": other - empty, "target": target}), flush=True)


get = cache.get
row("Python `get` hit", "get(k)", "functools.lru_cache", "standard(k)", 0.8)
row("Python `cache[k]` hit", "cache[k]", "functools.lru_cache", "standard(k)", 0.65)
row("Python `@cached` hit", "ours(k)", "cachetools.cached (TTL)", "third_party(k)", 0.2)
client.close()
