"""Files and answers of web servers: what a URL stands for now, and its bytes, resumed and checked."""

from __future__ import annotations

import base64
import shutil
import urllib.parse
import uuid
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dyff_dagster.catalog.origins import WebOrigin
from dyff_dagster.schema.canonical import sha256_text
from dyff_dagster.sources.downloads import Arrived, alone, download, hash_file
from dyff_dagster.sources.errors import SourceError
from dyff_dagster.store import FileDigest, Progress

_CHECKSUMS = ("md5", "sha256")
_LARGEST_JSON = 64 * 1024 * 1024


@dataclass(frozen=True)
class Stands:
    """What a URL stands for now, as far as its server says.

    Attributes:
        etag: A strong entity tag, by which a download can be gone on with.
        size: Bytes.
        mark: Digest of all that tells this content from another; none where the server says nothing of the kind.
    """

    etag: str | None = None
    size: int | None = None
    mark: str | None = None


def stands_for(owner: str, source: WebOrigin) -> Stands:
    """Ask a server what a URL stands for, without its bytes.

    Raises:
        SourceError: It does not exist, may not be read, or the server cannot be reached.
    """
    from huggingface_hub.utils import http_backoff

    with explained(owner, shown(source.url)):
        response = http_backoff(
            "HEAD", source.url, headers={"Accept-Encoding": "identity"}, follow_redirects=True, timeout=30
        )
        if response.status_code in (403, 405, 501):
            return Stands()  # some servers give files out and answer no HEAD
        response.raise_for_status()
    found = response.headers
    etag = found.get("ETag")
    length = found.get("Content-Length") or ""
    said = [etag or "", found.get("Last-Modified") or "", length]
    strong = etag if etag and not etag.startswith("W/") else None
    size = int(length) if length.isdigit() and not found.get("Content-Encoding") else None
    return Stands(strong, size, sha256_text("\n".join(said)) if said[0] or said[1] else None)


def fetch_url(
    owner: str,
    url: str,
    name: str,
    cache: Path,
    progress: Progress,
    *,
    headers: Mapping[str, str] | None = None,
    size: int | None = None,
    checksum: tuple[str, str] | None = None,
    stands: Stands | None = None,
) -> tuple[Path, FileDigest]:
    """Have a URL's bytes on this disk.

    Args:
        owner: Id of the entity that wants them, for messages.
        url: Where they are.
        name: What the file is called.
        cache: Where downloads lie, each in a directory of its own.
        progress: Told the bytes that came.
        headers: Sent along.
        size: How many bytes there must be.
        checksum: ``("sha256" or "md5", HEX)`` that they must have.
        stands: What the URL stands for. Where neither this nor a checksum tells what it is, nothing that came before is
            used.

    Raises:
        SourceError: They cannot be had, or are not those that the checksum says.
    """
    if checksum is not None and checksum[0] not in _CHECKSUMS:
        raise SourceError(
            f"{owner}: the checksum of {name} is of the kind {checksum[0]!r}, which is not known here"
        )
    same = checksum[1] if checksum is not None else None if stands is None else stands.mark
    target = cache / sha256_text(f"{url}\n{same or uuid.uuid4().hex}")[:32] / name
    target.parent.mkdir(parents=True, exist_ok=True)
    came = 0

    def tell(count: int) -> None:
        nonlocal came
        came += count
        progress(f"bytes of {name} fetched", came, size)

    with alone(target, lambda: progress(f"waiting for another run that fetches {name}", None, None)):
        if target.exists():
            arrived = hash_file(target)
            if _fits(arrived, size, checksum):
                return target, arrived.digest
            target.unlink()
        _refuse_without_space(owner, name, size, target.parent)
        with explained(owner, name):
            arrived = download(
                url,
                target,
                headers=headers,
                size=size,
                validator=None if stands is None else stands.etag,
                tell=tell,
            )
        if not _fits(arrived, size, checksum):
            target.unlink()
            what = "checksum" if checksum is None else {"md5": "MD5", "sha256": "SHA-256"}[checksum[0]]
            raise SourceError(
                f"{owner}: the {what} of {name} is not the one that is said for it: the file changed or was damaged "
                "on the way; run it again, or correct the checksum"
            )
    return target, arrived.digest


def get_json(owner: str, url: str, what: str, headers: Mapping[str, str]) -> Any:
    """What a server answers, as JSON.

    Raises:
        SourceError: It refuses, fails time and again, or answers something else.
    """
    from huggingface_hub.utils import http_backoff

    with explained(owner, what):
        response = http_backoff("GET", url, headers=dict(headers), follow_redirects=True, timeout=30)
        response.raise_for_status()
    try:
        if len(response.content) > _LARGEST_JSON:
            raise ValueError("too long")
        return response.json()
    except (ValueError, RecursionError):
        raise SourceError(f"{owner}: {what}: the server answers no JSON: run it again later") from None


@contextmanager
def explained(owner: str, what: str) -> Generator[None, None, None]:
    """Say in one sentence what a server refused; URLs, which may hold secrets, are not repeated.

    Raises:
        SourceError: Instead of what the client raises.
    """
    from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled

    try:
        yield
    except OfflineModeIsEnabled:
        raise SourceError(
            f"{owner}: {what} has to be fetched, and HF_HUB_OFFLINE forbids it: unset it"
        ) from None
    except HTTPError as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (404, 410):
            problem = "is not there: correct the source"
        elif status in (401, 403):
            problem = f"may not be read by whoever asks (status {status}): ask its owner for access"
        elif status is not None:
            problem = f"is answered with status {status}: run it again; what came already is kept"
        else:
            problem = (
                f"could not be reached ({type(error).__name__}): run it again; what came already is kept"
            )
        raise SourceError(f"{owner}: {what} {problem}") from None
    except OSError as error:
        if error.errno is not None:
            raise
        raise SourceError(
            f"{owner}: {what} came with another size than its server says: run it again"
        ) from None


def shown(url: str) -> str:
    """A URL for messages, without what may be secret in it."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _fits(arrived: Arrived, size: int | None, checksum: tuple[str, str] | None) -> bool:
    if size is not None and arrived.digest.size != size:
        return False
    if checksum is None:
        return True
    kind, value = checksum
    md5 = base64.b64decode(arrived.digest.md5).hex()
    return value == (arrived.digest.sha256 if kind == "sha256" else md5)


def _refuse_without_space(owner: str, name: str, size: int | None, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if size is not None and size > free:
        raise SourceError(
            f"{owner}: {name} has {size} bytes, and {free} are free in {folder}: free some space"
        )
