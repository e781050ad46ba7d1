"""`@cache.cached("user:{user_id}")`.

The decorated function is compiled with the signature of the original, so that Python itself binds arguments, defaults and
`self`, and a hit is one native call: the key is made and looked up without a Python string.
"""

from __future__ import annotations

import functools
import inspect
import string
from _string import formatter_field_name_split  # type: ignore[import-not-found]
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Callable, TypeVar

from . import _native
from ._errors import InvalidArgument

if TYPE_CHECKING:
    from datetime import timedelta
    from typing import ParamSpec

    from ._cache import Cache
    from ._typing import CachedFunction

    P = ParamSpec("P")
    R = TypeVar("R")

_P = inspect.Parameter
_CONVERSIONS = {"r": "__us_repr", "s": "__us_str", "a": "__us_ascii"}


class _Template:
    """A template as texts and Python expressions over the function's parameters."""

    def __init__(self, template: str, parameters: Iterable[str], what: str) -> None:
        if not isinstance(template, str):
            raise TypeError(f"{what} must be str, not {type(template).__name__}")
        self.pieces: list[str | int] = []
        self.fields: list[str] = []
        self.names: list[str] = []
        try:
            parsed = list(string.Formatter().parse(template))
        except ValueError as error:
            raise InvalidArgument(f"{what} {template!r} is malformed: {error}") from None
        for text, field, spec, conversion in parsed:
            if text:
                self.pieces.append(text)
            if field is not None:
                self.pieces.append(len(self.fields))
                self.fields.append(self._expression(template, what, parameters, field, spec or "", conversion))

    def _expression(self, template: str, what: str, parameters: Iterable[str], field: str, spec: str, conversion: str | None) -> str:
        try:
            name, path = formatter_field_name_split(field)
            path = list(path)
        except ValueError as error:
            raise InvalidArgument(f"{what} {template!r} is malformed: {error}") from None
        if name not in parameters:
            known = ", ".join(parameters) or "none"
            raise InvalidArgument(f"{what} {template!r}: {{{field}}} does not name a parameter of the function, which has: {known}")
        if name not in self.names:
            self.names.append(name)
        expression = str(name)
        for is_attribute, step in path:
            if is_attribute and not step.isidentifier():
                raise InvalidArgument(f"{what} {template!r}: {{{field}}} is malformed")
            expression += f".{step}" if is_attribute else f"[{step!r}]"
        if conversion is not None:
            if conversion not in _CONVERSIONS:
                raise InvalidArgument(f"{what} {template!r}: the conversion !{conversion} is unknown")
            expression = f"{_CONVERSIONS[conversion]}({expression})"
        if "{" in spec:
            raise InvalidArgument(f"{what} {template!r}: a field within a field is not supported")
        return f"__us_format({expression}, {spec!r})" if spec else expression

    def text(self) -> str:
        """The whole as one expression."""
        parts = [repr(p) if isinstance(p, str) else f"__us_format({self.fields[p]})" for p in self.pieces]
        return f"''.join(({', '.join(parts)},))" if parts else "''"


class Cached:
    """The decorator that `Cache.cached` returns."""

    __slots__ = ("_cache", "_depends_on", "_key", "_tags", "_ttl")

    def __init__(self, cache: Cache[Any], key: str, ttl: float | timedelta | None, tags: Iterable[str], depends_on: Iterable[str]) -> None:
        if callable(key):
            raise TypeError('@cached needs a key: write @cache.cached("user:{user_id}")')
        for what, several in (("tags", tags), ("depends_on", depends_on)):
            if isinstance(several, str):
                raise TypeError(f"{what} must be a list of str, not a str; write [{several!r}]")
        self._cache = cache
        self._key = key
        self._ttl = ttl
        self._tags = tuple(tags)
        self._depends_on = tuple(depends_on)

    def __call__(self, function: Callable[P, R]) -> CachedFunction[P, R]:
        _check_function(function)
        signature = inspect.signature(function)
        parameters = signature.parameters
        key = _Template(self._key, parameters, "key")
        tags = [_Template(tag, parameters, "tag") for tag in self._tags]
        depends_on = [_Template(name, parameters, "depends_on") for name in self._depends_on]
        plan = _native.Plan(self._cache, key.pieces)
        is_async = inspect.iscoroutinefunction(function)

        fields = ", ".join(key.fields)
        terms = "".join(
            f", {name}=[{', '.join(t.text() for t in templates)}]"
            for name, templates in (("tags", tags), ("depends_on", depends_on))
            if templates
        )
        call = ", ".join(["__us_function", *_arguments(parameters.values())])
        source = (
            f"{'async ' if is_async else ''}def __us_wrapper({_declaration(parameters.values())}):\n"
            f"    __us_value = __us_hit({fields})\n"
            f"    if __us_value is not __us_missing:\n"
            f"        return __us_value\n"
            f"    return {'await ' if is_async else ''}__us_load(__us_key({fields}), __us_partial({call}){terms})\n"
        )
        names: dict[str, Any] = {
            "__us_hit": plan.hit,
            "__us_missing": _native.MISSING,
            "__us_key": plan.key,
            "__us_load": self._cache.get_or_load_async if is_async else self._cache._load,
            "__us_partial": functools.partial,
            "__us_function": function,
            "__us_format": format,
            "__us_repr": repr,
            "__us_str": str,
            "__us_ascii": ascii,
        }
        if self._ttl is not None:
            names["__us_load"] = functools.partial(names["__us_load"], ttl=self._ttl)
        exec(compile(source, f"<unstale cached {self._key}>", "exec"), names)
        wrapper = names["__us_wrapper"]
        positional = (_P.POSITIONAL_ONLY, _P.POSITIONAL_OR_KEYWORD)
        wrapper.__defaults__ = tuple(p.default for p in parameters.values() if p.kind in positional and p.default is not _P.empty)
        wrapper.__kwdefaults__ = {p.name: p.default for p in parameters.values() if p.kind is _P.KEYWORD_ONLY and p.default is not _P.empty}
        functools.update_wrapper(wrapper, function)

        key_expression = compile(f"__us_key({fields})", f"<unstale cached {self._key}>", "eval")

        def key_of(*args: Any, **kwargs: Any) -> str:
            """The key of a call with these arguments; those that the key needs suffice, by name."""
            bound = signature.bind_partial(*args, **kwargs)
            bound.apply_defaults()
            lacking = [name for name in key.names if name not in bound.arguments]
            if lacking:
                raise TypeError(f"the key of {wrapper.__qualname__}() needs {', '.join(lacking)}; give it by name")
            made: str = eval(key_expression, names, bound.arguments)
            return made

        cache = self._cache
        wrapper.key = key_of
        wrapper.invalidate = lambda *args, **kwargs: cache.invalidate(key_of(*args, **kwargs))
        wrapper.evict = lambda *args, **kwargs: cache.evict(key_of(*args, **kwargs))
        wrapper.cache = cache
        decorated: CachedFunction[P, R] = wrapper
        return decorated


def _check_function(function: object) -> None:
    if isinstance(function, (classmethod, staticmethod)):
        raise TypeError(f"put @cached below @{type(function).__name__}")
    if not callable(function):
        raise TypeError(f"@cached decorates functions, not {type(function).__name__}")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError("@cached cannot decorate a generator: what it gives can be read only once")


def _declaration(parameters: Iterable[inspect.Parameter]) -> str:
    """Parameters as they are written in a `def`; defaults are filled in later."""
    parts: list[str] = []
    before: Any = None
    for p in parameters:
        if before is _P.POSITIONAL_ONLY and p.kind is not _P.POSITIONAL_ONLY:
            parts.append("/")
        if p.kind is _P.KEYWORD_ONLY and before not in (_P.VAR_POSITIONAL, _P.KEYWORD_ONLY):
            parts.append("*")
        star = "*" if p.kind is _P.VAR_POSITIONAL else "**" if p.kind is _P.VAR_KEYWORD else ""
        parts.append(f"{star}{p.name}{'' if p.default is _P.empty else '=None'}")
        before = p.kind
    if before is _P.POSITIONAL_ONLY:
        parts.append("/")
    return ", ".join(parts)


def _arguments(parameters: Iterable[inspect.Parameter]) -> list[str]:
    """The same as they are written in a call."""
    write = {
        _P.POSITIONAL_ONLY: "{0}",
        _P.POSITIONAL_OR_KEYWORD: "{0}",
        _P.VAR_POSITIONAL: "*{0}",
        _P.KEYWORD_ONLY: "{0}={0}",
        _P.VAR_KEYWORD: "**{0}",
    }
    return [write[p.kind].format(p.name) for p in parameters]
