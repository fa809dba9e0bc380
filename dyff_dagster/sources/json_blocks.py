"""JSON Lines in blocks: by Arrow's parser where it comes to the very same as Python's, which is some ten times slower.

Arrow's parser is given the types, and only those that it reads as we do. A block that it refuses, or of which it cannot
be said for certain that both agree, goes to the other one, which also knows how to say what is wrong.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

_BLOCK = 8 * 1024 * 1024
_PIECE = 1024 * 1024
_BOM = b"\xef\xbb\xbf"
_ESCAPED = re.compile(rb"\\u00[2-7]")
"""A character of ASCII that is written as an escape: a field's name may be hidden behind it."""
_CONSTANT = re.compile(rb"[:,\[]\s*-?(NaN|Inf)")
_SAME = (pa.string(), pa.bool_(), pa.int64(), pa.int32(), pa.float64())
"""Types of which both parsers make the same of the same text."""


@dataclass(frozen=True)
class Block:
    """Some whole lines.

    Attributes:
        data: Their bytes.
        first: The number of the first, from 1.
    """

    data: bytes
    first: int

    def lines(self) -> BinaryIO:
        """The lines one by one."""
        return io.BytesIO(self.data)

    def count(self) -> int:
        """How many lines there are."""
        return self.data.count(b"\n") + (not self.data.endswith(b"\n"))


def read_blocks(path: Path) -> Iterator[Block]:
    """The lines of a file, some megabytes at a time; none is cut in two."""
    first = 1
    rest = b""
    with path.open("rb") as file:
        start = file.read(len(_BOM))
        rest = b"" if start == _BOM else start
        while data := file.read(_BLOCK):
            end = data.rfind(b"\n") + 1
            if not end:
                rest += data
                continue
            block = Block(rest + data[:end], first)
            yield block
            first += block.count()
            rest = data[end:]
    if rest:
        yield Block(rest, first)


def parse_quickly(block: Block, types: Mapping[str, pa.DataType | None]) -> pa.Table | None:
    """The wanted fields of a block's objects, null where an object lacks one; None where the slow way must be gone.

    Args:
        block: Whole lines.
        types: The fields that are wanted, each with its type.
    """
    if not types or not all(_is_same(kind) for kind in types.values()):
        return None
    data = block.data if block.data.endswith(b"\n") else block.data + b"\n"
    newline = b"\r\n" if data.endswith(b"\r\n") else b"\n"
    lines = data.count(b"\n")
    # Each line begins and ends as an object does: so none of them goes on in the next.
    if not (data.startswith(b"{") and data.endswith(b"}" + newline)):
        return None
    if data.count(b"}" + newline + b"{") != lines - 1:
        return None
    try:
        data.decode()
        table = pyarrow.json.read_json(
            pa.BufferReader(data),
            # In pieces, for all cores; a line that is longer than one goes the slow way.
            read_options=pyarrow.json.ReadOptions(use_threads=True, block_size=_PIECE),
            parse_options=pyarrow.json.ParseOptions(
                explicit_schema=pa.schema(list(types.items())), unexpected_field_behavior="ignore"
            ),
        )
    except (pa.ArrowException, UnicodeDecodeError):
        return None
    if table.num_rows != lines or table.schema.names != list(types):
        return None
    # Arrow reads NaN and Infinity, which JSON does not know, and makes infinity of a number with a thousand digits.
    if (b"NaN" in data or b"Inf" in data) and _CONSTANT.search(data):
        return None
    return table if all(_is_finite(column) for column in table.columns) else None


def has_field(table: pa.Table, block: Block, name: str) -> bool | None:
    """Whether each of a block's objects has a field, or none has; None where it cannot be told from here."""
    nulls = table.column(name).null_count
    if not nulls:
        return True
    if nulls == table.num_rows and name.encode() not in block.data and not _ESCAPED.search(block.data):
        return False
    return None


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
