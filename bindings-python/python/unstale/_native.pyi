"""The native half. Private, but for the methods that `unstale.Cache`, `Lease` and `Receipt` have from here."""

from collections.abc import Coroutine, Iterable, Mapping
from datetime import timedelta
from typing import Any, Callable, Generic, TypeVar, final, overload

from typing_extensions import Self, disjoint_base

_V = TypeVar("_V")
_D = TypeVar("_D")
_Seconds = float | timedelta

__version__: str
#: How long `Client.close` tries, unless told otherwise.
CLOSE_SECONDS: float
#: What `Plan.hit` returns for a miss.
MISSING: object

@final
class Lease:
    """Permission to fill one key: take it before reading the source, give it to `set` or `update` after.

    It is used up by the first call that gets it, and given back when the last reference to it goes.
    """

    @property
    def key(self) -> str:
        """The key it is for."""

@final
class Receipt:
    """What an invalidation gives back."""

    @property
    def token(self) -> str:
        """Names this invalidation, for `Client.wait_for` in another process. Fit for an HTTP header."""

    @property
    def stored(self) -> bool:
        """Whether `update` stored its value here; `False` for an invalidation."""

    def delivered(self, timeout: _Seconds) -> bool:
        """Blocks until the broker has accepted the invalidation; `False` after `timeout`: it is then still on its way."""

    def delivered_async(self, timeout: _Seconds) -> Coroutine[Any, Any, bool]:
        """`delivered`, without blocking the event loop."""

@disjoint_base
class CacheBase(Generic[_V]):
    def __new__(cls, client: ClientHandle, namespace: str, given: Mapping[str, Any]) -> Self: ...
    @property
    def namespace(self) -> str:
        """The namespace; `""` for none."""

    def set(
        self,
        key: str,
        value: _V,
        *,
        ttl: _Seconds | None = None,
        tags: Iterable[str] | None = None,
        depends_on: Iterable[str] | None = None,
        version: int | None = None,
        lease: Lease | None = None,
    ) -> bool:
        """Stores a value that is current now, or was read under `lease`; here only. `False`: refused, since it was invalidated
        under the lease, or a higher version is known. `None` cannot be stored."""

    def update(
        self,
        key: str,
        value: _V,
        *,
        lease: Lease | None = None,
        version: int | None = None,
        ttl: _Seconds | None = None,
        tags: Iterable[str] | None = None,
        depends_on: Iterable[str] | None = None,
    ) -> Receipt:
        """Stores the new value here and invalidates the old one everywhere else, after the source was written. Needs a lease
        taken before the write, or a version. `Receipt.stored` is `False` if it became an invalidation only."""

    def lease(self, key: str) -> Lease:
        """Notes where the invalidation history of `key` stands, before its source is read."""

    def invalidate(self, key: str, *, version: int | None = None) -> Receipt:
        """Removes `key` here at once and everywhere else as soon as the network allows. With `version`: entries of that version
        or a higher one stay. Never blocks."""

    def invalidate_many(self, keys: Mapping[str, int | None] | Iterable[str]) -> Receipt:
        """Invalidates several keys at once; a mapping gives versions. All or none, if one is malformed."""

    def invalidate_tags(self, tags: Iterable[str]) -> Receipt:
        """Invalidates what carries one of `tags`."""

    def invalidate_prefix(self, prefix: str) -> Receipt:
        """Invalidates every key that begins with `prefix`."""

    def invalidate_all(self) -> Receipt:
        """Invalidates everything, in constant time."""

    def evict(self, key: str) -> bool:
        """Removes `key` here only. Whether it was held."""

    def clear_local(self) -> None:
        """Removes everything here only."""

    def stats(self) -> dict[str, Any]:
        """Counters since the cache was opened: `hits`, `misses`, `loads`, `entries` and so on."""

    def _on_invalidated(self, listener: int) -> Subscription: ...
    def _begin(
        self,
        key: str,
        ttl: _Seconds | None,
        tags: Iterable[str] | None,
        depends_on: Iterable[str] | None,
        version: int | None,
    ) -> tuple[int, Any]: ...

class Cache(CacheBase[_V]):
    @overload
    def get(self, key: str, default: None = None) -> _V | None:
        """The value held under `key`, or `default`."""

    @overload
    def get(self, key: str, default: _D) -> _V | _D: ...
    def get_or_load(
        self,
        key: str,
        loader: Callable[[], _V | None],
        *,
        ttl: _Seconds | None = None,
        tags: Iterable[str] | None = None,
        depends_on: Iterable[str] | None = None,
        version: int | None = None,
    ) -> _V | None:
        """The value held under `key`, or what `loader()` returns.

        Concurrent callers share one call of the loader. A value that was invalidated while it was loaded is returned but not
        stored. `None` means not found: it is returned, and stored only with `negative_ttl`. An exception of the loader
        reaches everyone who waited for it."""

    def _hit(self, key: str, /) -> Any: ...
    def __getitem__(self, key: str, /) -> _V: ...
    def __setitem__(self, key: str, value: _V, /) -> None: ...
    def __delitem__(self, key: str, /) -> None: ...
    def __contains__(self, key: str, /) -> bool: ...
    def __len__(self) -> int: ...

@final
class ClientHandle:
    def status(self) -> dict[str, Any]: ...
    def on_status(self, listener: int) -> Subscription: ...
    def wait_for(self, token: str, timeout: _Seconds) -> Waiting: ...
    def close(self, timeout: _Seconds) -> Waiting: ...

@final
class Waiting:
    def wait(self) -> Any: ...
    def poll(self, callback: Callable[[], object]) -> tuple[bool, Any]: ...
    def cancel(self) -> None: ...

@final
class Load:
    @property
    def id(self) -> int: ...
    def finish(self, value: object) -> bool: ...
    def fail(self, exception: BaseException) -> None: ...
    def abandon(self) -> None: ...

@final
class Subscription:
    def cancel(self) -> None: ...

@final
class Plan:
    def __new__(cls, cache: Cache[Any], pieces: list[str | int]) -> Plan: ...
    @property
    def hit(self) -> Callable[..., Any]: ...
    def key(self, *fields: object) -> str: ...

def adopt(class_: type[CacheBase[Any]], /) -> None: ...
def connect(url: str | None, given: Mapping[str, Any]) -> Waiting: ...
def serve_post() -> None: ...
def take_post() -> list[tuple[Any, Any, Any]] | None: ...
def stop_post() -> None: ...
def after_fork() -> None: ...
def set_log_level(level: int) -> None: ...
