"""What a method reads must be the same afterwards: its inputs and modules are published versions.

Their files are read-only, which stops nobody who owns them. A change that keeps a file's size would go unseen.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from dyff_dagster.analysis.errors import InputsChanged
from dyff_dagster.store.digests import list_files

_COMPILED = "__pycache__"
"""What Python and its compilers leave beside a module; no part of any version."""

State = dict[str, tuple[int, int, int]]


class Untouched:
    """The files of some directories as they were when this was made.

    What is compared is each file's inode, time of modification and size: no byte is read.

    Args:
        inputs: Directories of the inputs' versions.
        modules: Directories of the modules' versions.
    """

    def __init__(self, inputs: Iterable[tuple[str, Path]], modules: Iterable[tuple[str, Path]]) -> None:
        named = [(f"input {name}", name, path) for name, path in inputs]
        named += [(f"module {name}", name, path) for name, path in modules]
        self._before = [(role, name, path, _state(path)) for role, name, path in named]

    def check(self, analysis_id: str) -> None:
        """See that everything is as it was.

        Raises:
            InputsChanged: A file was changed, replaced, added or removed.
        """
        for role, name, path, before in self._before:
            if _state(path) != before:
                raise InputsChanged(analysis_id, role, name)


def _state(directory: Path) -> State:
    found: State = {}
    for name in list_files(directory):
        if _COMPILED in name.split("/"):
            continue
        status = (directory / name).stat()
        found[name] = (status.st_ino, status.st_mtime_ns, status.st_size)
    return found
