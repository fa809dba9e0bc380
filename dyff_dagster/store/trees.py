"""Directories of a store on a disk, listed and removed without ever following a symbolic link."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from upath import UPath

from dyff_dagster.store.errors import StoreError

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


class LinkInStore(StoreError):
    """A symbolic link stands where a store has a directory: what lies behind it is no part of the store."""

    def __init__(self, path: object) -> None:
        super().__init__(
            f"{path} is reached through a symbolic link, so it is left alone: put what it leads to there"
        )


@dataclass(frozen=True)
class Entry:
    """One file of a store.

    Attributes:
        path: Where it lies.
        size: Bytes; of a link those of its name.
        modified: When it was last written, as far as the place says so.
        link: Whether it is a symbolic link, which is never followed.
        inode: What is the same for all its names on a disk; None elsewhere.
        names: How many names it has.
    """

    path: UPath
    size: int
    modified: datetime | None
    link: bool = False
    inode: tuple[int, int] | None = None
    names: int = 1


def bytes_of(found: Iterable[Entry]) -> int:
    """Bytes of some files, each counted once however many of its names are among them."""
    known = {entry.inode or entry.path: entry.size for entry in found}
    return sum(known.values())


def bytes_freed(found: Iterable[Entry]) -> int:
    """Bytes that a disk gets back when these names are removed: not those of a file that has others besides."""
    by_file: dict[object, list[Entry]] = {}
    for entry in {entry.path: entry for entry in found}.values():
        by_file.setdefault(entry.inode or entry.path, []).append(entry)
    return sum(same[0].size for same in by_file.values() if len(same) >= same[0].names)


def files_below(path: Path) -> Iterator[Entry]:
    """The file at a path, or all files below the directory there, in no order; none where there is nothing."""
    waiting = [path]
    while waiting:
        at = waiting.pop()
        try:
            said = at.lstat()
            if stat.S_ISDIR(said.st_mode):
                waiting += [at / name for name in os.listdir(at)]  # noqa: PTH208 - of thousands of parts
                continue
        except (FileNotFoundError, NotADirectoryError):
            continue
        yield Entry(
            path=UPath(at),
            size=said.st_size,
            modified=datetime.fromtimestamp(said.st_mtime, UTC),
            link=stat.S_ISLNK(said.st_mode),
            inode=(said.st_dev, said.st_ino),
            names=said.st_nlink,
        )


def remove_tree(root: Path, path: Path) -> None:
    """Remove what lies at a path below ``root``: a file, a link itself, or a directory with all in it; or nothing.

    Every directory on the way is opened as none but a directory, so that nobody can put a link in its place meanwhile.

    Raises:
        LinkInStore: One of them is a symbolic link.
    """
    relative = PurePosixPath(path.relative_to(root))
    with _opened(root, relative.parts[:-1], path) as directory:
        if directory is None:
            return
        name = relative.name
        try:
            mode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return
        if stat.S_ISDIR(mode):
            shutil.rmtree(name, dir_fd=directory)
        else:
            os.unlink(name, dir_fd=directory)
        os.fsync(directory)


def refuse_link(root: Path, path: Path) -> None:
    """See that no directory on the way from ``root`` to ``path`` is a symbolic link, ``path`` itself included.

    Raises:
        LinkInStore: One is.
    """
    at = root
    for part in path.relative_to(root).parts:
        at /= part
        if at.is_symlink():
            raise LinkInStore(at)


@contextlib.contextmanager
def _opened(root: Path, parts: tuple[str, ...], path: Path) -> Iterator[int | None]:
    """The directory that lies at these parts below ``root``, open; None where there is none."""
    descriptor: int | None = None
    try:
        try:
            descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
            for part in parts:
                if stat.S_ISLNK(os.stat(part, dir_fd=descriptor, follow_symlinks=False).st_mode):
                    raise LinkInStore(path)
                below = os.open(part, _DIRECTORY, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = below
        except FileNotFoundError:
            yield None
            return
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)
