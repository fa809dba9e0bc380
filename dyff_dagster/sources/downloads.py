"""A file from the net: gone on with where it was broken off, digested while it comes, in place once it is whole.

Requests are ``huggingface_hub``'s, whose ``http_get`` reads in chunks, resumes within a call and waits where it is told
to. What it lacks, and :func:`download` adds, is to resume what another process left when it was killed: since 1.18 its
own cache begins each file anew (https://github.com/huggingface/huggingface_hub/issues/4196).
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import logging
import os
import re
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import tenacity

from dyff_dagster.store import FileDigest

ATTEMPTS = 6
"""How often a server that fails or cuts connections is asked before it is given up; one that sends some more bytes
counts as asked for the first time."""

_BLOCK = 1 << 20
_LONGEST_WAIT = 20.0
_LONGEST_ASKED = 300.0
"""Seconds between two attempts, by ourselves and where the server asks for so many."""

T = TypeVar("T")

Tell = Callable[[int], None]
"""Told how many bytes came, or (negative) had to be thrown away; called from the thread that downloads."""


@dataclass(frozen=True)
class Arrived:
    """Digests of a file's bytes: those of the store, and git's hash of it as a blob."""

    digest: FileDigest
    git_blob: str


class Hashes:
    """Digests of bytes as they come.

    Args:
        size: How many bytes there will be in all; without it git's hash, which begins with it, cannot be had.
    """

    def __init__(self, size: int | None) -> None:
        self._announced = size
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._git = None if size is None else hashlib.sha1(b"blob %d\x00" % size, usedforsecurity=False)
        self.size = 0

    def update(self, data: bytes) -> None:
        """Take some more."""
        self._sha256.update(data)
        self._md5.update(data)
        if self._git is not None:
            self._git.update(data)
        self.size += len(data)

    def result(self) -> Arrived:
        """The digests of all that came."""
        md5 = base64.b64encode(self._md5.digest()).decode()
        git = self._git.hexdigest() if self._git is not None and self.size == self._announced else ""
        return Arrived(FileDigest(self._sha256.hexdigest(), md5, self.size), git)


def hash_file(path: Path, *, git: bool = False) -> Arrived:
    """Read a file once and digest it in every way that is asked for."""
    hashes = Hashes(path.stat().st_size if git else None)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            hashes.update(block)
    return hashes.result()


def download(
    url: str,
    target: Path,
    *,
    headers: Mapping[str, str] | None = None,
    size: int | None = None,
    git: bool = False,
    validator: str | None = None,
    tell: Tell = lambda count: None,
) -> Arrived:
    """Bring what a URL answers to a file; what an earlier call brought of it is not asked for again.

    At most one chunk (10 MiB) of a file is fetched twice when its process is killed. Whether the bytes are the right
    ones is for the caller to say, by their digests.

    Args:
        url: What to GET. Redirects are followed, and no header that authorizes goes to another host.
        target: Where to. Beside it, under ``.part``, lies what came until it is whole.
        headers: Sent along.
        size: How many bytes there must be.
        git: Whether git's hash is wanted; it needs ``size``.
        validator: A strong ``ETag`` that what is there already was sent with: the server begins anew by itself where
            its file is another one by now.
        tell: Told how many bytes came.

    Raises:
        huggingface_hub.errors.HTTPError: The server says no, or fails :data:`ATTEMPTS` times in a row.
        OSError: The file cannot be written, or has another size than ``size``.
    """
    sent = dict(headers or {})
    if validator is not None:
        sent["If-Range"] = validator
    # Compressed on the way, its parts could not be asked for.
    sent["Accept-Encoding"] = "identity"

    def fetch(partial: PartialFile) -> None:
        from huggingface_hub.file_download import http_get

        http_get(
            url,
            cast(BinaryIO, partial),
            resume_size=partial.tell(),
            headers=sent,
            expected_size=size,
            tqdm_class=_NoBar,
        )

    return bring(fetch, target, size=size, git=git, tell=tell)


def bring(
    fetch: Callable[[PartialFile], None],
    target: Path,
    *,
    size: int | None,
    git: bool = False,
    tell: Tell = lambda count: None,
) -> Arrived:
    """Have ``fetch`` append to what there is of a file until it is whole, and put it in place.

    Args:
        fetch: Appends what is missing; called again where the net failed.
        target: Where the file belongs.
        size: How many bytes there must be.
        git: Whether git's hash is wanted.
        tell: Told how many bytes came, those of an earlier call among them.
    """
    part = partial_of(target)
    part.parent.mkdir(parents=True, exist_ok=True)
    with PartialFile(part, size if git else None, limit=size, tell=tell) as partial:
        for attempt in _attempts(partial):
            with attempt:
                fetch(partial)
        arrived = partial.result()
    if size is not None and arrived.digest.size != size:
        raise OSError(f"{arrived.digest.size} bytes came, and there should be {size}")
    part.replace(target)
    return arrived


def partial_of(target: Path) -> Path:
    """Where the first part of a file lies until the rest has come."""
    return target.with_name(target.name + ".part")


@contextmanager
def alone(target: Path, waiting: Callable[[], None] = lambda: None) -> Generator[None, None, None]:
    """Have no other process download the same file meanwhile; ``waiting`` is called where one does."""
    path = target.with_name(f".{target.name}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


class PartialFile:
    """The first part of a file, with its digests; it grows at its end.

    Digests are taken in a thread of their own while the next chunk comes: neither waits for the other for long.
    """

    def __init__(self, path: Path, git_size: int | None, *, limit: int | None, tell: Tell) -> None:
        self._file = path.open("a+b", buffering=0)  # unbuffered: what was written survives a kill
        self._git_size = git_size
        self._tell = tell
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="digests")
        self._pending: Future[None] | None = None
        size = os.fstat(self._file.fileno()).st_size
        self._size = size if limit is None or size <= limit else 0
        self._file.truncate(self._size)
        self._read_again()
        tell(self._size)

    def __enter__(self) -> PartialFile:
        return self

    def __exit__(self, *error: object) -> None:
        with suppress(Exception):
            self._settle()
        self._worker.shutdown()
        self._file.close()

    def tell(self) -> int:
        """How many bytes there are."""
        return self._size

    def write(self, data: bytes) -> int:
        """Append."""
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        self._settle()
        self._pending = self._worker.submit(self._hashes.update, data)
        self._size += len(data)
        self._tell(len(data))
        return len(data)

    def seek(self, position: int) -> int:
        """Forget what lies behind ``position``: the server sends it again."""
        self._settle()
        if position != self._size:
            self._file.truncate(position)
            self._tell(position - self._size)
            self._size = position
            self._read_again()
        return position

    def truncate(self) -> int:
        """Nothing: :meth:`seek` has done it."""
        return self._size

    def result(self) -> Arrived:
        """The digests of all that there is."""
        self._settle()
        return self._hashes.result()

    def _settle(self) -> None:
        if self._pending is not None:
            self._pending.result()
            self._pending = None

    def _read_again(self) -> None:
        self._hashes = Hashes(self._git_size)
        self._file.seek(0)
        while block := self._file.read(_BLOCK):
            self._hashes.update(block)


def _attempts(partial: PartialFile) -> Iterator[tenacity.AttemptManager]:
    """Attempts at the rest of a file; one that brought some bytes is followed by as many as there were at first."""
    reached = [partial.tell(), 0]

    def exhausted(state: tenacity.RetryCallState) -> bool:
        if partial.tell() > reached[0]:
            reached[:] = [partial.tell(), 0]
        reached[1] += 1
        return reached[1] >= ATTEMPTS

    def pause(state: tenacity.RetryCallState) -> float:
        return _pause(reached[1], state.outcome.exception() if state.outcome else None)

    def again(error: BaseException) -> bool:
        if _status(error) == 416:
            # What there is cannot be the beginning of what is there now.
            partial.seek(0)
            return True
        return may_pass(error)

    return iter(
        tenacity.Retrying(retry=tenacity.retry_if_exception(again), stop=exhausted, wait=pause, reraise=True)
    )


def patiently(call: Callable[[], T]) -> T:
    """What a call to a server returns; called again where it may succeed a little later.

    ``huggingface_hub`` waits by itself while it reads files and listings, and does not when it looks up a revision.
    """
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(may_pass),
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        wait=lambda state: _pause(state.attempt_number, state.outcome.exception() if state.outcome else None),
        reraise=True,
    )
    return retrying(call)


def _pause(attempt: int, error: BaseException | None) -> float:
    """Seconds until the next attempt: what the server asks for, up to a limit, else longer each time."""
    headers = getattr(getattr(error, "response", None), "headers", {})
    asked = str(headers.get("Retry-After") or "")
    if asked.isdigit():
        return min(float(asked), _LONGEST_ASKED)
    return min(2.0 ** (attempt - 1) * 0.5, _LONGEST_WAIT)


def may_pass(error: BaseException) -> bool:
    """Whether the same request may succeed a little later: the net failed, or the server is busy."""
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
    )

    if isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__  # huggingface_hub found nothing in its cache either
    if isinstance(error, OfflineModeIsEnabled) or not isinstance(error, HTTPError):
        return False
    status = _status(error)
    if status is None:
        return not isinstance(error, HfHubHTTPError)
    return status in (408, 429) or status >= 500


def _status(error: BaseException) -> int | None:
    """The HTTP status that an error is about; None where there was no answer."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


class _NoBar:
    """A bar that draws nothing: progress is told by the file that grows."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        pass

    def __enter__(self) -> _NoBar:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def update(self, count: int | float | None = 1) -> None:
        """Draw nothing."""

    def close(self) -> None:
        """Draw nothing."""


class _WithoutQueries(logging.Filter):
    """Cuts what stands behind ``?`` off URLs that the client logs: whoever has it may read the file."""

    def filter(self, record: logging.LogRecord) -> bool:
        if "?" in (text := record.getMessage()):
            record.msg, record.args = _QUERY.sub("", text), ()
        return True


_QUERY = re.compile(r"(?<=\w)\?[^\s'\"]*")
for _name in ("huggingface_hub.file_download", "huggingface_hub.utils._http", "httpx", "httpx2"):
    logging.getLogger(_name).addFilter(_WithoutQueries())
