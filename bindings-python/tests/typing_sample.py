"""What type checkers must understand. Not run: `test_types.py` checks it with mypy."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from typing_extensions import assert_type

import unstale


class User:
    name: str


def load(user_id: int) -> User | None:
    return User() if user_id else None


async def load_async() -> User:
    return User()


async def main() -> None:
    client = unstale.connect("memory://x", staleness_bound="5s", lazy=True)
    assert_type(client, unstale.Client)
    assert_type(await unstale.connect_async(), unstale.Client)
    users: unstale.Cache[User] = client.cache("users", ttl=timedelta(minutes=5), max_entries=1000)

    assert_type(users.get("k"), User | None)
    assert_type(users.get("k", 0), User | int)
    assert_type(users["k"], User)
    assert_type("k" in users, bool)
    assert_type(len(users), int)
    users["k"] = User()
    del users["k"]
    assert_type(users.set("k", User(), ttl=1, tags=["t"], depends_on=("a", "b"), version=1), bool)
    users.set("k", "not a user")  # type: ignore[arg-type]
    users.set(b"k", User())  # type: ignore[arg-type]
    assert_type(users.get_or_load("k", lambda: load(1), ttl=timedelta(seconds=1)), User | None)
    assert_type(await users.get_or_load_async("k", load_async), User | None)
    assert_type(await users.get_or_load_async("k", lambda: load(1)), User | None)
    lease = users.lease("k")
    assert_type(users.update("k", User(), lease=lease).stored, bool)
    receipt = users.invalidate_many({"a": 1, "b": None})
    assert_type(users.invalidate_many(["a"]).token, str)
    assert_type(users.invalidate("k", version=2).delivered(1.5), bool)
    assert_type(await receipt.delivered_async(1), bool)
    assert_type(client.wait_for(receipt.token, timedelta(seconds=1)), bool)
    users.invalidate_tags({"a"}), users.invalidate_prefix("a"), users.invalidate_all()
    assert_type(users.evict("k"), bool)
    users.clear_local()
    assert_type(users.stats(), dict[str, Any])
    assert_type(client.status()["state"], Any)

    async def on_status(status: dict[str, Any]) -> None:
        print(status["state"])

    def on_invalidated(event: unstale.Invalidation) -> None:
        assert_type(event.keys, list[str])
        assert_type(event.seq, int | None)

    with users.on_invalidated(on_invalidated) as subscription:
        assert_type(subscription, unstale.Subscription)
    client.on_status(on_status).cancel()

    @users.cached("user:{user_id}", ttl=60, tags=["users"])
    def get_user(user_id: int, *, fresh: bool = False) -> User:
        return User()

    assert_type(get_user(1, fresh=True), User)
    assert_type(get_user.key(1), str)
    assert_type(get_user.invalidate(user_id=1), unstale.Receipt)
    get_user("1")  # type: ignore[arg-type]

    @users.cached("user:{user_id}")
    async def fetch_user(user_id: int) -> User:
        return User()

    assert_type(await fetch_user(1), User)

    class Service:
        @users.cached("{self}:{n}")
        def method(self, n: int) -> User:
            return User()

    assert_type(Service().method(1), User)
    assert_type(Service.method(Service(), 1), User)
    Service().method("1")  # type: ignore[arg-type]

    try:
        users["k"]
    except unstale.ClosedError as error:
        assert_type(error.code, int)
    assert_type(client.close(), int)
    async with await unstale.connect_async() as other:
        assert_type(other, unstale.Client)


asyncio.run(main())
