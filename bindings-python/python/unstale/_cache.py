"""The cache: what the native half leaves to Python, which is whatever calls a loader."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Awaitable, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Callable, TypeVar

from . import _native
from ._aio import until
from ._cached import Cached
from ._errors import InvalidArgument
from ._events import Invalidation, Subscription

if TYPE_CHECKING:
    from ._client import Client

V = TypeVar("V")

# What `_begin` says first. The same numbers are in src/cache.rs.
_SERVED, _LEAD, _JOIN = 0, 1, 2

#: The loads that this thread or task, or one that started it, is in the middle of.
_loading: contextvars.ContextVar[tuple[int, ...]] = contextvars.ContextVar("unstale_loading", default=())
#: The event loops of loads that coroutines lead.
_loops: dict[int, asyncio.AbstractEventLoop] = {}


class Cache(_native.Cache[V]):
    """The entries of one namespace, held as live objects. Open it with `Client.cache`.

    As a mapping it is local: ``cache[key]`` (KeyError on a miss), ``cache[key] = value`` is `set`, ``del cache[key]`` is `evict`
    (KeyError if it was not held), ``key in cache``, ``len(cache)``. It is not iterable. Other processes hear of `invalidate`, its
    kin and `update` only.
    """

    __slots__ = ("__weakref__", "_client", "_subscriptions")

    _client: Client
    _subscriptions: set[Subscription]

    def _open(self, client: Client) -> None:
        self._client = client
        self._subscriptions = set()

    def _load(
        self,
        key: str,
        loader: Callable[[], V | None],
        *,
        ttl: float | timedelta | None = None,
        tags: Iterable[str] | None = None,
        depends_on: Iterable[str] | None = None,
        version: int | None = None,
    ) -> V | None:
        """`get_or_load` after a miss."""
        _check_loader(loader)
        tags, depends_on = _kept(tags), _kept(depends_on)
        while True:
            what, step = self._begin(key, ttl, tags, depends_on, version)
            if what == _SERVED:
                return step
            if what == _LEAD:
                return _lead(step, loader)
            load, waiting = step
            _check_own(load, key)
            if _is_led_here(load):
                # Its leader is a coroutine of the loop that we would block: we would wait for ourselves.
                lease = self.lease(key)
                value = _plain(loader())
                if value is not None:
                    self.set(key, value, ttl=ttl, tags=tags, depends_on=depends_on, version=version, lease=lease)
                return value
            done, value = waiting.wait()
            if done:
                return value

    async def get_or_load_async(
        self,
        key: str,
        loader: Callable[[], Awaitable[V | None] | V | None],
        *,
        ttl: float | timedelta | None = None,
        tags: Iterable[str] | None = None,
        depends_on: Iterable[str] | None = None,
        version: int | None = None,
    ) -> V | None:
        """`get_or_load` for coroutines: ``loader()`` may be ``async``. Shares loads with `get_or_load` of other threads.

        If the task whose loader runs is cancelled, one of those who wait for it loads in its place.
        """
        value = self._hit(key)
        if value is not _native.MISSING:
            return value
        _check_loader(loader)
        tags, depends_on = _kept(tags), _kept(depends_on)
        while True:
            what, step = self._begin(key, ttl, tags, depends_on, version)
            if what == _SERVED:
                return step
            if what == _LEAD:
                return await _lead_async(step, loader)
            load, waiting = step
            _check_own(load, key)
            done, value = await until(waiting)
            if done:
                return value

    def cached(
        self,
        key: str,
        *,
        ttl: float | timedelta | None = None,
        tags: Iterable[str] = (),
        depends_on: Iterable[str] = (),
    ) -> Cached:
        """Decorates a function, ``def`` or ``async def``, so that it is called on misses only.

        ``key``, and each of ``tags`` and ``depends_on``, is a template as for `str.format`, whose fields name parameters of the
        function: ``"user:{user_id}"``, ``"{self.tenant}:{user.id:08d}"``. The decorated function has ``.key(…)``,
        ``.invalidate(…)`` and ``.evict(…)``, which take the function's arguments (those in the key suffice, by name), and
        ``.cache`` and ``.__wrapped__``.
        """
        return Cached(self, key, ttl, tags, depends_on)

    def on_invalidated(self, listener: Callable[[Invalidation], Awaitable[None] | None]) -> Subscription:
        """Calls ``listener(invalidation)`` after each invalidation, local or received, has been applied: on the thread "unstale", or,
        if it is ``async``, in the event loop that runs now."""
        return Subscription(listener, Invalidation._of, self._subscriptions)._start(self._on_invalidated)

    def __repr__(self) -> str:
        return f"<unstale.Cache namespace={self.namespace!r} entries={len(self)}>"


_native.adopt(Cache)


def _kept(names: Iterable[str] | None) -> Iterable[str] | None:
    """Something that can be read again, should the load start over. What is no iterable is left for the native half to refuse."""
    return names if names is None or isinstance(names, str) or not hasattr(names, "__next__") else list(names)


def _check_loader(loader: object) -> None:
    if not callable(loader):
        raise TypeError(f"loader must be a function without arguments, not {type(loader).__name__}")


def _check_own(load: int, key: str) -> None:
    if load in _loading.get():
        raise InvalidArgument(f"the loader of {key!r} asks for {key!r} itself: it would wait for itself")


def _is_led_here(load: int) -> bool:
    loop = _loops.get(load)
    return loop is not None and asyncio._get_running_loop() is loop


def _plain(value: V) -> V:
    if inspect.iscoroutine(value):
        value.close()
        raise TypeError("the loader is a coroutine function; use get_or_load_async")
    return value


def _lead(load: _native.Load, loader: Callable[[], V | None]) -> V | None:
    inside = _loading.set((*_loading.get(), load.id))
    try:
        value = _plain(loader())
    except Exception as error:
        load.fail(error)
        raise
    except BaseException:
        # Interrupted, which concerns this caller alone: those who wait load for themselves.
        load.abandon()
        raise
    finally:
        _loading.reset(inside)
    load.finish(value)
    return value


async def _lead_async(load: _native.Load, loader: Callable[[], Awaitable[V | None] | V | None]) -> V | None:
    inside = _loading.set((*_loading.get(), load.id))
    _loops[load.id] = asyncio.get_running_loop()
    try:
        value: Any = loader()
        if inspect.isawaitable(value):
            value = await value
    except Exception as error:
        load.fail(error)
        raise
    except BaseException:
        # Cancelled, as a rule.
        load.abandon()
        raise
    finally:
        del _loops[load.id]
        _loading.reset(inside)
    load.finish(value)
    return value
