"""A Hugging Face Hub on loopback: as much of the real API as an unmodified ``huggingface_hub`` client asks for.

Repositories with commits, branches and large files; ``resolve`` answers small files itself and sends clients of
large ones to a second server, as the real Hub sends them to its CDN, where no token may arrive. Files may also be
kept on Xet: with ``hf_xet``'s own storage on a local disk.

It fails as it is told: by name (a damaged file, a file that stops after so many bytes), or at random on a seed
(dropped connections, 429 with ``Retry-After``, 503).
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import socket
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_PIECE = 64 * 1024


@dataclass(frozen=True)
class Large:
    """A file that is kept with Git LFS; ``xet`` is its hash where it is kept on Xet as well."""

    data: bytes
    xet: str | None = None

    @cached_property
    def sha256(self) -> str:
        """Of its bytes, taken once: each listing and each redirect names it."""
        return hashlib.sha256(self.data).hexdigest()


Content = bytes | Large


@dataclass
class Repository:
    """A repository: commits by their hash, each with all of its files, and branches."""

    kind: str
    name: str
    private: bool = False
    gated: bool = False
    card: dict[str, Any] = field(default_factory=dict)
    commits: dict[str, dict[str, Content]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, files: Mapping[str, Content], branch: str = "main") -> str:
        """Add a commit that has these files and no others; returns its hash."""
        listing = {path: git_blob(pointer(content)) for path, content in files.items()}
        text = json.dumps([self.kind, self.name, len(self.commits), listing], sort_keys=True)
        commit = hashlib.sha1(text.encode()).hexdigest()
        self.commits[commit] = dict(files)
        self.branches[branch] = commit
        return commit

    def resolve(self, revision: str) -> str | None:
        return revision if revision in self.commits else self.branches.get(revision)


@dataclass(frozen=True)
class Asked:
    """A request, and how much was sent in answer to it."""

    method: str
    path: str
    headers: Mapping[str, str]
    status: int
    sent: int


@dataclass
class Faults:
    """What goes wrong at random: shares of the requests."""

    seed: int = 0
    dropped: float = 0.0
    too_many: float = 0.0
    unavailable: float = 0.0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._lock = threading.Lock()

    def draw(self) -> float:
        with self._lock:
            return self._random.random()


@dataclass
class Hub:
    """What is on the Hub, how it misbehaves, and what it was asked."""

    tokens: set[str] = field(default_factory=set)
    repositories: dict[tuple[str, str], Repository] = field(default_factory=dict)
    faults: Faults = field(default_factory=Faults)
    damaged: set[str] = field(default_factory=set)
    """Paths of files whose bytes are not what the listing says."""
    stops_after: dict[str, int] = field(default_factory=dict)
    """Path → bytes after which the connection is cut, once."""
    bytes_per_second: float | None = None
    ignores_ranges: bool = False
    xet: str = ""
    """Endpoint of the Xet storage."""
    asked: list[Asked] = field(default_factory=list)
    url: str = ""
    cdn: str = ""
    page: int = 1000
    """Entries of a listing's page."""

    def repository(self, name: str, kind: str = "models", **more: Any) -> Repository:
        repository = Repository(kind, name, **more)
        self.repositories[kind, name] = repository
        return repository

    def sent(self, text: str) -> int:
        """Bytes of bodies that were sent for requests whose path holds ``text``."""
        return sum(asked.sent for asked in self.asked if asked.method == "GET" and text in asked.path)

    def paths(self) -> list[str]:
        return [asked.path for asked in self.asked]


def git_blob(data: bytes) -> str:
    """The hash that git has for a file of these bytes."""
    return hashlib.sha1(b"blob %d\x00" % len(data) + data).hexdigest()


def pointer(content: Content) -> bytes:
    """What git keeps of a file: of a large one, where it is."""
    if isinstance(content, bytes):
        return content
    digest = content.sha256
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {len(content.data)}\n".encode()


@contextmanager
def serve_hub(hub: Hub | None = None) -> Iterator[Hub]:
    """A Hub that answers until the end of the block."""
    hub = hub or Hub()
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler) for handler in (_handler(hub), _cdn(hub))]
    for server in servers:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    hub.url, hub.cdn = (f"http://127.0.0.1:{server.server_address[1]}" for server in servers)
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


class Answering(BaseHTTPRequestHandler):
    """Answers as a :class:`Hub` says it should, and notes what it was asked."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: tests look at ``asked``."""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._answer()

    def _answer(self) -> None:
        if self.path == "/api/agent-harnesses":
            # The client asks in a thread of its own, once: what comes of it must not move the dice.
            self.send(404, b"", {})
            return
        faults = self.hub.faults
        if faults.dropped and faults.draw() < faults.dropped:
            self._cut()
            return
        if faults.too_many and faults.draw() < faults.too_many:
            limit = {"Retry-After": "0", "RateLimit": '"api";r=0;t=0'}
            self.send(429, b"slow down", limit)
            return
        if faults.unavailable and faults.draw() < faults.unavailable:
            self.send(503, b"try again", {})
            return
        try:
            self.route()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def route(self) -> None:
        raise NotImplementedError

    def _cut(self) -> None:
        self._note(0, 0)
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _note(self, status: int, sent: int) -> None:
        self.hub.asked.append(Asked(self.command, self.path, dict(self.headers), status, sent))

    def json(self, value: Any, headers: Mapping[str, str] | None = None, status: int = 200) -> None:
        self.send(status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _error(self, status: int, code: str, message: str, **headers: str) -> None:
        self.json(
            {"error": message},
            {"X-Error-Code": code, "X-Error-Message": message, "X-Request-Id": "Root=1-fake", **headers},
            status,
        )

    def send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        sent = 0
        if self.command != "HEAD":
            self.wfile.write(body)
            sent = len(body)
        self._note(status, sent)

    def give(self, name: str, data: bytes, headers: Mapping[str, str]) -> None:
        """A file, or the part of it that was asked for; at most as fast and as far as the test says."""
        if name in self.hub.damaged:
            data = bytes([data[0] ^ 1]) + data[1:] if data else data
        start, status = 0, 200
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        etag = headers.get("ETag")
        if asked and not self.hub.ignores_ranges and self.headers.get("If-Range") in (None, etag):
            start = int(asked[1])
            if start >= len(data):
                self.send(416, b"", {"Content-Range": f"bytes */{len(data)}"})
                return
            status = 206
        end = int(asked[2]) + 1 if status == 206 and asked is not None and asked[2] else len(data)
        body = memoryview(data)[start:end]
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Accept-Ranges", "bytes")
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
        self.end_headers()
        if self.command == "HEAD":
            self._note(status, 0)
            return
        limit = self.hub.stops_after.pop(name, None)
        sent, began = 0, time.monotonic()
        try:
            while sent < len(body):
                piece = body[sent : sent + _PIECE]
                if limit is not None and sent + len(piece) > limit:
                    piece = piece[: limit - sent]
                self.wfile.write(piece)
                sent += len(piece)
                if limit is not None and sent >= limit:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    break
                if self.hub.bytes_per_second is not None:
                    time.sleep(max(0.0, sent / self.hub.bytes_per_second - (time.monotonic() - began)))
        finally:
            self._note(status, sent)


def _cdn(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Cdn(Answering):
        """Where large files lie: whoever has the link may read, and no token belongs here."""

        def route(self) -> None:
            if self.headers.get("Authorization"):
                self.send(400, b"a token came to the CDN", {})
                return
            url = urllib.parse.urlsplit(self.path)
            digest = url.path.rpartition("/")[2]
            (name,) = urllib.parse.parse_qs(url.query)["name"]
            for repository in hub.repositories.values():
                for files in repository.commits.values():
                    content = files.get(name)
                    if isinstance(content, Large) and content.sha256 == digest:
                        self.give(name, content.data, {"ETag": f'"{digest[:32]}"'})
                        return
            self.send(404, b"", {})

    Cdn.hub = hub
    return Cdn


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Answers(Answering):
        def route(self) -> None:
            url = urllib.parse.urlsplit(self.path)
            path = url.path
            query = urllib.parse.parse_qs(url.query)
            api = re.fullmatch(
                r"/api/(models|datasets)/(.+?)(?:/(revision|tree|xet-read-token|paths-info)/([^/]+)(?:/(.*))?)?",
                path,
            )
            resolve = re.fullmatch(r"(?:/(datasets))?/(.+?)/resolve/([^/]+)/(.+)", path)
            if api is not None:
                kind, name, what, revision, rest = api.groups()
                self._api(kind, name, what or "revision", revision or "main", rest or "", query)
            elif resolve is not None:
                kind, name, revision, file = resolve.groups()
                self._resolve(kind or "models", name, revision, urllib.parse.unquote(file))
            else:
                self._error(404, "NotFound", "Sorry, we can't find the page you are looking for.")

        def _found(
            self, kind: str, name: str, revision: str, *, content: bool
        ) -> tuple[Repository, str] | None:
            """The repository and the commit, where whoever asks may have them; else an answer was sent."""
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            known = token in hub.tokens
            if token and not known:
                self._error(401, "", "Invalid credentials in Authorization header")
                return None
            repository = hub.repositories.get((kind, name))
            if repository is None or (repository.private and not known):
                # As the Hub does: whoever is not known is not told what there is.
                self._error(404 if known else 401, "RepoNotFound", "Repository not found")
                return None
            if repository.gated and content and not known:
                message = (
                    f"Access to {kind[:-1]} {name} is restricted. You must be authenticated to access it."
                )
                self._error(401, "GatedRepo", message)
                return None
            if repository.gated and content and token.endswith("-unlisted"):
                self._error(
                    403, "GatedRepo", f"Access to {kind[:-1]} {name} is restricted: you are not on the list"
                )
                return None
            commit = repository.resolve(urllib.parse.unquote(revision))
            if commit is None:
                self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
                return None
            return repository, commit

        def _api(
            self, kind: str, name: str, what: str, revision: str, rest: str, query: Mapping[str, list[str]]
        ) -> None:
            found = self._found(kind, name, revision, content=what == "tree")
            if found is None:
                return
            repository, commit = found
            files = repository.commits[commit]
            if what == "xet-read-token":
                access = {"casUrl": hub.xet, "exp": int(time.time()) + 3600, "accessToken": "xet-token"}
                headers = {
                    "X-Xet-Cas-Url": hub.xet,
                    "X-Xet-Access-Token": "xet-token",
                    "X-Xet-Token-Expiration": str(access["exp"]),
                }
                self.json(access, headers)
            elif what == "tree":
                entries = [_entry(path, files[path]) for path in sorted(files) if path.startswith(rest)]
                start = int(query.get("cursor", ["0"])[0])
                more = {}
                if start + hub.page < len(entries):
                    again = f"{hub.url}{urllib.parse.urlsplit(self.path).path}?recursive=True&cursor={start + hub.page}"
                    more["Link"] = f'<{again}>; rel="next"'
                self.json(entries[start : start + hub.page], more)
            elif what == "paths-info":
                asked = json.loads(self.body)["paths"]
                self.json([_entry(path, files[path]) for path in asked if path in files])
            else:
                self.json(_info(repository, commit, blobs=query.get("blobs") in (["True"], ["true"])))

        def _resolve(self, kind: str, name: str, revision: str, file: str) -> None:
            found = self._found(kind, name, revision, content=True)
            if found is None:
                return
            repository, commit = found
            content = repository.commits[commit].get(file)
            if content is None:
                self._error(404, "EntryNotFound", "Entry not found", **{"X-Repo-Commit": commit})
                return
            headers = {"X-Repo-Commit": commit}
            if isinstance(content, bytes):
                self.give(file, content, {**headers, "ETag": f'"{git_blob(content)}"'})
                return
            digest = content.sha256
            headers |= {
                "X-Linked-Etag": f'"{digest}"',
                "X-Linked-Size": str(len(content.data)),
                "Location": f"{hub.cdn}/repos/{digest}?name={urllib.parse.quote(file)}&Signature=secret",
            }
            if content.xet is not None:
                prefix = f"{hub.url}/api/{kind}/{name}"
                headers |= {
                    "X-Xet-Hash": content.xet,
                    "X-Xet-Refresh-Route": f"{prefix}/xet-read-token/{commit}",
                }
            self.send(302, b"Found", headers)

    Answers.hub = hub
    return Answers


def _entry(path: str, content: Content) -> dict[str, Any]:
    kept = pointer(content)
    entry: dict[str, Any] = {"type": "file", "path": path, "oid": git_blob(kept), "size": len(kept)}
    if isinstance(content, Large):
        digest = content.sha256
        entry |= {
            "size": len(content.data),
            "lfs": {"oid": digest, "size": len(content.data), "pointerSize": len(kept)},
        }
        if content.xet is not None:
            entry["xetHash"] = content.xet
    return entry


def _info(repository: Repository, commit: str, *, blobs: bool) -> dict[str, Any]:
    siblings: list[dict[str, Any]] = []
    for path, content in sorted(repository.commits[commit].items()):
        sibling: dict[str, Any] = {"rfilename": path}
        if blobs:
            entry = _entry(path, content)
            sibling |= {"size": entry["size"], "blobId": entry["oid"]}
            if "lfs" in entry:
                lfs = entry["lfs"]
                sibling["lfs"] = {
                    "sha256": lfs["oid"],
                    "size": lfs["size"],
                    "pointerSize": lfs["pointerSize"],
                }
        siblings.append(sibling)
    return {
        "_id": "0" * 24,
        "id": repository.name,
        "modelId": repository.name,
        "sha": commit,
        "private": repository.private,
        "gated": "manual" if repository.gated else False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": [],
        "cardData": repository.card,
        "siblings": siblings,
        "createdAt": "2026-01-01T00:00:00.000Z",
        "lastModified": "2026-01-01T00:00:00.000Z",
    }


def keep_on_xet(directory: Path, data: bytes) -> tuple[str, str]:
    """Keep bytes with Xet's own storage in a directory; returns the storage's endpoint and their hash there."""
    import hf_xet

    directory.mkdir(parents=True, exist_ok=True)
    endpoint = f"local://{directory}"
    with hf_xet.XetSession().new_upload_commit(endpoint=endpoint) as upload:
        handle = upload.start_upload_bytes(data)
    found = handle.result()
    return endpoint, found.xet_info.hash if hasattr(found, "xet_info") else found.hash
