"""Rows written to Parquet: the digests that are taken on the way are those of the file that lies there."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dyff_dagster.sources.row_groups import ROW_GROUP, write_rows
from dyff_dagster.store.digests import digest_file

SCHEMA = pa.schema([("_index_", pa.int64()), ("noise", pa.binary()), ("answer", pa.string())])


def batch(rows: int, start: int = 0, length: int = 40) -> pa.RecordBatch:
    noise = os.urandom(rows * length)
    columns = [
        pa.array(range(start, start + rows), pa.int64()),
        pa.array([noise[i * length : (i + 1) * length] for i in range(rows)]),
        pa.array(["yes" if i % 3 else "no" for i in range(rows)]),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


@pytest.mark.parametrize("sizes", [[], [1], [7, 0, 5], [30_000] * 5, [ROW_GROUP + 1]])
def test_the_digests_are_those_of_the_file(tmp_path: Path, sizes: list[int]) -> None:
    starts = [sum(sizes[:at]) for at in range(len(sizes))]
    batches = [batch(rows, start) for rows, start in zip(sizes, starts, strict=True)]
    target = tmp_path / "data.parquet"
    written = write_rows(batches, SCHEMA, target)
    assert written.rows == sum(sizes)
    assert written.digest == digest_file(target)
    assert pq.read_table(target).equals(pa.Table.from_batches(batches, SCHEMA))


def test_what_the_looker_raises_is_raised(tmp_path: Path) -> None:
    def refuse(batch: pa.RecordBatch) -> None:
        raise LookupError("no")

    with pytest.raises(LookupError, match="no"):
        write_rows([batch(3)], SCHEMA, tmp_path / "data.parquet", refuse)
