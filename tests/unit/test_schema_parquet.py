"""Data sets on a disk and elsewhere: opened and written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from upath import UPath

from dyff_dagster.schema.arrow import open_dataset, write_dataset
from dyff_dagster.schema.data import DatasetFilter
from dyff_dagster.schema.parquet import DatasetPathError, FilterError, RowsError, conform

SCHEMA = pa.schema([pa.field("_index_", pa.int64(), nullable=False), pa.field("x", pa.string())])


def batch(*indexes: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([{"_index_": i, "x": f"row {i}"} for i in indexes], schema=SCHEMA)


def indexes(path: Path | UPath, *filters: DatasetFilter) -> list[int]:
    return open_dataset(path, list(filters)).to_table()["_index_"].to_pylist()


def test_rows_come_back_in_order_from_several_files(tmp_path: Path) -> None:
    written = write_dataset([batch(3, 1), batch(), batch(2, 5, 4)], SCHEMA, tmp_path / "d", rows_per_file=2)
    assert written == 5
    assert indexes(tmp_path / "d") == [3, 1, 2, 5, 4]
    assert sorted(p.name for p in (tmp_path / "d").iterdir()) == [f"part-0000{i}.parquet" for i in range(3)]


def test_data_set_without_rows_keeps_its_schema(tmp_path: Path) -> None:
    assert write_dataset([], SCHEMA, tmp_path) == 0
    assert open_dataset(tmp_path).schema == SCHEMA
    assert indexes(tmp_path) == []


def test_batches_are_read_as_they_are_written(tmp_path: Path) -> None:
    seen: list[int] = []

    def produce() -> Iterator[pa.RecordBatch]:
        for i in range(3):
            seen.append(i)
            yield batch(i)

    assert write_dataset(produce(), SCHEMA, tmp_path) == 3
    assert seen == [0, 1, 2]


def test_path_elsewhere_is_written_and_read(tmp_path: Path) -> None:
    remote = UPath("memory://schema-parquet/data")
    write_dataset([batch(1, 2)], SCHEMA, remote)
    assert indexes(remote) == [1, 2]


def test_upath_on_a_disk_is_a_path(tmp_path: Path) -> None:
    write_dataset([batch(1)], SCHEMA, UPath(tmp_path))
    assert indexes(UPath(tmp_path)) == [1]
    assert indexes(str(tmp_path)) == [1]  # type: ignore[arg-type]


def test_names_with_a_dot_first_and_other_files_are_no_data(tmp_path: Path) -> None:
    write_dataset([batch(1)], SCHEMA, tmp_path)
    write_dataset([batch(2)], SCHEMA, tmp_path / ".dyff" / "versions")
    pq.write_table(pa.table({"_index_": [3]}), tmp_path / ".hidden.parquet")
    (tmp_path / "index.html").write_text("<p>")
    assert indexes(tmp_path) == [1]


def test_directory_with_a_dot_above_the_data_set_hides_nothing(tmp_path: Path) -> None:
    write_dataset([batch(1)], SCHEMA, tmp_path / ".dyff" / "versions" / "v1")
    assert indexes(tmp_path / ".dyff" / "versions" / "v1") == [1]


def test_single_file_is_a_data_set(tmp_path: Path) -> None:
    write_dataset([batch(1)], SCHEMA, tmp_path)
    assert indexes(tmp_path / "part-00000.parquet") == [1]


def test_partitions_become_columns_and_ids_stay_text(tmp_path: Path) -> None:
    schema = pa.schema([*SCHEMA, pa.field("_replication_", pa.string()), pa.field("fold", pa.int64())])
    rows = [{"_index_": i, "x": "a", "_replication_": "0123", "fold": i % 2} for i in range(4)]
    batches = [pa.RecordBatch.from_pylist(rows, schema=schema)]
    assert write_dataset(batches, schema, tmp_path, partition_by=["_replication_", "fold"]) == 4
    dataset = open_dataset(tmp_path)
    assert dataset.schema.field("_replication_").type == pa.string()
    assert dataset.schema.field("fold").type == pa.int64()
    found = sorted(dataset.to_table().to_pylist(), key=lambda row: row["_index_"])
    assert found == rows


def test_keys_in_the_path_above_the_data_set_are_no_columns(tmp_path: Path) -> None:
    write_dataset([batch(1)], SCHEMA, tmp_path / "region=eu" / "data")
    assert open_dataset(tmp_path / "region=eu" / "data").schema.names == ["_index_", "x"]


@pytest.mark.parametrize(
    ("relation", "value", "expected"),
    [
        ("==", "2", [2]),
        ("!=", "2", [1, 3]),
        ("<", "2", [1]),
        ("<=", "2", [1, 2]),
        (">", "2", [3]),
        (">=", "2", [2, 3]),
    ],
)
def test_filter_restricts_the_rows(tmp_path: Path, relation: str, value: str, expected: list[int]) -> None:
    write_dataset([batch(1, 2, 3)], SCHEMA, tmp_path)
    assert indexes(tmp_path, DatasetFilter(field="_index_", relation=relation, value=value)) == expected


def test_all_filters_must_hold(tmp_path: Path) -> None:
    write_dataset([batch(1, 2, 3)], SCHEMA, tmp_path)
    low = DatasetFilter(field="_index_", relation=">", value="1")
    assert indexes(tmp_path, low, DatasetFilter(field="x", relation="==", value="row 3")) == [3]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        (("y", "==", "1"), "there are only _index_, x"),
        (("x", "~", "1"), "'~' is none of"),
        (("_index_", "==", "secret"), "cannot be read as int64"),
    ],
)
def test_filter_that_does_not_fit_is_refused(
    tmp_path: Path, fields: tuple[str, str, str], problem: str
) -> None:
    write_dataset([batch(1)], SCHEMA, tmp_path)
    condition = DatasetFilter(field=fields[0], relation=fields[1], value=fields[2])
    with pytest.raises(FilterError, match=problem) as caught:
        open_dataset(tmp_path, [condition])
    assert "secret" not in str(caught.value)


def test_path_without_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetPathError, match="there is nothing"):
        open_dataset(tmp_path / "none")
    with pytest.raises(DatasetPathError, match=r"no \*\.parquet"):
        open_dataset(tmp_path)


def test_schema_that_is_given_is_the_data_sets(tmp_path: Path) -> None:
    pq.write_table(pa.table({"_index_": pa.array([1, 2], pa.int32())}), tmp_path / "a.parquet")
    table = open_dataset(tmp_path, schema=SCHEMA).to_table()
    assert table.schema == SCHEMA
    assert table.to_pylist() == [{"_index_": 1, "x": None}, {"_index_": 2, "x": None}]


def test_batch_is_brought_to_the_schemas_order_and_types() -> None:
    loose = pa.RecordBatch.from_pydict({"x": ["a"], "_index_": pa.array([1], pa.int8())})
    assert conform(loose, SCHEMA).schema == SCHEMA
    assert conform(loose, SCHEMA).to_pylist() == [{"_index_": 1, "x": "a"}]


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"_index_": [1]}, "field 'x' is missing"),
        ({"_index_": [1], "x": ["a"], "y": [1]}, "field 'y' is not in the schema"),
        ({"_index_": ["secret"], "x": ["a"]}, "field '_index_' is string, which does not fit int64"),
        ({"_index_": [1.5], "x": ["a"]}, "field '_index_' is double"),
        ({"_index_": [None, 1], "x": ["a", "b"]}, "field '_index_' is null in 1 rows"),
    ],
)
def test_batch_that_does_not_fit_is_refused(columns: dict[str, list[object]], problem: str) -> None:
    with pytest.raises(RowsError, match=problem) as caught:
        conform(pa.RecordBatch.from_pydict(columns), SCHEMA)
    assert "secret" not in str(caught.value)


def test_null_deep_inside_is_refused_where_it_may_not_be() -> None:
    item = pa.struct([pa.field("i", pa.int64(), nullable=False)])
    strict = pa.schema([pa.field("r", pa.list_(item))])
    loose = pa.schema([pa.field("r", pa.list_(pa.struct([("i", pa.int64())])))])
    fine = pa.RecordBatch.from_pylist([{"r": [None, {"i": 1}]}, {"r": None}], schema=loose)
    assert conform(fine, strict).to_pylist() == fine.to_pylist()
    wrong = pa.RecordBatch.from_pylist([{"r": [{"i": None}]}], schema=loose)
    with pytest.raises(RowsError, match=r"field 'r\[\]\.i' is null|which does not fit"):
        conform(wrong, strict)


def test_small_batches_are_written_together(tmp_path: Path) -> None:

    number = 70_000
    assert write_dataset((batch(i) for i in range(number)), SCHEMA, tmp_path) == number
    groups = pq.ParquetFile(tmp_path / "part-00000.parquet").metadata
    assert [groups.row_group(i).num_rows for i in range(groups.num_row_groups)] == [65_536, number - 65_536]
    assert indexes(tmp_path) == list(range(number))


def test_large_rows_are_not_held_back(tmp_path: Path) -> None:

    text = "x" * (1 << 20)
    rows = (pa.record_batch([[i], [text]], schema=SCHEMA) for i in range(100))
    assert write_dataset(rows, SCHEMA, tmp_path) == 100
    assert pq.ParquetFile(tmp_path / "part-00000.parquet").metadata.num_row_groups == 4
