"""Data sets: Parquet with ``_index_``, checked against the schema that the manifest declares.

Rows stream through; a data set is never held in memory whole. An error names the row and the field and
never shows what stands there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.parquet as pq

from dyff_dagster.schema.arrow import decode_schema, open_dataset
from dyff_dagster.schema.content import digest_dataset
from dyff_dagster.schema.platform import Dataset
from dyff_dagster.sources.errors import IngestError
from dyff_dagster.sources.json_lines import JsonLinesFault, json_lines_rows
from dyff_dagster.sources.readers import INDEX, csv_as_text
from dyff_dagster.sources.stored_types import NotStorable, stored_schema
from dyff_dagster.sources.times import holds_times, read_times, times_of
from dyff_dagster.store import Facts, Progress, columns_of

ROW_GROUP = 65_536
"""Rows of a row group: large enough to compress, small enough to stream."""

_LINES = 8_192
"""Lines of JSON that are parsed at a time."""

_MISFITS = (
    pa.ArrowInvalid,
    pa.ArrowTypeError,
    pa.ArrowNotImplementedError,
    OverflowError,
    UnicodeEncodeError,
)
"""What pyarrow raises for a value that is none of a type; the last is half of a surrogate pair."""


def store_dataset(entity: Dataset, directory: Path, progress: Progress) -> tuple[str, Facts]:
    """Check Parquet files that lie in ``directory`` already.

    Args:
        entity: The data set; its schema is what the files must have.
        directory: Where its artifacts were copied to.
        progress: Told the rows that were read.

    Returns:
        The content digest, and what there is to say about the data set.

    Raises:
        IngestError: A file is no Parquet, its schema is another one, or ``_index_`` is not unique.
    """
    schema = stored_form(entity)
    for artifact in entity.artifacts:
        if not artifact.path.endswith(".parquet"):
            raise IngestError(
                f"{entity.id}: its artifact {artifact.path} is no Parquet file: convert it with "
                "`dyff-dagster import-data`, or make the data set from a DataSource (annotation dyff-dagster/from)"
            )
        try:
            found = pq.read_schema(directory / artifact.path)
        except (pa.ArrowInvalid, OSError) as error:
            raise IngestError(
                f"{entity.id}: {artifact.path} cannot be read as Parquet: write it again"
            ) from error
        _compare_schemas(entity, artifact.path, schema, found)
    return facts_of(entity, directory, progress)


def ingest_file(entity: Dataset, source: Path, directory: Path, progress: Progress) -> tuple[str, Facts]:
    """Turn one CSV, JSON Lines or Parquet file into the data set's Parquet.

    Fields that the schema does not name are left out; ``_index_`` is taken from the file where it has one,
    else rows are numbered from 0.

    Args:
        entity: The data set; the one artifact that it lists names the file to write.
        source: The raw file.
        directory: Where to write.
        progress: Told the rows that were read.

    Returns:
        The content digest, and what there is to say about the data set.

    Raises:
        IngestError: A field is missing, or a value does not fit its type; the first such row is named.
    """
    schema = stored_form(entity)
    target = directory / (entity.artifacts[0].path if entity.artifacts else "data.parquet")
    target.parent.mkdir(parents=True, exist_ok=True)
    done = 0
    # The declared types are put on the raw values here, not in the reader, so that an error can name the row.
    with pq.ParquetWriter(target, schema, compression="zstd") as writer:
        for batch in _read_raw(entity, source, schema):
            writer.write_batch(_conform(entity, source.name, batch, schema, done), row_group_size=ROW_GROUP)
            done += batch.num_rows
            progress("reading rows", done, None)
    return facts_of(entity, directory, progress)


def stored_form(entity: Dataset) -> pa.Schema:
    """The declared schema as Parquet has it: times in seconds are times in milliseconds there.

    Raises:
        IngestError: A type cannot be held by Parquet.
    """
    declared = decode_schema(entity.schema_.arrowSchema)
    try:
        return stored_schema(declared)
    except NotStorable as error:
        raise IngestError(f"{entity.id}: {error}") from None


def facts_of(entity: Dataset, directory: Path, progress: Progress) -> tuple[str, Facts]:
    """Content digest and count of the rows in ``directory``.

    Raises:
        IngestError: There are none, or ``_index_`` is null or stands twice.
    """
    dataset = open_dataset(directory)
    seen: set[int] = set()
    rows = 0
    for batch in dataset.to_batches(columns=[INDEX]):
        column = batch.column(0)
        if column.null_count:
            raise IngestError(f"{entity.id}: a row has no {INDEX}: every row needs one")
        before = len(seen)
        values = column.to_pylist()
        seen.update(values)
        if len(seen) != before + len(values):
            double = _first_double(dataset)
            raise IngestError(
                f"{entity.id}: {INDEX} {double} stands more than once: each row needs a number of its own"
            )
        rows += len(values)
        progress("checking rows", rows, None)
    if rows == 0:
        raise IngestError(f"{entity.id}: the data set has no rows: there would be nothing to evaluate")
    return digest_dataset(dataset), Facts(rows=rows, columns=columns_of(dataset.schema))


def _first_double(dataset: pyarrow.dataset.Dataset) -> int | None:
    seen: set[int] = set()
    for batch in dataset.to_batches(columns=[INDEX]):
        for value in batch.column(0).to_pylist():
            if value in seen:
                return int(value)
            seen.add(value)
    return None


def _compare_schemas(entity: Dataset, path: str, declared: pa.Schema, found: pa.Schema) -> None:
    for column in declared:
        position = found.get_field_index(column.name)
        if position < 0:
            raise IngestError(
                f"{entity.id}: {path} has no field {column.name}, which the schema declares: "
                f"it has {', '.join(found.names)}"
            )
        if found.field(position).type != column.type:
            raise IngestError(
                f"{entity.id}: field {column.name} of {path} is {found.field(position).type}, "
                f"and the schema declares {column.type}: correct one of them"
            )
    surplus = [name for name in found.names if declared.get_field_index(name) < 0]
    if surplus:
        raise IngestError(
            f"{entity.id}: {path} has the field {surplus[0]}, which the schema does not declare: "
            "add it to the schema, or leave it out of the file"
        )


def _read_raw(entity: Dataset, source: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    suffix = source.suffix.lower()
    try:
        if suffix == ".csv":
            yield from csv_as_text(source, IngestError)
        elif suffix in (".jsonl", ".ndjson"):
            yield from _read_json_lines(entity, source, schema)
        elif suffix == ".parquet":
            yield from pq.ParquetFile(source).iter_batches(batch_size=ROW_GROUP)
        else:
            raise IngestError(
                f"{entity.id}: {source.name} has the suffix {suffix or '(none)'}: "
                "a raw file must end in .csv, .jsonl, .ndjson or .parquet"
            )
    except (pa.ArrowInvalid, JsonLinesFault) as error:
        what = str(error) if isinstance(error, JsonLinesFault) else f"{source.name} cannot be read as Parquet"
        raise IngestError(f"{entity.id}: {what}: mend the file") from error


def _read_json_lines(entity: Dataset, source: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    types = {column.name: column.type for column in schema}
    rows: list[dict[str, Any]] = []
    number = 0
    numbered: bool | None = None
    for number, row in json_lines_rows(source):
        # Said once for the whole file: rows numbered by their place among others with numbers of their own
        # would be rows of another identity.
        if numbered is None:
            numbered = INDEX in row
        elif numbered != (INDEX in row):
            what = "no" if numbered else "an"
            raise IngestError(
                f"{entity.id}: {source.name}:{number} has {what} {INDEX}, unlike the lines before: "
                "give it to every line or to none"
            )
        rows.append({name: row[name] for name in types if name in row})
        if len(rows) == _LINES:
            yield _to_batch(entity, source, rows, types, number)
            rows = []
    if rows:
        yield _to_batch(entity, source, rows, types, number)


def _to_batch(
    entity: Dataset, source: Path, rows: list[dict[str, Any]], types: dict[str, pa.DataType], last: int
) -> pa.RecordBatch:
    names = [name for name in types if any(name in row for row in rows)]
    arrays = []
    for name in names:
        values = [row.get(name) for row in rows]
        try:
            arrays.append(_array(values, types[name]))
        except _MISFITS as error:
            wrong = next(i for i, value in enumerate(values) if not _fits(value, types[name]))
            raise IngestError(
                f"{entity.id}: field {name} about line {last - len(rows) + wrong + 1} of {source.name} does not fit "
                f"{types[name]}: correct the value or the schema"
            ) from error
    return pa.RecordBatch.from_arrays(arrays, names=names)


def _fits(value: object, data_type: pa.DataType) -> bool:
    try:
        _array([value], data_type)
    except _MISFITS:
        return False
    return True


def _array(values: list[Any], data_type: pa.DataType) -> pa.Array:
    if holds_times(data_type):
        values = [read_times(value, data_type) for value in values]
    return pa.array(values, type=data_type)


def _conform(
    entity: Dataset, source: str, batch: pa.RecordBatch, schema: pa.Schema, offset: int
) -> pa.RecordBatch:
    """The batch with the declared fields in the declared types.

    Args:
        entity: For errors.
        source: Name of the raw file, for errors.
        batch: Rows as they were read.
        schema: What the manifest declares.
        offset: Number of rows before this batch.
    """
    arrays: list[pa.Array] = []
    for column in schema:
        position = batch.schema.get_field_index(column.name)
        if position < 0:
            if column.name == INDEX:
                arrays.append(pa.array(range(offset, offset + batch.num_rows), type=pa.int64()))
                continue
            if column.nullable and source.endswith((".jsonl", ".ndjson")):
                arrays.append(pa.nulls(batch.num_rows, column.type))
                continue
            raise IngestError(
                f"{entity.id}: {source} has no field {column.name}, which the schema declares: "
                f"it has {', '.join(batch.schema.names)}"
            )
        array = batch.column(position)
        try:
            array = _cast(array, column.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            row = next((i for i in range(len(array)) if not _casts(array, i, column.type)), 0)
            raise IngestError(
                f"{entity.id}: field {column.name} in row {offset + row} of {source} does not fit {column.type}: "
                "correct the value or the schema"
            ) from error
        if array.null_count and not column.nullable:
            row = pc.index(array.is_null(), True).as_py()
            raise IngestError(
                f"{entity.id}: field {column.name} in row {offset + row} of {source} is empty, "
                "and the schema says that it never is: fill it, or take the ! off its type"
            )
        arrays.append(array)
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _casts(array: pa.Array, row: int, data_type: pa.DataType) -> bool:
    try:
        _cast(array.slice(row, 1), data_type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return False
    return True


def _cast(array: pa.Array, data_type: pa.DataType) -> pa.Array:
    if pa.types.is_string(array.type) and pa.types.is_time(data_type):
        return times_of(array, data_type)
    return array.cast(data_type)
