"""Sixteen threads and two event loops on two caches: no deadlock, no stale read of one's own, no object of another key."""

import asyncio
import random
import threading
import time

from conftest import link

import unstale

SECONDS = 4
KEYS = 40


class Source:
    """The truth: a version per key. `write` returns after the commit."""

    def __init__(self):
        self.versions = [0] * KEYS
        self.locks = [threading.Lock() for _ in range(KEYS)]

    def read(self, key):
        return (key, self.versions[key])

    def write(self, key):
        with self.locks[key]:
            self.versions[key] += 1


def test_sixteen_threads(broker):
    source = Source()
    failures = []
    with unstale.connect(broker.url) as a, unstale.connect(broker.url) as b:
        caches = [a.cache("stress", max_entries=30), b.cache("stress")]
        link(*caches)
        end = time.monotonic() + SECONDS

        def check(cache, key, before, value):
            if value[0] != key:
                failures.append(f"the value of key {value[0]} under key {key}")
            # This process has invalidated version `before` in this cache, before this read began.
            if value[1] < before:
                failures.append(f"key {key}: version {value[1]} after {before} was invalidated here")

        def work(seed):
            dice = random.Random(seed)
            cache = caches[seed % 2]
            decorated = cache.cached("{key}", tags=["all"])(source.read)
            while time.monotonic() < end and not failures:
                key = dice.randrange(KEYS)
                name = str(key)
                action = dice.random()
                if action < 0.2:
                    source.write(key)
                    after = source.versions[key]
                    way = dice.randrange(5)
                    if way == 0:
                        cache.invalidate(name)
                    elif way == 1:
                        cache.invalidate_many([name, "x"])
                    elif way == 2:
                        cache.invalidate_tags([f"t{key}"])
                        cache.invalidate(name)
                    elif way == 3:
                        cache.invalidate_prefix(name)
                    else:
                        lease = cache.lease(name)
                        cache.update(name, source.read(key), lease=lease)
                    before = after
                    check(cache, key, before, cache.get_or_load(name, lambda key=key: source.read(key)))
                elif action < 0.5:
                    check(cache, key, 0, decorated(key))
                elif action < 0.7:
                    lease = cache.lease(name)
                    cache.set(name, source.read(key), lease=lease, tags=[f"t{key}"])
                elif action < 0.95:
                    check(cache, key, 0, cache.get(name, (key, 0)))
                elif action < 0.97:
                    cache.evict(name)
                elif action < 0.98:
                    cache.clear_local()
                else:
                    cache.stats()
                    len(cache)

        async def tasks(seed):
            cache = caches[seed % 2]

            async def one(i):
                dice = random.Random(seed * 1000 + i)
                while time.monotonic() < end and not failures:
                    key = dice.randrange(KEYS)

                    async def loader(key=key):
                        await asyncio.sleep(0)
                        return source.read(key)

                    value = await cache.get_or_load_async(str(key), loader, tags=[f"t{key}"])
                    check(cache, key, 0, value)
                    if dice.random() < 0.1:
                        source.write(key)
                        before = source.versions[key]
                        cache.invalidate(str(key))
                        value = await cache.get_or_load_async(str(key), loader)
                        check(cache, key, before, value)

            await asyncio.gather(*(one(i) for i in range(20)))

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(14)]
        threads += [threading.Thread(target=asyncio.run, args=(tasks(seed),)) for seed in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive(), "deadlock"
        assert failures == []
        for cache in caches:
            assert cache.stats()["open_loads"] == 0
