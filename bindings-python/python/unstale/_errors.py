"""Exceptions: one class per kind of error, each also the built-in that fits."""

from __future__ import annotations

import builtins


class Error(Exception):
    """Every error of this library. A loader's own exception is not one: it reaches its callers as it is."""

    #: The kind's name, the same in every language.
    kind = "Internal"
    #: The kind's number, the same in every language.
    code = 9


class InvalidArgument(Error, ValueError):
    """An argument is out of its documented range; nothing changed."""

    kind = "InvalidArgument"
    code = 1


class ConfigError(Error, ValueError):
    """An option is unknown, contradictory or out of range."""

    kind = "Config"
    code = 2


class ConnectError(Error, ConnectionError):
    """The broker cannot be reached, refused the connection, or took it away."""

    kind = "Connect"
    code = 3


class AuthError(Error, PermissionError):
    """The broker refused these credentials, or this topic to them."""

    kind = "Auth"
    code = 4


class TlsError(Error, ConnectionError):
    """The TLS handshake failed, or a certificate or key cannot be used."""

    kind = "Tls"
    code = 5


class TimeoutError(Error, builtins.TimeoutError):
    """A time limit that the caller or the configuration set ran out."""

    kind = "Timeout"
    code = 6


class ClosedError(Error, RuntimeError):
    """The client was closed."""

    kind = "Closed"
    code = 7


class LoadError(Error, RuntimeError):
    """A load failed for a reason that is not an exception of the loader."""

    kind = "Load"
    code = 8


class InternalError(Error, RuntimeError):
    """A fault in this library; please report it."""

    kind = "Internal"
    code = 9


class ForkedError(Error, RuntimeError):
    """The process forked after the client was made. Fork first and connect then, or start the child with exec."""

    kind = "Forked"
    code = 10


#: Looked up by the native half.
CLASSES = {
    of.code: of
    for of in (
        InvalidArgument,
        ConfigError,
        ConnectError,
        AuthError,
        TlsError,
        TimeoutError,
        ClosedError,
        LoadError,
        InternalError,
        ForkedError,
    )
}
for _class in (Error, *CLASSES.values()):
    _class.__module__ = "unstale"
