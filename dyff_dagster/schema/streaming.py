"""Data sets read in the memory of a few batches, however slowly the batches are taken.

Arrow's own scanner reads ahead of whoever takes its batches, up to a gigabyte of them, whatever read-ahead it
is asked for: a method that looks at each row in Python would hold most of its input. Here files are read one
after another, and in each of them some row groups at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

__all__ = ["StreamedDataset", "read_batches", "streamed"]

ROWS_AT_ONCE = 131_072
"""Rows up to which neighbouring row groups are read together."""

BYTES_AT_ONCE = 16 << 20
"""Bytes up to which they are, as the file's footer has them: before compression."""


def read_batches(
    dataset: ds.Dataset, columns: Any = None, filter: ds.Expression | None = None, **options: Any
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of ``dataset`` in their order, and hold no more of them than one reading gave.

    A data set that is a filtered view of another is read as Arrow does.

    Args:
        dataset: Whatever ``open_dataset`` gives.
        columns: As ``Dataset.to_batches`` takes them.
        filter: As it takes it.
        options: What else it takes, such as ``batch_size``.
    """
    try:
        fragments = iter(dataset.get_fragments(filter))
    except ValueError:
        yield from dataset.to_batches(columns=columns, filter=filter, **options)
        return
    for fragment in fragments:
        for part in _parts(fragment):
            scanner = part.scanner(schema=dataset.schema, columns=columns, filter=filter, **options)
            yield from scanner.to_batches()


def _parts(fragment: ds.Fragment) -> Iterator[ds.Fragment]:
    if not isinstance(fragment, ds.ParquetFileFragment):
        yield fragment
        return
    groups: list[int] = []
    rows = size = 0
    for group in fragment.row_groups:
        rows, size = rows + group.num_rows, size + group.total_byte_size
        if groups and (rows > ROWS_AT_ONCE or size > BYTES_AT_ONCE):
            yield fragment.subset(row_group_ids=groups)
            groups, rows, size = [], group.num_rows, group.total_byte_size
        groups.append(group.id)
    # Without any row group, there are no rows.
    if groups:
        yield fragment.subset(row_group_ids=groups)


class StreamedDataset(ds.FileSystemDataset):  # type: ignore[misc]
    """A data set of files whose ``to_batches`` is :func:`read_batches`. Everything else is Arrow's."""

    def to_batches(
        self, columns: Any = None, filter: ds.Expression | None = None, **options: Any
    ) -> Iterator[pa.RecordBatch]:
        """The rows in their order, in the memory of a few batches; as ``pyarrow.dataset.Dataset.to_batches``."""
        # get_fragments is the base class's: it gives Arrow's own fragments, and so this does not end in itself.
        return read_batches(self, columns, filter, **options)


def streamed(dataset: ds.FileSystemDataset) -> StreamedDataset:
    """The same data set with a ``to_batches`` that reads no further ahead than it must."""
    return StreamedDataset(list(dataset.get_fragments()), dataset.schema, dataset.format, dataset.filesystem)
