"""JSON Lines in blocks: by Arrow's parser where it comes to the very same as Python's, which is some ten times slower.

Arrow's parser is given the types, and only those that it reads as we do. A block that it refuses, or of which it cannot
be said for certain that both agree, goes to the other one, which also knows how to say what is wrong.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

_BLOCK = 4 * 1024 * 1024
_NEWLINE, _OPEN, _CLOSE = b"\n{}"
_SLICE = 256 * 1024
_PIECE = 1024 * 1024
_BOM = b"\xef\xbb\xbf"
_ESCAPED = re.compile(rb"\\u00[2-7]")
"""A character of ASCII that is written as an escape: a field's name may be hidden behind it."""
_CONSTANT = re.compile(rb"[:,\[]\s*-?(NaN|Inf)")
_SAME = (pa.string(), pa.bool_(), pa.int64(), pa.int32(), pa.float64())
"""Types of which both parsers make the same of the same text."""


@dataclass(frozen=True)
class Block:
    """Some whole lines; they are there until the next block is asked for.

    Attributes:
        data: Their bytes.
        first: The number of the first, from 1.
    """

    data: memoryview
    first: int

    def lines(self) -> BinaryIO:
        """The lines one by one."""
        return io.BytesIO(self.data)


def read_blocks(path: Path) -> Iterator[Block]:
    """The lines of a file, some megabytes at a time; none is cut in two."""
    first, held = 1, 0
    buffer = bytearray(_BLOCK)  # one for all: new memory for each costs as much as reading it
    with path.open("rb", buffering=0) as file:
        if file.read(len(_BOM)) != _BOM:
            file.seek(0)
        while count := file.readinto(memoryview(buffer)[held:]):
            there = held + count
            end = buffer.rfind(b"\n", held, there) + 1
            if not end:
                held = there
                if held == len(buffer):  # a line that is longer than a block
                    buffer = buffer + bytes(len(buffer))
                continue
            yield Block(memoryview(buffer)[:end], first)
            first += _lines(np.frombuffer(buffer, np.uint8, end))
            held = there - end
            buffer[:held] = buffer[end:there]
        if held:
            yield Block(memoryview(buffer)[:held], first)


def _lines(characters: np.ndarray) -> int:
    return sum(
        int(np.count_nonzero(characters[start : start + _SLICE] == _NEWLINE))
        for start in range(0, len(characters), _SLICE)
    )


@dataclass(frozen=True)
class Quick:
    """A block as Arrow read it.

    Attributes:
        table: The wanted fields, null where an object lacks one; without the index where no object has one.
        indexed: Whether each object has the index, or none has.
    """

    table: pa.Table
    indexed: bool


class QuickParser:
    """Reads the wanted fields of the blocks of a file.

    Args:
        types: The fields that are wanted, each with its type.
        index: The field that all objects must have, or none.
    """

    def __init__(self, types: Mapping[str, pa.DataType | None], index: str) -> None:
        self._index = index
        plain = {name: kind for name, kind in types.items() if name != index}
        self._ways: list[Callable[[memoryview, int], Quick | None]] = []
        if plain and all(_is_same(kind) for kind in types.values()):
            # Without fields that nobody wants there is nothing that Arrow would not have looked at.
            self._ways.append(lambda data, lines: self._parse(data, lines, plain, "error"))
            if index in types:
                self._ways.append(lambda data, lines: self._parse(data, lines, types, "error"))
            self._ways.append(lambda data, lines: self._parse(data, lines, types, "ignore"))

    def parse(self, block: Block) -> Quick | None:
        """A block's objects; None where the slow way must be gone."""
        data = block.data if block.data[-1] == _NEWLINE else memoryview(bytes(block.data) + b"\n")
        if not self._ways or not (lines := _plain_lines(data)):
            return None
        for number, way in enumerate(self._ways):
            if (found := way(data, lines)) is not None:
                # The next block is probably as this one.
                self._ways.insert(0, self._ways.pop(number))
                return found
        return None

    def _parse(
        self, data: memoryview, lines: int, types: Mapping[str, pa.DataType | None], others: str
    ) -> Quick | None:
        try:
            table = pyarrow.json.read_json(
                pa.BufferReader(data),
                # In pieces, for all cores; a line that is longer than one goes the slow way.
                read_options=pyarrow.json.ReadOptions(use_threads=True, block_size=_PIECE),
                parse_options=pyarrow.json.ParseOptions(
                    explicit_schema=pa.schema(list(types.items())), unexpected_field_behavior=others
                ),
            )
        except pa.ArrowException:
            return None
        if table.num_rows != lines or table.schema.names != list(types):
            return None
        # Arrow makes infinity of a number with a thousand digits, and reads NaN and Infinity, which JSON does not know.
        if not all(_is_finite(column) for column in table.columns):
            return None
        text = bytes(data) if others == "ignore" else b""
        if (b"NaN" in text or b"Inf" in text) and _CONSTANT.search(text):
            return None
        if self._index not in types:
            absent = others == "error" or not _may_name(text, self._index)
            return Quick(table, indexed=False) if absent else None
        nulls = table.column(self._index).null_count
        if not nulls:
            return Quick(table, indexed=True)
        if nulls == table.num_rows and others == "ignore" and not _may_name(text, self._index):
            return Quick(table.drop_columns([self._index]), indexed=False)
        return None


def _may_name(data: bytes, name: str) -> bool:
    """Whether a field's name may be in it, be it hidden behind an escape."""
    return name.encode() in data or (b"\\u00" in data and _ESCAPED.search(data) is not None)


def _plain_lines(data: memoryview) -> int:
    """How many lines there are, where each begins and ends as an object does, so that none goes on in the next.

    0 where that is not so, or not all is UTF-8.
    """
    before = 2 if bytes(data[-2:]) == b"\r\n" else 1
    characters = np.frombuffer(data, np.uint8)
    lines = 0
    if characters[0] != _OPEN:
        return 0
    for start in range(0, len(data), _SLICE):  # small enough to stay in the processor's cache
        ends = np.flatnonzero(characters[start : start + _SLICE] == _NEWLINE) + start
        lines += len(ends)
        if not len(ends):
            continue
        if ends[0] < before or (characters[ends - before] != _CLOSE).any():
            return 0
        follows = ends[:-1] if ends[-1] == len(data) - 1 else ends
        if (characters[follows + 1] != _OPEN).any():
            return 0
    try:
        codecs.utf_8_decode(data, "strict", True)
    except UnicodeDecodeError:
        return 0
    return lines


def _is_finite(column: pa.ChunkedArray | pa.Array) -> bool:
    """Whether all numbers in a column are, however deep they lie in it."""
    kind = column.type
    if pa.types.is_floating(kind):
        return pc.all(pc.is_finite(column)).as_py() is not False
    if pa.types.is_list(kind):
        return _is_finite(pc.list_flatten(column))
    if pa.types.is_struct(kind):
        return all(_is_finite(pc.struct_field(column, at)) for at in range(kind.num_fields))
    return True


def _is_same(kind: pa.DataType | None) -> bool:
    if kind is None:
        return False
    if pa.types.is_struct(kind):
        return kind.num_fields > 0 and all(_is_same(field.type) for field in kind)
    if pa.types.is_list(kind):
        return _is_same(kind.value_type)
    return kind in _SAME
