"""A small API server on loopback that keeps objects as Kubernetes does, and misbehaves on cue.

It knows no defaults, no validation, and of controllers only the garbage collector: what is stored is what was sent.
What it does know is what a client must cope with: lists and watches with resource versions, 404 and 409, and
connections that break.
"""

from __future__ import annotations

import json
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from dyff_dagster.sessions.kubernetes.api import KubernetesApi

TOKEN = "the-token-of-a-kubeconfig"
Object = dict[str, Any]
Cue = Callable[["Handler"], bool]
"""Misbehaves instead of answering, and says so with True; with False the request is answered as well."""
_PATH = re.compile(r"^/apis?/(?:v1|[\w.]+/v1)/namespaces/([^/]+)/([a-z]+)(?:/([^/]+))?(?:/(log))?$")


class ApiServer:
    """The server.

    Attributes:
        port: Where it listens.
        requests: Method, path and query of every request, in order of arrival.
        skew: What its clock is ahead by.
        logs: Output of pods, by name.
        nodes: Of the cluster.
        may: Answers of SelfSubjectAccessReviews: verb and resource → allowed.
        namespaces: Those that there are.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.skew = timedelta(0)
        self.logs: dict[str, str] = {}
        self.nodes: list[Object] = []
        self.may: Callable[[str, str], bool] = lambda verb, resource: True
        self.namespaces = {"default"}
        self.objects: dict[str, dict[str, Object]] = {}
        self.changed = threading.Condition()
        self.version = 1
        self._events: list[tuple[int, str, str, Object]] = []
        self._cues: list[tuple[str, re.Pattern[str], Cue]] = []
        self._http: ThreadingHTTPServer | None = None
        self.port = 0

    def start(self) -> None:
        """Listen; on the same port as before, where it did."""
        server = self

        class Bound(Handler):
            api = server

        self._http = Http(("127.0.0.1", self.port), Bound)
        self.port = int(self._http.server_address[1])
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        """Listen no more, and break every connection."""
        assert self._http is not None
        self._http.shutdown()
        self._http.server_close()
        self._http.break_all()

    @contextmanager
    def running(self) -> Iterator[ApiServer]:
        self.start()
        try:
            yield self
        finally:
            self.stop()

    def cue(self, method: str, path: str, *what: Cue) -> None:
        """Misbehave at the next requests of that method whose path matches, each time as the next cue says."""
        with self.changed:
            self._cues += [(method, re.compile(path), cue) for cue in what]

    def next_cue(self, method: str, path: str) -> Cue | None:
        with self.changed:
            for at, (wanted, pattern, cue) in enumerate(self._cues):
                if wanted == method and pattern.search(path):
                    del self._cues[at]
                    return cue
        return None

    def put(self, kind: str, item: Object, what: str = "MODIFIED") -> Object:
        """Store an object as it is, and tell those who watch."""
        with self.changed:
            self.version += 1
            metadata = item["metadata"]
            before = self.objects.setdefault(kind, {}).get(metadata["name"], {}).get("metadata", {})
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            metadata.setdefault("uid", before.get("uid") or str(uuid.uuid4()))
            metadata.setdefault("creationTimestamp", before.get("creationTimestamp") or now)
            metadata["resourceVersion"] = str(self.version)
            new = not before
            self.objects[kind][metadata["name"]] = item
            self._tell("ADDED" if new else what, kind, item)
            return item

    def remove(self, kind: str, name: str) -> None:
        """Remove an object, and with it what it owns."""
        with self.changed:
            self.version += 1
            gone = self.objects[kind].pop(name)
            self._tell("DELETED", kind, gone)
            owned = [
                (of, item["metadata"]["name"])
                for of, items in self.objects.items()
                for item in items.values()
                for owner in item["metadata"].get("ownerReferences") or ()
                if owner["uid"] == gone["metadata"]["uid"]
            ]
            for of, child in owned:
                self.remove(of, child)

    def _tell(self, what: str, kind: str, item: Object) -> None:
        self._events.append((self.version, what, kind, json.loads(json.dumps(item))))
        self.changed.notify_all()

    def since(self, version: int, kind: str) -> list[tuple[int, str, Object]]:
        return [(at, what, item) for at, what, of, item in self._events if at > version and of == kind]

    def count(self, method: str, path: str = "") -> int:
        """How many requests of that method there were, whose path and query match."""
        return sum(
            of == method and re.search(path, f"{where} {query}") is not None
            for of, where, query in self.requests
        )


def connected(server: ApiServer, **how: Any) -> KubernetesApi:
    """Calls to the namespace ``default`` of the server."""
    import kubernetes

    configuration = kubernetes.client.Configuration(host=f"http://127.0.0.1:{server.port}")
    configuration.api_key = {"authorization": f"Bearer {TOKEN}"}
    configuration.retries = False
    return KubernetesApi(kubernetes.client.ApiClient(configuration), "default", **{"patience": 20.0, **how})


class Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.open: set[Any] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.open.discard(request)
        super().shutdown_request(request)

    def break_all(self) -> None:
        for request in list(self.open):
            self.shutdown_request(request)

    def handle_error(self, *_: Any) -> None:
        """Connections that break are what this is about."""


class Handler(BaseHTTPRequestHandler):
    api: ApiServer
    body: Object
    protocol_version = "HTTP/1.1"

    def handle_any(self) -> None:
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query))
        length = int(self.headers.get("Content-Length") or 0)
        self.body = body = json.loads(self.rfile.read(length)) if length else {}
        with self.api.changed:
            self.api.requests.append((self.command, url.path, query))
        cue = self.api.next_cue(self.command, self.path)
        if cue is not None and cue(self):
            return
        try:
            self._answer(url.path, query, body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_GET = do_POST = do_PATCH = do_DELETE = handle_any

    def reply(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response_only(status)
        self.send_header("Date", format_datetime(datetime.now(UTC) + self.api.skew, usegmt=True))
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    def refuse(self, status: int, reason: str, message: str) -> None:
        self.reply(
            status,
            {"kind": "Status", "status": "Failure", "reason": reason, "message": message, "code": status},
        )

    def drop(self) -> None:
        """Break the connection without a word."""
        self.close_connection = True
        self.connection.close()

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, path: str, query: dict[str, str], body: Object) -> None:
        if path == "/version":
            return self.reply(200, {"major": "1", "minor": "31+"})
        if path == "/api/v1/nodes":
            return self.reply(200, {"items": self.api.nodes})
        if path.endswith("/selfsubjectaccessreviews"):
            asked = body["spec"]["resourceAttributes"]
            allowed = self.api.may(asked["verb"], asked["resource"])
            return self.reply(201, {"status": {"allowed": allowed}})
        match = _PATH.match(path)
        assert match is not None, path
        namespace, kind, name, log = match.groups()
        if self.command == "POST" and namespace not in self.api.namespaces:
            return self.refuse(404, "NotFound", f'namespaces "{namespace}" not found')
        if self.command == "POST":
            return self._create(kind, body)
        if name is None:
            if query.get("watch"):
                return self._watch(kind, query)
            return self._list(kind, query)
        with self.api.changed:
            found = self.api.objects.get(kind, {}).get(name)
        if found is None:
            return self.refuse(404, "NotFound", f'{kind} "{name}" not found')
        if log:
            return self.reply(200, self.api.logs.get(name, "").encode())
        if self.command == "GET":
            return self.reply(200, found)
        if self.command == "PATCH":
            return self.reply(200, self.api.put(kind, merged(found, body)))
        for field, wanted in (body.get("preconditions") or {}).items():
            if wanted != found["metadata"][field]:
                return self.refuse(
                    409, "Conflict", f"the {field} in the precondition ({wanted}) does not match"
                )
        self.api.remove(kind, name)
        return self.reply(200, {"kind": "Status", "status": "Success"})

    def _create(self, kind: str, body: Object) -> None:
        name = body["metadata"]["name"]
        with self.api.changed:
            if name in self.api.objects.get(kind, {}):
                return self.refuse(409, "AlreadyExists", f'{kind} "{name}" already exists')
            body["metadata"].pop("uid", None)
            self.api.put(kind, body)
        return self.reply(201, body)

    def _chosen(self, item: Object, query: dict[str, str]) -> bool:
        labels = item["metadata"].get("labels") or {}
        pairs = [pair.split("=") for pair in query.get("labelSelector", "").split(",") if pair]
        return all(labels.get(key) == value for key, value in pairs)

    def _list(self, kind: str, query: dict[str, str]) -> None:
        with self.api.changed:
            items = [item for item in self.api.objects.get(kind, {}).values() if self._chosen(item, query)]
            version = self.api.version
            data = json.dumps({"metadata": {"resourceVersion": str(version)}, "items": items}).encode()
        for field in query.get("fieldSelector", "").split(","):
            if field.startswith("involvedObject.name="):
                name = field.partition("=")[2]
                items = [item for item in items if item["involvedObject"]["name"] == name]
                data = json.dumps({"metadata": {"resourceVersion": str(version)}, "items": items}).encode()
        self.reply(200, data)

    def begin_watch(self) -> None:
        self.send_response_only(200)
        self.send_header("Date", format_datetime(datetime.now(UTC) + self.api.skew, usegmt=True))
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _watch(self, kind: str, query: dict[str, str]) -> None:
        self.begin_watch()
        version = int(query["resourceVersion"])
        end = time.monotonic() + float(query["timeoutSeconds"])
        while time.monotonic() < end:
            with self.api.changed:
                news = self.api.since(version, kind)
                if not news:
                    self.api.changed.wait(0.1)
                    continue
            for at, what, item in news:
                version = at
                if self._chosen(item, query):
                    self.chunk(json.dumps({"type": what, "object": item}).encode() + b"\n")
            cue = self.api.next_cue("WATCHED", kind)
            if cue is not None and cue(self):
                return
        self.chunk(b"")


def merged(found: Object, change: Object) -> Object:
    """A merge patch, as far as it is used here."""
    out = dict(found)
    for key, value in change.items():
        if value is None:
            out.pop(key, None)
        elif isinstance(value, dict) and isinstance(out.get(key), dict):
            out[key] = merged(out[key], value)
        else:
            out[key] = value
    return out


def status(code: int, body: Any = b"", **headers: str) -> Cue:
    """Answer with a status."""

    def misbehave(handler: Handler) -> bool:
        handler.reply(code, body, headers)
        return True

    return misbehave


def refused(code: int, reason: str, message: str) -> Cue:
    """Answer with a status as the API server words it."""

    def misbehave(handler: Handler) -> bool:
        handler.refuse(code, reason, message)
        return True

    return misbehave


def dropped(handler: Handler) -> bool:
    """Break the connection before anything is done."""
    handler.drop()
    return True


def done_and_dropped(handler: Handler) -> bool:
    """Do what is asked, and break the connection before that can be told."""
    real = handler.wfile
    handler.wfile = _Nowhere()  # type: ignore[assignment]
    url = urlsplit(handler.path)
    handler._answer(url.path, dict(parse_qsl(url.query)), handler.body)
    handler.wfile = real
    handler.drop()
    return True


class _Nowhere:
    def write(self, _: bytes) -> None: ...

    def flush(self) -> None: ...


def gone(handler: Handler) -> bool:
    """What a watch is told whose version lies too far back."""
    handler.begin_watch()
    error = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
    handler.chunk(json.dumps({"type": "ERROR", "object": error}).encode() + b"\n")
    handler.chunk(b"")
    return True


def half_a_line(handler: Handler) -> bool:
    """Begin to tell of something, and break the connection."""
    handler.chunk(b'{"type": "MODIFIED", "object": {"metadata": {"na')
    handler.drop()
    return True
