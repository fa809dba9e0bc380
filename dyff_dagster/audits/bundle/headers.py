"""The bytes of a zip file around its members, in the one form that a bundle has.

Source: PKWARE, .ZIP File Format Specification (APPNOTE.TXT) 6.3.10, sections 4.3.7, 4.3.12 and 4.3.14 to 4.3.16.
Members are stored, not compressed; all have the date 1980-01-01 and the mode 0644. So the same members make the
same file with every release of Python and of zlib, and none can be larger than it looks. A reader makes these
bytes again from what it found, and compares: there is no room for a link, for a member hidden between two
others, or for a comment.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

LIMIT_32 = 0xFFFFFFFF
"""Sizes and offsets from here on need the 64-bit fields."""

LIMIT_16 = 0xFFFF
"""So many members, and more, need the 64-bit fields."""

LOCAL = struct.Struct("<4s5H3L2H")
CENTRAL = struct.Struct("<4s6H3L5H2L")
END = struct.Struct("<4s4H2LH")
END_64 = struct.Struct("<4sQ2H2L4Q")
LOCATOR_64 = struct.Struct("<4sLQL")

_UTF8 = 0x800
_DATE = 1 << 5 | 1  # the first of January 1980
_MODE = 0o100644 << 16
_UNIX = 3 << 8


@dataclass(frozen=True)
class Member:
    """One member of the archive.

    Attributes:
        name: Relative path, with ``/`` between its parts.
        size: Bytes.
        crc: CRC-32 of its bytes.
        offset: Where its local header begins.
    """

    name: str
    size: int
    crc: int
    offset: int

    @property
    def start(self) -> int:
        """Where its bytes begin."""
        return self.offset + len(local_header(self))

    @property
    def end(self) -> int:
        """Where the next member begins."""
        return self.start + self.size


def local_header(member: Member) -> bytes:
    """What stands before a member's bytes."""
    name, flags = _encoded(member.name)
    extra, size, version = b"", member.size, 20
    if member.size >= LIMIT_32:
        extra, size, version = struct.pack("<2H2Q", 1, 16, member.size, member.size), LIMIT_32, 45
    fixed = LOCAL.pack(
        b"PK\x03\x04", version, flags, 0, 0, _DATE, member.crc, size, size, len(name), len(extra)
    )
    return fixed + name + extra


def central_header(member: Member) -> bytes:
    """A member's entry in the central directory."""
    name, flags = _encoded(member.name)
    size, offset = member.size, member.offset
    wide = b""
    if member.size >= LIMIT_32:
        wide += struct.pack("<2Q", member.size, member.size)
        size = LIMIT_32
    if member.offset >= LIMIT_32:
        wide += struct.pack("<Q", member.offset)
        offset = LIMIT_32
    extra = struct.pack("<2H", 1, len(wide)) + wide if wide else b""
    version = 45 if wide else 20
    fixed = CENTRAL.pack(
        b"PK\x01\x02", _UNIX | version, version, flags, 0, 0, _DATE, member.crc, size, size,
        len(name), len(extra), 0, 0, 0, _MODE, offset,
    )  # fmt: skip
    return fixed + name + extra


def end_records(count: int, size: int, offset: int) -> bytes:
    """What stands after the central directory of ``count`` entries and ``size`` bytes at ``offset``."""
    wide = b""
    if count >= LIMIT_16 or size >= LIMIT_32 or offset >= LIMIT_32:
        wide = END_64.pack(b"PK\x06\x06", END_64.size - 12, _UNIX | 45, 45, 0, 0, count, count, size, offset)
        wide += LOCATOR_64.pack(b"PK\x06\x07", 0, offset + size, 1)
    shown = min(count, LIMIT_16)
    return wide + END.pack(b"PK\x05\x06", 0, 0, shown, shown, min(size, LIMIT_32), min(offset, LIMIT_32), 0)


def _encoded(name: str) -> tuple[bytes, int]:
    return name.encode("utf-8"), 0 if name.isascii() else _UTF8
