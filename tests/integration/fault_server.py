"""A service on loopback that does wrong on a plan: refuses, stalls, breaks off, throttles, dies and comes back.

It speaks HTTP by hand, so that it can also speak it badly. What it answers when it does answer depends on
the row alone. It keeps a record of who was asked when, and notices the same row in flight twice.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import os
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Fault:
    """What is done with one request.

    Attributes:
        kind: ``answer``, ``status`` (with ``status``), ``stall`` (no byte, until the client leaves), ``half`` (half
            the reply, then the connection ends), ``half-stall`` (half the reply, then silence), ``reset`` (RST
            instead of a reply), ``close`` (end instead of a reply), ``garbage`` (no HTTP), ``body`` (status 200 with
            ``body``), ``trickle`` (the right answer, byte by byte), ``hold`` (the right answer once the server is
            told to :meth:`FaultServer.release`).
        status: Of ``status``.
        body: Of ``status`` and ``body``.
        retry_after: Of ``status``: seconds, or a text as it stands; None: without.
        as_date: Whether ``Retry-After`` is a moment and not a number of seconds.
    """

    kind: str = "answer"
    status: int = 200
    body: bytes = b""
    retry_after: float | str | None = None
    as_date: bool = False


ANSWER = Fault()


@dataclass(eq=False)
class Asked:
    """One request in the record.

    Attributes:
        number: How many came before it, at this server.
        request: Its JSON.
        attempt: How often this row had been asked here before.
        at: Moment of the monotonic clock at which it had come.
        fault: What was done with it.
        until: Moment until which the client was asked to stay away; of a date, rounded down to the second.
        ended: Moment at which this server was through with it.
    """

    number: int
    request: dict[str, Any]
    attempt: int
    at: float
    fault: Fault = ANSWER
    until: float | None = None
    ended: float | None = None


Plan = Callable[[Asked], Fault]
"""What to do with a request."""
Right = Callable[[dict[str, Any]], Any]
"""The right answer to a request, from the request alone."""


def double(request: dict[str, Any]) -> Any:
    """``{"x": 2}`` → ``{"y": 4}``."""
    return {"y": 2 * request["x"]}


def always_right(asked: Asked) -> Fault:
    """No faults."""
    return ANSWER


def passing_faults(seed: int, most: int, share: float = 0.35, *, stalls: bool = True) -> Plan:
    """Faults that pass: ``most`` of each row at most, by chance of the seed, the row and the attempt alone."""
    kinds = [
        Fault("reset"),
        Fault("close"),
        Fault("half"),
        Fault("garbage"),
        Fault("trickle"),
        *(Fault("status", status) for status in (408, 425, 429, 500, 502, 503, 504)),
        Fault("status", 429, retry_after=0.05),
        Fault("status", 503, retry_after=0),
        Fault("status", 429, retry_after=0, as_date=True),
        Fault("status", 503, retry_after="soon"),
    ]
    if stalls:
        kinds += [Fault("stall"), Fault("half-stall")]

    def plan(asked: Asked) -> Fault:
        chance = random.Random(f"{seed} {json.dumps(asked.request)} {asked.attempt}")
        if asked.attempt >= most or chance.random() > share:
            return ANSWER
        return chance.choice(kinds)

    return plan


@dataclass(eq=False)
class _Flight:
    """A request that is being dealt with."""

    asked: Asked
    sock: socket.socket

    def left(self) -> bool:
        """Whether the client has gone away, whatever this server has noticed of it."""
        try:
            return self.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True


@dataclass(eq=False)
class FaultServer:
    """The server, in a thread of its own; use it as ``with FaultServer(plan).running() as server``.

    Attributes:
        plan: What to do with each request.
        right: The right answer.
        copies: How often the same request may be in flight at once: as often as there are replications.
        record: Every request, in order of arrival.
        doubled: The requests that came while as many of the same as there may be were in flight.
        most_in_flight: Requests that were in flight at once, at most.
        on_request: Called with each request when it has come, in the server's thread.
    """

    plan: Plan = always_right
    right: Right = double
    copies: int = 1
    record: list[Asked] = field(default_factory=list)
    doubled: list[dict[str, Any]] = field(default_factory=list)
    most_in_flight: int = 0
    on_request: Callable[[Asked], None] | None = None

    def __post_init__(self) -> None:
        self._flights: set[_Flight] = set()
        self._seen: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._released = asyncio.Event()
        self.port = 0

    @property
    def url(self) -> str:
        """Where to post."""
        return f"http://127.0.0.1:{self.port}/answer"

    @property
    def asked(self) -> list[dict[str, Any]]:
        """The JSON of every request, in order of arrival."""
        return [asked.request for asked in self.record]

    @contextmanager
    def running(self) -> Iterator[FaultServer]:
        """Serve until the block ends."""
        thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        thread.start()
        try:
            self._call(self._listen())
            yield self
        finally:
            self._call(self._die())
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join(10)
            self._loop.close()

    def die(self, back_in: float | None = None) -> None:
        """Refuse connections and break those there are; from any thread. ``back_in``: seconds until it listens anew."""
        self._loop.call_soon_threadsafe(lambda: self._keep(self._die_and_come_back(back_in)))

    def come_back(self) -> None:
        """Listen again on the same port; returns when it does. Not from the server's own thread."""
        self._call(self._listen())

    def release(self) -> None:
        """Answer what is held, now and from now on."""
        self._loop.call_soon_threadsafe(self._released.set)

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port, reuse_address=True, backlog=512
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def _die(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        here = asyncio.current_task()
        for task in [task for task in asyncio.all_tasks() if task is not here and task not in self._tasks]:
            task.cancel()
        await asyncio.sleep(0)

    async def _die_and_come_back(self, back_in: float | None) -> None:
        await self._die()
        if back_in is not None:
            await asyncio.sleep(back_in)
            await self._listen()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sock = socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno()))
        try:
            while (request := await _read(reader)) is not None:
                flight = self._begin(request, sock)
                try:
                    if not await self._deal(flight.asked, reader, writer):
                        return
                finally:
                    flight.asked.ended = time.monotonic()
                    self._flights.discard(flight)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            sock.close()

    def _begin(self, request: dict[str, Any], sock: socket.socket) -> _Flight:
        key = json.dumps(request, sort_keys=True)
        same = [flight for flight in self._flights if flight.asked.request == request and not flight.left()]
        if len(same) >= self.copies:
            self.doubled.append(request)
        asked = Asked(len(self.record), request, self._seen[key], time.monotonic())
        self._seen[key] += 1
        self.record.append(asked)
        if self.on_request is not None:
            self.on_request(asked)
        asked.fault = self.plan(asked)
        flight = _Flight(asked, sock)
        self._flights.add(flight)
        self.most_in_flight = max(self.most_in_flight, len(self._flights))
        return flight

    async def _deal(self, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Reply, or not; whether the connection goes on."""
        fault = asked.fault
        right = _reply(200, json.dumps(self.right(asked.request)).encode())
        if fault.kind in ("answer", "hold"):
            if fault.kind == "hold":
                await self._released.wait()
            writer.write(right)
        elif fault.kind == "trickle":
            for start in range(0, len(right), 16):
                writer.write(right[start : start + 16])
                await writer.drain()
                await asyncio.sleep(0)
        elif fault.kind == "body":
            writer.write(_reply(200, fault.body))
        elif fault.kind == "status":
            headers = {}
            if fault.retry_after is not None:
                headers["Retry-After"] = _retry_after(asked)
            writer.write(_reply(fault.status, fault.body, headers))
        elif fault.kind == "garbage":
            writer.write(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
            await writer.drain()
            return False
        elif fault.kind == "reset":
            writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
            return False
        elif fault.kind in ("half", "half-stall"):
            writer.write(right[: -max(1, len(right) // 8)])
            await writer.drain()
            if fault.kind == "half-stall":
                await reader.read()  # ends when the client leaves
            else:
                writer.write_eof()
                await asyncio.sleep(0)
            return False
        elif fault.kind == "stall":
            await reader.read()
            return False
        else:
            assert fault.kind == "close", fault
            return False
        await writer.drain()
        return True


def _retry_after(asked: Asked) -> str:
    """The header's text; notes in the record until when the client should stay away."""
    said = asked.fault.retry_after
    if isinstance(said, str):
        return said
    assert said is not None
    if not asked.fault.as_date:
        asked.until = time.monotonic() + said
        return f"{said:g}"
    moment = int(time.time() + said)
    asked.until = time.monotonic() + moment - time.time()
    return email.utils.formatdate(moment, usegmt=True)


def _reply(status: int, body: bytes, headers: dict[str, str] | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def _read(reader: asyncio.StreamReader) -> dict[str, Any] | None:
    """One request's JSON; None where the client has left."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    length = 0
    for line in head.decode("latin-1").split("\r\n"):
        name, _, value = line.partition(":")
        if name.lower() == "content-length":
            length = int(value)
    request: dict[str, Any] = json.loads(await reader.readexactly(length))
    return request
