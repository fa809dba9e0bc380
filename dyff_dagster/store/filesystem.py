"""The few operations a store needs of a filesystem, and a local disk's; ``store.remote`` has the others.

Put, list, read, exclusive create. Nothing is ever renamed, except a temporary file on a local disk:
object stores have no rename, and a copy that pretends to be one is not atomic.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from upath import UPath

from dyff_dagster.store.digests import FileDigest, digest_file, list_files
from dyff_dagster.store.errors import StoreError
from dyff_dagster.store.trees import Entry, files_below, refuse_link, remove_tree

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Upload:
    """A file on its way to an object store in several pieces, which nobody sees until the last one is there.

    Attributes:
        path: Where it will lie.
        identifier: What the server calls it.
        size: Bytes that are there.
        modified: When it was begun, or its last piece came.
    """

    path: UPath
    identifier: str
    size: int
    modified: datetime


class Filesystem(Protocol):
    """What :class:`~dyff_dagster.store.Store` asks of the place where it lives.

    Every path is below the store's root. A file is there whole or not at all.
    """

    local: bool

    def read(self, path: UPath) -> bytes:
        """The file's bytes; FileNotFoundError where there is none."""

    def blocks(self, path: UPath, start: int = 0) -> Iterator[bytes]:
        """The file's bytes from a place on, piece by piece; FileNotFoundError where there is none."""

    def digest(self, path: UPath) -> FileDigest:
        """Read a file once and digest it both ways."""

    def names(self, path: UPath) -> list[str]:
        """Names in a directory, sorted; none where there is no such directory."""

    def sizes(self, path: UPath) -> dict[str, int]:
        """Every file below a directory with its size in bytes, by its path relative to it; hidden ones too."""

    def put(self, path: UPath, data: bytes) -> None:
        """Write a file, replacing what was there."""

    def create(self, path: UPath, data: bytes) -> None:
        """Write a file that must not be there yet; FileExistsError where it is."""

    def take(self, source: Path, path: UPath) -> None:
        """Move a local file, no symbolic link, here, read-only from now on, replacing what was there."""

    def view(self, source: UPath, path: UPath) -> None:
        """Show a file of the store under a second name: a hard link where the disk has them, else a copy."""

    def remove(self, path: UPath) -> None:
        """Remove a file, if it is there."""

    def clear(self, path: UPath) -> None:
        """Remove a directory that a killed process left, where that is known for certain."""

    def entries(self, path: UPath) -> list[Entry]:
        """The file at a path, or all files below the directory there, in order; none where there is nothing."""

    def discard(self, path: UPath) -> None:
        """Remove a file, or a directory with all in it, if it is there; no symbolic link is followed."""

    def refuse_link(self, path: UPath) -> None:
        """See that no directory on the way to a path is a symbolic link; LinkInStore where one is."""

    def uploads(self, path: UPath) -> Sequence[Upload]:
        """Uploads in several pieces to below a directory that have not come to their end."""

    def abort(self, upload: Upload) -> None:
        """Have the server drop the pieces of an upload, if it still has them."""


class LocalFilesystem:
    """A directory of this machine (or one mounted here).

    Args:
        root: The store's root.
    """

    local = True

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, path: UPath) -> bytes:
        return local_path(path).read_bytes()

    def names(self, path: UPath) -> list[str]:
        try:
            return sorted(entry.name for entry in local_path(path).iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []

    def blocks(self, path: UPath, start: int = 0) -> Iterator[bytes]:
        with local_path(path).open("rb") as file:
            file.seek(start)
            while block := file.read(_BLOCK):
                yield block

    def digest(self, path: UPath) -> FileDigest:
        return digest_file(local_path(path))

    def sizes(self, path: UPath) -> dict[str, int]:
        root = local_path(path)
        return {name: (root / name).lstat().st_size for name in list_files(root)}

    def put(self, path: UPath, data: bytes) -> None:
        target = local_path(path)
        with _temporary(target) as temporary:
            _write_durably(temporary, data)
            temporary.replace(target)
            _sync_directory(target.parent)

    def create(self, path: UPath, data: bytes) -> None:
        target = local_path(path)
        with _temporary(target) as temporary:
            _write_durably(temporary, data)
            # A link, unlike a rename, fails where the name is taken; unlike O_EXCL it shows no empty file.
            target.hardlink_to(temporary)
            _sync_directory(target.parent)

    def take(self, source: Path, path: UPath) -> None:
        target = local_path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        # Through a symbolic link the mode of a file of somebody else's would change.
        descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            os.fsync(descriptor)
            os.fchmod(descriptor, 0o444)
        finally:
            os.close(descriptor)
        source.replace(target)
        _sync_directory(target.parent)

    def view(self, source: UPath, path: UPath) -> None:
        target = local_path(path)
        if target.exists() and target.samefile(local_path(source)):
            return
        with _temporary(target) as temporary:
            try:
                temporary.hardlink_to(local_path(source))
            except OSError:  # no hard links here (another filesystem, or one without them)
                temporary.write_bytes(local_path(source).read_bytes())
            temporary.replace(target)

    def remove(self, path: UPath) -> None:
        local_path(path).unlink(missing_ok=True)

    def clear(self, path: UPath) -> None:
        shutil.rmtree(local_path(path), ignore_errors=True)

    def entries(self, path: UPath) -> list[Entry]:
        return sorted(files_below(local_path(path)), key=lambda entry: str(entry.path))

    def discard(self, path: UPath) -> None:
        remove_tree(self._root, local_path(path))

    def refuse_link(self, path: UPath) -> None:
        refuse_link(self._root, local_path(path))

    def uploads(self, path: UPath) -> Sequence[Upload]:
        return ()

    def abort(self, upload: Upload) -> None:
        """Nothing: a disk has no such uploads."""


def local_path(path: UPath) -> Path:
    """A path of a local store as ``pathlib`` has it."""
    return Path(str(path))


def open_filesystem(root: UPath) -> Filesystem:
    """The operations for where ``root`` lies.

    Raises:
        StoreError: It lies on a local path that is there and is no directory.
    """
    if root.protocol in ("", "file", "local"):
        if local_path(root).exists() and not local_path(root).is_dir():
            raise StoreError(
                f"the storage root {root} is a file: DYFF_STORAGE_ROOT must name a directory or a URL"
            )
        return LocalFilesystem(local_path(root))
    from dyff_dagster.store.remote import RemoteFilesystem

    return RemoteFilesystem(root)


@contextlib.contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """A hidden name beside ``path``; gone afterwards whatever happens."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name[:80]}.{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    """Make a rename survive a power cut: the name lives in the directory, not in the file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
