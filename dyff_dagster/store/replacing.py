"""Files that are written whole, and never through a link that somebody put in their place."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from dyff_dagster.store.errors import StoreError


class LinkInTheWay(StoreError):
    """A file cannot be written where it belongs, since there is a symbolic link.

    Attributes:
        link: Where.
    """

    def __init__(self, link: Path) -> None:
        self.link = link
        super().__init__(
            f"{link} is a symbolic link, and nothing is written through one; remove it, or name another place"
        )


def refuse_links(path: Path, root: Path) -> None:
    """Raise where a directory between ``root`` and ``path`` is a symbolic link.

    Args:
        path: What is to be written; where it is a link itself, that is replaced.
        root: A directory above it, which may be one: it was named by whoever asks.

    Raises:
        LinkInTheWay: There is one.
    """
    for place in path.parents:
        if place == root:
            return
        if place.is_symlink():
            raise LinkInTheWay(place)


@contextmanager
def replacing(path: Path, root: Path) -> Iterator[BinaryIO]:
    """A stream for the whole content of a file, which takes its name when the block ends well.

    Its directories are made. What has its name before is replaced, be it a link, symbolic or hard: what that leads
    to keeps what it had. A block that fails leaves everything as it was.

    Args:
        path: Of the file.
        root: A directory above it; no directory between the two may be a symbolic link.

    Raises:
        LinkInTheWay: One is.
        OSError: It cannot be written.
    """
    refuse_links(path, root)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Nor may a link take the directory's place just now.
    directory = os.open(
        path.parent, os.O_RDONLY | os.O_DIRECTORY | (os.O_NOFOLLOW if path.parent != root else 0)
    )
    temporary = f".{uuid.uuid4().hex}"
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with os.fdopen(os.open(temporary, flags, 0o666, dir_fd=directory), "wb") as stream:
            yield stream
        os.replace(temporary, path.name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=directory)
        raise
    finally:
        os.close(directory)
