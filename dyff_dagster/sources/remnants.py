"""First parts of downloads that nobody goes on with."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from dyff_dagster.store import Store, local_path
from dyff_dagster.store.trees import Entry

_PART = ".part"
_FOREIGN = ".incomplete"
"""What huggingface_hub calls its own, where another program uses the cache."""


def remnants(store: Store, before: datetime) -> list[Entry]:
    """First parts of files in a store's cache of downloads that were last written before a time, and are not held."""
    if not store.local:
        return []
    root = store.root / ".cache"
    return [
        entry
        for entry in store.filesystem.entries(root)
        if entry.path.name.endswith((_PART, _FOREIGN))
        and not entry.link
        and entry.modified is not None
        and entry.modified <= before
        and not _is_held(local_path(entry.path))
    ]


@contextmanager
def _probed(path: Path) -> Iterator[bool]:
    """Whether another process holds a lock, without making its file."""
    try:
        with path.open("r+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield True
                return
            yield False
    except FileNotFoundError:
        yield False


def _is_held(part: Path) -> bool:
    """Whether a process downloads the rest of it, as :func:`~dyff_dagster.sources.downloads.alone` has it."""
    target = part.name.removesuffix(_PART)
    with _probed(part.with_name(f".{target}.lock")) as held:
        return held
