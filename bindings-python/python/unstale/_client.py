"""Connecting, and the client."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import timedelta
from typing import Any, Callable

from . import _events, _native
from ._aio import until
from ._cache import Cache
from ._events import Subscription


def connect(url: str | None = None, **options: Any) -> Client:
    """Connects, and returns when the broker has answered; with ``lazy=True`` at once.

    ``url`` is where the broker is: ``memory://name`` (inside this process, the default), ``mqtt://``, ``mqtts://``, ``ws://``
    or ``wss://``. Options not given come from the URL's query, then from ``UNSTALE_…`` environment variables, then from
    their defaults; docs/python.md lists them.

    Raises ConfigError, ConnectError, AuthError, TlsError or TimeoutError.
    """
    _events.start()
    return Client._of(_native.connect(url, options).wait())


async def connect_async(url: str | None = None, **options: Any) -> Client:
    """`connect`, without blocking the event loop."""
    _events.start()
    return Client._of(await until(_native.connect(url, options)))


class Client:
    """A connection to one broker, with any number of caches. One per process is enough; every method may be called from any thread."""

    __slots__ = ("__weakref__", "_handle", "_subscriptions")

    _handle: _native.ClientHandle
    _subscriptions: set[Subscription]

    def __init__(self) -> None:
        raise TypeError("use unstale.connect(...) or await unstale.connect_async(...)")

    @classmethod
    def _of(cls, handle: _native.ClientHandle) -> Client:
        client = object.__new__(cls)
        client._handle = handle
        client._subscriptions = set()
        _events.clients.add(client)
        return client

    def cache(self, namespace: str, **options: Any) -> Cache[Any]:
        """Opens the cache of a namespace (``""``: none), once per client.

        Options: ``ttl`` (300 s), ``ttl_jitter`` (0.1), ``max_entries`` (10,000), ``negative_ttl`` (off), ``load_timeout`` (off).

        Raises ConfigError for an option, InvalidArgument for a namespace that is malformed or already open, ClosedError.
        """
        cache: Cache[Any] = Cache.__new__(Cache, self._handle, namespace, options)
        cache._open(self)
        return cache

    def status(self) -> dict[str, Any]:
        """How the connection is, and what was counted."""
        return self._handle.status()

    def on_status(self, listener: Callable[[dict[str, Any]], Awaitable[None] | None]) -> Subscription:
        """Calls ``listener(status)`` when the connection's state changes: on the thread "unstale", or, if it is ``async``, in the
        event loop that runs now."""
        subscription = Subscription(listener, lambda status: status, self._subscriptions)
        return subscription._start(self._handle.on_status)

    def wait_for(self, token: str, timeout: float | timedelta) -> bool:
        """Blocks until this process has applied the invalidation that ``token`` (a receipt's) names; ``False`` after ``timeout``.

        True at once if no cache of its namespace is open here.
        """
        return self._handle.wait_for(token, timeout).wait()

    async def wait_for_async(self, token: str, timeout: float | timedelta) -> bool:
        """`wait_for`, without blocking the event loop."""
        return await until(self._handle.wait_for(token, timeout))

    def close(self, timeout: float | timedelta = _native.CLOSE_SECONDS) -> int:
        """Sends what is still to be sent, for at most ``timeout``, and ends the connection. May be called again.

        Returns how many messages were left unsent. Every later call of this client and its caches raises ClosedError.
        """
        left: int = self._handle.close(timeout).wait()
        self._end()
        return left

    async def close_async(self, timeout: float | timedelta = _native.CLOSE_SECONDS) -> int:
        """`close`, without blocking the event loop."""
        left: int = await until(self._handle.close(timeout))
        self._end()
        return left

    def _end(self) -> None:
        _events.clients.discard(self)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close_async()

    def __reduce__(self) -> Any:
        raise TypeError("cannot pickle or copy 'Client': it belongs to this process; connect where it is used")
