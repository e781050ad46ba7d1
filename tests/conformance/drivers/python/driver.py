"""The conformance driver in Python: each command is one call of the public API. See ../../README.md."""

import asyncio
import json
import logging
import sys
import threading

import unstale

client = None
caches, leases, receipts, loads, events = {}, {}, {}, {}, {}

# `load_start` uses the asynchronous form, in a loop of its own.
loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()


class Failed(Exception):
    """What loaders raise."""


def terms(request):
    given = {name: request[name] for name in ("tags", "depends_on", "version") if request.get(name) is not None}
    if request.get("ttl_ms") is not None:
        given["ttl"] = request["ttl_ms"] / 1000
    if request.get("lease") is not None:
        given["lease"] = leases[request["lease"]]
    return given


def kept(receipt):
    receipts[receipt.token] = receipt
    return {"token": receipt.token, "stored": receipt.stored}


class Load:
    """One `get_or_load` and its loader."""

    def __init__(self):
        self.called = self.done = False
        self.value = self.failed = self.error = self.own = None
        self.ended = asyncio.Event()
        self.outcome = {}

    def run(self):
        """The loader: ends as `outcome` says."""
        self.called = True
        if self.outcome.get("fail") is not None:
            self.own = Failed(self.outcome["fail"])
            raise self.own
        return self.outcome.get("value")

    async def run_later(self):
        self.called = True
        await self.ended.wait()
        return self.run()

    def end(self, outcome):
        self.outcome = outcome
        self.ended.set()

    def returned(self, value):
        self.value, self.done = value, True

    def raised(self, error):
        # Another load's exception reaches this caller too, as the very object: it has the loaders' class.
        if isinstance(error, Failed):
            self.failed = str(error)
        else:
            self.error = error
        self.done = True

    def state(self):
        if self.error is not None:
            raise self.error
        return {"called": self.called, "done": self.done, "value": self.value, "failed": self.failed}


def get_or_load(request):
    load = Load()
    load.outcome = request
    try:
        load.returned(caches[request["ns"]].get_or_load(request["key"], load.run, **terms(request)))
    except Exception as error:
        load.raised(error)
    return load.state()


def load_start(request):
    load = loads[request["id"]] = Load()

    async def task():
        try:
            cache = caches[request["ns"]]
            load.returned(await cache.get_or_load_async(request["key"], load.run_later, **terms(request)))
        except Exception as error:
            load.raised(error)

    asyncio.run_coroutine_threadsafe(task(), loop)


def connect(request):
    global client
    client = unstale.connect(request.get("url"), **(request.get("options") or {}))


def open_cache(request):
    caches[request["ns"]] = client.cache(request["ns"], **(request.get("options") or {}))


def lease(request):
    leases[request["id"]] = caches[request["ns"]].lease(request["key"])


def invalidate(request):
    if request.get("version") is not None:
        return kept(caches[request["ns"]].invalidate(request["key"], version=request["version"]))
    return kept(caches[request["ns"]].invalidate(request["key"]))


def watch(request):
    seen = events[request["ns"]] = []
    caches[request["ns"]].on_invalidated(lambda event: seen.append(event._asdict()))


COMMANDS = {
    "hello": lambda r: {"language": "python", "protocol": 1},
    "log": lambda r: logging.basicConfig(level=1),
    "connect": connect,
    "cache": open_cache,
    "get": lambda r: caches[r["ns"]].get(r["key"]),
    "set": lambda r: caches[r["ns"]].set(r["key"], r.get("value"), **terms(r)),
    "get_or_load": get_or_load,
    "load_start": load_start,
    "load_state": lambda r: loads[r["id"]].state(),
    "load_finish": lambda r: loop.call_soon_threadsafe(loads[r["id"]].end, r) and None,
    "lease": lease,
    "lease_drop": lambda r: leases.pop(r["id"]) and None,
    "update": lambda r: kept(caches[r["ns"]].update(r["key"], r.get("value"), **terms(r))),
    "invalidate": invalidate,
    "invalidate_many": lambda r: kept(caches[r["ns"]].invalidate_many(dict(r["keys"]))),
    "invalidate_tags": lambda r: kept(caches[r["ns"]].invalidate_tags(r["tags"])),
    "invalidate_prefix": lambda r: kept(caches[r["ns"]].invalidate_prefix(r["prefix"])),
    "invalidate_all": lambda r: kept(caches[r["ns"]].invalidate_all()),
    "evict": lambda r: caches[r["ns"]].evict(r["key"]),
    "clear_local": lambda r: caches[r["ns"]].clear_local(),
    "delivered": lambda r: receipts[r["token"]].delivered(r["timeout_ms"] / 1000),
    "wait_for": lambda r: client.wait_for(r["token"], r["timeout_ms"] / 1000),
    "stats": lambda r: caches[r["ns"]].stats(),
    "status": lambda r: client.status(),
    "watch": watch,
    "events": lambda r: events[r["ns"]],
    "close": lambda r: client.close(r["timeout_ms"] / 1000),
    "quit": lambda r: None,
}


def answer(request):
    try:
        return {"ok": COMMANDS[request["cmd"]](request)}
    except unstale.Error as error:
        return {"error": {"kind": error.kind, "code": error.code, "message": str(error)}}
    except Exception as error:
        return {"error": {"kind": "Driver", "code": -1, "message": f"{type(error).__name__}: {error}"}}


for line in sys.stdin.buffer:
    request = json.loads(line)
    print(json.dumps(answer(request)), flush=True)
    if request["cmd"] == "quit":
        break
