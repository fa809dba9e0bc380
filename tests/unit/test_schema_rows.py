"""Models of rows: to Arrow, into Parquet, and back."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta, timezone
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import Field, field_validator

from dyff_dagster.schema import named, types
from dyff_dagster.schema.arrow import arrow_schema, open_dataset, write_dataset
from dyff_dagster.schema.base import DyffSchemaBaseModel
from dyff_dagster.schema.data import DataSchema, DyffDataSchema
from dyff_dagster.schema.rows import RowError, batches_of, models_of

SECRET = "patient 4711"


class Color(StrEnum):
    RED = "red"
    BLUE = "blue"


class Box(DyffSchemaBaseModel):
    corners: types.list_(types.Float32, 4) = Field(description="Left, top, right, bottom")  # type: ignore[valid-type]
    depth: types.UInt8 | None = Field(default=None, description="How far away")


class Everything(DyffSchemaBaseModel):
    index: types.Int64 = Field(alias="_index_", description="Which row")
    i8: types.int8(ge=-3, le=3) = Field(description="Few")  # type: ignore[valid-type]
    i16: types.Int16
    i32: types.Int32
    i64: types.Int64
    u8: types.UInt8
    u16: types.UInt16
    u32: types.UInt32
    u64: types.UInt64
    f32: types.Float32
    f64: types.float64(ge=0)  # type: ignore[valid-type]
    plain: float
    sure: bool
    text: str = Field(description="Ein Text: ä")
    raw: bytes
    id: uuid.UUID
    when: datetime
    day: date
    color: Color
    size: Literal["s", "m"]
    maybe: str | None
    boxes: list[Box] = Field(description="Where things are")
    nested: list[list[types.Int16]]
    few: list[str] = Field(min_length=2, max_length=2)
    some: list[types.UInt16] = Field(max_length=3)
    vector: types.list_(types.Float64, 3)  # type: ignore[valid-type]
    box: Box
    box_or_none: Box | None = Field(description="Perhaps one")


TEXT = st.text(st.characters(codec="utf-8"), max_size=4)
TIMES = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)).flatmap(
    lambda when: st.integers(-14, 14).map(lambda h: when.replace(tzinfo=timezone(timedelta(hours=h))))
)
FLOAT32, FLOAT64 = st.floats(width=32, allow_nan=False), st.floats(allow_nan=False)


def integers(bits: int, *, signed: bool) -> st.SearchStrategy[int]:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return st.sampled_from([low, high]) | st.integers(low, high)


BOXES = st.builds(
    Box, corners=st.lists(FLOAT32, min_size=4, max_size=4), depth=st.none() | integers(8, signed=False)
)
ROWS = st.builds(
    Everything,
    _index_=integers(64, signed=True),
    i8=st.integers(-3, 3),
    **{f"i{bits}": integers(bits, signed=True) for bits in (16, 32, 64)},
    **{f"u{bits}": integers(bits, signed=False) for bits in (8, 16, 32, 64)},
    f32=FLOAT32,
    f64=st.floats(min_value=0, allow_nan=False),
    plain=FLOAT64,
    text=TEXT,
    raw=st.binary(max_size=4),
    id=st.uuids(),
    when=TIMES,
    maybe=st.none() | TEXT,
    boxes=st.lists(BOXES, max_size=2),
    nested=st.lists(st.lists(integers(16, signed=True), max_size=2), max_size=2),
    few=st.lists(TEXT, min_size=2, max_size=2),
    some=st.lists(integers(16, signed=False), max_size=3),
    vector=st.lists(FLOAT64, min_size=3, max_size=3),
    box=BOXES,
    box_or_none=st.none() | BOXES,
)


def there_and_back(rows: Iterable[Any], model: type[Any], path: Path) -> list[Any]:
    write_dataset(batches_of(rows, model, batch_size=2), arrow_schema(model), path)
    return list(models_of(open_dataset(path).to_batches(), model))


@given(st.lists(ROWS, max_size=3))
@settings(
    max_examples=40,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_rows_come_back_as_they_were(tmp_path: Path, rows: list[Everything]) -> None:
    assert there_and_back(rows, Everything, tmp_path) == rows


SAMPLES: dict[str, dict[str, Any]] = {
    "binary.Media": {"data": b"\x00\xff", "mediaType": "image/png"},
    "classification.Label": {"label": "malignant"},
    "text.TaggedSpan": {"start": 0, "end": 2**63 - 1, "tag": "person"},
    "text.TaggedSpans": {"spans": [{"start": 0, "end": 3, "tag": "person"}]},
    "text.Text": {"text": "Lima ä"},
    "text.Tokens": {"tokens": ["Li", "ma"]},
    "vision.Image": {"bytes": b"\x89PNG", "format": "image/png"},
}


@pytest.mark.parametrize("component", named.NAMED_SCHEMAS)
def test_rows_of_named_schemas_come_back_as_they_were(component: str, tmp_path: Path) -> None:
    model = DyffDataSchema(components=[component]).model_type()
    rows = [model(**SAMPLES[component])]
    assert there_and_back(rows, model, tmp_path) == rows


def test_rows_of_an_embedding_come_back_as_they_were(tmp_path: Path) -> None:
    model = named.embedding(types.float32(), 3)
    rows = [model(embedding=[0.5, -1.0, math.inf])]
    assert there_and_back(rows, model, tmp_path) == rows
    with pytest.raises(types.ListSizeError, match="at least one item, and not 0"):
        named.embedding(types.float32(), 0)


def test_float_that_has_more_digits_is_rounded_to_its_width(tmp_path: Path) -> None:
    model = named.embedding(types.float32(), 2)
    (row,) = there_and_back([{"embedding": [0.1, math.nan]}], model, tmp_path)
    assert row.embedding[0] == pytest.approx(0.1, rel=1e-7)
    assert row.embedding[0] != 0.1
    assert math.isnan(row.embedding[1])


def test_time_comes_back_as_the_same_moment_in_utc(tmp_path: Path) -> None:
    class Timed(DyffSchemaBaseModel):
        when: datetime

    there = datetime(2024, 2, 29, 12, 0, 0, 123456, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    (row,) = there_and_back([Timed(when=there)], Timed, tmp_path)
    assert row.when == there
    assert row.when.utcoffset() == UTC.utcoffset(None)


def test_descriptions_are_in_the_file(tmp_path: Path) -> None:
    write_dataset([], arrow_schema(Everything), tmp_path)
    schema = open_dataset(tmp_path).schema
    assert schema == arrow_schema(Everything)
    assert [field.metadata for field in schema] == [field.metadata for field in arrow_schema(Everything)]
    assert schema.field("text").metadata == {b"__doc__": "Ein Text: ä".encode()}
    box = schema.field("boxes").type.value_type
    assert box.field("depth").metadata == {b"__doc__": b"How far away"}


VALID: dict[str, Any] = {"corners": [0, 0, 1, 1], "depth": 0}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"depth": 256}, "field 'depth' is wrong: input should be less than or equal to 255"),
        ({"depth": -1}, "field 'depth' is wrong: input should be greater than or equal to 0"),
        ({"corners": [0, 0, 1]}, "field 'corners' is wrong: list should have at least 4 items"),
        ({"corners": [0, 0, 1, 1e39]}, "field 'corners[3]' is beyond the range of a 32-bit float"),
        ({"corners": [0, 0, 1, SECRET]}, "field 'corners[3]' is wrong: input should be a valid number"),
        ({"corners": ...}, "field 'corners' is missing"),
        ({"deepth": SECRET}, "field 'deepth' is none of the model's"),
    ],
)
def test_row_that_does_not_fit_is_named_without_its_content(change: dict[str, Any], problem: str) -> None:
    row = {name: value for name, value in {**VALID, **change}.items() if value is not ...}
    with pytest.raises(RowError) as caught:
        list(batches_of([VALID, row], Box))
    assert str(caught.value).startswith(f"row 1 (from 0) does not fit Box: {problem}")
    assert SECRET not in str(caught.value)


def test_row_is_named_by_its_index_where_it_has_one() -> None:
    class Indexed(DyffSchemaBaseModel):
        index: types.Int64 = Field(alias="_index_")
        id: uuid.UUID

    with pytest.raises(RowError) as caught:
        list(batches_of([{"_index_": 41, "id": SECRET}], Indexed))
    assert str(caught.value) == (
        "the row with _index_ 41 does not fit Indexed: field 'id' is wrong: input should be a valid UUID"
    )


def test_instance_that_was_changed_is_checked_again() -> None:
    box = Box(**VALID)
    object.__setattr__(box, "depth", 4711)
    with pytest.raises(RowError, match="field 'depth' is wrong") as caught:
        list(batches_of([box], Box))
    assert "4711" not in str(caught.value)


def test_what_a_models_own_check_says_is_not_repeated() -> None:
    class Checked(DyffSchemaBaseModel):
        name: str

        @field_validator("name")
        @classmethod
        def check(cls, name: str) -> str:
            raise ValueError(f"{name} is unknown")

    with pytest.raises(RowError, match="field 'name' is refused by the model's own check") as caught:
        list(batches_of([{"name": SECRET}], Checked))
    assert SECRET not in str(caught.value)


def test_time_without_a_zone_is_refused() -> None:
    class Timed(DyffSchemaBaseModel):
        when: list[datetime]

    with pytest.raises(RowError, match=r"field 'when\[0\]' is a time without a time zone"):
        list(batches_of([{"when": [datetime(2024, 1, 1)]}], Timed))


def test_rows_that_are_read_are_checked_too() -> None:
    batch = pa.RecordBatch.from_pydict(
        {"corners": [[0.0, 0.0, 1.0, 1.0]], "depth": pa.array([300]), "more": [1]}
    )
    with pytest.raises(RowError, match=r"row 0 \(from 0\) does not fit Box: field 'depth' is wrong"):
        list(models_of([batch], Box))


def test_fields_that_a_model_does_not_have_are_left_out() -> None:
    batch = pa.RecordBatch.from_pydict({"label": ["a"], "_index_": [1]})
    assert list(models_of([batch], named.Label)) == [named.Label(label="a")]


def test_input_schema_of_a_model_has_a_json_schema_of_its_rows() -> None:
    components = DyffDataSchema(components=["text.Text", "classification.Label"])
    for schema in (
        DataSchema.make_input_schema(components),
        DataSchema.make_input_schema(components.model_type()),
    ):
        assert schema.jsonSchema is not None
        assert sorted(schema.jsonSchema["properties"]) == ["_index_", "label", "text"]
        assert sorted(schema.jsonSchema["required"]) == ["_index_", "label", "text"]
    assert DataSchema.make_input_schema(pa.schema([("x", pa.string())])).jsonSchema is None


def test_output_schema_of_a_model_has_a_json_schema_of_its_rows() -> None:
    schema = DataSchema.make_output_schema(DyffDataSchema(components=["vision.Image"])).jsonSchema
    assert schema is not None
    assert sorted(schema["properties"]) == ["_index_", "_replication_", "responses"]
    (response,) = schema["$defs"].values()
    assert sorted(response["properties"]) == ["_response_index_", "bytes", "format"]


class Bounded(DyffSchemaBaseModel):
    low: types.Int8 = Field(default=0, ge=0)
    wide: types.UInt8 = Field(default=0, ge=-500, le=500)
    called: types.int8(ge=-500, lt=5) = 0  # type: ignore[valid-type]
    item: list[types.Int8] = Field(default_factory=list, max_length=2)
    maybe: types.Int16 | None = Field(default=None, gt=0)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"low": -1}, {"low": 128}, {"wide": -1}, {"wide": 256}, {"called": 5}, {"called": -129}),
        *({"item": [128]}, {"item": [1, 2, 3]}, {"maybe": 0}, {"maybe": 2**15}),
    ],
    ids=str,
)
def test_bounds_of_a_field_and_of_its_width_both_hold(wrong: dict[str, Any]) -> None:
    with pytest.raises(pydantic.ValidationError, match=r"should be|should have"):
        Bounded(**wrong)
    assert Bounded(low=127, wide=255, called=4, item=[-128], maybe=1)


def test_json_schema_has_the_narrower_bounds() -> None:
    properties = Bounded.model_json_schema()["properties"]
    assert (properties["low"]["minimum"], properties["low"]["maximum"]) == (0, 127)
    assert properties["called"]["minimum"] == -128
