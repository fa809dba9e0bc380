"""Two services to try the example with, until there are yours: an assistant, and a judge of its replies.

python stand_in.py assistant        answers {"question": …} with {"answer": …}, four times out of twelve wrongly
python stand_in.py judge            answers {"question": …, "reply": …} with {"verdict": "right" or "wrong"}

The judge is no better than judges are: it takes two wrong replies for right, and one right one for wrong.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SAID = {
    "France": "Paris", "Japan": "It is Tokyo.", "Peru": "Lima", "Kenya": "Nairobi", "Canada": "Toronto",
    "Australia": "Sydney", "Brazil": "Rio de Janeiro", "Turkey": "Istanbul", "Egypt": "Cairo", "Norway": "Oslo",
    "Vietnam": "Hanoi", "Morocco": "Rabat, on the Atlantic coast",
}  # fmt: skip
BELIEVED = {**SAID, "Canada": "Ottawa", "Turkey": "Ankara", "Morocco": "Casablanca"}


def answer(request: Mapping[str, str]) -> dict[str, str]:
    """Look the country up."""
    return {"answer": SAID[_country(request["question"])]}


def judge(request: Mapping[str, str]) -> dict[str, str]:
    """Hold the reply against what the judge believes."""
    right = request["reply"] == BELIEVED[_country(request["question"])]
    return {"verdict": "right" if right else "wrong"}


def _country(question: str) -> str:
    return question.rstrip("?").split()[-1]


class Handler(BaseHTTPRequestHandler):
    """Answers every POST by ``respond``, and every GET, which asks whether it is ready."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    respond: Callable[[Mapping[str, str]], dict[str, str]]

    def do_GET(self) -> None:
        """Say that it is ready."""
        self._reply({})

    def do_POST(self) -> None:
        """Answer one request."""
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._reply(type(self).respond(request))

    def _reply(self, content: Mapping[str, str]) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: requests may hold what nobody else should read."""


if __name__ == "__main__":
    Handler.respond = staticmethod({"assistant": answer, "judge": judge}[sys.argv[1]])
    address = (os.environ["DYFF_HOST"], int(os.environ["DYFF_PORT"]))
    ThreadingHTTPServer(address, Handler).serve_forever()
