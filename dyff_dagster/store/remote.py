"""What a store needs of an object store, or of whatever else fsspec reaches.

Nothing is listed from memory, what passes is tried again, and whatever goes wrong in the end is one sentence.
Exclusive creation is what commits rest on, and some servers (and releases of fsspec's filesystems) have
overwritten where they were asked to create: so a place is tried before the first commit on it.
"""

from __future__ import annotations

import contextlib
import re
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from upath import UPath

from dyff_dagster.store.digests import Digesting, FileDigest
from dyff_dagster.store.errors import StoreError, StoreUnreachable

_T = TypeVar("_T")

_ATTEMPTS = 4
_BLOCK = 16 * 1024 * 1024
"""Bytes that are asked for at once: what a kill in mid-download loses of a file."""

_UPLOADED_AT_ONCE = 3
"""Pieces of 50 MB of a file: what s3fs holds in memory of it."""

_SAID = 200
_MEANT = (
    FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError, ValueError,
    TypeError, NotImplementedError,
)  # fmt: skip
"""What another attempt would not change."""

_tried: set[str] = set()
_trying = threading.Lock()


class RemoteFilesystem:
    """An object store, or whatever else fsspec reaches.

    Args:
        root: The store's root.
    """

    local = False

    def __init__(self, root: UPath) -> None:
        self._root = root

    def read(self, path: UPath) -> bytes:
        data = self._call("read", path, lambda: path.fs.cat_file(path.path))
        return data if isinstance(data, bytes) else bytes(data)

    def blocks(self, path: UPath, start: int = 0) -> Iterator[bytes]:
        size = int(self._call("read", path, lambda: path.fs.info(path.path)["size"]) or 0)
        while start < size:

            def ask(at: int = start) -> bytes:
                return bytes(path.fs.cat_file(path.path, start=at, end=min(at + _BLOCK, size)))

            block = self._call("read", path, ask)
            if not block:
                raise StoreError(f"{path} became shorter while it was read: start this again")
            yield block
            start += len(block)

    def digest(self, path: UPath) -> FileDigest:
        digesting = Digesting()
        for block in self.blocks(path):
            digesting.update(block)
        return digesting.digest()

    def names(self, path: UPath) -> list[str]:
        try:
            found = self._call("list", path, lambda: path.fs.ls(path.path, detail=False))
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted({str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in found})

    def sizes(self, path: UPath) -> dict[str, int]:
        try:
            found = self._call("list", path, lambda: path.fs.find(path.path, detail=True))
        except (FileNotFoundError, NotADirectoryError):
            return {}
        start = len(_key(path.path)) + 1
        return {
            _key(name)[start:]: int(info["size"] or 0)
            for name, info in sorted(found.items())
            if info["type"] == "file" and len(_key(name)) > start
        }

    def put(self, path: UPath, data: bytes) -> None:
        self._write("write", path, lambda: path.fs.pipe_file(path.path, data))

    def create(self, path: UPath, data: bytes) -> None:
        self._try_out()
        try:
            self._write("create", path, lambda: path.fs.pipe_file(path.path, data, mode="create"))
        except FileExistsError:
            # An attempt whose reply was lost may have made it.
            if self.read(path) != data:
                raise

    def take(self, source: Path, path: UPath) -> None:
        if source.is_symlink():
            raise StoreError(f"{source.name} is a symbolic link; write the file itself")
        self._write("upload", path, lambda: path.fs.put_file(str(source), path.path))

    def view(self, source: UPath, path: UPath) -> None:
        self._write("copy", path, lambda: path.fs.cp_file(source.path, path.path))

    def remove(self, path: UPath) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._call("remove", path, lambda: path.fs.rm_file(path.path))

    def clear(self, path: UPath) -> None:
        """Nothing: without a lock another writer may be at work there."""

    def _try_out(self) -> None:
        """See that the place refuses to create what is there.

        Raises:
            StoreError: It overwrites.
        """
        with _trying:
            if str(self._root) in _tried:
                return
            probe = self._root / f".exclusive-{uuid.uuid4().hex}"

            def create() -> None:
                probe.fs.pipe_file(probe.path, b"", mode="create")

            try:
                self._write("create", probe, create)
                self._write("create", probe, create)
            except FileExistsError:
                # Also where the first one's reply was lost, and it was tried again: it refuses.
                _tried.add(str(self._root))
                return
            finally:
                with contextlib.suppress(StoreUnreachable):
                    self.remove(probe)
        raise StoreError(
            f"{self._root} overwrites a file that it was asked to create, so of two runs at once the later would undo "
            "the earlier: nothing is committed there; use a server that knows If-None-Match (with a current release "
            "of fsspec's package for it), or a directory"
        )

    def _write(self, what: str, path: UPath, call: Callable[[], Any]) -> None:
        try:
            self._call(what, path, call)
        except FileNotFoundError as error:
            raise StoreError(
                f"{path} cannot be written, because there is no such bucket or container: make it first, or name "
                "another place in DYFF_STORAGE_ROOT"
            ) from error

    def _call(self, what: str, path: UPath, call: Callable[[], _T]) -> _T:
        import tenacity

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(
                lambda error: isinstance(error, Exception) and not isinstance(error, _MEANT)
            ),
            stop=tenacity.stop_after_attempt(_ATTEMPTS),
            wait=tenacity.wait_random_exponential(multiplier=0.25, max=8),
            reraise=True,
        )
        try:
            return retrying(call)
        except (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError):
            raise
        except PermissionError as error:
            raise StoreUnreachable(
                f"{path}: the server does not allow this account to {what} it ({_said(error)}): "
                "it needs rights to list, read, write and delete below the storage root"
            ) from error
        except Exception as error:
            raise StoreUnreachable(
                f"{path}: to {what} it failed {_ATTEMPTS} times ({_said(error)}): see that the server answers "
                "and that the environment says who asks, then start this again"
            ) from error


def remote_options(protocol: str) -> dict[str, Any]:
    """Options of fsspec's filesystem with which it is safe to commit.

    What others have written since must be seen, so nothing is listed from memory.
    """
    options: dict[str, Any] = {"use_listings_cache": False}
    if protocol in ("s3", "s3a"):
        options["max_concurrency"] = _UPLOADED_AT_ONCE
    return options


_VARIABLES = {
    "s3": ("AWS_",),
    "s3a": ("AWS_",),
    "gs": ("GOOGLE_", "GCLOUD_", "CLOUDSDK_", "STORAGE_EMULATOR_"),
    "gcs": ("GOOGLE_", "GCLOUD_", "CLOUDSDK_", "STORAGE_EMULATOR_"),
    "abfs": ("AZURE_",),
    "abfss": ("AZURE_",),
    "az": ("AZURE_",),
}
"""How the names of variables begin that say who writes to a place of that protocol."""

_ALWAYS = ("FSSPEC_", "DYFF_CACHE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


def variables_of(protocol: str, names: Iterable[str]) -> list[str]:
    """Those environment variables that a process needs to write to a store elsewhere.

    Args:
        protocol: Of its root.
        names: Of all variables; where the protocol is none that is known here, all of them are returned.
    """
    begin = _VARIABLES.get(protocol)
    return [name for name in names if begin is None or name.upper().startswith((*begin, *_ALWAYS))]


def _key(path: str) -> str:
    return path.strip("/")


def _said(error: BaseException) -> str:
    """What an error says, on one line and without what may be signed into a URL."""
    text = " ".join(re.sub(r"\?\S*", "", str(error)).split())
    return f"{type(error).__name__}: {text[:_SAID]}" if text else type(error).__name__
