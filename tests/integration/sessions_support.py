"""Real services for the tests of sessions: small programs that listen, misbehave, and note their pids."""

from __future__ import annotations

import json
import os
import stat
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from dyff_dagster.processes import alive, identity
from dyff_dagster.schema.platform import DataSchema, ForeignInferenceService

PREAMBLE = """
import http.server, json, os, signal, subprocess, sys, time

with open(f"pid-{os.getpid()}", "w"):
    pass

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(404)
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps(
            {"path": self.path, "pid": os.getpid(), "arguments": sys.argv[1:], "cwd": os.getcwd(),
             "environment": dict(os.environ)}
        ).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments):
        pass

def serve(port=None):
    address = (os.environ["DYFF_HOST"], port or int(os.environ["DYFF_PORT"]))
    http.server.ThreadingHTTPServer(address, Handler).serve_forever()
"""


def service(
    directory: Path, code: str = "serve()", arguments: list[str] | None = None, **fields: Any
) -> ForeignInferenceService:
    """A standalone service that runs a program; it serves, unless ``code`` says otherwise."""
    (directory / "service.py").write_text(f"{PREAMBLE}\n{code}\n")
    return described(
        runner={
            "kind": "standalone",
            "args": ["python", "service.py", *(arguments or [])],
            "resources": {"storage": "1Gi"},
        },
        **fields,
    )


def described(**fields: Any) -> ForeignInferenceService:
    """A service of which only what matters is given."""
    interface = {
        "endpoint": "generate",
        "outputSchema": DataSchema.make_output_schema(pa.schema([pa.field("text", pa.string())])),
        **fields.pop("interface", {}),
    }
    return ForeignInferenceService.model_validate(
        {"id": "service", "account": "test", "name": "echo", "interface": interface, **fields}
    )


def programs_that_serve(directory: Path) -> Path:
    """A directory with programs named as servers of language models, which answer what they were started with."""
    directory.mkdir()
    (directory / "server.py").write_text(PREAMBLE + "\nserve()\n")
    for name in ("transformers", "vllm"):
        path = directory / name
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{directory}/server.py" {name} "$@"\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return directory


def post(url: str, row: Any) -> Any:
    """What a service answers to a row."""
    request = urllib.request.Request(url, json.dumps(row).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as response:
        return json.load(response)


def until(condition: Callable[[], Any], seconds: float = 30.0) -> Any:
    """Wait until a condition holds, and return its value; fail if it takes too long."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)
    return value


def pids(directory: Path) -> list[int]:
    """The processes that the services of a directory have noted, living or dead."""
    return [int(path.name.removeprefix("pid-")) for path in directory.glob("pid-*")]


def is_gone(pid: int) -> bool:
    """Whether a process has ended; a zombie has."""
    found = identity(pid)
    return found is None or not alive(pid, found)


def all_gone(directory: Path) -> bool:
    """Whether every process that a service of a directory has started is gone, and there was one."""
    found = pids(directory)
    return bool(found) and all(is_gone(pid) for pid in found)


def repository_environment() -> dict[str, str]:
    """An environment in which a child can import this package and its tests."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
