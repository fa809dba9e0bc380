"""JSON Lines: types learned over the whole file, rows read against them.

Python's own parser, not pyarrow's: that one takes types from the first block only, turns text that looks like
a time into one, and quotes what it stumbles over.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from dyff_dagster.schema.errors import DyffError
from dyff_dagster.sources.json_blocks import QuickParser, read_blocks

_MAX_DEPTH = 32
"""Lists and objects nested deeper than this have no type: each takes up to two levels of Parquet's hundred."""

_BATCH_ROWS = 8_192
_BATCH_BYTES = 32 * 1024 * 1024
_INT64 = range(-(2**63), 2**63)
_SURROGATE = re.compile("[\ud800-\udfff]")

Shape = str | dict[str, Any] | list[Any]
"""What is known of a field: ``null``, ``bool``, ``int``, ``float``, ``string``, a dict of shapes by name for an
object, or a list that holds the one shape of a list's items."""


class JsonLinesFault(DyffError):
    """A file is no JSON Lines, or its lines do not agree; names line and field, never content."""

    def __init__(self, source: Path, line: int, message: str, field: str = "") -> None:
        self.source, self.line, self.field = source, line, field
        where = f"{source}:{line}: " + (f"{field}: " if field else "")
        super().__init__(where + message)


def json_lines_schema(source: Path) -> pa.Schema:
    """The Arrow schema that every line of the file fits into: all fields nullable, in the order they appear.

    Whole numbers widen to floats; a field that is always null, and a list that is always empty, is text.

    Raises:
        JsonLinesFault: a line is no JSON object, a field has another type than on the lines before, or one
            is nested too deep.
    """
    return infer_schema(source, json_lines_rows(source))


def infer_schema(
    source: Path, rows: Iterable[tuple[int, dict[str, Any]]], only: Collection[str] | None = None
) -> pa.Schema:
    """The schema that all of some numbered JSON objects fit into, as :func:`json_lines_schema` finds it.

    Args:
        source: Where they come from, for errors.
        rows: Objects, each with its number.
        only: The fields that are looked at; None: all.
    """
    shape: dict[str, Any] = {}
    for number, row in rows:
        try:
            for name, value in row.items():
                if only is not None and name not in only:
                    continue
                _check_name(name, "")
                found = _shape(value, name)
                shape[name] = found if name not in shape else _merged(shape[name], found, name)
        except _Conflict as conflict:
            raise JsonLinesFault(source, number, conflict.message, conflict.field) from None
        except _TooDeep:
            message = f"is nested more than {_MAX_DEPTH} levels deep; write it as text"
            raise JsonLinesFault(source, number, message, name) from None
    return pa.schema([pa.field(name, _arrow(shape[name])) for name in shape])


def json_lines_batches(source: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows of the file, in batches of some thousands, in a schema that :func:`json_lines_schema` found."""
    types = {field.name: field.type for field in schema}
    # Which rows have a number of their own is for the types to say, and they were found by looking at each.
    parser = QuickParser(types, index="")
    for block in read_blocks(source):
        if (quick := parser.parse(block)) is not None:
            yield from quick.table.to_batches()
            continue
        rows: list[dict[str, Any]] = []
        weight = first = number = 0
        for number, row in rows_of_lines(source, block.lines(), block.first):
            first = first or number
            rows.append(row)
            weight += _weight(row)
            if len(rows) >= _BATCH_ROWS or weight >= _BATCH_BYTES:
                yield _batch(source, rows, schema, first)
                rows, weight, first = [], 0, 0
        if rows:
            yield _batch(source, rows, schema, first)


def _batch(source: Path, rows: list[dict[str, Any]], schema: pa.Schema, first: int) -> pa.RecordBatch:
    columns = []
    for field in schema:
        try:
            columns.append(pa.array([row.get(field.name) for row in rows], field.type))
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError):
            # What the types allow and Arrow cannot hold: 2**60 among fractions, half of a surrogate pair.
            message = (
                f"has a value on this line or one of the next {len(rows)} that does not fit {field.type}"
            )
            raise JsonLinesFault(source, first, message, field.name) from None
    return pa.RecordBatch.from_arrays(columns, schema=schema)


class _Conflict(Exception):
    def __init__(self, field: str, message: str) -> None:
        self.field, self.message = field, message
        super().__init__(message)


class _TooDeep(Exception):
    pass


def json_lines_rows(source: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Every line that is not blank, with its number from 1.

    Raises:
        JsonLinesFault: a line is no JSON object in UTF-8.
    """
    with source.open("rb") as stream:
        yield from rows_of_lines(source, stream)


def rows_of_lines(
    source: Path, lines: Iterable[bytes], first: int = 1
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Every line that is not blank, with its number; of some that lie in a file one after another.

    Args:
        source: The file, for errors.
        lines: The lines.
        first: The number of the first of them.

    Raises:
        JsonLinesFault: a line is no JSON object in UTF-8.
    """
    for number, raw in enumerate(lines, first):
        if number == 1:
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        if not raw.strip():
            continue
        try:
            row = _DECODER.decode(raw.decode())
        except UnicodeDecodeError:
            raise JsonLinesFault(source, number, "is not UTF-8 text; save the file as UTF-8") from None
        except json.JSONDecodeError as error:
            raise JsonLinesFault(source, number, f"is no JSON at character {error.colno}") from None
        except FieldTwice:
            raise JsonLinesFault(source, number, FieldTwice.MESSAGE) from None
        except ValueError:
            # Python reads no whole number of more than sys.get_int_max_str_digits() digits.
            raise JsonLinesFault(source, number, "has a number of thousands of digits") from None
        except _Constant:
            raise JsonLinesFault(source, number, "has a NaN or Infinity, which JSON does not know") from None
        except RecursionError:
            raise JsonLinesFault(source, number, "is nested too deep") from None
        if not isinstance(row, dict):
            raise JsonLinesFault(source, number, 'must be a JSON object, as in {"question": "…"}')
        yield number, row


class _Constant(Exception):
    pass


def _no_constant(name: str) -> Any:
    raise _Constant(name)


class FieldTwice(Exception):
    """An object has a field twice: one of the two values would be lost without a word."""

    MESSAGE = "has an object with the same field twice"


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise FieldTwice
    return made


_DECODER = json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=_each_once)


def _weight(value: Any) -> int:
    """About how many bytes a value takes in a batch."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(_weight(item) for item in value.values())
    if isinstance(value, list):
        return sum(_weight(item) for item in value)
    return 8


def _check_name(name: str, field: str) -> None:
    if _SURROGATE.search(name):
        raise _Conflict(field, "has a field whose name holds half of a surrogate pair, which is no text")


def _shape(value: Any, field: str, depth: int = 0) -> Shape:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        if value not in _INT64:
            raise _Conflict(field, "is a whole number that does not fit into 64 bits; write it as text")
        return "int"
    if isinstance(value, float):
        return "float"
    if isinstance(value, str):
        return "string"
    if depth >= _MAX_DEPTH:
        raise _TooDeep
    if isinstance(value, dict):
        if not value:
            raise _Conflict(
                field, "is an object without fields, which has no type; leave it out or write null"
            )
        for name in value:
            _check_name(name, field)
        return {name: _shape(item, f"{field}.{name}", depth + 1) for name, item in value.items()}
    item: Shape = "null"
    for element in value:
        item = _merged(item, _shape(element, f"{field}[]", depth + 1), f"{field}[]")
    return [item]


def _merged(first: Shape, second: Shape, field: str) -> Shape:
    if first == second or second == "null":
        return first
    if first == "null":
        return second
    if isinstance(first, dict) and isinstance(second, dict):
        merged = dict(first)
        for name, shape in second.items():
            merged[name] = _merged(merged[name], shape, f"{field}.{name}") if name in merged else shape
        return merged
    if isinstance(first, list) and isinstance(second, list):
        return [_merged(first[0], second[0], f"{field}[]")]
    if {str(first), str(second)} == {"int", "float"}:
        return "float"
    raise _Conflict(
        field, f"is {_word(second)} here and {_word(first)} before; make it one type in every line"
    )


def _word(shape: Shape) -> str:
    if isinstance(shape, dict):
        return "an object"
    if isinstance(shape, list):
        return "a list"
    return {"bool": "a truth value", "int": "a number", "float": "a number", "string": "text"}[shape]


def _arrow(shape: Shape) -> pa.DataType:
    if isinstance(shape, dict):
        return pa.struct([pa.field(name, _arrow(item)) for name, item in shape.items()])
    if isinstance(shape, list):
        return pa.list_(_arrow(shape[0]))
    kinds = {"bool": pa.bool_(), "int": pa.int64(), "float": pa.float64()}
    return kinds.get(shape, pa.string())
