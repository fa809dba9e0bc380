"""A service of Python's standard library that doubles, or misbehaves as its command line says. It runs in pods."""

from __future__ import annotations

import argparse
import http.server
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

TOKEN = Path("/dyff/token/token")


def main() -> None:
    said = argparse.ArgumentParser()
    said.add_argument("--start", type=float, default=0.0, help="seconds until it listens")
    said.add_argument("--slow", type=float, default=0.0, help="seconds that an answer takes")
    said.add_argument("--status", type=int, default=200, help="of every answer to a POST")
    said.add_argument("--health", type=int, default=200, help="of every answer to a GET")
    said.add_argument("--factor", type=int, default=2)
    said.add_argument("--fail", type=int, help="exit with this status instead of listening")
    said.add_argument("--exit-after", type=int, help="exit with status 0 after so many answers")
    said.add_argument("--crash-after", type=int, help="exit with status 7 after so many answers")
    said.add_argument("--hang-after", type=int, help="answer nothing any more after so many answers")
    said.add_argument("--eat", type=int, default=0, help="MiB of memory to take before it listens")
    said.add_argument("--host", default=os.environ.get("DYFF_HOST", "0.0.0.0"))
    said.add_argument("--port", type=int, default=int(os.environ.get("DYFF_PORT", "8000")))
    said.add_argument("--never-listen", action="store_true")
    said.add_argument("--check-token", action="store_true", help="answer 401 to those who do not have it")
    said.add_argument("--ignore-sigterm", action="store_true")
    said.add_argument("--say", default="", help="what to write to its log first")
    asked = said.parse_args()
    # As pid 1 a process without a handler of its own ignores SIGTERM; servers end with status 0.
    signal.signal(signal.SIGTERM, signal.SIG_IGN if asked.ignore_sigterm else lambda *_: os._exit(0))
    if asked.say:
        print(asked.say, file=sys.stderr, flush=True)
    held = [b"x" * (1 << 20) for _ in range(asked.eat)]
    time.sleep(asked.start)
    if asked.fail is not None:
        sys.exit(asked.fail)
    if asked.never_listen:
        signal.pause()
    print(f"listening, and {len(held)} MiB are held", flush=True)
    Server((asked.host, asked.port), handler(asked)).serve_forever()


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A probe that only connects is nothing to write of."""


def handler(asked: argparse.Namespace) -> type[http.server.BaseHTTPRequestHandler]:
    lock = threading.Lock()
    answered = 0

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def reply(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.reply(asked.health, b"{}")

        def do_POST(self) -> None:
            nonlocal answered
            row = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if asked.check_token and self.headers.get("Authorization") != f"Bearer {TOKEN.read_text()}":
                self.reply(401, b"{}")
                return
            time.sleep(asked.slow)
            with lock:
                answered += 1
                number = answered
            if asked.hang_after is not None and number > asked.hang_after:
                time.sleep(3600)
            self.reply(asked.status, json.dumps({"y": asked.factor * row["x"]}).encode())
            self.wfile.flush()
            if number == asked.exit_after:
                os._exit(0)
            if number == asked.crash_after:
                os._exit(7)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


if __name__ == "__main__":
    main()
