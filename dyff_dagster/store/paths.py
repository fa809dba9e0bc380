"""Relative paths that never leave their directory."""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath

from dyff_dagster.store.errors import StoreError


class PathOutside(StoreError):
    """A relative path leads out of the directory that it belongs to.

    Attributes:
        path: The path as it was written.
        directory: Where it should have stayed.
    """

    def __init__(self, path: str, directory: Path, how: str) -> None:
        self.path = path
        self.directory = directory
        super().__init__(f"the path {path!r} {how}: it must be relative and stay inside {directory}")


def resolve_inside(directory: Path, path: str) -> Path:
    """The file or directory that ``path`` means below ``directory``; it need not exist.

    Args:
        directory: Where the path must stay; symbolic links on the way *to* it are fine.
        path: Relative, with ``/`` between its parts.

    Raises:
        PathOutside: It is absolute, has a ``..`` in it, is empty, or passes through a symbolic link that
            leads out.
    """
    pure = PurePosixPath(path)
    windows = PureWindowsPath(path)
    if not path or "\x00" in path:
        raise PathOutside(path, directory, "is empty" if not path else "has a NUL byte")
    if pure.is_absolute() or windows.drive or windows.root:
        raise PathOutside(path, directory, "is absolute")
    if ".." in pure.parts or ".." in windows.parts:
        raise PathOutside(path, directory, "has '..' in it")
    root = directory.resolve()
    target = (root / pure).resolve()
    if target != root and root not in target.parents:
        raise PathOutside(path, directory, "leads outside through a symbolic link")
    return root / pure
