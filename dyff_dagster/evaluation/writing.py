"""The answers of an evaluation as a file: the form that other tools read, and its content digest."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dyff_dagster.schema.content import ContentDigest

_GROUP_ROWS = 65_536
_GROUP_BYTES = 64 * 1024 * 1024
"""A row group of the written answers is closed at the first of these."""


def write_answers(directory: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> tuple[str, int]:
    """Write ``answers.parquet``; returns the rows' content digest and their number.

    Args:
        directory: Where to.
        schema: As reference-facts has it: ``_replication_``, ``_index_``, ``responses``.
        batches: The rows, in the order that the content digest is defined over: by the replication's id, then by
            ``_index_``.
    """
    digest = ContentDigest(schema)
    rows = waiting_rows = waiting_bytes = 0
    waiting: list[pa.RecordBatch] = []
    with pq.ParquetWriter(directory / "answers.parquet", schema, compression="zstd") as writer:

        def flush() -> None:
            if waiting:
                writer.write_table(pa.Table.from_batches(waiting, schema))
                waiting.clear()

        for batch in batches:
            digest.update(batch)
            waiting.append(batch)
            rows += batch.num_rows
            waiting_rows += batch.num_rows
            waiting_bytes += batch.nbytes
            if waiting_rows >= _GROUP_ROWS or waiting_bytes >= _GROUP_BYTES:
                flush()
                waiting_rows = waiting_bytes = 0
        flush()
    return digest.hexdigest(), rows
