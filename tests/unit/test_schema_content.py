"""The content digest: the same for the same rows, different for any others."""

from __future__ import annotations

import datetime
import decimal
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyff_dagster.schema.arrow import open_dataset, write_dataset
from dyff_dagster.schema.content import (
    ContentDigest,
    ContentError,
    digest_batches,
    digest_dataset,
    digest_table,
    sort_keys,
)

ITEM = pa.struct([("_response_index_", pa.int64()), ("text", pa.string())])
SCHEMA = pa.schema(
    [
        ("_replication_", pa.string()),
        ("_index_", pa.int64()),
        ("responses", pa.list_(ITEM)),
        ("flag", pa.bool_()),
        ("score", pa.float64()),
        ("blob", pa.binary()),
        ("vector", pa.list_(pa.float32(), 2)),
    ]
)


def row(index: int, replication: str = "r", **changes: Any) -> dict[str, Any]:
    answers = [{"_response_index_": n, "text": f"answer {index}.{n}"} for n in range(1 + index % 2)]
    base = {"_replication_": replication, "_index_": index, "responses": answers, "flag": index % 2 == 0}
    return base | {"score": index / 7, "blob": bytes([index]), "vector": [index, 0.5]} | changes


ROWS = [row(i) for i in range(7)]


def table(rows: list[dict[str, Any]], schema: pa.Schema = SCHEMA) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=schema)


def digest(rows: list[dict[str, Any]], schema: pa.Schema = SCHEMA) -> str:
    return digest_table(table(rows, schema))


def single(values: list[Any], kind: pa.DataType) -> str:
    return digest_table(pa.table({"x": pa.array(values, kind)}))


def test_digest_of_these_rows_is_this_one() -> None:
    # Whoever changes this drops every data version that is on record.
    assert digest(ROWS) == "b9071b91822ed4f01eeab71bc7872dcd606190cbd247f8bccd81db1abe30c3cf"


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_batch_boundaries_make_no_difference(size: int) -> None:
    content = ContentDigest(SCHEMA)
    for batch in table(ROWS).to_batches(max_chunksize=size):
        content.update(batch)
    assert content.rows == 7
    assert content.hexdigest() == digest(ROWS)


def test_digest_can_be_asked_for_on_the_way() -> None:
    content = ContentDigest(SCHEMA)
    first, second = table(ROWS).slice(0, 3), table(ROWS).slice(3)
    content.update(first.combine_chunks().to_batches()[0])
    assert content.hexdigest() == digest(ROWS[:3])
    content.update(second.combine_chunks().to_batches()[0])
    assert content.hexdigest() == digest(ROWS)


def test_slices_with_nulls_count_only_what_is_in_them() -> None:
    rows = [
        row(i, responses=None if i % 2 else [], score=None, vector=None if i == 3 else [1, 2])
        for i in range(7)
    ]
    whole = table([*ROWS, *rows, *ROWS])
    assert digest_table(whole.slice(7, 7)) == digest(rows)


@pytest.mark.parametrize("rows_per_file", [1, 3, 100])
def test_files_make_no_difference(tmp_path: Path, rows_per_file: int) -> None:
    write_dataset(table(ROWS).to_batches(), SCHEMA, tmp_path, rows_per_file=rows_per_file)
    assert digest_dataset(open_dataset(tmp_path)) == digest(ROWS)


def test_partitions_make_no_difference(tmp_path: Path) -> None:
    rows = [row(i, replication) for replication in ("a", "b") for i in range(3)]
    write_dataset(table(rows).to_batches(), SCHEMA, tmp_path, partition_by=["_replication_"])
    table_in_order = open_dataset(tmp_path).to_table().select(SCHEMA.names)
    assert digest_table(table_in_order) == digest(rows)


def test_order_of_rows_with_keys_makes_no_difference(tmp_path: Path) -> None:
    rows = [row(i, replication) for replication in ("a", "b") for i in range(3)]
    shuffled = [rows[i] for i in (3, 0, 5, 1, 4, 2)]
    write_dataset(table(shuffled).to_batches(), SCHEMA, tmp_path, rows_per_file=2)
    assert digest_dataset(open_dataset(tmp_path)) == digest(rows) == digest(shuffled)


def test_order_of_rows_without_keys_is_content() -> None:
    assert single([1, 2], pa.int64()) != single([2, 1], pa.int64())


def test_rows_with_equal_keys_stay_in_their_order() -> None:
    first, second = row(1, score=1.0), row(1, score=2.0)
    assert digest([first, second]) != digest([second, first])


def test_rows_out_of_order_are_noticed_within_and_between_batches() -> None:
    batches = table(ROWS).to_batches(max_chunksize=2)
    assert digest_batches(batches, SCHEMA) == digest(ROWS)
    assert digest_batches([batches[1], batches[0]], SCHEMA) is None
    assert digest_batches(table([ROWS[1], ROWS[0]]).to_batches(), SCHEMA) is None


def test_replication_comes_before_index() -> None:
    assert sort_keys(SCHEMA) == ["_replication_", "_index_"]
    rows = [row(5, "a"), row(1, "b")]
    assert digest_batches(table(rows).to_batches(), SCHEMA) == digest(rows)
    assert digest_batches(table(rows[::-1]).to_batches(), SCHEMA) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"_index_": 8},
        {"_replication_": "q"},
        {"_replication_": None},
        {"flag": False},
        {"flag": None},
        {"score": 0.1},
        {"score": None},
        {"blob": b""},
        {"blob": None},
        {"vector": [6, 0.25]},
        {"vector": None},
        {"responses": None},
        {"responses": []},
        {"responses": [None]},
        {"responses": [{"_response_index_": 0, "text": None}]},
        {"responses": [{"_response_index_": 0, "text": ""}]},
    ],
)
def test_any_changed_value_changes_the_digest(changed: dict[str, Any]) -> None:
    assert digest([*ROWS[:6], row(6, **changed)]) != digest(ROWS)


def test_a_row_more_or_less_changes_the_digest() -> None:
    assert digest(ROWS[:6]) != digest(ROWS)
    assert digest([]) != digest(ROWS[:1])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["ab", "c"], ["a", "bc"]),
        (["", "a"], ["a", ""]),
        ([None, "a"], ["a", None]),
        ([None], [""]),
        (["a"], ["a", None]),
    ],
)
def test_bounds_between_strings_are_content(one: list[str | None], other: list[str | None]) -> None:
    assert single(one, pa.string()) != single(other, pa.string())


@pytest.mark.parametrize(
    ("one", "other"), [([[1], [2]], [[1, 2], []]), ([[]], [None]), ([[None]], [[]]), ([[1, 2]], [[2, 1]])]
)
def test_bounds_between_lists_are_content(one: list[Any], other: list[Any]) -> None:
    assert single(one, pa.list_(pa.int64())) != single(other, pa.list_(pa.int64()))


def test_null_struct_is_not_a_struct_of_nulls() -> None:
    kind = pa.struct([("a", pa.int64())])
    assert single([None], kind) != single([{"a": None}], kind)


def test_every_nan_is_the_same_and_signed_zeros_differ() -> None:
    import struct

    nans = [
        struct.unpack("<d", bytes([i, 0, 0, 0, 0, 0, 0xF8, sign]))[0] for i, sign in ((0, 0x7F), (1, 0xFF))
    ]
    assert single([nans[0]], pa.float64()) == single([nans[1]], pa.float64())
    assert single([0.0], pa.float64()) != single([-0.0], pa.float64())
    assert single([math.nan], pa.float32()) != single([None], pa.float32())
    assert single([math.nan], pa.float16()) != single([1.5], pa.float16())


def test_null_hides_whatever_lies_under_it() -> None:
    values, mask = pa.array([1, 2, 3], pa.int64()), pa.py_buffer(bytes([0b101]))
    hidden = pa.Array.from_buffers(pa.int64(), 3, [mask, values.buffers()[1]])
    assert digest_table(pa.table({"x": hidden})) == single([1, None, 3], pa.int64())


STRINGS = ["a", None, "bb", "a"]


@pytest.mark.parametrize(
    ("array", "plain"),
    [
        (pa.array(STRINGS, pa.large_string()), pa.array(STRINGS)),
        (pa.array(STRINGS, pa.string_view()), pa.array(STRINGS)),
        (pa.array(STRINGS).dictionary_encode(), pa.array(STRINGS)),
        (pa.array([b"a", None], pa.large_binary()), pa.array([b"a", None])),
        (pa.array([b"a", None], pa.binary_view()), pa.array([b"a", None])),
        (
            pa.array([[1], None, []], pa.large_list(pa.int64())),
            pa.array([[1], None, []], pa.list_(pa.int64())),
        ),
        (
            pa.array([[1], None, []], pa.list_view(pa.int64())),
            pa.array([[1], None, []], pa.list_(pa.int64())),
        ),
        (
            pa.array([["a"], None], pa.large_list(pa.large_string())),
            pa.array([["a"], None], pa.list_(pa.string())),
        ),
        (
            pa.array([{"s": "a"}, None], pa.struct([("s", pa.large_string())])),
            pa.array([{"s": "a"}, None], pa.struct([("s", pa.string())])),
        ),
        (
            pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int64())),
            pa.array(
                [[{"key": "k", "value": 1}], None, []],
                pa.list_(pa.struct([("key", pa.string()), ("value", pa.int64())])),
            ),
        ),
        (pa.RunEndEncodedArray.from_arrays([2, 3], pa.array([1, 2])), pa.array([1, 1, 2])),
    ],
)
def test_layout_of_a_type_makes_no_difference(array: pa.Array, plain: pa.Array) -> None:
    assert digest_table(pa.table({"x": array})) == digest_table(pa.table({"x": plain}))
    doubled = pa.concat_arrays([array, array]) if not pa.types.is_run_end_encoded(array.type) else None
    if doubled is not None:
        part = pa.table({"x": doubled.slice(len(array))})
        assert digest_table(part) == digest_table(pa.table({"x": plain}))


def test_metadata_and_nullability_make_no_difference() -> None:
    strict = pa.schema(
        [pa.field("x", pa.int64(), nullable=False, metadata={"__doc__": "x"})], metadata={"a": "b"}
    )
    assert digest([{"x": 1}], strict) == single([1], pa.int64())


@pytest.mark.parametrize(
    "kind", [pa.int32(), pa.uint64(), pa.float64(), pa.string(), pa.timestamp("s"), pa.null()]
)
def test_type_is_content(kind: pa.DataType) -> None:
    assert single([None], kind) != single([None], pa.int64())


def test_time_zone_and_unit_and_field_names_are_content() -> None:
    assert single([1], pa.timestamp("s")) != single([1], pa.timestamp("s", tz="UTC"))
    assert single([1], pa.timestamp("s")) != single([1], pa.timestamp("ms"))
    assert single([{"a": 1}], pa.struct([("a", pa.int64())])) != single(
        [{"b": 1}], pa.struct([("b", pa.int64())])
    )


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        (pa.int8(), 1, -1),
        (pa.uint16(), 1, 256),
        (pa.float16(), 1.0, 1.5),
        (pa.date32(), datetime.date(2020, 1, 1), datetime.date(2020, 1, 2)),
        (pa.time64("ns"), 1, 2),
        (pa.duration("us"), 1, 2),
        (pa.decimal128(5, 2), decimal.Decimal("1.00"), decimal.Decimal("1.01")),
        (pa.decimal256(50, 2), decimal.Decimal("1.00"), decimal.Decimal("1.01")),
        (pa.binary(2), b"ab", b"ac"),
        (pa.month_day_nano_interval(), (1, 2, 3), (1, 2, 4)),
        (pa.bool_(), True, False),
    ],
)
def test_every_simple_type_can_be_digested(kind: pa.DataType, one: Any, other: Any) -> None:
    padded = [None, other, one, None, other]
    assert single([one], kind) != single([other], kind)
    sliced = pa.table({"x": pa.array(padded, kind)}).slice(2, 1)
    assert digest_table(sliced) == single([one], kind)


@pytest.mark.parametrize(
    ("batch", "problem"),
    [
        ({"x": [1], "y": [1]}, "'y' is not in the schema"),
        ({}, "'x' is missing"),
        ({"x": ["a"]}, "'x' is string, not int64"),
    ],
)
def test_batch_that_does_not_fit_is_refused_whole(batch: dict[str, Any], problem: str) -> None:
    content = ContentDigest(pa.schema([("x", pa.int64())]))
    with pytest.raises(ContentError, match=problem):
        content.update(pa.RecordBatch.from_pydict(batch))
    assert content.hexdigest() == single([], pa.int64())


def test_type_without_encoding_is_refused() -> None:
    with pytest.raises(ContentError, match=r"'x\[\]'"):
        ContentDigest(pa.schema([("x", pa.list_(pa.dense_union([pa.field("a", pa.int8())])))]))


VALUES = st.fixed_dictionaries(
    {
        "a": st.none() | st.text(max_size=3),
        "b": st.none() | st.lists(st.none() | st.integers(0, 2), max_size=3),
        "c": st.none() | st.fixed_dictionaries({"d": st.none() | st.binary(max_size=2)}),
    }
)
KINDS = pa.schema([("a", pa.string()), ("b", pa.list_(pa.int64())), ("c", pa.struct([("d", pa.binary())]))])


@given(st.lists(VALUES, max_size=5), st.lists(VALUES, max_size=5))
def test_digests_are_equal_exactly_when_the_rows_are(one: list[Any], other: list[Any]) -> None:
    assert (digest(one, KINDS) == digest(other, KINDS)) == (one == other)


@given(st.lists(VALUES, max_size=8), st.integers(1, 4))
def test_batches_of_any_rows_make_no_difference(rows: list[Any], size: int) -> None:
    content = ContentDigest(KINDS)
    for batch in table(rows, KINDS).to_batches(max_chunksize=size):
        content.update(batch)
    assert content.hexdigest() == digest(rows, KINDS)
