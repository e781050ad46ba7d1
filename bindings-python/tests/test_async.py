"""The asyncio side. No call of it blocks the event loop."""

import asyncio
import contextvars
import threading
import time

import pytest
from conftest import DEADLINE, link

import unstale


async def joined(cache, count):
    end = time.monotonic() + DEADLINE
    while cache.stats()["joins"] < count:
        assert time.monotonic() < end
        await asyncio.sleep(0.001)


async def test_connect_and_close(memory):
    async with await unstale.connect_async(memory) as client:
        cache = client.cache("x")
        cache.set("k", 1)
        assert cache["k"] == 1
    with pytest.raises(unstale.ClosedError):
        cache["k"]
    assert await client.close_async() == 0


async def test_connect_async_raises_what_connect_raises():
    with pytest.raises(unstale.ConfigError):
        await unstale.connect_async("http://x")
    with pytest.raises(unstale.ConnectError):
        await unstale.connect_async("mqtt://127.0.0.1:1", connect_timeout=2)


async def test_a_loader_may_be_async_or_not(cache):
    async def loader():
        await asyncio.sleep(0)
        return "async"

    assert await cache.get_or_load_async("a", loader, tags=["t"]) == "async"
    assert await cache.get_or_load_async("b", lambda: "plain") == "plain"
    assert await cache.get_or_load_async("a", pytest.fail) == "async"
    cache.invalidate_tags(["t"])
    assert "a" not in cache and "b" in cache


async def test_tasks_share_one_load(cache):
    calls, value = [], object()

    async def loader():
        calls.append(1)
        await joined(cache, 99)
        return value

    results = await asyncio.gather(*(cache.get_or_load_async("k", loader) for _ in range(100)))
    assert all(result is value for result in results) and len(calls) == 1


async def test_tasks_and_threads_share_one_load(cache):
    calls = []
    loop = asyncio.get_running_loop()

    async def loader():
        calls.append(1)
        await joined(cache, 4)
        return "shared"

    leader = asyncio.ensure_future(cache.get_or_load_async("k", loader))
    await asyncio.sleep(0)
    threads = [loop.run_in_executor(None, cache.get_or_load, "k", pytest.fail) for _ in range(4)]
    assert await asyncio.gather(leader, *threads) == ["shared"] * 5
    assert len(calls) == 1

    def slow():
        deadline = time.monotonic() + DEADLINE
        while cache.stats()["joins"] < 8 and time.monotonic() < deadline:
            time.sleep(0.001)
        return "from a thread"

    leader = loop.run_in_executor(None, cache.get_or_load, "k2", slow)
    while cache.stats()["loads"] < 2:
        await asyncio.sleep(0.001)
    tasks = [cache.get_or_load_async("k2", pytest.fail) for _ in range(4)]
    assert await asyncio.gather(leader, *tasks) == ["from a thread"] * 5


async def test_the_loaders_own_exception_reaches_every_task(cache):
    error = LookupError("mine")

    async def loader():
        await joined(cache, 4)
        raise error

    results = await asyncio.gather(*(cache.get_or_load_async("k", loader) for _ in range(5)), return_exceptions=True)
    assert all(result is error for result in results)


async def test_a_cancelled_leader_hands_over(cache):
    calls = []

    async def loader():
        calls.append(1)
        if len(calls) == 1:
            await asyncio.sleep(3600)
        return "second"

    leader = asyncio.ensure_future(cache.get_or_load_async("k", loader))
    await asyncio.sleep(0)
    others = [asyncio.ensure_future(cache.get_or_load_async("k", loader)) for _ in range(3)]
    await joined(cache, 3)
    leader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leader
    assert await asyncio.gather(*others) == ["second"] * 3
    assert len(calls) == 2


async def test_a_cancelled_joiner_leaves_the_load_alone(cache):
    release = asyncio.Event()

    async def loader():
        await release.wait()
        return "v"

    leader = asyncio.ensure_future(cache.get_or_load_async("k", loader))
    await asyncio.sleep(0)
    joiner = asyncio.ensure_future(cache.get_or_load_async("k", loader))
    await joined(cache, 1)
    joiner.cancel()
    with pytest.raises(asyncio.CancelledError):
        await joiner
    release.set()
    assert await leader == "v"


async def test_a_wait_can_be_limited(cache):
    release = asyncio.Event()

    async def loader():
        await release.wait()
        return "v"

    leader = asyncio.ensure_future(cache.get_or_load_async("k", loader))
    await asyncio.sleep(0)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(cache.get_or_load_async("k", loader), 0.05)
    release.set()
    assert await leader == "v"


async def test_load_timeout_of_a_task(client):
    cache = client.cache("impatient", load_timeout=0.05)
    release = asyncio.Event()

    async def loader():
        await release.wait()
        return "v"

    leader = asyncio.ensure_future(cache.get_or_load_async("k", loader))
    await asyncio.sleep(0)
    with pytest.raises(unstale.TimeoutError, match="load_timeout"):
        await cache.get_or_load_async("k", loader)
    release.set()
    assert await leader == "v"


async def test_a_late_fill_is_refused(cache):
    async def loader():
        cache.invalidate("k")
        return "old"

    assert await cache.get_or_load_async("k", loader) == "old"
    assert "k" not in cache


async def test_a_loader_that_asks_for_its_own_key_is_told(cache):
    async def loader():
        return await cache.get_or_load_async("k", loader)

    with pytest.raises(unstale.InvalidArgument, match="itself"):
        await cache.get_or_load_async("k", loader)

    async def by_a_task():
        return await asyncio.ensure_future(cache.get_or_load_async("k", by_a_task))

    with pytest.raises(unstale.InvalidArgument, match="itself"):
        await cache.get_or_load_async("k", by_a_task)


async def test_blocking_get_or_load_in_the_loop_of_the_leader_does_not_deadlock(cache):
    release = asyncio.Event()

    async def loader():
        await release.wait()
        return "async"

    leader = asyncio.ensure_future(cache.get_or_load_async("k", loader))
    await asyncio.sleep(0)
    assert cache.get_or_load("k", lambda: "own") == "own"
    release.set()
    assert await leader == "async"
    assert cache["k"] == "own"


async def test_the_loop_runs_while_a_task_waits(pair):
    here, there = pair
    ticks = 0

    async def ticking():
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.001)

    ticker = asyncio.ensure_future(ticking())
    assert await there._client.wait_for_async("u1:nobody:5:" + there.namespace, 0.2) is False
    assert ticks > 10
    ticker.cancel()


async def test_a_slow_listener_delays_no_task(pair):
    here, there = pair
    release, called = threading.Event(), threading.Event()

    def slow(event):
        called.set()
        release.wait(DEADLINE)

    there.on_invalidated(slow)
    there.invalidate("k")
    assert await asyncio.to_thread(called.wait, DEADLINE)
    receipt = here.invalidate("other")
    assert await asyncio.wait_for(there._client.wait_for_async(receipt.token, DEADLINE), DEADLINE) is True
    release.set()


async def test_read_your_writes_elsewhere(pair):
    here, there = pair
    there.set("k", "old")
    receipt = here.invalidate("k")
    assert await receipt.delivered_async(DEADLINE) is True
    assert await there._client.wait_for_async(receipt.token, DEADLINE) is True
    assert "k" not in there


async def test_context_variables_reach_the_loader(cache):
    variable = contextvars.ContextVar("variable", default="outer")

    async def loader():
        await asyncio.sleep(0)
        return variable.get()

    async def request(name):
        variable.set(name)
        return await cache.get_or_load_async(name, loader)

    assert await asyncio.gather(request("a"), request("b")) == ["a", "b"]


async def test_async_listeners_run_in_their_loop(memory):
    async with await unstale.connect_async(memory) as client:
        cache = client.cache("x")
        seen = asyncio.Queue()
        variable = contextvars.ContextVar("variable")
        variable.set("mine")

        async def listener(event):
            await seen.put((event, threading.current_thread(), variable.get()))

        with cache.on_invalidated(listener):
            cache.invalidate_many(["a", "b"])
            event, thread, context = await asyncio.wait_for(seen.get(), DEADLINE)
        assert event.keys == ["a", "b"] and event.origin == "local" and not event.all
        assert thread is threading.current_thread() and context == "mine"


def test_an_async_listener_needs_a_loop(cache):
    async def listener(event):
        pass

    with pytest.raises(RuntimeError, match="event loop"):
        cache.on_invalidated(listener)


def test_a_loop_that_ended_is_no_harm(client, cache):
    seen = []

    async def listen():
        async def listener(event):
            seen.append(event)

        cache.on_invalidated(listener)

    asyncio.run(listen())
    plain = threading.Event()
    cache.on_invalidated(lambda event: plain.set())
    cache.invalidate("k")
    assert plain.wait(DEADLINE) and not seen


def test_many_loops_in_many_threads(memory):
    """Each loop's tasks are woken in their own loop."""
    with unstale.connect(memory) as client:
        cache = client.cache("x")
        calls = []

        async def loader(key):
            calls.append(key)
            await asyncio.sleep(0.005)
            return key

        async def main():
            for i in range(30):
                key = f"k{i}"
                many = [cache.get_or_load_async(key, lambda key=key: loader(key)) for _ in range(5)]
                assert await asyncio.wait_for(asyncio.gather(*many), DEADLINE) == [key] * 5

        threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        assert sorted(set(calls)) == sorted(calls), "each key was loaded once"


async def test_links_in_a_loop(memory):
    """The blocking calls work beside a running loop, too."""
    with unstale.connect(memory) as a, unstale.connect(memory) as b:
        link(a.cache("x"), b.cache("x"))
