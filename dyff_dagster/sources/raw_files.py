"""Raw files as record batches: CSV, JSON, JSON Lines, Parquet, images and texts.

Only the fields that somebody wants are read. A file is never held in memory whole, but an image or a text is one value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dyff_dagster.schema.errors import DyffError
from dyff_dagster.sources.json_blocks import QuickParser, read_blocks
from dyff_dagster.sources.json_lines import (
    FieldTwice,
    JsonLinesFault,
    infer_schema,
    json_lines_rows,
    rows_of_lines,
)
from dyff_dagster.sources.objects import check_objects, holds_objects
from dyff_dagster.sources.readers import csv_as_text
from dyff_dagster.sources.times import holds_times, read_times

__all__ = ["MISFITS", "RawFile", "Wanted", "read_files"]

MISFITS = (
    pa.ArrowInvalid,
    pa.ArrowTypeError,
    pa.ArrowNotImplementedError,
    OverflowError,
    UnicodeEncodeError,
)
"""What pyarrow raises for a value that is none of a type; the last is half of a surrogate pair."""

Wanted = Mapping[str, pa.DataType | None]
"""Names of the fields that are wanted, each with the type that it shall have; None: that which it has."""

_INDEX = "_index_"
_LINES = 8_192
_BYTES = 16 * 1024 * 1024
_ROWS = 65_536


@dataclass(frozen=True)
class RawFile:
    """A file that is read: its name within its source, where it lies, and the fields that its path gives."""

    name: str
    path: Path
    captured: Mapping[str, str]


def read_files(
    kind: str, files: Sequence[RawFile], wanted: Wanted, error: type[DyffError]
) -> Iterator[tuple[RawFile, int, pa.RecordBatch]]:
    """The rows of files of one kind, in order.

    Yields:
        The file, how many rows of it came before, and some of its rows. Fields that a JSON object lacks are null.

    Raises:
        error: A file is damaged, or a value does not fit the type that is wanted; it is named and not shown.
    """
    if kind in ("image", "text"):
        yield from _whole_files(kind, files, error)
        return
    for file in files:
        done = 0
        # What the path says of a file stands; JSON would be read as if it said null of a field that it lacks.
        own = {name: type_ for name, type_ in wanted.items() if name not in file.captured}
        for batch in _batches(kind, file, own, error):
            yield file, done, _with_captured(batch, file)
            done += batch.num_rows


def _batches(kind: str, file: RawFile, wanted: Wanted, error: type[DyffError]) -> Iterator[pa.RecordBatch]:
    try:
        if kind == "csv":
            yield from csv_as_text(file.path, _by_name(file, error))
        elif kind == "parquet":
            yield from _parquet(file, wanted, error)
        elif kind == "jsonl":
            yield from _json_lines(file, wanted, error)
        else:
            yield from _json(file, wanted, lambda: _json_rows(file), "object", error)
    except JsonLinesFault as fault:
        raise error(f"{_named(fault, file)}: mend the file") from fault
    except FieldTwice:
        # ijson reads ahead: which object it is cannot be said.
        raise error(f"{file.name} {FieldTwice.MESSAGE}: mend the file") from None
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as fault:
        if isinstance(fault, OSError) and fault.errno is not None:
            raise
        raise error(f"{file.name} cannot be read as {kind.capitalize()}: mend the file") from fault


def _by_name(file: RawFile, error: type[DyffError]) -> type[DyffError]:
    """The error, which says the file's name within its source and not where it lies for the moment."""

    class Named(error):  # type: ignore[misc, valid-type]
        def __init__(self, message: str) -> None:
            super().__init__(message.replace(str(file.path), file.name, 1))

    return Named


def _parquet(file: RawFile, wanted: Wanted, error: type[DyffError]) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(file.path) as parquet:
        names = [name for name in parquet.schema_arrow.names if name in wanted]
        if doubles := sorted({name for name in names if names.count(name) > 1}):
            raise error(
                f"{file.name} has more than one column {doubles[0]}: every column needs a name of its own"
            )
        if not names:
            names = parquet.schema_arrow.names
        yield from parquet.iter_batches(batch_size=_ROWS, columns=names)


def _types(
    file: RawFile, wanted: Wanted, rows: Callable[[], Iterator[tuple[int, dict[str, Any]]]]
) -> dict[str, pa.DataType | None]:
    """The wanted fields with their types, found out where none is said; those that are nowhere are left out."""
    types = dict(wanted)
    if unknown := {name for name, kind in wanted.items() if kind is None}:
        found = infer_schema(file.path, rows(), unknown)
        for name in unknown:
            if name in found.names:
                types[name] = found.field(name).type
            else:
                del types[name]
    return types


class _Numbered:
    """Whether the objects of a file have an ``_index_`` of their own: all of them, or none.

    Said once for the whole file: rows numbered by their place among others with numbers of their own would be rows of
    another identity.
    """

    def __init__(self, file: RawFile, unit: str, error: type[DyffError]) -> None:
        self._file, self._unit, self._error = file, unit, error
        self.known: bool | None = None

    def see(self, number: int, has: bool) -> None:
        """Take notice of an object."""
        if self.known is None:
            self.known = has
        elif self.known != has:
            what = "no" if self.known else "an"
            raise self._error(
                f"{self._file.name}:{number} has {what} {_INDEX}, unlike the {self._unit}s before: "
                f"give it to every {self._unit} or to none"
            )


def _json(
    file: RawFile,
    wanted: Wanted,
    rows: Callable[[], Iterator[tuple[int, dict[str, Any]]]],
    unit: str,
    error: type[DyffError],
) -> Iterator[pa.RecordBatch]:
    types = _types(file, wanted, rows)
    yield from _typed(file, rows(), types, _Numbered(file, unit, error), unit, error)


def _json_lines(file: RawFile, wanted: Wanted, error: type[DyffError]) -> Iterator[pa.RecordBatch]:
    types = _types(file, wanted, lambda: json_lines_rows(file.path))
    numbered = _Numbered(file, "line", error)
    parser = QuickParser(types, _INDEX)
    for block in read_blocks(file.path):
        quick = parser.parse(block)
        if quick is not None and numbered.known in (None, quick.indexed):
            numbered.known = quick.indexed
            yield from quick.table.to_batches(max_chunksize=_ROWS)
            continue
        rows = rows_of_lines(file.path, block.lines(), block.first)
        yield from _typed(file, rows, types, numbered, "line", error)


def _typed(
    file: RawFile,
    rows: Iterator[tuple[int, dict[str, Any]]],
    types: Mapping[str, pa.DataType | None],
    numbered: _Numbered,
    unit: str,
    error: type[DyffError],
) -> Iterator[pa.RecordBatch]:
    waiting: list[dict[str, Any]] = []
    numbers: list[int] = []
    size = 0
    for number, row in rows:
        numbered.see(number, _INDEX in row)
        waiting.append({name: row[name] for name in types if name in row})
        numbers.append(number)
        size += sum(len(value) for value in waiting[-1].values() if isinstance(value, str))
        if len(waiting) == _LINES or size >= _BYTES:
            yield _to_batch(file, waiting, numbers, types, bool(numbered.known), unit, error)
            waiting, numbers, size = [], [], 0
    if waiting:
        yield _to_batch(file, waiting, numbers, types, bool(numbered.known), unit, error)


def _to_batch(
    file: RawFile,
    rows: list[dict[str, Any]],
    numbers: list[int],
    types: Mapping[str, pa.DataType | None],
    numbered: bool,
    unit: str,
    error: type[DyffError],
) -> pa.RecordBatch:
    names, arrays = [], []
    for name, kind in types.items():
        if name == _INDEX and not numbered:
            continue
        values = [row.get(name) for row in rows]
        try:
            arrays.append(_array(values, kind))
        except MISFITS as fault:
            # One of them, unless they are too much for Arrow only together.
            wrong = next((i for i, value in enumerate(values) if not _fits(value, kind)), 0)
            raise error(
                f"field {name} about {unit} {numbers[wrong]} of {file.name} does not fit {kind}: correct the value "
                "or the schema"
            ) from fault
        names.append(name)
    return pa.RecordBatch.from_arrays(arrays, names=names)


def _fits(value: object, kind: pa.DataType | None) -> bool:
    try:
        _array([value], kind)
    except MISFITS:
        return False
    return True


def _array(values: list[Any], kind: pa.DataType | None) -> pa.Array:
    if kind is not None and holds_objects(kind):
        for value in values:
            check_objects(value, kind)
    if kind is not None and holds_times(kind):
        values = [read_times(value, kind) for value in values]
    return pa.array(values, type=kind)


def _json_rows(file: RawFile) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSON file, with their numbers from 1: those of its one array, or the one that it is."""
    import ijson

    twice = False

    class Object(dict[str, Any]):
        """An object while it is read; ijson takes no notice of what is raised here."""

        def __setitem__(self, name: str, value: Any) -> None:
            nonlocal twice
            twice = twice or name in self
            super().__setitem__(name, value)

    with file.path.open("rb") as stream:
        start = stream.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
        stream.seek(3 if stream.seek(0) == 0 and stream.read(3) == b"\xef\xbb\xbf" else 0)
        prefix = "item" if start == b"[" else ""
        number = 0
        try:
            for number, row in enumerate(ijson.items(stream, prefix, use_float=True, map_type=Object), 1):
                if twice:
                    raise FieldTwice
                if not isinstance(row, dict):
                    raise JsonLinesFault(file.path, number, "is no JSON object")
                yield number, row
        except (ijson.JSONError, UnicodeDecodeError, OverflowError, RecursionError) as fault:
            raise JsonLinesFault(file.path, number + 1, "is no JSON") from fault


def _named(fault: JsonLinesFault, file: RawFile) -> str:
    return str(fault).replace(str(file.path), file.name, 1)


def _with_captured(batch: pa.RecordBatch, file: RawFile) -> pa.RecordBatch:
    for name, value in file.captured.items():
        if name in batch.schema.names:
            batch = batch.drop_columns([name])
        batch = batch.append_column(name, pa.array([value] * batch.num_rows, pa.string()))
    return batch


def _whole_files(
    kind: str, files: Sequence[RawFile], error: type[DyffError]
) -> Iterator[tuple[RawFile, int, pa.RecordBatch]]:
    """One row for each image or text, some together as far as they are small."""
    read = _image if kind == "image" else _text
    rows: list[dict[str, Any]] = []
    size = 0
    for file in files:
        row = {"path": file.name, **file.captured, **read(file, error)}
        rows.append(row)
        size += file.path.stat().st_size
        if size >= _BYTES or len(rows) >= _LINES:
            yield file, 0, _rows_to_batch(kind, rows)
            rows, size = [], 0
    if rows:
        yield files[-1], 0, _rows_to_batch(kind, rows)


def _rows_to_batch(kind: str, rows: Iterable[dict[str, Any]]) -> pa.RecordBatch:
    rows = list(rows)
    types = {"bytes": pa.binary()}
    names = list(rows[0])
    arrays = [pa.array([row[name] for row in rows], types.get(name, pa.string())) for name in names]
    return pa.RecordBatch.from_arrays(arrays, names=names)


def _image(file: RawFile, error: type[DyffError]) -> dict[str, Any]:
    """An image as ``vision.Image`` has it: its bytes as they are, and its format as they say."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file.path) as image:
            form = (image.format or "").lower()
            image.verify()
        with Image.open(file.path) as image:
            image.load()  # of a JPEG, for one, verify() looks at the beginning only
    except (UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise error(f"{file.name} is no image, or a damaged one: mend the file or leave it out") from None
    except OSError as fault:
        if fault.errno is not None:
            raise
        raise error(f"{file.name} is a damaged image: mend the file or leave it out") from None
    return {"bytes": file.path.read_bytes(), "format": form}


def _text(file: RawFile, error: type[DyffError]) -> dict[str, Any]:
    try:
        return {"text": file.path.read_bytes().removeprefix(b"\xef\xbb\xbf").decode()}
    except UnicodeDecodeError:
        raise error(f"{file.name} is not UTF-8 text; save the file as UTF-8") from None
