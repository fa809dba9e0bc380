"""Rows written to one Parquet file, in row groups of a size that reads well."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["ROW_GROUP", "write_rows"]

ROW_GROUP = 65_536
"""Rows of a row group at most: large enough to compress, small enough to stream."""

GROUP_BYTES = 32 * 1024 * 1024
"""Bytes of a row group, about, where rows are long: images, say."""


def write_rows(batches: Iterable[pa.RecordBatch], schema: pa.Schema, target: Path) -> int:
    """Write record batches of ``schema``; returns how many rows there were.

    Batches smaller than a row group are put together, larger ones are cut.
    """
    waiting: list[pa.RecordBatch] = []
    rows = size = written = 0
    with pq.ParquetWriter(target, schema, compression="zstd") as writer:

        def flush() -> None:
            nonlocal waiting, rows, size
            if waiting:
                writer.write_table(pa.Table.from_batches(waiting, schema), row_group_size=ROW_GROUP)
            waiting, rows, size = [], 0, 0

        for batch in batches:
            start = 0
            while start < batch.num_rows:
                piece = batch.slice(start, ROW_GROUP - rows)
                waiting.append(piece)
                start += piece.num_rows
                written += piece.num_rows
                rows += piece.num_rows
                size += piece.nbytes
                if rows >= ROW_GROUP or size >= GROUP_BYTES:
                    flush()
        flush()
    return written
