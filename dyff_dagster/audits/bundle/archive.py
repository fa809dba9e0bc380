"""A bundle's container: a zip file that is the same bytes for the same members, and is read without trust."""

from __future__ import annotations

import errno
import hashlib
import os
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import TracebackType
from typing import BinaryIO, Self

from dyff_dagster.audits.bundle.errors import BundleError, NotABundle, shown
from dyff_dagster.audits.bundle.headers import (
    CENTRAL,
    END,
    END_64,
    LIMIT_16,
    LIMIT_32,
    LOCATOR_64,
    Member,
    central_header,
    end_records,
    local_header,
)

MOST_MEMBERS = 1_000_000
LARGEST_DIRECTORY = 256 << 20
"""Bytes of the central directory; all of it is held in memory."""
LONGEST_NAME, LONGEST_PART = 2000, 255
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Source:
    """A member to be written.

    Attributes:
        name: Relative path within the bundle.
        open: Opens its bytes anew.
        size: Bytes.
        crc: CRC-32.
        sha256: Hexadecimal SHA-256.
    """

    name: str
    open: Callable[[], BinaryIO]
    size: int
    crc: int
    sha256: str

    @classmethod
    def read(cls, name: str, open: Callable[[], BinaryIO]) -> Source:
        """Read the bytes once and note what they are.

        Raises:
            BundleError: The name is none that a bundle can have.
        """
        if fault := name_fault(name):
            raise BundleError(f"the file {shown(name)!r} cannot go into a bundle: {fault}; rename it")
        size, crc, sha256 = 0, 0, hashlib.sha256()
        with open() as file:
            for block in _blocks(file):
                size, crc = size + len(block), zlib.crc32(block, crc)
                sha256.update(block)
        return cls(name, open, size, crc, sha256.hexdigest())


def name_fault(name: str) -> str:
    """What keeps a name from being a relative path that is safe on every system; empty where nothing does."""
    pure, windows = PurePosixPath(name), PureWindowsPath(name)
    try:
        encoded = name.encode("utf-8")
    except UnicodeEncodeError:
        return "its name is no Unicode text"
    if not name or pure.is_absolute() or windows.drive or windows.root:
        return "its path is not relative"
    if "\\" in name or any(ord(character) < 32 or ord(character) == 127 for character in name):
        return "its path has a backslash or a control character in it"
    if any(part in ("", ".", "..") for part in name.split("/")):
        return "its path has a part that is empty, '.' or '..'"
    if len(encoded) > LONGEST_NAME or any(len(part.encode()) > LONGEST_PART for part in name.split("/")):
        return "its path is too long"
    return ""


def write_archive(path: Path, sources: Iterable[Source], *, overwrite: bool = False) -> None:
    """Write a bundle, whole or not at all.

    Raises:
        BundleError: A file changed while it was read.
        FileExistsError: There is something at ``path``, and ``overwrite`` is false.
    """
    if path.exists() and not overwrite:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    temporary = path.with_name(f".{uuid.uuid4().hex}.bundle")
    try:
        with temporary.open("xb") as file:
            _write(file, sources)
            file.flush()
            os.fsync(file.fileno())
        if not overwrite:
            _refuse_what_came_meanwhile(temporary, path)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _refuse_what_came_meanwhile(temporary: Path, path: Path) -> None:
    """Take the name exclusively; a file system without hard links has to do without."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
    except OSError:
        return


def _write(file: BinaryIO, sources: Iterable[Source]) -> None:
    members: list[Member] = []
    offset = 0
    for source in sources:
        member = Member(source.name, source.size, source.crc, offset)
        file.write(local_header(member))
        sha256 = hashlib.sha256()
        with source.open() as opened:
            for block in _blocks(opened):
                sha256.update(block)
                file.write(block)
        if sha256.hexdigest() != source.sha256:
            raise BundleError(f"{source.name} changed while it was read; write the bundle again")
        members.append(member)
        offset = member.end
    directory = b"".join(central_header(member) for member in members)
    file.write(directory + end_records(len(members), len(directory), offset))


class Archive:
    """A bundle, open for reading. Nothing is unpacked but what is asked for, and only to where it is asked.

    Args:
        path: The file.

    Raises:
        NotABundle: It is no zip file, a damaged one, or one that dyff-dagster did not write: with members that
            are compressed, linked, doubled, hidden or named so that they would lie outside.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("rb")
        try:
            self._members = {member.name: member for member in self._read_directory()}
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each member, by name, in the order in which they lie."""
        return {name: member.size for name, member in self._members.items()}

    def blocks(self, name: str) -> Iterator[bytes]:
        """The bytes of a member, block by block.

        Raises:
            KeyError: There is none of that name.
        """
        member = self._members[name]
        self._file.seek(member.start)
        left = member.size
        while left:
            # Somebody may cut the file short meanwhile.
            block = self._file.read(min(_BLOCK, left))
            if not block:
                raise NotABundle(f"{self.path}: the file became shorter while it was read")
            left -= len(block)
            yield block

    def read(self, name: str, limit: int) -> bytes:
        """The bytes of a member.

        Raises:
            KeyError: There is none of that name.
            NotABundle: It has more than ``limit`` bytes.
        """
        if self._members[name].size > limit:
            raise NotABundle(f"{self.path}: {shown(name)} has more than {limit:,} bytes")
        return b"".join(self.blocks(name))

    def digest(self, name: str, target: Path | None = None) -> tuple[str, bool]:
        """SHA-256 of a member, and whether its CRC-32 is right; with ``target``, it is written there as well.

        Raises:
            FileExistsError: There is something at ``target``.
        """
        sha256, crc = hashlib.sha256(), 0
        if target is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
        with open(os.devnull, "wb") if target is None else target.open("xb") as file:  # noqa: PTH123
            for block in self.blocks(name):
                sha256.update(block)
                crc = zlib.crc32(block, crc)
                file.write(block)
        return sha256.hexdigest(), crc == self._members[name].crc

    # Reading the directory: every byte that is no member's is made again, and compared.

    def _read_directory(self) -> list[Member]:
        self._size = size = self._file.seek(0, os.SEEK_END)
        count, length, start = self._end(size)
        directory = self._at(start, length)
        members: list[Member] = []
        position = offset = 0
        for _ in range(count):
            member, position = self._entry(directory, position)
            if member.offset != offset:
                raise self._wrong(f"{shown(member.name)} does not begin where the one before it ends")
            if fault := name_fault(member.name):
                raise self._wrong(f"{shown(member.name)!r}: {fault}")
            header = local_header(member)
            if self._at(offset, len(header)) != header:
                raise self._wrong(
                    f"{shown(member.name)} has a header as dyff-dagster does not write it (at byte {offset:,})"
                )
            members.append(member)
            offset = member.end
        if position != length or offset != start or start + length + len(self._tail) != size:
            raise self._wrong("there are bytes that belong to no file")
        names: set[str] = set()
        for member in members:
            if member.name in names:
                raise self._wrong(f"{shown(member.name)} is in it twice")
            names.add(member.name)
        return members

    def _end(self, size: int) -> tuple[int, int, int]:
        """Number of entries, size and place of the central directory."""
        if size < END.size or not (fixed := self._at(size - END.size, END.size)).startswith(b"PK\x05\x06"):
            if size and self._at(0, min(4, size)) == b"PK\x03\x04":
                raise self._wrong("it is cut short, or something was added at its end; get it again")
            raise self._wrong("it is no zip file")
        _, _, _, _, count, length, start, _ = END.unpack(fixed)
        if count == LIMIT_16 or LIMIT_32 in (length, start):
            place = size - END.size - LOCATOR_64.size - END_64.size
            if place < 0:
                raise self._wrong("its end is damaged")
            wide = END_64.unpack(self._at(place, END_64.size))
            count, length, start = wide[7], wide[8], wide[9]
        if count > MOST_MEMBERS or length > LARGEST_DIRECTORY:
            raise self._wrong(f"it has more than {MOST_MEMBERS:,} files, or names that are too long")
        self._tail = end_records(count, length, start)
        if (
            start + length + len(self._tail) != size
            or self._at(start + length, len(self._tail)) != self._tail
        ):
            raise self._wrong("its end is not as dyff-dagster writes it, or something was added or cut off")
        return count, length, start

    def _entry(self, directory: bytes, position: int) -> tuple[Member, int]:
        """The entry at a position of the central directory, and where the next one begins."""
        fixed = directory[position : position + CENTRAL.size]
        if len(fixed) < CENTRAL.size:
            raise self._wrong("its list of files is damaged")
        fields = CENTRAL.unpack(fixed)
        crc, size, length, offset = fields[7], fields[9], fields[10], fields[16]
        at = position + CENTRAL.size
        raw = directory[at : at + length]
        try:
            name = raw.decode("utf-8")
        except UnicodeDecodeError:
            raise self._wrong("a name in it is no UTF-8") from None
        wide = directory[at + length + 4 : at + length + fields[11]]
        if size == LIMIT_32:
            size, wide = int.from_bytes(wide[:8], "little"), wide[16:]
        if offset == LIMIT_32:
            offset = int.from_bytes(wide[:8], "little")
        member = Member(name, size, crc, offset)
        made = central_header(member)
        if directory[position : position + len(made)] != made:
            raise self._wrong(self._unlike(name, fields))
        return member, position + len(made)

    def _unlike(self, name: str, fields: tuple[int, ...]) -> str:
        if fields[4]:
            return (
                f"{shown(name)} is compressed, and a bundle's files are not: it was packed by something else"
            )
        kind = fields[15] >> 28
        if kind not in (0, 8):
            return (
                f"{shown(name)} is no regular file but a {'symbolic link' if kind == 10 else 'special file'}"
            )
        return f"the entry of {shown(name)} is not as dyff-dagster writes it: it was packed by something else"

    def _at(self, offset: int, length: int) -> bytes:
        if offset + length > self._size:
            raise self._wrong("it is cut short; get it again")
        self._file.seek(offset)
        return self._file.read(length)

    def _wrong(self, problem: str) -> NotABundle:
        return NotABundle(f"{self.path}: this is no bundle as dyff-dagster writes it: {problem}")


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(_BLOCK):
        yield block
