"""Relative paths that never leave their directory."""

from __future__ import annotations

import errno
from pathlib import Path, PurePosixPath, PureWindowsPath

from dyff_dagster.store.errors import StoreError

_SHOWN = 200


class PathOutside(StoreError):
    """A relative path leads out of the directory that it belongs to.

    Attributes:
        path: The path as it was written.
        directory: Where it should have stayed.
    """

    def __init__(self, path: str, directory: Path, how: str) -> None:
        self.path = path
        self.directory = directory
        shown = path if len(path) <= _SHOWN else path[:_SHOWN] + "…"
        super().__init__(f"the path {shown!r} {how}: it must be relative and stay inside {directory}")


def resolve_inside(directory: Path, path: str) -> Path:
    """The file or directory that ``path`` means below ``directory``; it need not exist.

    Args:
        directory: Where the path must stay; symbolic links on the way *to* it are fine.
        path: Relative, with ``/`` between its parts.

    Raises:
        PathOutside: It is absolute, has a ``..`` in it, is empty, too long, or passes through symbolic links
            that lead out or in a circle.
    """
    pure = PurePosixPath(path)
    windows = PureWindowsPath(path)
    if not path or "\x00" in path:
        raise PathOutside(path, directory, "is empty" if not path else "has a NUL byte")
    if pure.is_absolute() or windows.drive or windows.root:
        raise PathOutside(path, directory, "is absolute")
    if ".." in pure.parts or ".." in windows.parts:
        raise PathOutside(path, directory, "has '..' in it")
    try:
        root = directory.resolve()
        target = (root / pure).resolve()
        (root / pure).stat()
    except RuntimeError:  # how pathlib tells of a loop
        raise PathOutside(path, directory, "passes through a loop of symbolic links") from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise PathOutside(path, directory, "is too long") from None
        if error.errno == errno.ELOOP:
            raise PathOutside(path, directory, "passes through a loop of symbolic links") from None
    if target != root and root not in target.parents:
        raise PathOutside(path, directory, "leads outside through a symbolic link")
    return root / pure
