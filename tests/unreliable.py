"""A proxy on loopback that does to some of the requests to a server what networks and busy servers do."""

from __future__ import annotations

import collections
import http.client
import random
import socket
import struct
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SLOW_DOWN, NO_CONNECTION, NO_REPLY, HALF_A_REPLY = "SlowDown", "no connection", "no reply", "half a reply"
FAULTS = (SLOW_DOWN, NO_CONNECTION, NO_REPLY, HALF_A_REPLY)
"""Refused for now; never heard; done, and nobody says so; done, and the answer breaks off."""

_SPARED = 3
"""How often a request is heard after a fault, unless the server is gone altogether: s3fs asks up to three things for
one, and who tries all of them four times is then sure of an answer."""

_SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
_OF_ONE_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "expect"}


@dataclass
class Unreliable:
    """What goes wrong.

    Attributes:
        target: URL of the server behind.
        seed: Of what happens when.
        share: Of the requests something happens to this share; 0 to begin with.
        done: How often each of :data:`FAULTS` has happened.
        url: Where it answers.
    """

    target: str
    seed: int
    share: float = 0.0
    done: collections.Counter[str] = field(default_factory=collections.Counter)
    url: str = ""

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._lock = threading.Lock()
        self._spared: collections.Counter[str] = collections.Counter()

    def fault(self, request: str) -> str | None:
        """What happens to a request, named by its method and path."""
        with self._lock:
            if self.share < 1 and self._spared[request]:
                self._spared[request] -= 1
                return None
            if self._random.random() >= self.share:
                return None
            self._spared[request] = _SPARED
            fault = self._random.choice(FAULTS)
            self.done[fault] += 1
            return fault

    @contextmanager
    def running(self) -> Iterator[Unreliable]:
        """For as long as the block lasts."""
        handler = type("Handler", (_Handler,), {"unreliable": self})
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            server.daemon_threads = True
            self.url = f"http://127.0.0.1:{server.server_port}"
            thread = threading.Thread(target=server.serve_forever, args=(0.05,))
            thread.start()
            try:
                yield self
            finally:
                server.shutdown()
                thread.join()


class _Handler(BaseHTTPRequestHandler):
    unreliable: Unreliable
    protocol_version = "HTTP/1.1"

    def pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.unreliable.fault(f"{self.command} {self.path}")
        if fault == SLOW_DOWN:
            self._answer(503, {"Content-Type": "application/xml"}, _SLOW_DOWN)
            return
        if fault == NO_CONNECTION:
            self._hang_up()
            return
        target = urllib.parse.urlsplit(self.unreliable.target)
        connection = http.client.HTTPConnection(str(target.hostname), target.port, timeout=60)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _OF_ONE_HOP}
            connection.request(self.command, self.path, body, {**headers, "Content-Length": str(len(body))})
            reply = connection.getresponse()
            data = reply.read()
            said = {name: value for name, value in reply.getheaders() if name.lower() not in _OF_ONE_HOP}
            if self.command == "HEAD":
                said["Content-Length"] = reply.getheader("Content-Length") or "0"
        finally:
            connection.close()
        if fault == NO_REPLY:
            self._hang_up()
            return
        half = len(data) // 2 if fault == HALF_A_REPLY else None
        self._answer(reply.status, said, data, half)
        if half is not None:
            self._hang_up()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = pass_on

    def _answer(self, status: int, headers: dict[str, str], body: bytes, until: int | None = None) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers and status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:until])

    def _hang_up(self) -> None:
        # Closed with a reset, as a peer does that is gone.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def log_message(self, *args: object) -> None:
        """Nothing."""
