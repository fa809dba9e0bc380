"""A classifier as a Web service, on Python's standard library alone.

    python service/serve.py --port 8000 --model model

It serves both of the example's models: whichever lies in the model's directory.

``GET /health`` answers 200 once the model is loaded. ``POST /predict`` takes one patient's 30 features as
a JSON object and answers ``{"malignant_probability": p, "diagnosis": "malignant" | "benign"}``. A field
that is missing, unknown or no number is answered with 422 and named; nothing is ever guessed or filled in.

Port, host and the model's directory come from DYFF_PORT, DYFF_HOST and DYFF_MODEL, which dyff-dagster sets,
or from the command line. Requests are never logged: they are about patients.
"""

from __future__ import annotations

import json
import math
import os
import socketserver
import sys
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

MAX_BODY = 65_536
"""Bytes of the largest request that is read; a patient takes about 1,000."""


class WrongInput(Exception):
    """A request that does not describe one patient; ``field`` says where."""

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class Classifier:
    """A model that adds up what each feature says for malignant: logistic regression, or naive Bayes.

    Args:
        directory: The model's directory, with ``coefficients.json`` or ``parameters.json``.

    Raises:
        ValueError: The file does not describe a model.
        OSError: There is no such file.
    """

    def __init__(self, directory: Path) -> None:
        naive_bayes = directory / "parameters.json"
        path = naive_bayes if naive_bayes.exists() else directory / "coefficients.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        self.features: list[str] = content["features"]
        self.threshold = float(content["threshold"])
        self.classes = (content["negative_class"], content["positive_class"])
        if path == naive_bayes:
            prior = float(content["prior"])
            self._start = math.log(prior / (1 - prior))
            columns = [
                f"{which}_{what}" for which in ("positive", "negative") for what in ("means", "variances")
            ]
            make = _likelihood_ratio
        else:
            self._start = float(content["intercept"])
            columns, make = ["means", "scales", "coefficients"], _weighted
        parameters = [[float(value) for value in content[column]] for column in columns]
        # strict: lists of different lengths are no model
        self._terms = [(name, make(*rest)) for name, *rest in zip(self.features, *parameters, strict=True)]

    def predict(self, patient: Mapping[str, Any]) -> dict[str, Any]:
        """The probability that the mass is malignant, and the diagnosis that follows from it.

        Raises:
            WrongInput: A feature is missing, unknown or not a finite number.
        """
        for name in patient:
            if name not in self.features:
                raise WrongInput("unknown field", name)
        terms = [self._start]
        for name, term in self._terms:
            if name not in patient:
                raise WrongInput("missing field", name)
            said = term(_number(patient[name], name))
            if not math.isfinite(said):
                raise WrongInput("so large that nothing follows from it", name)
            terms.append(said)
        probability = _sigmoid(math.fsum(terms))
        return {
            "malignant_probability": probability,
            "diagnosis": self.classes[probability >= self.threshold],
        }


def _weighted(mean: float, scale: float, weight: float) -> Callable[[float], float]:
    return lambda x: weight * (x - mean) / scale


def _likelihood_ratio(
    mean: float, variance: float, other_mean: float, other_variance: float
) -> Callable[[float], float]:
    """Logarithm of the ratio of two normal densities."""
    start = 0.5 * math.log(other_variance / variance)

    def term(x: float) -> float:
        # Products, because a power that overflows is an exception, and a product is infinite.
        from_other, from_own = x - other_mean, x - mean
        return start + 0.5 * (from_other * from_other / other_variance - from_own * from_own / variance)

    return term


def _number(value: object, name: str) -> float:
    # JSON's true is an int to Python, and Python's parser lets NaN and Infinity pass.
    if not isinstance(value, bool) and isinstance(value, int | float) and abs(value) < sys.float_info.max:
        return float(value)
    raise WrongInput("not a finite number", name)


def _sigmoid(x: float) -> float:
    # Two forms, so that exp never overflows.
    if x >= 0:
        return 1 / (1 + math.exp(-x))
    return math.exp(x) / (1 + math.exp(x))


class Server(ThreadingHTTPServer):
    """One thread a connection, connections kept open."""

    request_queue_size = 128

    def __init__(self, address: tuple[str, int], classifier: Classifier) -> None:
        super().__init__(address, Handler)
        self.classifier = classifier

    def server_bind(self) -> None:
        """Bind without the look-up of the host's name that http.server would do, which can take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])


class Handler(BaseHTTPRequestHandler):
    """Answers the two routes."""

    protocol_version = "HTTP/1.1"  # connections stay open
    disable_nagle_algorithm = True  # TCP_NODELAY: an answer leaves at once
    wbufsize = -1  # head and body in one packet

    def do_GET(self) -> None:
        """``GET /health``."""
        if self.path == "/health":
            self._answer(200, {"status": "ready"})
        else:
            self._answer(404, {"error": "there are POST /predict and GET /health"})

    def do_POST(self) -> None:
        """``POST /predict``."""
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > MAX_BODY:
            # The body stays unread, so the connection cannot be used again.
            self.close_connection = True
            self._answer(
                413 if length.isdigit() else 411, {"error": f"say a Content-Length up to {MAX_BODY}"}
            )
            return
        body = self.rfile.read(int(length))
        if self.path != "/predict":
            self._answer(404, {"error": "there are POST /predict and GET /health"})
            return
        try:
            patient = json.loads(body)
        except (ValueError, RecursionError):
            self._answer(400, {"error": "the body is no JSON"})
            return
        try:
            if not isinstance(patient, dict):
                raise WrongInput("the body must be one JSON object")
            self._answer(200, cast(Server, self.server).classifier.predict(patient))
        except WrongInput as error:
            self._answer(422, {"error": str(error), "field": error.field})

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: neither bodies nor who asked."""


def main(arguments: list[str]) -> None:
    """Serve until killed."""
    settings = {
        "port": os.environ.get("DYFF_PORT", "8000"),
        "host": os.environ.get("DYFF_HOST", "127.0.0.1"),
        "model": os.environ.get("DYFF_MODEL", "model"),
    }
    names, values = arguments[::2], arguments[1::2]
    if len(names) != len(values) or not {"--" + name for name in settings}.issuperset(names):
        raise SystemExit("usage: serve.py [--port PORT] [--host HOST] [--model DIRECTORY]")
    settings.update(zip((name.removeprefix("--") for name in names), values, strict=True))
    try:
        classifier = Classifier(Path(settings["model"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SystemExit(
            f"serve.py: no model in {settings['model']}: {type(error).__name__}: {error}"
        ) from error
    with Server((settings["host"], int(settings["port"])), classifier) as server:
        server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
