"""A web server on loopback with files, and Zenodo's REST API over some of them, which fails as a test says."""

from __future__ import annotations

import hashlib
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from typing import Any

from tests.hub import Answering, Hub


@dataclass
class ZenodoRecord:
    """A record: its files by name, and which record is the newest version of the same thing."""

    number: int
    files: dict[str, bytes]
    concept: int
    restricted: bool = False
    doi: str = ""

    def listing(self, url: str) -> dict[str, Any]:
        doi = self.doi or f"10.5281/zenodo.{self.number}"
        return {
            "id": self.number,
            "conceptrecid": str(self.concept),
            "doi": doi,
            "title": "Some questions",
            "metadata": {"title": "Some questions", "doi": doi, "license": {"id": "cc-by-4.0"}},
            "files": [
                {
                    "id": f"00000000-0000-4000-8000-{number:012}",
                    "key": name,
                    "size": len(data),
                    "checksum": "md5:" + hashlib.md5(data).hexdigest(),
                    "links": {
                        "self": f"{url}/api/records/{self.number}/files/{urllib.parse.quote(name)}/content"
                    },
                }
                for number, (name, data) in enumerate(self.files.items())
            ],
        }


@dataclass
class Web(Hub):
    """What is served: files by path, and records of Zenodo by number."""

    files: dict[str, bytes] = field(default_factory=dict)
    records: dict[int, ZenodoRecord] = field(default_factory=dict)
    etags: bool = True
    heads: bool = True
    redirects: dict[str, str] = field(default_factory=dict)
    """Paths that are answered with where else it is."""

    def record(self, number: int, files: dict[str, bytes], *, concept: int = 1, **more: Any) -> None:
        self.records[number] = ZenodoRecord(number, files, concept, **more)


@contextmanager
def serve_web() -> Iterator[Web]:
    """A server that answers until the end of the block."""
    web = Web()

    class Answers(Answering):
        hub = web

        def route(self) -> None:
            url = urllib.parse.urlsplit(self.path)
            path = urllib.parse.unquote(url.path)
            parts = path.strip("/").split("/")
            if self.command == "HEAD" and not web.heads:
                self.send(405, b"", {})
            elif path in web.redirects:
                self.send(302, b"", {"Location": web.redirects[path]})
            elif parts[:2] == ["api", "records"]:
                self._zenodo(parts[2:], urllib.parse.parse_qs(url.query))
            elif path.startswith("/moved/"):
                self.send(302, b"", {"Location": path.removeprefix("/moved")})
            elif path in web.files:
                data = web.files[path]
                etag = {"ETag": f'"{hashlib.sha1(data).hexdigest()}"'} if web.etags else {}
                self.give(path, data, etag)
            else:
                self.send(404, b"<html>not found</html>", {})

        def _zenodo(self, parts: list[str], query: dict[str, list[str]]) -> None:
            if not parts:
                wanted = query["q"][0].removeprefix('doi:"').rstrip('"')
                found = [r.listing(web.url) for r in web.records.values() if r.doi == wanted]
                self.json({"hits": {"hits": found, "total": len(found)}})
                return
            versions = [r for r in web.records.values() if str(r.concept) == parts[0]]
            if versions:
                newest = max(record.number for record in versions)
                self.send(301, b"", {"Location": f"{web.url}/api/records/{newest}"})
                return
            record = web.records.get(int(parts[0]))
            if record is None:
                self.json({"status": 404, "message": "The persistent identifier does not exist."}, status=404)
            elif record.restricted and self.headers.get("Authorization") != "Bearer zenodo-secret":
                self.json({"status": 403, "message": "Permission denied."}, status=403)
            elif len(parts) == 1:
                self.json(record.listing(web.url))
            else:
                self.give(parts[2], record.files[parts[2]], {})

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    web.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
