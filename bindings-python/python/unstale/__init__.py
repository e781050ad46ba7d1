"""In-process caches that stay fresh across services and languages.

    import unstale

    client = unstale.connect("mqtt://localhost:1883")
    users = client.cache("users", ttl=300)

    @users.cached("user:{user_id}")
    def get_user(user_id):
        return database.load_user(user_id)

    get_user(42)                     # loads
    get_user(42)                     # a hit: the same object, in well under a microsecond
    users.invalidate("user:42")      # gone here and in every other process, whatever its language

The guide is docs/python.md. Durations are seconds (int or float) or ``datetime.timedelta``.
"""

from ._cache import Cache
from ._client import Client, connect, connect_async
from ._errors import (
    AuthError,
    ClosedError,
    ConfigError,
    ConnectError,
    Error,
    ForkedError,
    InternalError,
    InvalidArgument,
    LoadError,
    TimeoutError,
    TlsError,
)
from ._events import Invalidation, Subscription
from ._native import Lease, Receipt, __version__

__all__ = [
    "AuthError",
    "Cache",
    "Client",
    "ClosedError",
    "ConfigError",
    "ConnectError",
    "Error",
    "ForkedError",
    "InternalError",
    "InvalidArgument",
    "Invalidation",
    "Lease",
    "LoadError",
    "Receipt",
    "Subscription",
    "TimeoutError",
    "TlsError",
    "__version__",
    "connect",
    "connect_async",
]
