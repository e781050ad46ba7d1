"""What type checkers know of decorated functions. There is no such module at run time."""

from collections.abc import Callable
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from ._cache import Cache
from ._native import Receipt

_P = ParamSpec("_P")
_Q = ParamSpec("_Q")
_R = TypeVar("_R")
_T = TypeVar("_T")

class CachedFunction(Generic[_P, _R]):
    """A function decorated by `@cache.cached`; as a method it binds `self`."""

    cache: Cache[Any]
    __wrapped__: Callable[_P, _R]
    __name__: str
    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R: ...
    def key(self, *args: Any, **kwargs: Any) -> str:
        """The key of a call with these arguments; those that the key needs suffice, by name."""

    def invalidate(self, *args: Any, **kwargs: Any) -> Receipt:
        """Invalidates the entry of a call with these arguments, everywhere."""

    def evict(self, *args: Any, **kwargs: Any) -> bool:
        """Removes the entry of a call with these arguments, here only."""

    @overload
    def __get__(self, instance: None, owner: type, /) -> CachedFunction[_P, _R]: ...
    @overload
    def __get__(
        self: CachedFunction[Concatenate[Any, _Q], _T], instance: object, owner: type | None = None, /
    ) -> CachedFunction[_Q, _T]: ...
