"""Data sets: directories of Parquet files, opened and written.

They are hive partitioned (``key=value`` directories), and names that begin with a dot are no part of them.
``schema.arrow`` offers these functions too, beside the schemas.
"""

from __future__ import annotations

import os
import typing
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa
import pyarrow.fs

from dyff_dagster.schema.errors import DyffError
from dyff_dagster.schema.filters import FilterError, filter_expression

if TYPE_CHECKING:
    import pyarrow.dataset

    from dyff_dagster.schema.data import DatasetFilter

__all__ = [
    "DatasetPathError",
    "FilterError",
    "RowsError",
    "conform",
    "filesystem_of",
    "open_dataset",
    "write_dataset",
]

ROW_GROUP = 65_536
"""Rows up to which small batches are put together before they are written."""

HELD_BYTES = 32 << 20
"""Bytes up to which they are."""

_MANY = 256


class DatasetPathError(DyffError):
    """A path at which there is no data set; ``path`` is it, ``problem`` says what is the matter."""

    def __init__(self, path: str, problem: str) -> None:
        self.path, self.problem = path, problem
        super().__init__(f"no data set can be read at {path}: {problem}")


class RowsError(DyffError):
    """Rows that do not fit their schema; ``field`` is where, ``problem`` says how. Holds no values."""

    def __init__(self, field: str, problem: str) -> None:
        self.field, self.problem = field, problem
        super().__init__(f"the rows do not fit their schema: field '{field}' {problem}")


class RemotePath(Protocol):
    """A path on some filesystem, as universal_pathlib has them."""

    @property
    def fs(self) -> Any:
        """The fsspec filesystem."""

    @property
    def path(self) -> str:
        """The path on it."""


def filesystem_of(path: str | os.PathLike[str] | RemotePath) -> tuple[pa.fs.FileSystem, str]:
    """Return pyarrow's filesystem for ``path``, and the path on it.

    A path with ``.fs`` and ``.path`` (a UPath) is read through its fsspec filesystem, except on a local
    disk; any other is local.
    """
    fs = getattr(path, "fs", None)
    if fs is None:
        return pa.fs.LocalFileSystem(), os.fspath(typing.cast("str | os.PathLike[str]", path))
    remote = typing.cast("RemotePath", path)
    protocols = (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)
    if "file" in protocols or "local" in protocols:
        return pa.fs.LocalFileSystem(), str(remote.path)
    return pa.fs.PyFileSystem(pa.fs.FSSpecHandler(fs)), str(remote.path)


def open_dataset(
    path: str | os.PathLike[str] | RemotePath,
    filters: Sequence[DatasetFilter] | None = None,
    *,
    schema: pa.Schema | None = None,
) -> pyarrow.dataset.Dataset:
    """Open the directory of Parquet files at ``path``; nothing is read but names and one file's footer.

    ``*.parquet`` files at any depth belong to it, hive partitioned (``key=value`` directories), except
    under names that begin with a dot. ``filters`` must all hold for a row to be read (see
    ``schema.filters``). ``schema`` replaces
    the schema of the first file.

    Raises:
        DatasetPathError: there is no such directory, or no Parquet file in it.
        FilterError: a filter names no field, an unknown relation, or a value that is none of the field.
    """
    import pyarrow.dataset as ds

    fs, root = filesystem_of(path)
    root = root.rstrip("/") or "/"
    info = fs.get_file_info(root)
    if info.type == pa.fs.FileType.NotFound:
        raise DatasetPathError(root, "there is nothing")
    if info.type == pa.fs.FileType.File:
        files, base = [root], root.rpartition("/")[0]
    else:
        files, base = sorted(_parquet_files(fs, root)), root
    if not files:
        raise DatasetPathError(root, "the directory holds no *.parquet file")
    options = ds.FileSystemFactoryOptions(
        partition_base_dir=base, partitioning=_hive(files, base, schema), exclude_invalid_files=False
    )
    factory = ds.FileSystemDatasetFactory(fs, files, ds.ParquetFileFormat(), options)
    dataset = factory.finish(schema) if schema is not None else factory.finish()
    for condition in filters or ():
        dataset = dataset.filter(filter_expression(condition, dataset.schema))
    return dataset


def _parquet_files(fs: pa.fs.FileSystem, root: str) -> Iterator[str]:
    selector = pa.fs.FileSelector(root, recursive=True)
    for info in fs.get_file_info(selector):
        relative = info.path[len(root) :].strip("/")
        hidden = any(part.startswith(".") for part in relative.split("/"))
        if info.type == pa.fs.FileType.File and relative.endswith(".parquet") and not hidden:
            yield info.path


def _hive(files: Sequence[str], base: str, schema: pa.Schema | None) -> pyarrow.dataset.Partitioning | None:
    """Say which types the keys in the directories' names have.

    pyarrow by itself would read a replication's id whose hexadecimal digits happen all to be decimal as a
    number.
    """
    import pyarrow.dataset as ds

    values: dict[str, set[str]] = {}
    for file in files:
        for part in file[len(base) :].strip("/").split("/")[:-1]:
            key, equals, value = part.partition("=")
            if equals:
                values.setdefault(key, set()).add(value)
    if not values:
        return None
    fields = []
    for key, found in values.items():
        declared = schema.field(key).type if schema is not None and key in schema.names else None
        numbers = all(value.lstrip("-").isdecimal() and len(value) < 19 for value in found)
        inferred = pa.int64() if numbers and not (key.startswith("_") and key != "_index_") else pa.string()
        fields.append(pa.field(key, declared or inferred))
    return ds.HivePartitioning(pa.schema(fields))


def write_dataset(
    batches: Iterable[pa.RecordBatch],
    schema: pa.Schema,
    path: str | os.PathLike[str] | RemotePath,
    *,
    rows_per_file: int = 1_000_000,
    partition_by: Sequence[str] = (),
) -> int:
    """Write ``batches`` as Parquet files ``part-00000.parquet``, … under ``path``; return the number of rows.

    Rows keep their order. With ``partition_by`` they go into hive directories by those fields' values,
    and keep their order within each. At least one file is written, with the schema alone if need be.
    The directory is made; files there under the same names are replaced. Nothing here is atomic: commits
    are the store's.

    Raises:
        RowsError: a batch lacks a field, has another, or a value that its type cannot hold or null forbids.
    """
    import pyarrow.parquet as pq

    fs, root = filesystem_of(path)
    root = root.rstrip("/") or "/"
    fs.create_dir(root, recursive=True)
    conforming = (conform(batch, schema) for batch in batches)
    if partition_by:
        return _write_partitions(conforming, schema, fs, root, rows_per_file, partition_by)
    total = in_file = files = 0
    writer: pq.ParquetWriter | None = None
    try:
        for batch in _larger(conforming):
            start = 0
            while start < batch.num_rows:
                if writer is None:
                    writer = _part(fs, root, files, schema)
                    files, in_file = files + 1, 0
                piece = batch.slice(start, rows_per_file - in_file)
                writer.write_batch(piece)
                start, in_file, total = start + len(piece), in_file + len(piece), total + len(piece)
                if in_file >= rows_per_file:
                    writer.close()
                    writer = None
        if files == 0:
            writer = _part(fs, root, 0, schema)
    finally:
        if writer is not None:
            writer.close()
    return total


def _larger(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows in batches that are worth a row group each: of a row each, a file is read and written slowly.

    Whatever is held back is within :data:`ROW_GROUP` rows and :data:`HELD_BYTES`.
    """
    held: list[pa.RecordBatch] = []
    small: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        small.append(batch)
        rows, size = rows + batch.num_rows, size + batch.nbytes
        full = rows >= ROW_GROUP or size >= HELD_BYTES
        if full or len(small) >= _MANY:
            # A batch of a few rows takes more memory than they do.
            held, small = [*held, _one(small)], []
        if full:
            yield _one(held)
            held, rows, size = [], 0, 0
    if held or small:
        yield _one([*held, *small])


def _one(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def _part(fs: pa.fs.FileSystem, root: str, number: int, schema: pa.Schema) -> Any:
    import pyarrow.parquet as pq

    name = f"{root}/part-{number:05d}.parquet"
    return pq.ParquetWriter(name, schema, filesystem=fs, compression="zstd")


def _write_partitions(
    batches: Iterator[pa.RecordBatch],
    schema: pa.Schema,
    fs: pa.fs.FileSystem,
    root: str,
    rows_per_file: int,
    partition_by: Sequence[str],
) -> int:
    import pyarrow.dataset as ds

    total = 0

    def counted() -> Iterator[pa.RecordBatch]:
        nonlocal total
        for batch in batches:
            total += batch.num_rows
            yield batch

    keys = pa.schema([schema.field(name) for name in partition_by])
    ds.write_dataset(
        counted(),
        root,
        schema=schema,
        format="parquet",
        file_options=ds.ParquetFileFormat().make_write_options(compression="zstd"),
        filesystem=fs,
        partitioning=ds.HivePartitioning(keys),
        basename_template="part-{i}.parquet",
        existing_data_behavior="overwrite_or_ignore",
        max_rows_per_file=rows_per_file,
        max_rows_per_group=min(rows_per_file, 1024 * 1024),
        use_threads=False,
    )
    return total


def conform(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return ``batch`` with exactly the fields of ``schema``, in its order and of its types.

    Raises:
        RowsError: a field is missing or too many, cannot be cast without loss, or is null against its schema.
    """
    extra = [name for name in batch.schema.names if name not in schema.names]
    if extra:
        raise RowsError(extra[0], "is not in the schema")
    columns = []
    for field in schema:
        at = batch.schema.get_all_field_indices(field.name)
        if len(at) != 1:
            raise RowsError(field.name, "is missing" if not at else "is there more than once")
        column = batch.column(at[0])
        if column.type != field.type:
            try:
                column = column.cast(field.type)
            except pa.ArrowException:
                # pyarrow's own message quotes the value.
                raise RowsError(field.name, f"is {column.type}, which does not fit {field.type}") from None
        _refuse_nulls(column, field, field.name)
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _refuse_nulls(column: pa.Array, field: pa.Field, path: str) -> None:
    if not field.nullable and column.null_count:
        raise RowsError(path, f"is null in {column.null_count} rows, but declared not null")
    if pa.types.is_struct(field.type):
        present = column.drop_null() if column.null_count else column
        for child, inner in zip(present.flatten(), field.type, strict=True):
            _refuse_nulls(child, inner, f"{path}.{inner.name}")
    elif pa.types.is_list(field.type) or pa.types.is_large_list(field.type):
        _refuse_nulls(column.flatten(), field.type.value_field, f"{path}[]")
