"""Data sets: Parquet with ``_index_``, checked against the schema that the manifest declares.

Rows stream through; a data set is never held in memory whole. An error names the row and the field and
never shows what stands there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dyff_dagster.catalog.ingest import KINDS, Ingest, kind_of
from dyff_dagster.schema.arrow import decode_schema, open_dataset
from dyff_dagster.schema.content import ContentDigest, digest_dataset, sort_keys
from dyff_dagster.schema.platform import Dataset
from dyff_dagster.sources.archives import unpack
from dyff_dagster.sources.errors import IngestError
from dyff_dagster.sources.raw_files import MISFITS, RawFile, read_files
from dyff_dagster.sources.readers import INDEX
from dyff_dagster.sources.row_groups import write_rows
from dyff_dagster.sources.steps import Extraction
from dyff_dagster.sources.stored_types import NotStorable, stored_schema
from dyff_dagster.sources.times import holds_times, read_times, times_of
from dyff_dagster.store import Facts, FileDigest, Progress, columns_of

_TABLES = ("csv", "json", "jsonl", "parquet")


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


def ingest_files(
    entity: Dataset,
    files: Mapping[str, Path],
    ingest: Ingest,
    directory: Path,
    scratch: Path,
    progress: Progress,
) -> tuple[str, Facts, dict[str, FileDigest]]:
    """Turn raw files into the data set's Parquet.

    Fields that the schema does not name are left out; ``_index_`` is taken from the rows where they have one, else they
    are numbered from 0.

    Args:
        entity: The data set; the one artifact that it lists names the file to write.
        files: The raw files by name, archives among them.
        ingest: Which are archives, and which steps make rows of the files.
        directory: Where to write.
        scratch: An empty directory for what is unpacked.
        progress: Told the rows that were read.

    Returns:
        The content digest, what there is to say about the data set, and the digests of its file.

    Raises:
        IngestError: An archive is damaged, a field is missing, or a value does not fit its type; the first such row is
            named.
    """
    if ingest.archives:
        unpacked = scratch / "unpacked"
        unpacked.mkdir()
        files = unpack(
            entity.id, files, ingest.archives, unpacked, max_bytes=ingest.max_bytes, progress=progress
        )
    schema = stored_form(entity)
    target = directory / (entity.artifacts[0].path if entity.artifacts else "data.parquet")
    target.parent.mkdir(parents=True, exist_ok=True)
    batches = _extracted if ingest.steps else _loaded
    # The declared types are put on the raw values here, not in the reader, so that an error can name the row.
    rows = _told(batches(entity, files, ingest, schema, scratch), progress)
    data_version, facts, digest = write_dataset(entity, rows, schema, target)
    return data_version, facts, {target.relative_to(directory).as_posix(): digest}


def write_dataset(
    entity: Dataset, batches: Iterable[pa.RecordBatch], schema: pa.Schema, target: Path
) -> tuple[str, Facts, FileDigest]:
    """Write a data set's one file, and find out in the same pass what :func:`facts_of` would.

    Raises:
        IngestError: There are no rows, or ``_index_`` is null or stands twice.
    """
    digest = ContentDigest(schema)
    indices = _Indices(entity)

    def look(batch: pa.RecordBatch) -> None:
        indices.add(batch.column(batch.schema.get_field_index(INDEX)))
        digest.update(batch)

    written = write_rows(batches, schema, target, look)
    indices.check(target)
    if sort_keys(schema) == [INDEX] and indices.rising:
        data_version = digest.hexdigest()
    else:
        data_version = digest_dataset(open_dataset(target))
    return data_version, Facts(rows=written.rows, columns=columns_of(schema)), written.digest


def _told(batches: Iterable[pa.RecordBatch], progress: Progress) -> Iterator[pa.RecordBatch]:
    done = 0
    for batch in batches:
        yield batch
        done += batch.num_rows
        progress("reading rows", done, None)


def _loaded(
    entity: Dataset, files: Mapping[str, Path], ingest: Ingest, schema: pa.Schema, scratch: Path
) -> Iterator[pa.RecordBatch]:
    """The rows of all files, which must be of one kind."""
    kinds = {name: kind for name in files if (kind := kind_of(name)) is not None}
    # What lies beside data, as a README or a picture, is no data.
    main = {name: kind for name, kind in kinds.items() if kind in _TABLES}
    main = main or {name: kind for name, kind in kinds.items() if kind == "image"} or kinds
    if not main:
        name = min(files, default="")
        suffixes = ", ".join(suffix for suffixes in KINDS.values() for suffix in suffixes)
        raise IngestError(
            f"{entity.id}: {name or 'its data source'} cannot be read: a raw file must end in one of {suffixes}, "
            "be named as an archive in dyff-dagster/ingest, or be loaded as something by a step there"
        )
    if len(set(main.values())) > 1:
        raise IngestError(
            f"{entity.id}: its data source holds files of {len(set(main.values()))} kinds "
            f"({', '.join(sorted(main)[:5])}): say in dyff-dagster/ingest which to load"
        )
    kind = next(iter(main.values()))
    types = {column.name: column.type for column in schema}
    found = [RawFile(name, files[name], {}) for name in sorted(main)]
    yield from _conformed(
        entity, read_files(kind, found, types, _named(entity)), schema, lenient=kind in ("json", "jsonl")
    )


def _extracted(
    entity: Dataset, files: Mapping[str, Path], ingest: Ingest, schema: pa.Schema, scratch: Path
) -> Iterator[pa.RecordBatch]:
    """The rows that the steps make of the files."""
    types = {column.name: column.type for column in schema if column.name != INDEX}
    extraction = Extraction(entity.id, files, ingest.steps, scratch)
    rows = ((None, 0, batch) for batch in extraction.batches(types))
    yield from _conformed(entity, rows, schema, lenient=extraction.lacks_nothing)


def _conformed(
    entity: Dataset,
    batches: Iterable[tuple[RawFile | None, int, pa.RecordBatch]],
    schema: pa.Schema,
    *,
    lenient: bool,
) -> Iterator[pa.RecordBatch]:
    done = 0
    numbered: bool | None = None
    for file, offset, batch in batches:
        has_index = INDEX in batch.schema.names
        if numbered not in (None, has_index):
            raise IngestError(
                f"{entity.id}: some of its files have {INDEX} and others have not: give it to all of them or to none"
            )
        numbered = has_index
        place = _Place(file.name if file is not None else "", done if file is None else offset)
        yield _conform(entity, place, batch, schema, done, lenient)
        done += batch.num_rows


@dataclass(frozen=True)
class _Place:
    """Where rows come from: the file, or none where steps have made them, and how many rows came before."""

    file: str
    offset: int

    def row(self, row: int, batch: pa.RecordBatch) -> str:
        text = f"row {self.offset + row}" + (f" of {self.file}" if self.file else "")
        if INDEX not in batch.schema.names:
            return text
        return f"{text} ({INDEX} {batch.column(INDEX)[row].as_py()})"


def _named(entity: Dataset) -> type[IngestError]:
    class Named(IngestError):
        """Begins with the data set's id."""

        def __init__(self, message: str) -> None:
            super().__init__(f"{entity.id}: {message}")

    return Named


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
    indices = _Indices(entity)
    for batch in dataset.to_batches(columns=[INDEX], batch_readahead=2, fragment_readahead=1):
        indices.add(batch.column(0))
        progress("checking rows", indices.rows, None)
    indices.check(directory)
    return digest_dataset(dataset), Facts(rows=indices.rows, columns=columns_of(dataset.schema))


class _Indices:
    """Each row must have a number of its own.

    Numbers that only rise are unique; others are read again and counted, at 8 bytes a row.

    Attributes:
        rows: How many there were so far.
        rising: Whether they only rose.
    """

    def __init__(self, entity: Dataset) -> None:
        self._entity = entity
        self._last: int | None = None
        self.rows = 0
        self.rising = True

    def add(self, column: pa.Array) -> None:
        """Take in the next rows' numbers."""
        if column.null_count:
            raise IngestError(f"{self._entity.id}: a row has no {INDEX}: every row needs one")
        if not len(column):
            return
        if self.rising:
            follows = self._last is None or column[0].as_py() > self._last
            self.rising = follows and pc.all(pc.greater(column[1:], column[:-1])).as_py() is not False
            self._last = column[-1].as_py()
        self.rows += len(column)

    def check(self, written: Path) -> None:
        """See that there were some, and none twice in what is written."""
        if self.rows == 0:
            raise IngestError(
                f"{self._entity.id}: the data set has no rows: there would be nothing to evaluate"
            )
        if self.rising:
            return
        counts = pc.value_counts(open_dataset(written).to_table(columns=[INDEX]).column(0))
        doubles = counts.filter(pc.greater(counts.field("counts"), 1))
        if len(doubles):
            double = doubles.field("values")[0].as_py()
            raise IngestError(
                f"{self._entity.id}: {INDEX} {double} stands more than once: each row needs a number of its own"
            )


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


def _conform(
    entity: Dataset, place: _Place, batch: pa.RecordBatch, schema: pa.Schema, start: int, lenient: bool
) -> pa.RecordBatch:
    """The batch with the declared fields in the declared types.

    Args:
        entity: For errors.
        place: Where the rows come from, for errors.
        batch: Rows as they were read.
        schema: What the manifest declares.
        start: Number of all rows before this batch.
        lenient: Whether a field that is not there is null in every row.
    """
    arrays: list[pa.Array] = []
    for column in schema:
        position = batch.schema.get_field_index(column.name)
        if position < 0:
            if column.name == INDEX:
                arrays.append(pa.array(np.arange(start, start + batch.num_rows, dtype=np.int64)))
                continue
            if column.nullable and lenient:
                arrays.append(pa.nulls(batch.num_rows, column.type))
                continue
            raise IngestError(
                f"{entity.id}: {place.file or 'what the steps make'} has no field {column.name}, which the schema "
                f"declares: it has {', '.join(batch.schema.names)}"
            )
        array = batch.column(position)
        try:
            array = _cast(array, column.type)
        except MISFITS as error:
            row = next((i for i in range(len(array)) if not _casts(array, i, column.type)), 0)
            raise IngestError(
                f"{entity.id}: field {column.name} in {place.row(row, batch)} does not fit {column.type}: "
                "correct the value or the schema"
            ) from error
        if array.null_count and not column.nullable:
            row = pc.index(array.is_null(), True).as_py()
            raise IngestError(
                f"{entity.id}: field {column.name} in {place.row(row, batch)} is empty, "
                "and the schema says that it never is: fill it, or take the ! off its type"
            )
        arrays.append(array)
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _casts(array: pa.Array, row: int, data_type: pa.DataType) -> bool:
    try:
        _cast(array.slice(row, 1), data_type)
    except MISFITS:
        return False
    return True


def _cast(array: pa.Array, data_type: pa.DataType) -> pa.Array:
    if pa.types.is_string(array.type) and pa.types.is_time(data_type):
        return times_of(array, data_type)
    if array.type != data_type and holds_times(data_type) and pa.types.is_nested(data_type):
        return pa.array([read_times(value, data_type) for value in array.to_pylist()], data_type)
    return array.cast(data_type)
