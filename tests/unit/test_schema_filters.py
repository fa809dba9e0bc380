"""Dataset filters let the rows through that a plain loop over them would."""

from __future__ import annotations

import base64
import datetime
import json
import math
import operator
import struct
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dyff_dagster.schema.arrow import open_dataset, write_dataset
from dyff_dagster.schema.data import DatasetFilter
from dyff_dagster.schema.filters import FilterError

UTC = datetime.UTC
_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=4)
_FLOAT32 = st.floats(width=32)
_MOMENTS = st.datetimes(datetime.datetime(1980, 1, 1), datetime.datetime(2100, 1, 1))


def _round_to_float32(value: float) -> float:
    return struct.unpack("f", struct.pack("f", value))[0]


def _write_number(value: float) -> str:
    return "inf" if value == math.inf else "-inf" if value == -math.inf else repr(value)


# type → (values, how one is written in a filter)
KINDS: dict[pa.DataType, tuple[st.SearchStrategy[Any], Callable[[Any], str]]] = {
    pa.int8(): (st.integers(-128, 127), str),
    pa.uint64(): (st.integers(0, 3) | st.integers(2**64 - 3, 2**64 - 1), str),
    pa.int64(): (st.integers(-3, 3) | st.integers(2**63 - 2, 2**63 - 1), str),
    pa.float32(): (_FLOAT32 | st.just(_round_to_float32(0.1)), _write_number),
    pa.float64(): (st.floats() | st.integers(-2, 2).map(float), _write_number),
    pa.string(): (_TEXT, str),
    pa.bool_(): (st.booleans(), lambda value: str(value).lower()),
    pa.binary(): (st.binary(max_size=2), lambda value: base64.b64encode(value).decode()),
    pa.date32(): (st.dates(datetime.date(2020, 1, 1), datetime.date(2020, 1, 5)), str),
    pa.timestamp("us"): (_MOMENTS, lambda value: value.isoformat()),
    pa.timestamp("us", "UTC"): (
        _MOMENTS.map(lambda m: m.replace(tzinfo=UTC)),
        lambda value: value.isoformat(),
    ),
    pa.decimal128(6, 2): (st.decimals(-9, 9, places=2), str),
    pa.dictionary(pa.int32(), pa.string()): (st.sampled_from("abc"), str),
}
RELATIONS = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def kept(path: Path, field: str, relation: str, value: str, **options: Any) -> list[int]:
    condition = DatasetFilter(field=field, relation=relation, value=value)
    return sorted(
        open_dataset(path, [condition], **options).to_table(columns=["_index_"])["_index_"].to_pylist()
    )


def write(path: Path, kind: pa.DataType, values: list[Any]) -> Path:
    schema = pa.schema([("_index_", pa.int64()), ("x", kind)])
    batch = pa.record_batch([range(len(values)), pa.array(values, kind)], schema=schema)
    write_dataset([batch], schema, path)
    return path


@pytest.mark.parametrize("kind", KINDS, ids=str)
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_filter_keeps_the_rows_that_a_loop_keeps(
    kind: pa.DataType, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    strategy, spelled = KINDS[kind]
    values = data.draw(st.lists(st.none() | strategy, min_size=1, max_size=8))
    wanted = data.draw(strategy | st.sampled_from([value for value in values if value is not None] or [None]))
    if wanted is None:
        return
    path = write(tmp_path_factory.mktemp("data"), kind, values)

    for relation, holds in RELATIONS.items():
        expected = [i for i, value in enumerate(values) if value is not None and holds(value, wanted)]
        assert kept(path, "x", relation, spelled(wanted)) == expected, relation


@pytest.mark.parametrize("kind", KINDS, ids=str)
@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_in_keeps_the_rows_with_one_of_the_values(
    kind: pa.DataType, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    strategy, spelled = KINDS[kind]
    values = data.draw(st.lists(st.none() | strategy, min_size=1, max_size=8))
    wanted = data.draw(st.lists(strategy, max_size=3)) + [v for v in values[:1] if v is not None]
    path = write(tmp_path_factory.mktemp("data"), kind, values)

    expected = [
        i for i, value in enumerate(values) if value is not None and any(value == one for one in wanted)
    ]
    assert kept(path, "x", "in", json.dumps([spelled(value) for value in wanted])) == expected


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (pa.int64(), "1, 3", [1, 3]),
        (pa.int64(), "[1, 3]", [1, 3]),
        (pa.int64(), "", []),
        (pa.int64(), "[]", []),
        (pa.string(), "1,3", [1, 3]),
        (pa.string(), '["1", "3"]', [1, 3]),
    ],
)
def test_in_takes_a_json_array_or_commas(
    tmp_path: Path, kind: pa.DataType, value: str, expected: list[int]
) -> None:
    assert (
        kept(write(tmp_path, kind, pa.array([0, 1, 2, 3]).cast(kind).to_pylist()), "x", "in", value)
        == expected
    )


def test_text_with_commas_is_found_in_a_json_array(tmp_path: Path) -> None:
    assert kept(write(tmp_path, pa.string(), ["a, b", "a"]), "x", "in", '["a, b"]') == [0]


def test_a_moment_is_the_same_in_every_zone(tmp_path: Path) -> None:
    path = write(tmp_path, pa.timestamp("us", "UTC"), [datetime.datetime(2024, 1, 31, 10, tzinfo=UTC)])
    assert kept(path, "x", "==", "2024-01-31T12:00:00+02:00") == [0]


def test_a_time_of_day_is_compared(tmp_path: Path) -> None:
    path = write(tmp_path, pa.time64("us"), [datetime.time(9), datetime.time(18)])
    assert kept(path, "x", ">=", "10:30:00") == [1]


def test_a_field_within_a_struct_is_found_by_its_path(tmp_path: Path) -> None:
    kind = pa.struct([("label", pa.string()), ("by", pa.struct([("age", pa.int32())]))])
    values = [{"label": "a", "by": {"age": 40}}, {"label": "b", "by": {"age": 30}}, None]
    path = write(tmp_path, kind, values)
    assert kept(path, "x.label", "==", "b") == [1]
    assert kept(path, "x.by.age", ">", "30") == [0]


def test_a_column_whose_name_has_a_dot_goes_before_a_path(tmp_path: Path) -> None:
    schema = pa.schema([("_index_", pa.int64()), ("a.b", pa.int64()), ("a", pa.struct([("b", pa.int64())]))])
    batch = pa.record_batch([[0, 1], [5, 6], [{"b": 6}, {"b": 5}]], schema=schema)
    write_dataset([batch], schema, tmp_path)
    assert kept(tmp_path, "a.b", "==", "5") == [0]


def test_a_key_of_the_directories_is_a_field_too(tmp_path: Path) -> None:
    schema = pa.schema([("_index_", pa.int64()), ("_replication_", pa.string())])
    batch = pa.record_batch([[0, 1, 2], ["0a", "12", "12"]], schema=schema)
    write_dataset([batch], schema, tmp_path, partition_by=["_replication_"])
    assert kept(tmp_path, "_replication_", "==", "12") == [1, 2]
    assert kept(tmp_path, "_replication_", "in", "0a, 13") == [0]


NESTED = pa.struct([("label", pa.string())])


@pytest.mark.parametrize(
    ("kind", "condition", "message"),
    [
        (
            pa.int64(),
            ("_indx_", "==", "1"),
            "'_indx_' cannot be applied: there is no such field; did you mean '_index_'?",
        ),
        (pa.int64(), ("label", "==", "1"), "'label' cannot be applied: there are only _index_, x"),
        (
            NESTED,
            ("x.lable", "==", "a"),
            "'x.lable' cannot be applied: there is no such field; did you mean 'x.label'?",
        ),
        (NESTED, ("x.zzz", "==", "a"), "'x.zzz' cannot be applied: within 'x' there are only label"),
        (pa.int64(), ("x.a", "==", "a"), "'x.a' cannot be applied: 'x' is int64, which has no fields"),
        (
            NESTED,
            ("x", "==", "s3cret"),
            "'x' cannot be applied: it is struct<label: string>; only single values can be compared, such as 'x.label'",
        ),
        (
            pa.list_(pa.int64()),
            ("x", "in", "s3cret"),
            "'x' cannot be applied: it is list<element: int64>; only single values can be compared",
        ),
        (
            pa.int64(),
            ("x", "=", "1"),
            "'x' cannot be applied: '=' is none of the relations == != < <= > >= in",
        ),
        (
            pa.int8(),
            ("x", "==", "300"),
            "'x' cannot be applied: its value cannot be read as int8; write a whole number within its range",
        ),
        (
            pa.int64(),
            ("x", "in", '[1, "s3cret"]'),
            "'x' cannot be applied: its value cannot be read as int64; write a whole number within its range",
        ),
        (
            pa.string(),
            ("x", "in", '["s3cret'),
            "'x' cannot be applied: after 'in' stands a JSON array of values, as in [\"a\", \"b\"], "
            "or values separated by commas",
        ),
        (
            pa.float64(),
            ("x", "==", "s3cret"),
            "'x' cannot be applied: its value cannot be read as double; write a number",
        ),
        (
            pa.bool_(),
            ("x", "==", "yes"),
            "'x' cannot be applied: its value cannot be read as bool; write true or false",
        ),
        (
            pa.timestamp("us", "UTC"),
            ("x", "<", "2024-01-31T10:00:00"),
            "'x' cannot be applied: its value cannot be read as timestamp[us, tz=UTC]; "
            "write a time with its zone, as in 2030-01-31T18:00:00Z",
        ),
        (
            pa.timestamp("us"),
            ("x", "<", "2024-01-31T10:00:00Z"),
            "'x' cannot be applied: its value cannot be read as timestamp[us]; "
            "write a time without a zone, as in 2030-01-31T18:00:00",
        ),
        (
            pa.date32(),
            ("x", "<", "s3cret"),
            "'x' cannot be applied: its value cannot be read as date32[day]; write a date, as in 2030-01-31",
        ),
        (
            pa.binary(),
            ("x", "==", "s3cret!"),
            "'x' cannot be applied: its value cannot be read as binary; write base64",
        ),
        (
            pa.decimal128(4, 2),
            ("x", "==", "123456.7"),
            "'x' cannot be applied: its value cannot be read as decimal128(4, 2); write a number",
        ),
    ],
)
def test_a_filter_that_does_not_fit_says_why(
    tmp_path: Path, kind: pa.DataType, condition: tuple[str, str, str], message: str
) -> None:
    field, relation, value = condition
    with pytest.raises(FilterError) as raised:
        kept(write(tmp_path, kind, []), field, relation, value)
    assert str(raised.value) == f"the filter on field {message}"
    assert "s3cret" not in str(raised.value)


def test_decimals_are_compared_as_numbers(tmp_path: Path) -> None:
    assert kept(write(tmp_path, pa.decimal128(6, 2), [Decimal("9.50"), Decimal("10")]), "x", ">", "9.5") == [
        1
    ]
