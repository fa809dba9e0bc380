"""Data sets read as their batches are taken."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from dyff_dagster.schema.parquet import open_dataset
from dyff_dagster.schema.streaming import read_batches, streamed

SCHEMA = pa.schema([pa.field("_index_", pa.int64()), pa.field("x", pa.string())])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Two hive partitions, of seven and five rows in row groups of two."""
    for key, number in (("a", 7), ("b", 5)):
        (tmp_path / f"_replication_={key}").mkdir()
        table = pa.table({"_index_": range(number), "x": [f"{key}{i}" for i in range(number)]}, SCHEMA)
        pq.write_table(table, tmp_path / f"_replication_={key}" / "part.parquet", row_group_size=2)
    return tmp_path


@pytest.mark.parametrize("at_once", [1, 3, 131_072])
def test_rows_come_in_the_order_that_arrow_has(
    path: Path, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dyff_dagster.schema.streaming.ROWS_AT_ONCE", at_once)
    dataset = open_dataset(path)
    found = pa.Table.from_batches(list(read_batches(dataset)), dataset.schema)
    assert found.equals(dataset.to_table()) and found.num_rows == 12


def test_columns_and_filters_are_arrows(path: Path) -> None:
    dataset = open_dataset(path)
    wanted = {"columns": ["x"], "filter": (pc.field("_index_") > 3) & (pc.field("_replication_") == "a")}
    batches = list(read_batches(dataset, **wanted))
    assert pa.Table.from_batches(batches).to_pydict() == {"x": ["a4", "a5", "a6"]}
    assert batches[0].schema == dataset.to_table(**wanted).schema
    doubled = read_batches(dataset, columns={"twice": pc.field("_index_") * 2}, batch_size=1)
    assert [batch.to_pydict()["twice"] for batch in doubled][:4] == [[0], [2], [4], [6]]


def test_a_filtered_view_is_read_too(path: Path) -> None:
    view = open_dataset(path).filter(pc.field("_index_") == 4)
    assert [batch.to_pydict()["x"] for batch in read_batches(view) if batch.num_rows] == [["a4"], ["b4"]]


def test_a_file_without_rows_has_none(tmp_path: Path) -> None:
    pq.write_table(SCHEMA.empty_table(), tmp_path / "empty.parquet")
    assert sum(batch.num_rows for batch in read_batches(open_dataset(tmp_path))) == 0


def test_a_streamed_data_set_is_arrows_in_all_else(path: Path) -> None:
    plain = open_dataset(path)
    dataset = streamed(plain)
    assert isinstance(dataset, ds.Dataset) and dataset.schema == plain.schema
    assert dataset.to_table().equals(plain.to_table())
    assert (dataset.count_rows(), dataset.files) == (12, plain.files)
    assert dataset.filter(pc.field("x") == "b1").to_table().num_rows == 1
    assert pa.Table.from_batches(list(dataset.to_batches())).equals(plain.to_table())
    assert next(iter(dataset.to_batches(columns=["x"], batch_size=1))).to_pydict() == {"x": ["a0"]}


TAKEN_SLOWLY = """
import sys, time
import pyarrow as pa
from dyff_dagster.schema.parquet import open_dataset
from dyff_dagster.schema.streaming import streamed
dataset = open_dataset(sys.argv[1])
for batch in streamed(dataset).to_batches():
    time.sleep(0.01)
print(pa.default_memory_pool().max_memory())
"""


def test_rows_that_nobody_takes_yet_are_not_read(tmp_path: Path) -> None:
    text = [f"{i:4096d}" for i in range(1_000)]
    with pq.ParquetWriter(tmp_path / "data.parquet", SCHEMA, compression="zstd") as writer:
        for start in range(0, 50_000, 1_000):
            writer.write_table(pa.table({"_index_": range(start, start + 1_000), "x": text}, SCHEMA))
    command = [sys.executable, "-c", TAKEN_SLOWLY, str(tmp_path)]
    peak = int(subprocess.run(command, check=True, capture_output=True).stdout)
    # All is 200 MB, and Arrow's own scanner would hold it.
    assert peak < 60e6
