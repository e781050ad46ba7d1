"""Waiting for the core in a coroutine."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

from . import _native


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _wake(loop: asyncio.AbstractEventLoop, ready: asyncio.Future[None]) -> None:
    try:
        loop.call_soon_threadsafe(_set, ready)
    except RuntimeError:
        pass  # The loop is closed: nobody waits any more.


async def until(waiting: _native.Waiting) -> Any:
    """The result of `waiting`. Never blocks the event loop; cancelling gives the wait up."""
    loop = asyncio.get_running_loop()
    try:
        while True:
            ready: asyncio.Future[None] = loop.create_future()
            done, value = waiting.poll(functools.partial(_wake, loop, ready))
            if done:
                return value
            await ready
    finally:
        waiting.cancel()
