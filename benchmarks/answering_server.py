"""An HTTP server that answers every POST with the same JSON after a while: what clients are measured against.

It does as little as HTTP allows, in a process of its own, so that what is measured is the client.
``python -m benchmarks.answering_server SECONDS`` prints its port, and ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_BODY = b'{"answer": "Paris is the capital of France.", "probability": 0.93, "label": 1}'
_REPLY = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(_BODY)
) + _BODY


class _Connection(asyncio.Protocol):
    def __init__(self, latency: float) -> None:
        self._latency = latency
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._held += data
        while True:
            head = self._held.find(b"\r\n\r\n")
            if head < 0:
                return
            lower = self._held[:head].lower()
            at = lower.find(b"content-length:")
            length = int(lower[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._held) < head + 4 + length:
                return
            self._held = self._held[head + 4 + length :]
            if self._latency:
                asyncio.get_running_loop().call_later(self._latency, self._answer)
            else:
                self._answer()

    def _answer(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(_REPLY)


async def _serve(latency: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(latency), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


@contextmanager
def serving(latency: float) -> Iterator[str]:
    """A server with that latency in seconds; yields the URL to post to."""
    command = [sys.executable, "-m", "benchmarks.answering_server", str(latency)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ) as process:
        try:
            port = int(process.stdout.readline())
            yield f"http://127.0.0.1:{port}/answer"
        finally:
            process.stdin.close()
            process.wait(10)


if __name__ == "__main__":
    asyncio.run(_serve(float(sys.argv[1])))
