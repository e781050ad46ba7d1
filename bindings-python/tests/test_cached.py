"""@cache.cached."""

import asyncio
import inspect
import threading
from types import SimpleNamespace

import pytest
from conftest import eventually

import unstale


def test_a_function_is_called_on_misses_only(cache):
    calls = []

    @cache.cached("user:{user_id}")
    def get_user(user_id, fresh=False):
        """Loads a user."""
        calls.append((user_id, fresh))
        return [user_id]

    first = get_user(1)
    assert get_user(1) is first and get_user(user_id=1) is first and get_user(1, True) is first
    assert get_user(2, fresh=True) == [2]
    assert calls == [(1, False), (2, True)]
    assert cache["user:1"] is first
    assert get_user.__name__ == "get_user" and get_user.__doc__ == "Loads a user."
    assert str(inspect.signature(get_user)) == "(user_id, fresh=False)"
    assert get_user.cache is cache and get_user.__wrapped__(3) == [3]


def test_the_helpers_take_the_functions_arguments(cache):
    @cache.cached("{kind}:{user_id:05d}:{name!r}")
    def load(connection, user_id, name="x", *, kind="user"):
        return [user_id]

    assert load.key(None, 7) == "user:00007:'x'"
    assert load.key(user_id=7) == "user:00007:'x'"
    assert load.key(None, 7, "y", kind="admin") == "admin:00007:'y'"
    value = load(None, 7)
    assert load(None, 7) is value
    receipt = load.invalidate(user_id=7)
    assert isinstance(receipt, unstale.Receipt)
    assert load(None, 7) is not value
    assert load.evict(None, 7) is True
    assert load.evict(None, 7) is False
    with pytest.raises(TypeError, match="user_id"):
        load.key(None)
    with pytest.raises(TypeError):
        load.key(nonsense=1)


def test_methods(client, cache):
    class Service:
        def __init__(self, tenant):
            self.tenant = tenant
            self.calls = 0

        @cache.cached("{self.tenant}:{item[id]}")
        def by_item(self, item):
            self.calls += 1
            return (self.tenant, item["id"])

        @cache.cached("price:{sku}")
        def price(self, sku):
            self.calls += 1
            return [sku]

        @classmethod
        @cache.cached("{cls.__name__}:{n}")
        def of_class(cls, n):
            return [cls, n]

        @staticmethod
        @cache.cached("static:{n}")
        def of_none(n):
            return [n]

    a, b = Service("a"), Service("b")
    assert a.by_item({"id": 1}) == ("a", 1) and a.by_item({"id": 1}) == ("a", 1)
    assert b.by_item({"id": 1}) == ("b", 1)
    assert (a.calls, b.calls) == (1, 1)
    assert a.by_item.key(a, {"id": 1}) == "a:1"
    price = a.price("x")
    assert b.price("x") is price
    a.price.invalidate(sku="x")
    assert a.price("x") is not price
    assert Service.price.key(None, "x") == Service.price.key(sku="x") == "price:x"
    assert Service.of_class(1) is Service.of_class(1) is a.of_class(1)
    assert Service.of_none(1) is a.of_none(1)
    assert "Service:1" in cache and "static:1" in cache


async def test_coroutine_functions(cache):
    calls = []

    @cache.cached("user:{user_id}", tags=["users", "group:{group}"])
    async def get_user(user_id, group="staff"):
        calls.append(user_id)
        await asyncio.sleep(0.001)
        return [user_id]

    assert inspect.iscoroutinefunction(get_user)
    results = await asyncio.gather(*(get_user(1) for _ in range(10)))
    assert all(r is results[0] for r in results) and calls == [1]
    assert await get_user(1) is results[0]
    cache.invalidate_tags(["group:staff"])
    assert await get_user(1) is not results[0]
    get_user.invalidate(1)
    assert "user:1" not in cache


def test_ttl_tags_and_dependencies(cache):
    @cache.cached("order:{order_id}", ttl=60, tags=["customer:{customer.id}", "orders"], depends_on=["rate:{day}"])
    def order(order_id, customer, day="monday"):
        return [order_id]

    customer = SimpleNamespace(id=9)
    for invalidate in [
        lambda: cache.invalidate_tags(["customer:9"]),
        lambda: cache.invalidate_tags(["orders"]),
        lambda: cache.invalidate("rate:monday"),
    ]:
        value = order(1, customer)
        assert order(1, customer) is value
        invalidate()
        assert order(1, customer) is not value
    with pytest.raises(unstale.InvalidArgument, match="ttl"):
        cache.cached("never:{n}", ttl=-1)(lambda n: n)(1)


@pytest.mark.parametrize(
    "value, text",
    [
        (0, "0"),
        (-1, "-1"),
        (2**63 - 1, str(2**63 - 1)),
        (-(2**63), str(-(2**63))),
        (2**63, str(2**63)),
        (10**50, "1" + "0" * 50),
        (True, "True"),
        (None, "None"),
        (1.5, "1.5"),
        ("ä🔑", "ä🔑"),
        ("", ""),
        ("x" * 300, "x" * 300),
    ],
    ids=repr,
)
def test_keys_are_as_str_format_makes_them(cache, value, text):
    function = cache.cached("k:{value}/{value}")(lambda value: [value])
    assert function.key(value) == f"k:{text}/{text}" == f"k:{value}/{value}"
    first = function(value)
    assert function(value) is first
    assert cache[f"k:{text}/{text}"] is first


def test_templates_of_every_form(cache):
    function = cache.cached("{{a}}{x.y[0].z}{x.y[k]!s:>3}{n:+d}{n!r}")(lambda x, n: 1)

    class Both(dict):
        z = "zed"

        def __getitem__(self, key):
            return {0: self, "k": "v"}[key]

    assert function.key(SimpleNamespace(y=Both()), 5) == "{a}zed  v+55"
    assert cache.cached("constant")(lambda: 1).key() == "constant"


def test_every_kind_of_parameter(cache):
    @cache.cached("{a}:{b}:{args}:{c}:{kwargs}")
    def function(a, /, b=2, *args, c=3, **kwargs):
        return [a, b, args, c, kwargs]

    assert function(1) == [1, 2, (), 3, {}]
    assert function(1) is function(1, 2, c=3)
    assert function(1, 2, 3, c=4, d=5) == [1, 2, (3,), 4, {"d": 5}]
    assert function.key(1, 2, 3, d=5) == "1:2:(3,):3:{'d': 5}"
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'a'"):
        function()
    with pytest.raises(TypeError):
        function(a=1)

    @cache.cached("{a}")
    def keyword_only(*, a, b=7):
        return [a, b]

    assert keyword_only(a=1) == [1, 7]
    with pytest.raises(TypeError):
        keyword_only(1)

    @cache.cached("{a}-positional")
    def positional_only(a, b=7, /):
        return [a, b]

    assert positional_only(1) == [1, 7]


def test_defaults_are_the_very_objects(cache):
    marker = object()

    @cache.cached("{n}")
    def function(n, given=marker):
        return [given]

    assert function(1)[0] is marker


def test_parameters_named_like_builtins_or_ours(cache):
    @cache.cached("{format}{str}{value}{self}")
    def function(format, str, value, self, key=None, cache=None, __us_x=None):
        return [format, str]

    assert function(1, 2, 3, 4) == [1, 2]
    assert function.key(1, 2, 3, 4) == "1234"


@pytest.mark.parametrize(
    "template, message",
    [
        ("{}", "does not name a parameter"),
        ("{0}", "does not name a parameter"),
        ("{nope}", "does not name a parameter"),
        ("{n", "malformed"),
        ("n}", "malformed"),
        ("{n!x}", "conversion"),
        ("{n:{n}}", "field within a field"),
        ("{n.}", "malformed"),
        ("{n[0}", "malformed"),
        ("{n.a b}", "malformed"),
    ],
)
def test_malformed_templates_are_told_when_decorating(cache, template, message):
    with pytest.raises(unstale.InvalidArgument, match=message):
        cache.cached(template)(lambda n: 1)
    with pytest.raises(unstale.InvalidArgument, match=message):
        cache.cached("k", tags=[template])(lambda n: 1)


def test_templates_cannot_smuggle_code(cache):
    function = cache.cached("{n[' + str(1) + ']}")(lambda n: 1)
    with pytest.raises(KeyError):
        function({})


def test_what_cannot_be_decorated(cache):
    def generator(n):
        yield n

    async def asynchronous_generator(n):
        yield n

    for thing in [generator, asynchronous_generator, classmethod(generator), staticmethod(generator), 5]:
        with pytest.raises(TypeError):
            cache.cached("k")(thing)
    with pytest.raises(TypeError, match="needs a key"):
        cache.cached(lambda n: n)
    with pytest.raises(TypeError, match="key must be str"):
        cache.cached(5)(lambda n: n)


def test_arguments_that_make_no_key(cache):
    function = cache.cached("{n}")(lambda n: 1)
    for bad in ["", "a\0", "x" * 2000, "\ud800"]:
        with pytest.raises(unstale.InvalidArgument):
            function(bad)

    class Unprintable:
        def __format__(self, spec):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        function(Unprintable())
    with pytest.raises(AttributeError):
        cache.cached("{n.nothing}")(lambda n: 1)(5)


def test_exceptions_and_none(cache):
    error = LookupError("gone")

    @cache.cached("{n}")
    def function(n):
        if n:
            raise error
        return None

    with pytest.raises(LookupError) as raised:
        function(1)
    assert raised.value is error
    assert function(0) is None and len(cache) == 0


def test_threads_share_one_call(cache):
    calls = []

    @cache.cached("{n}")
    def function(n):
        calls.append(n)
        eventually(lambda: cache.stats()["joins"] >= 7)
        return [n]

    results = []
    threads = [threading.Thread(target=lambda: results.append(function(1))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert calls == [1] and len(results) == 8 and all(r is results[0] for r in results)


def test_a_miss_is_counted_once(cache):
    function = cache.cached("{n}")(lambda n: [n])
    function(1)
    function(1)
    stats = cache.stats()
    assert (stats["hits"], stats["misses"], stats["loads"]) == (1, 1, 1)


def test_a_callable_object(cache):
    class Loader:
        def __call__(self, n):
            return [n]

    function = cache.cached("{n}")(Loader())
    assert function(1) is function(1)
