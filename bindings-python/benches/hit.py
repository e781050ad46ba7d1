"""What a hit costs, beside its peers, in one run. Needs the wheel and requirements-bench.txt.

Each number is the best of many short runs in processor time of this thread, so other programs disturb it little.
`--json` prints one object per line for other programs.
"""

import functools
import json
import sys
import time
import timeit

import cachetools

import unstale

LOOPS, RUNS, ROUNDS = 20_000, 60, 3
ENTRIES = 10_000

client = unstale.connect("memory://bench", staleness_bound="1h")
cache = client.cache("bench", ttl="1h", max_entries=4 * ENTRIES)


@functools.lru_cache(2 * ENTRIES)
def lru_cached(key):
    return [key]


@cachetools.cached(cachetools.TTLCache(2 * ENTRIES, 3600))
def cachetools_cached(user_id):
    return [user_id]


@cache.cached("user:{user_id}")
def unstale_cached(user_id):
    return [user_id]


plain = {}
for i in range(ENTRIES):
    lru_cached(f"user:{i}")
    cachetools_cached(i)
    unstale_cached(i)
    plain[f"user:{i}"] = i

names = {**globals(), "key": "user:1234"}
WHAT = {
    "dict.get(key)": "plain.get(key)",
    "lru_cache": "lru_cached(key)",
    "cache.get(key)": "cache.get(key)",
    "cache[key]": "cache[key]",
    "cache.get_or_load(key, f)": "cache.get_or_load(key, len)",
    "@cachetools.cached, TTL": "cachetools_cached(1234)",
    "@cache.cached": "unstale_cached(1234)",
}
# What design section 6 asks for: a peer, and at most which multiple of it.
TARGETS = {
    "cache.get(key)": ("lru_cache", 0.8),
    "cache[key]": ("lru_cache", 0.65),
    "@cache.cached": ("@cachetools.cached, TTL", 0.2),
}

best = dict.fromkeys(WHAT, float("inf"))
for _ in range(ROUNDS):
    for name, statement in WHAT.items():
        runs = timeit.Timer(statement, globals=names, timer=time.thread_time).repeat(RUNS, LOOPS)
        best[name] = min(best[name], min(runs) / LOOPS * 1e9)

for name, nanoseconds in best.items():
    row = {"language": "Python", "what": name, "ns": round(nanoseconds, 1)}
    if name in TARGETS:
        peer, target = TARGETS[name]
        row.update(peer=peer, ratio=round(nanoseconds / best[peer], 2), target=target)
    if "--json" in sys.argv:
        print(json.dumps(row))
    else:
        beside = f"{row['ratio']:5.2f} x {row['peer']} (target {row['target']})" if "peer" in row else ""
        print(f"{name:28}{nanoseconds:8.1f} ns  {beside}")
client.close()
