"""What a store needs of an object store, or of whatever else fsspec reaches.

Nothing is listed from memory, what passes is tried again, and whatever goes wrong in the end is one sentence.
Exclusive creation is what commits rest on, and some servers (and releases of fsspec's filesystems) have
overwritten where they were asked to create: so a place is tried before the first commit on it.
"""

from __future__ import annotations

import contextlib
import errno
import re
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from upath import UPath

from dyff_dagster.store.digests import Digesting, FileDigest
from dyff_dagster.store.errors import StoreError, StoreUnreachable
from dyff_dagster.store.filesystem import Upload
from dyff_dagster.store.trees import Entry

_T = TypeVar("_T")

_ATTEMPTS = 4
_BLOCK = 16 * 1024 * 1024
"""Bytes that are asked for at once: what a kill in mid-download loses of a file."""

_UPLOADED_AT_ONCE = 3
"""Pieces of 50 MB of a file: what s3fs holds in memory of it."""

_REMOVED_AT_ONCE = 16
"""Requests; names are never handed over in bulk, because fsspec takes ``*`` and ``[`` in them for a pattern, and s3fs
does not say which of them the server refused to remove."""

_S3 = ("s3", "s3a")
_TIMES = ("LastModified", "last_modified", "mtime", "updated", "created")
"""What fsspec's filesystems call the time of a file."""

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
        return {name: int(info.get("size") or 0) for name, info in self._below(path) if name}

    def put(self, path: UPath, data: bytes) -> None:
        self._write("write", path, lambda: path.fs.pipe_file(path.path, data))

    def create(self, path: UPath, data: bytes) -> None:
        self._try_out()
        try:
            self._write("create", path, lambda: _create(path, data))
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

    def entries(self, path: UPath) -> list[Entry]:
        return [
            Entry(path / name if name else path, int(info.get("size") or 0), _time(info))
            for name, info in self._below(path)
        ]

    def discard(self, path: UPath) -> None:
        with ThreadPoolExecutor(_REMOVED_AT_ONCE, thread_name_prefix="discard") as threads:
            removed = [threads.submit(self.remove, entry.path) for entry in self.entries(path)]
            try:
                for one in removed:
                    one.result()
            except BaseException:
                threads.shutdown(cancel_futures=True)
                raise

    def refuse_link(self, path: UPath) -> None:
        """Nothing: object stores have no links."""

    def uploads(self, path: UPath) -> Sequence[Upload]:
        if path.protocol not in _S3:  # Azure and Google drop them by themselves after a week
            return ()
        bucket, prefix, _ = path.fs.split_path(path.path)
        found: list[Upload] = []
        asked = {"Bucket": bucket, "Prefix": f"{prefix.rstrip('/')}/" if prefix else ""}
        for page in self._pages(path, "list_multipart_uploads", "KeyMarker", "UploadIdMarker", **asked):
            for said in page.get("Uploads") or ():
                key, identifier = said["Key"], said["UploadId"]
                if not key.startswith(asked["Prefix"]):
                    continue
                size, modified = 0, said["Initiated"]
                each = {"Bucket": bucket, "Key": key, "UploadId": identifier}
                with contextlib.suppress(FileNotFoundError):  # it came to its end meanwhile
                    for listed in self._pages(path, "list_parts", "PartNumberMarker", **each):
                        for part in listed.get("Parts") or ():
                            size += int(part["Size"])
                            modified = max(modified, part["LastModified"])
                    target = path / key[len(asked["Prefix"]) :]
                    found.append(Upload(target, identifier, size, modified))
        return found

    def abort(self, upload: Upload) -> None:
        fs = upload.path.fs
        bucket, key, _ = fs.split_path(upload.path.path)
        asked = {"Bucket": bucket, "Key": key, "UploadId": upload.identifier}
        with contextlib.suppress(FileNotFoundError):
            self._call(
                "abort an upload to", upload.path, lambda: fs.call_s3("abort_multipart_upload", **asked)
            )

    def _pages(self, path: UPath, method: str, *markers: str, **asked: Any) -> Iterator[dict[str, Any]]:
        """What S3 answers to a question, as long as it says that there is more."""
        begin: dict[str, Any] = {}
        while True:

            def ask(begin: dict[str, Any] = begin) -> dict[str, Any]:
                try:
                    page: dict[str, Any] = path.fs.call_s3(method, **asked, **begin)
                except OSError as error:
                    if error.errno == errno.ENOSYS:
                        raise NotImplementedError from error
                    raise
                return page

            page = self._call("list unfinished uploads below", path, ask)
            yield page
            begin = {marker: page[f"Next{marker}"] for marker in markers if page.get(f"Next{marker}")}
            if not page.get("IsTruncated") or not begin:
                return

    def _below(self, path: UPath) -> list[tuple[str, dict[str, Any]]]:
        """What lies below a directory, by its name relative to it, sorted; of a file itself under an empty name."""
        try:
            found = self._call("list", path, lambda: path.fs.find(path.path, detail=True))
            if not isinstance(found, dict):  # adlfs, of a file itself: its name alone
                found = {path.path: self._call("read", path, lambda: path.fs.info(path.path))}
        except (FileNotFoundError, NotADirectoryError):
            return []
        key = _key(path.path)
        return [
            (_key(name)[len(key) + 1 :], info)
            for name, info in sorted(found.items())
            if info.get("type") != "directory" and f"{_key(name)}/".startswith(f"{key}/")
        ]

    def _try_out(self) -> None:
        """See that the place refuses to create what is there.

        Raises:
            StoreError: It overwrites.
        """
        with _trying:
            if str(self._root) in _tried:
                return
            probe = self._root / f".exclusive-{uuid.uuid4().hex}"
            try:
                self._write("create", probe, lambda: _create(probe, b""))
                self._write("create", probe, lambda: _create(probe, b""))
            except FileExistsError:
                # Also where the first one's reply was lost, and it was tried again: it refuses.
                _tried.add(str(self._root))
                return
            finally:
                with contextlib.suppress(StoreUnreachable):
                    self.remove(probe)
        raise StoreError(
            f"{self._root} overwrites a file that it was asked to create, so of two runs at once the later would undo "
            "the earlier: nothing is committed there; use a server that knows conditional writes (If-None-Match on S3 "
            "and Azure, ifGenerationMatch on Google's), with a current release of fsspec's package for it, or a disk"
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
            retry=tenacity.retry_if_exception(_may_pass),
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
        except NotImplementedError as error:
            raise StoreUnreachable(
                f"{path}: the server, or this release of fsspec's package for it, does not know how to {what} it"
            ) from error
        except Exception as error:
            raise StoreUnreachable(
                f"{path}: to {what} it failed {_ATTEMPTS} times ({_said(error)}): see that the server answers "
                "and that the environment says who asks, then start this again"
            ) from error


def _may_pass(error: BaseException) -> bool:
    """Whether another attempt could go otherwise."""
    return isinstance(error, Exception) and not isinstance(error, _MEANT)


def _create(path: UPath, data: bytes) -> None:
    """Write an object that must not be there yet; FileExistsError where it is."""
    try:
        path.fs.pipe_file(path.path, data, mode="create")
    except OSError as error:
        # s3fs takes a refusal for one only where the answer names the condition, which few servers but Amazon's do.
        if _code(error) in ("PreconditionFailed", "412"):
            raise FileExistsError(f"{path} is there already") from error
        raise


def _code(error: BaseException) -> str:
    """S3's own word for what went wrong, where there is one."""
    answer = getattr(error.__cause__, "response", None)
    return str(answer.get("Error", {}).get("Code", "")) if isinstance(answer, dict) else ""


def remote_options(protocol: str) -> dict[str, Any]:
    """Options of fsspec's filesystem with which it is safe to commit.

    What others have written since must be seen, so nothing is listed from memory.
    """
    options: dict[str, Any] = {"use_listings_cache": False}
    if protocol in _S3:
        options["max_concurrency"] = _UPLOADED_AT_ONCE
    return options


_GOOGLES = ("GOOGLE_", "GCLOUD_", "CLOUDSDK_", "STORAGE_EMULATOR_", "GCSFS_", "GCE_METADATA_", "NO_GCE_CHECK")
_AZURES = ("AZURE_", "IDENTITY_", "MSI_")
_VARIABLES = {
    "s3": ("AWS_",),
    "s3a": ("AWS_",),
    "gs": _GOOGLES,
    "gcs": _GOOGLES,
    "abfs": _AZURES,
    "abfss": _AZURES,
    "az": _AZURES,
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


def _time(info: dict[str, Any]) -> datetime | None:
    for name in _TIMES:
        value = info.get(name)
        if isinstance(value, datetime):
            return value if value.tzinfo else value.replace(tzinfo=UTC)
    return None


def _said(error: BaseException) -> str:
    """What an error says, on one line and without what may be signed into a URL."""
    text = " ".join(re.sub(r"\?\S*", "", str(error)).split())
    return f"{type(error).__name__}: {text[:_SAID]}" if text else type(error).__name__
