"""A real HTTP server of our own on loopback that answers, or misbehaves, as a test says."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, bytes]
Behaviour = Callable[[dict[str, Any], int], Reply]
"""``behaviour(request, number)``: the request's JSON and how many came before it → status and body."""


class Server:
    """What a test sees of the server.

    Attributes:
        url: Where to post.
        requests: The JSON of every request, in order of arrival.
    """

    def __init__(self, behaviour: Behaviour) -> None:
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.reply_headers: dict[str, str] = {}
        self.behaviour = behaviour
        lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    number = len(server.requests)
                    server.requests.append(body)
                    server.headers.append(dict(self.headers))
                status, reply = server.behaviour(body, number)
                self.send_response(status)
                self.send_header("Content-Length", str(len(reply)))
                for name, value in server.reply_headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(reply)

            def log_message(self, *args: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/answer"

    @contextmanager
    def running(self) -> Iterator[Server]:
        thread = threading.Thread(target=self._http.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._http.shutdown()
            self._http.server_close()


def double(request: dict[str, Any], number: int) -> Reply:
    """``{"x": 2}`` → ``{"y": 4}``."""
    return 200, json.dumps({"y": 2 * request["x"]}).encode()
