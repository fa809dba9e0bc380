"""Digests of files and of trees of files."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dyff_dagster.schema.canonical import canonical_json
from dyff_dagster.store.errors import StoreError

_BLOCK = 1 << 20


@dataclass(frozen=True)
class FileDigest:
    """Digests of one file's bytes.

    Attributes:
        sha256: Hexadecimal SHA-256.
        md5: The page's form of MD5: base64 of the raw sixteen bytes. For identification, not security.
        size: Bytes.
    """

    sha256: str
    md5: str
    size: int


class Digesting:
    """Takes bytes in as they come.

    Attributes:
        size: How many there were so far.
    """

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False)
        self.size = 0

    def update(self, block: bytes | memoryview) -> None:
        """Take the next bytes in."""
        self._sha256.update(block)
        self._md5.update(block)
        self.size += len(block)

    def digest(self) -> FileDigest:
        """Of all bytes so far."""
        return FileDigest(self._sha256.hexdigest(), base64.b64encode(self._md5.digest()).decode(), self.size)


def digest_file(path: Path) -> FileDigest:
    """Read a file once and digest it both ways."""
    digesting = Digesting()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digesting.update(block)
    return digesting.digest()


def list_files(root: Path, *, links: bool = True) -> list[str]:
    """Every regular file below ``root`` as a relative POSIX path, sorted by that path's bytes.

    Args:
        root: The directory.
        links: Whether a symbolic link to a file counts as one. What is below a link to a directory never does.
    """
    return sorted(
        (
            path.relative_to(root).as_posix()
            for path in root.rglob("*")
            if path.is_file() and (links or not path.is_symlink())
        ),
        key=lambda name: name.encode(),
    )


def refuse_all_but_files(entity_id: str, root: Path) -> None:
    """See that an artifact in the making holds files and directories with names of text, and nothing else.

    A version is the bytes in it: what a link leads to changes, and lies elsewhere on another machine; who reads a
    pipe or a socket waits without end.

    Raises:
        StoreError: It holds something else.
    """
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if not name.isprintable():  # bytes that are no UTF-8 are not printable either
            raise StoreError(
                f"{entity_id}: a file is named {name!a}; name it in printable characters, as UTF-8"
            )
        if path.is_symlink():
            raise StoreError(f"{entity_id}: {name} is a symbolic link; write the file itself")
        if not (path.is_file() or path.is_dir()):
            raise StoreError(f"{entity_id}: {name} is neither a file nor a directory; leave it out")


def tree_digest(files: Mapping[str, FileDigest] | Iterable[tuple[str, FileDigest]]) -> str:
    """Digest of a set of files: SHA-256 over the canonical JSON of ``{relative path: SHA-256}``.

    It knows nothing of times, owners or modes: two trees with the same names and bytes have the same one.
    """
    return hashlib.sha256(
        canonical_json({name: digest.sha256 for name, digest in dict(files).items()})
    ).hexdigest()
