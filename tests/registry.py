"""A container registry in memory: as much of the distribution protocol as pushing and pulling by digest takes.

https://github.com/opencontainers/distribution-spec/blob/main/spec.md
"""

from __future__ import annotations

import hashlib
import http.server
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit


@dataclass
class Registry:
    """What was pushed.

    Attributes:
        port: Where it listens, on the loopback interface.
        blobs: By digest.
        manifests: By digest, and by NAME:TAG; each with its media type.
        refuses: Whether it refuses what is pushed.
    """

    port: int = 0
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    refuses: bool = False
    uploads: dict[str, bytes] = field(default_factory=dict)

    @property
    def host(self) -> str:
        return f"localhost:{self.port}"


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@contextmanager
def registry() -> Iterator[Registry]:
    """A registry that answers for the length of a block."""
    kept = Registry()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") == "chunked":
                whole = b""
                while size := int(self.rfile.readline(), 16):
                    whole += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return whole
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            if path == "/v2/":
                return self.answer(200)
            name, kind, reference = path.removeprefix("/v2/").rsplit("/", 2)
            if kind == "blobs" and reference in kept.blobs:
                data = kept.blobs[reference]
                return self.answer(
                    200, data, Docker_Content_Digest=reference, Content_Type="application/octet-stream"
                )
            key = reference if reference.startswith("sha256:") else f"{name}:{reference}"
            if kind == "manifests" and key in kept.manifests:
                media, data = kept.manifests[key]
                return self.answer(200, data, Content_Type=media, Docker_Content_Digest=digest_of(data))
            self.answer(404)

        do_HEAD = do_GET

        def do_POST(self) -> None:
            self.body()
            if kept.refuses:
                return self.answer(403)
            key = uuid.uuid4().hex
            kept.uploads[key] = b""
            self.answer(202, Location=f"{urlsplit(self.path).path.rstrip('/')}/{key}", Docker_Upload_UUID=key)

        def do_PATCH(self) -> None:
            path = urlsplit(self.path).path
            key = path.rsplit("/", 1)[1]
            kept.uploads[key] += self.body()
            self.answer(202, Location=path, Range=f"0-{len(kept.uploads[key]) - 1}", Docker_Upload_UUID=key)

        def do_PUT(self) -> None:
            split, data = urlsplit(self.path), self.body()
            name, kind, reference = split.path.removeprefix("/v2/").rsplit("/", 2)
            if kind == "uploads":
                whole = kept.uploads.pop(reference) + data
                (digest,) = parse_qs(split.query)["digest"]
                if digest != digest_of(whole):
                    return self.answer(400)
                kept.blobs[digest] = whole
                return self.answer(201, Location=f"/v2/{name}/blobs/{digest}", Docker_Content_Digest=digest)
            if kept.refuses:
                return self.answer(403)
            manifest = (self.headers["Content-Type"], data)
            kept.manifests[digest_of(data)] = kept.manifests[f"{name}:{reference}"] = manifest
            self.answer(
                201, Location=f"/v2/{name}/manifests/{reference}", Docker_Content_Digest=digest_of(data)
            )

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    kept.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield kept
    finally:
        server.shutdown()
        server.server_close()
