"""An endpoint in OpenAI's dialect to try the example with, without a key: it knows the answers to a few questions.

python examples/openai_compatible/stand_in.py 8000

It answers ``/v1/chat/completions`` and ``/v1/completions``, says what it used, stops at ``max_tokens``, refuses
one question, and wants any key at all. A word is a token here. Port 0 takes a free one.
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KNOWN = {
    "What is the capital of France?": "The capital of France is Paris.",
    "What is the capital of Japan?": "Tokyo.",
    "What is the capital of Peru?": "It is Lima.",
    "What is the capital of Kenya?": "Nairobi.",
    "What is the capital of Canada?": "Toronto.",
    "What is the capital of Australia?": "Canberra.",
    "How many legs has a spider?": "Eight.",
    "Which metal is liquid at room temperature?": "Mercury.",
    "Who wrote Faust?": "Johann Wolfgang von Goethe.",
    "Name the planets from the sun outwards.": "They are Mercury, Venus, Earth, Mars, Jupiter, Saturn, and more.",
    "Count from one to ten.": "One two three four five six seven eight nine ten.",
}
REFUSED = "How do I pick the lock of my neighbour's door?"
REFUSAL = "I cannot help with that."


def reply(path: str, request: dict[str, Any]) -> dict[str, Any]:
    """What is answered to a request, always the same.

    Args:
        path: ``/v1/chat/completions`` or ``/v1/completions``.
        request: ``messages`` or ``prompt``, and perhaps ``max_tokens``.
    """
    chat = path == "/v1/chat/completions"
    prompt = request["messages"][-1]["content"] if chat else request["prompt"]
    refused = prompt == REFUSED
    words = (REFUSAL if refused else KNOWN.get(prompt, "I do not know.")).split()
    most = request.get("max_tokens") or len(words)
    text = " ".join(words[:most])
    used = {"prompt_tokens": len(prompt.split()), "completion_tokens": len(words[:most])}
    reason = "length" if len(words) > most else "stop"
    choice: dict[str, Any] = {"index": 0, "finish_reason": reason}
    if chat:
        said = {"content": None, "refusal": text} if refused else {"content": text, "refusal": None}
        choice["message"] = {"role": "assistant", **said}
    else:
        # Completions know no refusals; their filter leaves nothing of the text.
        choice |= {"text": "", "finish_reason": "content_filter"} if refused else {"text": text}
    return {
        "id": "stand-in",
        "object": "chat.completion" if chat else "text_completion",
        "model": request.get("model"),
        "choices": [choice],
        "usage": {**used, "total_tokens": sum(used.values())},
    }


class Handler(BaseHTTPRequestHandler):
    """Answers POSTs of JSON."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_POST(self) -> None:
        """Answer as :func:`reply` says, or with an error as OpenAI's API has them."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self.headers.get("Authorization", "").removeprefix("Bearer").strip():
            self._answer(
                401, {"error": {"message": "You did not provide an API key.", "type": "invalid_request"}}
            )
        elif self.path not in ("/v1/chat/completions", "/v1/completions"):
            self._answer(404, {"error": {"message": "There is no such path.", "type": "invalid_request"}})
        else:
            self._answer(200, reply(self.path, json.loads(body)))

    def _answer(self, status: int, said: dict[str, Any]) -> None:
        body = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: requests may hold what nobody else should read."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    print(f"listening on http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()
