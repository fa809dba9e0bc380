"""The rows of a data set in the order of their ``_index_``, a batch at a time.

Everything in this room is done in that order, so that it needs the memory of a batch and not of the data
set: rows, the digests of their requests and their answers pass one another like the teeth of a zip.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc
import pyarrow.parquet as pq

from dyff_dagster.evaluation.errors import EvaluationError

if TYPE_CHECKING:
    import pyarrow.dataset

INDEX = "_index_"

_BATCH_ROWS = 4096
_BATCH_BYTES = 16 * 1024 * 1024
"""A batch is closed at the first of these; the bytes are estimated from the files' own statistics."""
_SAMPLE = 100_000
"""Indices that are looked at to cut an unordered data set into pieces of equal size."""


class OrderedRows:
    """Rows by ascending ``_index_``.

    A data set whose files hold its rows in that order, as ours do, is read as it stands. Any other is first
    written again in pieces, below ``spill``, each of which is small enough to be put in order in memory.

    Args:
        dataset: The data set.
        columns: The fields to read; ``_index_`` is always among them.
        spill: A directory that may be made, for the pieces.

    Attributes:
        count: Number of rows.

    Raises:
        EvaluationError: It has no ``_index_`` of type int64, or a row without one, or two with the same.
    """

    def __init__(self, dataset: pyarrow.dataset.Dataset, columns: Sequence[str], spill: Path) -> None:
        position = dataset.schema.get_field_index(INDEX)
        if position < 0:
            raise EvaluationError(
                f"the data set has no field {INDEX}: import it with dyff-dagster import-data"
            )
        if dataset.schema.field(position).type != pa.int64():
            raise EvaluationError(
                f"the data set's field {INDEX} is {dataset.schema.field(position).type}: it must be int64"
            )
        self._dataset = dataset
        self._columns = [INDEX, *(name for name in columns if name != INDEX)]
        self._spill = spill
        self._pieces: list[Path] | None = None
        self.count = 0
        ordered = self._look_at_indices()
        self._batch_rows = _rows_of_a_batch(dataset)
        if not ordered:
            self._pieces = self._write_pieces()
            for _ in self.indices():  # two rows of the same index are seen once they stand side by side
                pass

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows, from the first, in batches of some thousand rows or some megabytes."""
        return self._read(self._columns)

    def indices(self) -> Iterator[np.ndarray]:
        """Their ``_index_`` alone: ascending int64 arrays."""
        last: int | None = None
        for batch in self._read([INDEX]):
            indices = batch.column(0).to_numpy()
            _refuse_doubled(indices, last)
            last = int(indices[-1])
            yield indices

    def close(self) -> None:
        """Remove the pieces."""
        shutil.rmtree(self._spill, ignore_errors=True)

    def _read(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        if self._pieces is None:
            rows = self._batch_rows if len(columns) > 1 else 65_536
            yield from _scan(self._dataset, columns, rows)
            return
        for piece in self._pieces:
            with pa.memory_map(str(piece)) as source:
                table = pa.ipc.open_file(source).read_all().select(columns)
                table = table.take(pc.sort_indices(table, sort_keys=[(INDEX, "ascending")]))
            yield from (batch for batch in table.to_batches(self._batch_rows) if batch.num_rows)

    def _look_at_indices(self) -> bool:
        """Count the rows; whether they stand in order."""
        last: int | None = None
        ordered = True
        for batch in _scan(self._dataset, [INDEX], 65_536):
            column = batch.column(0)
            if column.null_count:
                raise EvaluationError(
                    f"the data set has {column.null_count} rows without {INDEX}: number them"
                )
            indices = column.to_numpy()
            self.count += len(indices)
            if ordered:
                _refuse_doubled(indices, last)
                # Compared, not subtracted: the difference of two int64 may be none.
                ordered = bool((indices[1:] > indices[:-1]).all()) and (
                    last is None or int(indices[0]) > last
                )
                last = int(indices[-1])
        return ordered

    def _write_pieces(self) -> list[Path]:
        """Cut the data set into pieces of neighbouring indices, each of about the size of a few batches."""
        shutil.rmtree(self._spill, ignore_errors=True)
        self._spill.mkdir(parents=True, mode=0o700)
        number = max(1, self.count // (8 * self._batch_rows))
        cuts = self._cuts(number)
        schema = pa.schema([self._dataset.schema.field(name) for name in self._columns])
        paths = [self._spill / f"{piece:06d}.arrow" for piece in range(len(cuts) + 1)]
        writers = [pa.ipc.new_file(str(path), schema) for path in paths]
        try:
            for batch in _scan(self._dataset, self._columns, self._batch_rows):
                pieces = np.searchsorted(cuts, batch.column(0).to_numpy(), side="right")
                for piece in np.unique(pieces):
                    writers[piece].write_batch(batch.take(pa.array(np.flatnonzero(pieces == piece))))
        finally:
            for writer in writers:
                writer.close()
        return paths

    def _cuts(self, number: int) -> np.ndarray:
        """``number - 1`` indices between which there are about as many rows everywhere."""
        random = np.random.default_rng(0)
        share = min(1.0, _SAMPLE / self.count)
        sample = [
            indices[random.random(len(indices)) < share]
            for indices in (b.column(0).to_numpy() for b in _scan(self._dataset, [INDEX], 65_536))
        ]
        return np.unique(np.quantile(np.concatenate(sample), np.arange(1, number) / number, method="nearest"))


def _scan(dataset: pyarrow.dataset.Dataset, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
    """Batches of at most so many rows, file by file.

    Arrow's scanner reads ahead of whoever takes the batches, as far as a whole data set of some hundred
    megabytes; a service takes them slowly. So a file that has the fields as they are is read without it.
    """
    import pyarrow.dataset as ds  # takes pandas with it

    schema = pa.schema([dataset.schema.field(name) for name in columns])
    for fragment in dataset.get_fragments():
        if isinstance(fragment, ds.ParquetFileFragment) and _has(fragment, schema):
            with fragment.open() as source, pq.ParquetFile(source) as file:
                for batch in file.iter_batches(rows, columns=columns, use_threads=False):
                    if batch.num_rows:
                        yield batch.select(columns)
            continue
        # Fields from the names of directories, or of another type in this file than in others.
        scanner = fragment.scanner(schema=dataset.schema, columns=columns, batch_size=rows, batch_readahead=1)
        yield from (batch for batch in scanner.to_batches() if batch.num_rows)


def _has(fragment: pyarrow.dataset.ParquetFileFragment, schema: pa.Schema) -> bool:
    """Whether a file holds these fields under these names, and none that could be taken for one of them."""
    there = fragment.physical_schema
    return all(
        "." not in field.name
        and len(there.get_all_field_indices(field.name)) == 1
        and there.field(field.name).type == field.type
        for field in schema
    )


def _refuse_doubled(indices: np.ndarray, last: int | None) -> None:
    doubled = indices[1:][indices[1:] == indices[:-1]]
    if len(doubled) or (last is not None and int(indices[0]) == last):
        index = int(doubled[0]) if len(doubled) else last
        raise EvaluationError(
            f"the data set has more than one row whose {INDEX} is {index}: number them anew"
        )


def _rows_of_a_batch(dataset: pyarrow.dataset.Dataset) -> int:
    """How many rows of this data set make a batch, by what its files say about their size."""
    rows = size = 0
    for fragment in dataset.get_fragments():
        metadata = getattr(fragment, "metadata", None)
        if metadata is not None:
            rows += metadata.num_rows
            size += sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    if not rows or not size:
        return _BATCH_ROWS
    return int(min(_BATCH_ROWS, max(1, _BATCH_BYTES * rows // size)))
