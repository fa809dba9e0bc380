"""An endpoint to try the example with, until there is yours: it knows four capitals out of six.

python examples/own_endpoint/stand_in.py 8000
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KNOWN = {"France": "Paris", "Japan": "Tokyo", "Peru": "Lima", "Kenya": " nairobi", "Canada": "Toronto"}


class Handler(BaseHTTPRequestHandler):
    """Answers ``POST /v1/answer`` with ``{"question": …}`` by ``{"answer": …}``."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_POST(self) -> None:
        """Look the last word of the question up."""
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["question"]
        country = question.rstrip("?").split()[-1]
        body = json.dumps({"answer": KNOWN.get(country, "I do not know.")}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: requests may hold what nobody else should read."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
