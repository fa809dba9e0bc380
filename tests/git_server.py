"""A git server with Git LFS on loopback: git's own ``http-backend``, and LFS's batch API over the objects of a push."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_IDENTITY = {
    "GIT_AUTHOR_NAME": "Someone",
    "GIT_AUTHOR_EMAIL": "someone@example.org",
    "GIT_COMMITTER_NAME": "Someone",
    "GIT_COMMITTER_EMAIL": "someone@example.org",
}


def has_git_lfs() -> bool:
    """Whether both programs are here."""
    return shutil.which("git") is not None and shutil.which("git-lfs") is not None


@dataclass
class GitRepository:
    """A bare repository with its large files, and a work tree to commit from."""

    bare: Path
    work: Path

    @classmethod
    def make(cls, directory: Path) -> GitRepository:
        found = cls(directory / "model.git", directory / "work")
        found.work.mkdir(parents=True)
        subprocess.run(
            ["git", "init", "--bare", "--quiet", "--initial-branch", "main", str(found.bare)], check=True
        )
        found.git("init", "--quiet", "--initial-branch", "main")
        found.git("lfs", "install", "--local")
        # One by one: together git-lfs notes them in no certain order, and the commit would have no certain hash.
        found.git("lfs", "track", "*.safetensors")
        found.git("lfs", "track", "*.bin")
        found.git("remote", "add", "origin", f"file://{found.bare}")
        return found

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.work,
            env={**os.environ, **_IDENTITY},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        """Write files, commit and push them; returns the commit."""
        for name, data in files.items():
            path = self.work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "Files")
        self.git("push", "--quiet", "origin", f"HEAD:refs/heads/{branch}")
        return self.git("rev-parse", "HEAD")

    def large_object(self, digest: str) -> Path:
        return self.bare / "lfs" / "objects" / digest[:2] / digest[2:4] / digest


@dataclass
class GitServer:
    """Where repositories are served, and what was sent of their large files."""

    url: str = ""
    asked: list[str] = field(default_factory=list)
    sent: int = 0


@contextmanager
def serve_git(root: Path) -> Iterator[GitServer]:
    """Serve the bare repositories below a directory over HTTP until the end of the block."""
    known = GitServer()

    class Answers(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"

        def log_message(self, format: str, *arguments: Any) -> None:
            """Nothing."""

        def do_GET(self) -> None:
            self._answer(b"")

        def do_POST(self) -> None:
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = b""
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self._answer(body)
            else:
                self._answer(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

        def _answer(self, body: bytes) -> None:
            known.asked.append(f"{self.command} {self.path}")
            url = urllib.parse.urlsplit(self.path)
            if url.path.endswith("/info/lfs/objects/batch"):
                self._batch(url.path.removesuffix("/info/lfs/objects/batch"), json.loads(body))
            elif match := re.fullmatch(r"(.+)/large/([0-9a-f]{64})", url.path):
                self._large(GitRepository(root / match[1].strip("/"), root).large_object(match[2]))
            else:
                self._git(url, body)

        def _batch(self, repository: str, asked: Any) -> None:
            objects = []
            for wanted in asked["objects"]:
                entry = dict(wanted)
                if GitRepository(root / repository.strip("/"), root).large_object(wanted["oid"]).exists():
                    entry["actions"] = {
                        "download": {"href": f"{known.url}{repository}/large/{wanted['oid']}"}
                    }
                else:
                    entry["error"] = {"code": 404, "message": "Object does not exist"}
                objects.append(entry)
            self._send(
                200,
                json.dumps({"transfer": "basic", "objects": objects}).encode(),
                "application/vnd.git-lfs+json",
            )

        def _large(self, path: Path) -> None:
            data = path.read_bytes()
            match = re.fullmatch(r"bytes=(\d+)-.*", self.headers.get("Range") or "")
            start = int(match[1]) if match else 0
            known.sent += len(data) - start
            span = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if match else {}
            self._send(206 if match else 200, data[start:], "application/octet-stream", **span)

        def _git(self, url: urllib.parse.SplitResult, body: bytes) -> None:
            environment = {
                **os.environ,
                "GIT_PROJECT_ROOT": str(root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "PATH_INFO": url.path,
                "QUERY_STRING": url.query,
                "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": self.headers.get("Content-Type") or "",
                "CONTENT_LENGTH": str(len(body)),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding") or "",
                "GIT_PROTOCOL": self.headers.get("Git-Protocol") or "",
            }
            done = subprocess.run(["git", "http-backend"], input=body, env=environment, capture_output=True)
            head, _, rest = done.stdout.partition(b"\r\n\r\n")
            headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
            status = int(headers.pop("Status", "200 OK").split()[0])
            self._send(status, rest, headers.pop("Content-Type", "text/plain"), **headers)

        def _send(self, status: int, body: bytes, kind: str, **headers: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    known.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield known
    finally:
        server.shutdown()
        server.server_close()
