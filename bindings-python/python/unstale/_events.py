"""Listeners, log records, and the threads that deliver what the core has to tell.

The core calls no Python: its threads would wait for the GIL, and its caches with them. It leaves messages in the native
mailbox, and two daemon threads take them from there: "unstale-wakes" wakes coroutines and frees dead objects, "unstale" runs
listeners and writes the log, for as long as they like.
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import inspect
import itertools
import logging
import os
import threading
import weakref
from typing import Any, Callable, NamedTuple, Protocol

from . import _native

logger = logging.getLogger("unstale")
logger.addHandler(logging.NullHandler())  # Quiet until the program configures logging.


class Invalidation(NamedTuple):
    """What was invalidated, as `Cache.on_invalidated` tells it."""

    namespace: str
    keys: list[str]
    tags: list[str]
    prefixes: list[str]
    #: Everything. Also told when so many events waited for this listener that they were collapsed to one.
    all: bool
    #: `"local"` (this client) or `"remote"`.
    origin: str
    #: The publisher and its number, if the message had them.
    src: str | None
    seq: int | None

    @classmethod
    def _of(cls, told: dict[str, Any]) -> Invalidation:
        return cls(**{name: told.get(name) for name in cls._fields})  # type: ignore[arg-type]


class _Native(Protocol):
    def cancel(self) -> None: ...


class Subscription:
    """A listener at work, until `cancel()`, the end of a `with` block, or the end of what it listens to."""

    __slots__ = ("__weakref__", "_cancelled", "_context", "_function", "_loop", "_make", "_native", "_owner")

    def __init__(self, function: Callable[[Any], Any], make: Callable[[Any], Any], owner: set[Subscription]) -> None:
        if not callable(function):
            raise TypeError(f"a listener must be callable, not {type(function).__name__}")
        self._function = function
        self._make = make
        self._owner = owner
        self._context = contextvars.copy_context()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._native: _Native | None = None
        self._cancelled = False
        if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__):
            try:
                self._loop = asyncio.get_running_loop()
            except RuntimeError:
                raise RuntimeError("add an async listener where its event loop runs, that is, in a coroutine") from None

    def _start(self, subscribe: Callable[[int], _Native]) -> Subscription:
        number = next(_numbers)
        _listeners[number] = self
        self._owner.add(self)
        self._native = subscribe(number)
        return self

    def cancel(self) -> None:
        """No further call of the listener begins. May be called again, and from the listener."""
        self._cancelled = True
        self._owner.discard(self)
        if self._native is not None:
            self._native.cancel()

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()

    def _deliver(self, payload: Any) -> None:
        if self._cancelled:
            return
        event = self._make(payload)
        if self._loop is None:
            self._context.run(self._call, event)
            return
        try:
            self._loop.call_soon_threadsafe(self._spawn, event, context=self._context)
        except RuntimeError:
            self.cancel()  # Its loop is closed.

    def _call(self, event: Any) -> None:
        try:
            self._function(event)
        except Exception:
            logger.exception("the listener %r failed", self._function)

    def _spawn(self, event: Any) -> None:
        task = asyncio.ensure_future(self._call_async(event))
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)

    async def _call_async(self, event: Any) -> None:
        try:
            await self._function(event)
        except Exception:
            logger.exception("the listener %r failed", self._function)


_numbers = itertools.count(1)
_listeners: weakref.WeakValueDictionary[int, Subscription] = weakref.WeakValueDictionary()
_tasks: set[asyncio.Future[None]] = set()
_lock = threading.Lock()
_threads: list[threading.Thread] = []
#: Closed at exit, so that what is still to be published gets its chance.
clients: weakref.WeakSet[Any] = weakref.WeakSet()
_EXIT_SECONDS = 1.0


def start() -> None:
    """Starts the threads, once per process."""
    with _lock:
        _native.set_log_level(logger.getEffectiveLevel())
        if not _threads:
            for name, work in (("unstale", _run), ("unstale-wakes", _native.serve_post)):
                thread = threading.Thread(target=work, name=name, daemon=True)
                thread.start()
                _threads.append(thread)


def _run() -> None:
    while (messages := _native.take_post()) is not None:
        for what, subject, value in messages:
            try:
                if what == "event":
                    listener = _listeners.get(subject)
                    if listener is not None:
                        listener._deliver(value)
                else:
                    logging.getLogger(subject).log(what, "%s", value)
            except Exception:
                logger.exception("unstale could not deliver a message")
        _native.set_log_level(logger.getEffectiveLevel())


def _at_exit() -> None:
    for client in list(clients):
        try:
            client.close(_EXIT_SECONDS)
        except Exception:
            pass  # Forked, or closed at the same time: nothing is left to be done.
    _native.stop_post()
    for thread in _threads:
        thread.join(_EXIT_SECONDS)


def _after_fork() -> None:
    global _lock
    _native.after_fork()
    _lock = threading.Lock()
    _threads.clear()
    clients.clear()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
