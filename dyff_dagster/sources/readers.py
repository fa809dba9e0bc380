"""Rows of CSV, JSON Lines and Parquet files as record batches of one schema with ``_index_`` first."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from dyff_dagster.schema.errors import DyffError
from dyff_dagster.sources.json_lines import JsonLinesFault, json_lines_batches, json_lines_schema
from dyff_dagster.sources.stored_types import stored_schema

INDEX = "_index_"

MAX_ROWS = 65_536
"""Rows of a batch at most."""

_HEADER = 64 * 1024
_BLOCK = 2 * 1024 * 1024
_LARGEST_BLOCK = 1024 * 1024 * 1024
_INDEX_FIELD = pa.field(INDEX, pa.int64(), nullable=False)
_COLUMN = re.compile(r"In CSV column #(\d+): (?:Row #(\d+): )?")
_LEADING_ZERO = r"^\s*[+-]?0[0-9]"


@dataclass(frozen=True)
class RowReader:
    """A file whose types are known; ``batches()`` reads its rows from the beginning, each time it is called."""

    schema: pa.Schema
    batches: Callable[[], Iterator[pa.RecordBatch]]


def open_rows(source: Path, error: type[DyffError], files: Sequence[Path] = ()) -> RowReader:
    """Learn the types of the rows of a file, or of several of one kind that are read as one.

    Args:
        source: The file; where there are several, what they are together called in errors.
        error: Raised for a file of another kind, one that cannot be read, and an ``_index_`` that is no key.
        files: The files, where there are several.
    """
    readers = [_raw(file, error) for file in files or [source]]
    return _indexed(source, readers[0] if len(readers) == 1 else _together(files, readers, error), error)


def _raw(source: Path, error: type[DyffError]) -> RowReader:
    suffix = source.suffix.lower()
    if not source.is_file():
        raise error(f"there is no file {source}")
    try:
        if suffix == ".csv":
            return _csv(source, error)
        if suffix in (".jsonl", ".ndjson"):
            schema = json_lines_schema(source)
            return RowReader(schema, lambda: json_lines_batches(source, schema))
        if suffix == ".parquet":
            return _parquet(source, error)
    except JsonLinesFault as fault:
        raise error(str(fault)) from None
    except OSError as fault:
        raise error(f"{source} cannot be read: {fault.strerror or 'it is damaged'}") from None
    raise error(f"{source} is no *.csv, *.jsonl, *.ndjson or *.parquet file; convert it to one of these")


def _together(files: Sequence[Path], readers: Sequence[RowReader], error: type[DyffError]) -> RowReader:
    """The rows of several files, one after the other, in types that hold for all."""
    schema = readers[0].schema
    for file, reader in zip(files, readers, strict=True):
        if set(reader.schema.names) != set(schema.names):
            different = sorted(set(reader.schema.names) ^ set(schema.names))
            raise error(
                f"{file} and {files[0]} do not have the same columns ({different[0]}); import them one by one"
            )
        try:
            schema = pa.unify_schemas([schema, reader.schema], promote_options="permissive")
        except pa.ArrowException:
            raise error(
                f"{file} has columns of other types than {files[0]}; import them one by one"
            ) from None

    def batches() -> Iterator[pa.RecordBatch]:
        for reader in readers:
            for batch in reader.batches():
                columns = [batch.column(field.name).cast(field.type) for field in schema]
                yield pa.RecordBatch.from_arrays(columns, schema=schema)

    return RowReader(schema, batches)


def _indexed(source: Path, raw: RowReader, error: type[DyffError]) -> RowReader:
    """The same rows with ``_index_: int64 not null`` first: their own, or numbers from 0."""
    names = raw.schema.names
    doubles = sorted({name for name in names if names.count(name) > 1})
    if doubles or "" in names:
        what = f"more than one column '{doubles[0]}'" if doubles else "a column without a name"
        raise error(f"{source} has {what}; every column needs a name of its own")
    has_index = INDEX in names
    if has_index:
        _check_index(source, raw, error)
    fields = [field for field in raw.schema if field.name != INDEX]
    schema = pa.schema([_INDEX_FIELD, *fields])

    def batches() -> Iterator[pa.RecordBatch]:
        done = 0
        for batch in raw.batches():
            index = (
                batch.column(INDEX).cast(pa.int64())
                if has_index
                else pa.array(np.arange(done, done + batch.num_rows, dtype=np.int64))
            )
            columns = [batch.column(field.name) for field in fields]
            yield pa.RecordBatch.from_arrays([index, *columns], schema=schema)
            done += batch.num_rows

    return RowReader(schema, batches)


def _check_index(source: Path, raw: RowReader, error: type[DyffError]) -> None:
    if not pa.types.is_integer(raw.schema.field(INDEX).type):
        raise error(f"{source}: {INDEX} must be whole numbers, one of its own for each row")
    chunks: list[pa.Array] = []
    last: int | None = None
    rising = True
    row = 0
    for batch in raw.batches():
        column = batch.column(INDEX)
        if column.null_count:
            row += pc.index(pc.is_null(column), True).as_py() + 1
            raise error(f"{source}: row {row} has no {INDEX}; every row needs one")
        row += len(column)
        try:
            column = column.cast(pa.int64())
        except pa.ArrowInvalid:
            raise error(f"{source}: {INDEX} has a number that does not fit into 64 bits") from None
        if not len(column):
            continue
        if rising:
            steps = pc.all(pc.greater(column[1:], column[:-1])).as_py() is not False
            rising = steps and (last is None or column[0].as_py() > last)
            last = column[-1].as_py()
        chunks.append(column)
    # Numbers that only rise are unique; all others are counted, at 8 bytes a row.
    if not rising:
        values = pa.chunked_array(chunks, pa.int64())
        counts = pc.value_counts(values)
        double = counts.filter(pc.greater(counts.field("counts"), 1))
        if len(double):
            raise error(
                f"{source}: {INDEX} {double.field('values')[0].as_py()} stands more than once; "
                "every row needs a number of its own"
            )


# ---- CSV


def _csv(source: Path, error: type[DyffError]) -> RowReader:
    """Types as pyarrow infers them, widened until they hold for the whole file.

    An integer column with a leading zero in it (``00123``) is text: it is an identifier, and a number would
    lose the zero.
    """
    names = _csv_names(source, error)
    if len(names) == 1 and (mark := next((mark for mark in (";", "\t") if mark in names[0]), None)):
        shown = "tabs" if mark == "\t" else "semicolons"
        raise error(f"{source} has its columns between {shown}; separate them by commas")
    doubles = len(names) != len(set(names)) or "" in names
    if doubles:
        return RowReader(pa.schema([pa.field(name, pa.string()) for name in names]), lambda: iter(()))
    known: dict[str, pa.DataType] = {}
    block = _BLOCK
    while True:
        try:
            schema = None
            for batch in _csv_batches(source, known, block, error):
                schema = batch.schema
            break
        except _Straddles:
            block *= 2
            if block > _LARGEST_BLOCK:
                raise error(f"{source} has a row of more than 1 GiB") from None
        except _Misfit as misfit:
            known[misfit.name] = _wider(misfit.found, known.get(misfit.name))
    if schema is None:
        schema = pa.schema([pa.field(name, pa.string()) for name in names])
    types = {field.name: _settled(field.type) for field in schema}
    whole = [name for name, kind in types.items() if pa.types.is_integer(kind) and name != INDEX]
    for batch in (
        _csv_batches(source, dict.fromkeys(whole, pa.string()), block, error, whole) if whole else ()
    ):
        for name in batch.schema.names:
            if pc.any(pc.match_substring_regex(batch.column(name), _LEADING_ZERO)).as_py():
                types[name] = pa.string()
    # pyarrow finds times in seconds, which Parquet would turn into others.
    final = stored_schema(pa.schema([pa.field(name, types[name]) for name in names]))
    types = {field.name: field.type for field in final}
    return RowReader(final, lambda: _csv_batches(source, types, block, error))


def csv_as_text(source: Path, error: type[DyffError]) -> Iterator[pa.RecordBatch]:
    """The rows of a CSV file with every cell as the text that it is; one with nothing in it is null.

    For a reader that knows the types: a number that was text for a moment has lost nothing.
    """
    names = _csv_names(source, error)
    if len(names) != len(set(names)) or "" in names:
        raise error(f"{source} has columns of the same name or without one; every column needs its own")
    convert = pyarrow.csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()),
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
        null_values=[""],
    )
    block, threads, done = _BLOCK, True, 0
    while block <= _LARGEST_BLOCK:
        seen = 0
        try:
            for batch in _csv_batches(source, {}, block, error, convert=convert, threads=threads):
                seen += batch.num_rows
                # What came before a row that did not fit is read again, and not given again.
                if seen > done:
                    yield batch.slice(max(0, done - (seen - batch.num_rows)))
                    done = seen
            return
        except _Straddles:
            block *= 2
        except error:
            if not threads:
                raise
            threads = False  # which knows the number of the row
    raise error(f"{source} has a row of more than 1 GiB")


class _Straddles(Exception):
    """A row does not fit into a block."""


class _Misfit(Exception):
    """A column holds something else than its type; ``found`` is the type that failed."""

    def __init__(self, name: str, found: str) -> None:
        self.name, self.found = name, found
        super().__init__(name)


def _wider(failed: str, known: pa.DataType | None) -> pa.DataType:
    return pa.float64() if failed == "int64" and known is None else pa.string()


def _settled(kind: pa.DataType) -> pa.DataType:
    """A column without a single value, and one whose bytes are not UTF-8, have no type of their own."""
    return pa.string() if pa.types.is_null(kind) or pa.types.is_binary(kind) else kind


def _csv_names(source: Path, error: type[DyffError]) -> list[str]:
    """The names in the header, doubled ones and empty ones as they are."""
    with source.open("rb") as stream:
        if stream.read(2) in (b"\xff\xfe", b"\xfe\xff"):
            raise error(f"{source} is UTF-16; save the file as UTF-8")
    block = _HEADER
    while block <= _LARGEST_BLOCK:
        faults: list[str] = []
        options = pyarrow.csv.ReadOptions(block_size=block, use_threads=False)
        try:
            with pyarrow.csv.open_csv(source, options, _parse_options(faults)) as reader:
                return list(reader.schema.names)
        except UnicodeDecodeError:
            raise error(f"{source}: row 1 is not UTF-8 text; save the file as UTF-8") from None
        except pa.ArrowInvalid as fault:
            if "straddl" not in str(fault):
                raise error(_csv_sentence(source, str(fault), faults)) from None
        block *= 2
    raise error(f"{source} has a row of more than 1 GiB")


def _parse_options(faults: list[str]) -> pyarrow.csv.ParseOptions:
    def note(row: pyarrow.csv.InvalidRow) -> str:
        where = "a row" if row.number is None else f"row {row.number}"
        faults.append(f"{where} has {row.actual_columns} columns instead of {row.expected_columns}")
        return "error"

    return pyarrow.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=note)


def _csv_batches(
    source: Path,
    types: dict[str, pa.DataType],
    block: int,
    error: type[DyffError],
    columns: list[str] | None = None,
    convert: pyarrow.csv.ConvertOptions | None = None,
    threads: bool = False,
) -> Iterator[pa.RecordBatch]:
    faults: list[str] = []
    inferred: dict[str, pa.DataType] = {}
    names: list[str] = []
    try:
        with pyarrow.csv.open_csv(
            source,
            # With more than one thread, pyarrow does not number the rows that it complains of.
            read_options=pyarrow.csv.ReadOptions(block_size=block, use_threads=threads),
            parse_options=_parse_options(faults),
            convert_options=convert
            or pyarrow.csv.ConvertOptions(column_types=types, include_columns=columns),
        ) as reader:
            names = list(reader.schema.names)
            inferred = {field.name: field.type for field in reader.schema}
            for batch in reader:
                for start in range(0, batch.num_rows, MAX_ROWS):
                    yield batch.slice(start, MAX_ROWS)
    except pa.ArrowInvalid as fault:
        text = str(fault)
        if "straddl" in text:
            raise _Straddles from None
        match = _COLUMN.match(text)
        if match is not None and "UTF8" not in text:
            to = re.search(r"conversion error to (\w+)", text)
            names = names or _csv_names(source, error)
            name = names[int(match[1])] if int(match[1]) < len(names) else ""
            if name and str(types.get(name, inferred.get(name))) != "string":
                raise _Misfit(name, to[1] if to else "") from None
        raise error(_csv_sentence(source, text, faults)) from None


def _csv_sentence(source: Path, text: str, faults: list[str]) -> str:
    """What pyarrow complains of, without the content that it quotes."""
    if faults:
        return f"{source}: {faults[0]} (the header is row 1)"
    row = re.search(r"Row #(\d+)", text)
    where = f"{source}: row {row[1]}" if row else f"{source}"
    if "Empty CSV" in text:
        return f"{source} is empty; its first row must name the columns"
    if "UTF8" in text or "UTF-8" in text:
        return f"{where} is not UTF-8 text; save the file as UTF-8"
    return f"{where} is no CSV as RFC 4180 has it; mend its quotes and commas"


# ---- Parquet


def _parquet(source: Path, error: type[DyffError]) -> RowReader:
    try:
        with pq.ParquetFile(source) as file:
            found = file.schema_arrow
    except pa.ArrowInvalid:
        raise error(f"{source} is no Parquet file, or is damaged") from None
    schema = stored_schema(pa.schema([_plain(field) for field in found]))
    fields = list(schema)

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            with pq.ParquetFile(source) as file:
                for batch in file.iter_batches(batch_size=MAX_ROWS):
                    columns = [batch.column(i).cast(field.type) for i, field in enumerate(fields)]
                    yield pa.RecordBatch.from_arrays(columns, schema=schema)
        except pa.ArrowInvalid:
            raise error(f"{source} is damaged: its rows cannot be read") from None

    return RowReader(schema, batches)


def _plain(field: pa.Field) -> pa.Field:
    """The field without metadata, dictionaries and 64-bit offsets, which are ways to store the same values."""
    kind = field.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        kind = pa.string()
    elif pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        kind = pa.binary()
    return pa.field(field.name, kind, field.nullable)
