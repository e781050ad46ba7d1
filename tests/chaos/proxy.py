"""TCP proxies between nodes and broker, in a process of their own, with faults to switch on and off.

Each node has a proxy (a port) to itself, so that one of N can be cut off. A direction is `up` (to the broker) or `down`.
A dead direction passes nothing, not even the end of a connection: the connection stays open and hears nothing, like a cable
that was pulled. When it lives again, what waited goes on, as TCP would send it again.
"""

import asyncio
import multiprocessing
import os
import socket
import struct
import threading

CHUNK = 16 * 1024
# What a slow or dead direction holds before it stops reading; the kernel's buffers hold as much again.
HELD = 16
ANSWER_SECONDS = 10


class Way:
    """One direction of one proxy: all its connections share the fault."""

    def __init__(self):
        self.alive = asyncio.Event()
        self.alive.set()
        self.delay = 0.0
        self.rate = None  # bytes per second

    def change(self, alive=None, delay=None, rate=None):
        if alive is not None:
            self.alive.set() if alive else self.alive.clear()
        if delay is not None:
            self.delay = delay
        if rate is not None:
            self.rate = rate or None

    async def pass_on(self, reader, writer):
        held = asyncio.Queue(HELD)
        taking = asyncio.ensure_future(self._take(reader, held))
        try:
            await self._give(held, writer)
        except OSError:
            writer.transport.abort()
        finally:
            taking.cancel()

    async def _take(self, reader, held):
        loop = asyncio.get_running_loop()
        while True:
            try:
                data = await reader.read(CHUNK)
            except OSError:
                data = None  # a reset is passed on as a reset
            await held.put((loop.time() + self.delay, data))
            if not data:
                return

    async def _give(self, held, writer):
        loop = asyncio.get_running_loop()
        while True:
            due, data = await held.get()
            await asyncio.sleep(max(0, due - loop.time()))
            await self.alive.wait()
            if data is None:
                writer.transport.abort()
                return
            if not data:
                writer.write_eof()
                return
            writer.write(data)
            await writer.drain()
            if self.rate:
                await asyncio.sleep(len(data) / self.rate)


class Proxy:
    """One listening port, and the connections made through it."""

    def __init__(self, target):
        self.target = target
        self.ways = {"up": Way(), "down": Way()}
        self.connections = set()

    async def listen(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self.server.sockets[0].getsockname()[1]

    async def _serve(self, reader, writer):
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        pair = (writer, back)
        self.connections.add(pair)
        for end in pair:
            end.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await asyncio.gather(self.ways["up"].pass_on(reader, back), self.ways["down"].pass_on(there, writer))
        finally:
            self.connections.discard(pair)
            for end in pair:
                end.close()

    def reset(self):
        """Both sides of every connection get a RST."""
        for pair in self.connections:
            for end in pair:
                linger = struct.pack("ii", 1, 0)
                end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                end.transport.abort()
        return len(self.connections)


async def _serve(pipe, target, count):
    proxies = [Proxy(target) for _ in range(count)]
    pipe.send([await proxy.listen() for proxy in proxies])
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def obey():
        try:
            name, numbers, change = pipe.recv()
        except EOFError:
            ended.set()
            return
        chosen = [proxies[number] for number in numbers]
        if name == "change":
            ways = change.pop("ways", ("up", "down"))
            for way in (proxy.ways[name] for proxy in chosen for name in ways):
                way.change(**change)
            pipe.send(None)
        elif name == "reset":
            pipe.send(sum(proxy.reset() for proxy in chosen))

    loop.add_reader(pipe.fileno(), obey)
    await ended.wait()


def _main(pipe, target, count):
    loop = asyncio.new_event_loop()
    loop.run_until_complete(_serve(pipe, target, count))
    # Connections that still wait in a fault are of no more use to anyone.
    os._exit(0)


class Proxies:
    """The process with `count` proxies to the port `target`; their `ports`, and the faults. Thread-safe."""

    def __init__(self, target, count):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.lock = threading.Lock()
        self.process = context.Process(target=_main, args=(theirs, target, count), daemon=True)
        self.process.start()
        theirs.close()
        self.ports = self._answer()

    def _answer(self):
        if not self.pipe.poll(ANSWER_SECONDS):
            raise RuntimeError("the proxy process does not answer")
        return self.pipe.recv()

    def _ask(self, name, numbers, **change):
        with self.lock:
            self.pipe.send((name, list(numbers), change))
            return self._answer()

    def change(self, numbers, **change):
        """`alive`, `delay` (seconds), `rate` (bytes/s, 0: any) of both `ways`, or of those named."""
        self._ask("change", numbers, **change)

    def heal(self):
        self.change(range(len(self.ports)), alive=True, delay=0, rate=0)

    def reset(self, numbers):
        """How many connections were reset."""
        return self._ask("reset", numbers)

    def close(self):
        self.pipe.close()
        self.process.join(5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
