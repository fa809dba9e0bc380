"""Files and directories that are there; what cannot be reached, or has no possible name, is not."""

from __future__ import annotations

from pathlib import Path

__all__ = ["is_directory", "is_file", "shown"]

_SHOWN = 200


def is_file(path: Path) -> bool:
    """Whether there is a regular file that can be reached; pathlib's raises for a name that is too long."""
    try:
        return path.is_file()
    except OSError:
        return False


def is_directory(path: Path) -> bool:
    """Whether there is a directory that can be reached."""
    try:
        return path.is_dir()
    except OSError:
        return False


def shown(path: Path) -> str:
    """A path for a message, cut off where it is endless."""
    text = str(path)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
