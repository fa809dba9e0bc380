"""Arrow schemas from models and from text, and the schemas of inputs and outputs."""

from __future__ import annotations

import math
import uuid
from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Literal

import pyarrow as pa
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyff_dagster.schema import types
from dyff_dagster.schema.arrow import (
    ArrowTypeError,
    SchemaEncodingError,
    arrow_schema,
    decode_schema,
    encode_schema,
)
from dyff_dagster.schema.arrow_text import (
    ArrowTextError,
    format_schema,
    format_type,
    parse_schema,
    parse_type,
)
from dyff_dagster.schema.data import DataSchema, DyffDataSchema, ReservedFieldError
from dyff_dagster.schema.named import DuplicateFieldError, UnknownComponentError, embedding
from dyff_dagster.schema.platform import DyffSchemaBaseModel


class Colour(StrEnum):
    red = "red"


class Inner(DyffSchemaBaseModel):
    """Something nested."""

    q: str = pydantic.Field(description="about q")


def type_of(annotation: object) -> pa.DataType:
    model = pydantic.create_model("Row", __base__=DyffSchemaBaseModel, f=(annotation, ...))
    return arrow_schema(model).field("f").type


INNER = pa.struct([pa.field("q", pa.string())])


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (str, pa.string()),
        (bool, pa.bool_()),
        (float, pa.float64()),
        (bytes, pa.binary()),
        (uuid.UUID, pa.binary(16)),
        (datetime, pa.timestamp("us", tz="UTC")),
        (date, pa.date32()),
        (Colour, pa.string()),
        (Literal["a", "b"], pa.string()),
        (str | None, pa.string()),
        (list[str], pa.list_(pa.string())),
        (list[str] | None, pa.list_(pa.string())),
        (types.list_(types.Float32, 3), pa.list_(pa.float32(), 3)),
        (types.list_(str), pa.list_(pa.string())),
        (Annotated[list[str], pydantic.Field(min_length=1, max_length=3)], pa.list_(pa.string())),
        (Inner, INNER),
        (Inner | None, INNER),
        (list[Inner], pa.list_(INNER)),
        (types.Int64 | None, pa.int64()),
        (list[types.Int8], pa.list_(pa.int8())),
        *[(getattr(types, name)(), getattr(pa, name)()) for name in ("int8", "int16", "int32", "int64")],
        *[(getattr(types, name)(), getattr(pa, name)()) for name in ("uint8", "uint16", "uint32", "uint64")],
        *[(getattr(types, name)(), getattr(pa, name)()) for name in ("float32", "float64")],
        *[
            (getattr(types, name), getattr(pa, name.lower())())
            for name in ("Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64")
        ],
        (types.Float64, pa.float64()),
    ],
)
def test_python_type_becomes_arrow_type(annotation: object, expected: pa.DataType) -> None:
    assert type_of(annotation) == expected


@pytest.mark.parametrize(
    "annotation", [int, str | float, dict[str, str], tuple[str, int], Literal[1], complex | None]
)
def test_python_type_without_counterpart_is_refused_by_name(annotation: object) -> None:
    with pytest.raises(ArrowTypeError, match=r"^Row\.f"):
        type_of(annotation)


def test_description_becomes_the_fields_doc_at_every_depth() -> None:
    class Outer(DyffSchemaBaseModel):
        schema_: list[Inner] = pydantic.Field(alias="schema", description="about schema")
        plain: str

    schema = arrow_schema(Outer)
    assert schema.names == ["schema", "plain"]
    assert schema.field("schema").metadata == {b"__doc__": b"about schema"}
    assert schema.field("plain").metadata is None
    assert schema.field("schema").type.value_type.field("q").metadata == {b"__doc__": b"about q"}


def test_fields_are_nullable_as_in_the_reference() -> None:
    assert all(field.nullable for field in arrow_schema(Inner))


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [(types.int8(), -128, 127), (types.uint16(), 0, 65535), (types.Int64, -(2**63), 2**63 - 1)],
)
def test_integer_of_fixed_width_keeps_to_its_range(kind: object, low: int, high: int) -> None:
    adapter = pydantic.TypeAdapter(kind)
    assert adapter.validate_python(low) == low
    assert adapter.validate_python(high) == high
    for outside in (low - 1, high + 1):
        with pytest.raises(pydantic.ValidationError):
            adapter.validate_python(outside)


def test_further_constraints_narrow_an_integer_and_never_widen_it() -> None:
    adapter = pydantic.TypeAdapter(types.int8(ge=0, le=1000, multiple_of=2))
    assert adapter.validate_python(4) == 4
    for wrong in (-2, 128, 3):
        with pytest.raises(pydantic.ValidationError):
            adapter.validate_python(wrong)


def test_float32_takes_what_fits_and_infinity() -> None:
    adapter = pydantic.TypeAdapter(types.float32())
    assert adapter.validate_python(math.inf) == math.inf
    assert math.isnan(adapter.validate_python(math.nan))
    with pytest.raises(pydantic.ValidationError):
        adapter.validate_python(1e39)


def test_schema_survives_encoding_with_metadata() -> None:
    schema = pa.schema([pa.field("x", pa.list_(pa.int8()), nullable=False, metadata={"__doc__": "x"})])
    assert decode_schema(encode_schema(schema)).equals(schema, check_metadata=True)


@pytest.mark.parametrize("text", ["", "no base64!", "aGVsbG8=", "x"])
def test_text_that_is_no_schema_is_refused(text: str) -> None:
    with pytest.raises(SchemaEncodingError):
        decode_schema(text)


COMPONENTS = {
    "classification.Label": {"label": pa.string()},
    "text.Text": {"text": pa.string()},
    "text.Tokens": {"tokens": pa.list_(pa.string())},
    "text.TaggedSpan": {"start": pa.int64(), "end": pa.int64(), "tag": pa.string()},
    "text.TaggedSpans": {
        "spans": pa.list_(pa.struct({"start": pa.int64(), "end": pa.int64(), "tag": pa.string()}.items()))
    },
    "vision.Image": {"bytes": pa.binary(), "format": pa.string()},
    "binary.Media": {"data": pa.binary(), "mediaType": pa.string()},
}


@pytest.mark.parametrize("component", COMPONENTS)
def test_named_schema_has_its_fields(component: str) -> None:
    model = DyffDataSchema(components=[component]).model_type()
    assert arrow_schema(model) == pa.schema(COMPONENTS[component].items())


def test_components_are_one_model_with_all_fields_the_last_components_first() -> None:
    model = DyffDataSchema(components=["text.Text", "classification.Label"]).model_type()
    assert arrow_schema(model).names == ["label", "text"]
    assert model(text="a", label="b").model_dump() == {"label": "b", "text": "a"}


def test_component_that_is_none_names_the_nearest() -> None:
    with pytest.raises(UnknownComponentError, match=r"did you mean 'text\.Text'"):
        DyffDataSchema(components=["text.Txt"]).model_type()


def test_components_with_the_same_field_are_refused() -> None:
    with pytest.raises(DuplicateFieldError, match="'text'"):
        DyffDataSchema(components=["text.Text", "text.Text"]).model_type()


def test_embedding_is_a_list_of_its_size() -> None:
    assert arrow_schema(embedding(types.float32(), 3)).field("embedding").type == pa.list_(pa.float32(), 3)


def test_input_schema_begins_with_the_rows_index() -> None:
    given_schema = pa.schema([pa.field("x", pa.float64(), nullable=False, metadata={"k": "v"})])
    schema = DataSchema.make_input_schema(given_schema).decode()
    index = pa.field("_index_", pa.int64(), nullable=False)
    assert schema == pa.schema([index, pa.field("x", pa.float64(), nullable=False)])
    assert schema.field("x").metadata == {b"k": b"v"}


def test_output_schema_is_replication_index_and_responses() -> None:
    schema = DataSchema.make_output_schema(pa.schema([("y", pa.string())])).decode()
    item = pa.struct([pa.field("_response_index_", pa.int64(), nullable=False), pa.field("y", pa.string())])
    assert schema == pa.schema(
        [
            pa.field("_replication_", pa.string(), nullable=False),
            pa.field("_index_", pa.int64(), nullable=False),
            pa.field("responses", pa.list_(item)),
        ]
    )


def test_keys_that_are_declared_already_are_not_doubled() -> None:
    schema = pa.schema([("x", pa.string()), ("_index_", pa.int64())])
    assert DataSchema.make_input_schema(schema).decode().names == ["_index_", "x"]


def test_key_of_another_type_is_refused() -> None:
    with pytest.raises(ReservedFieldError, match="'_index_' is string"):
        DataSchema.make_input_schema(pa.schema([("_index_", pa.string())]))
    with pytest.raises(ReservedFieldError, match="'_response_index_' is int8"):
        DataSchema.make_output_schema(pa.schema([("_response_index_", pa.int8())]))


@pytest.mark.parametrize("make", [DataSchema.make_input_schema, DataSchema.make_output_schema])
def test_full_schema_is_the_same_from_components_and_from_their_model(make: object) -> None:
    components = DyffDataSchema(components=["text.Text"])
    named, modelled = make(components), make(components.model_type())  # type: ignore[operator]
    assert named.decode().equals(modelled.decode(), check_metadata=True)
    assert named.dyffSchema == components
    assert modelled.dyffSchema is None


def test_schema_of_a_model_says_it_in_json_schema_too() -> None:
    schema = DataSchema.from_model(Inner)
    assert schema.decode().names == ["q"]
    assert schema.jsonSchema is not None
    assert schema.jsonSchema["required"] == ["q"]


@pytest.mark.parametrize(
    ("text", "expected", "nullable"),
    [
        ("string", pa.string(), True),
        ("int64!", pa.int64(), False),
        (" double ", pa.float64(), True),
        ("timestamp[us]", pa.timestamp("us"), True),
        ("timestamp[ns, tz=Europe/Berlin]!", pa.timestamp("ns", tz="Europe/Berlin"), False),
        ("timestamp[s,tz=+02:00]", pa.timestamp("s", tz="+02:00"), True),
        ("date32", pa.date32(), True),
        ("date32[day]", pa.date32(), True),
        ("list<int8>", pa.list_(pa.int8()), True),
        ("list< int8! > !", pa.list_(pa.field("item", pa.int8(), nullable=False)), False),
        ("list<list<string>>", pa.list_(pa.list_(pa.string())), True),
        ("large_list<string>", pa.large_list(pa.string()), True),
        ("fixed_size_list<float32>[4]", pa.list_(pa.float32(), 4), True),
        ("fixed_size_binary[16]", pa.binary(16), True),
        ("decimal128(10, 2)", pa.decimal128(10, 2), True),
        ("map<string, int64>", pa.map_(pa.string(), pa.int64()), True),
        ("struct<>", pa.struct([]), True),
        (
            "struct<a: list<struct<b: int32!>>, c-d: string>!",
            pa.struct(
                [
                    ("a", pa.list_(pa.struct([pa.field("b", pa.int32(), nullable=False)]))),
                    ("c-d", pa.string()),
                ]
            ),
            False,
        ),
        ('struct<"a: b, c<\\"": int8>', pa.struct([('a: b, c<"', pa.int8())]), True),
        ("struct<häuser.größe: int8>", pa.struct([("häuser.größe", pa.int8())]), True),
    ],
)
def test_text_is_read_as_a_type(text: str, expected: pa.DataType, nullable: bool) -> None:
    kind, found = parse_type(text)
    assert kind == expected
    assert found is nullable


def test_not_null_inside_a_list_is_kept() -> None:
    assert parse_type("list<int8!>")[0].value_field.nullable is False
    assert format_type(parse_type("list<int8!>")[0]) == "list<int8!>"


@pytest.mark.parametrize(
    ("text", "position", "problem"),
    [
        ("list<strng>", 6, "did you mean 'string'?"),
        ("strng", 1, "did you mean 'string'?"),
        ("zzz", 1, "there are null, bool, "),
        ("list<int8", 10, "'>' is missing"),
        ("list", 5, "'<' is missing"),
        ("", 1, "a type is missing"),
        ("list<>", 6, "a type is missing"),
        ("int8 int8", 6, "the text goes on"),
        ("int8!!", 6, "the text goes on"),
        ("struct<a int8>", 10, "':' is missing"),
        ("struct<: int8>", 8, "a field's name is missing"),
        ("struct<a: int8, a: int8>", 17, "a second field 'a'"),
        ("struct<a: int8,>", 16, "a field's name is missing"),
        ("timestamp[h]", 1, "there is no type 'timestamp[h]'"),
        ("fixed_size_binary[x]", 1, "'x' is no length"),
        ("fixed_size_list<int8>", 22, "the length is missing"),
        ("decimal128", 11, "precision and scale are missing"),
        ("decimal128(99, 2)", 1, "no such precision"),
        ("map<null, int8>", 5, "the keys of a map cannot be null"),
        ("list<null!>", 10, "null cannot be declared not null"),
    ],
)
def test_text_that_is_no_type_says_where_and_what(text: str, position: int, problem: str) -> None:
    with pytest.raises(ArrowTextError) as caught:
        parse_type(text)
    assert caught.value.position == position
    assert problem in str(caught.value)


def test_schema_of_text_keeps_order_and_nulls() -> None:
    schema = parse_schema({"b": "int64!", "a": "list<string>"})
    assert schema == pa.schema([pa.field("b", pa.int64(), nullable=False), ("a", pa.list_(pa.string()))])
    assert format_schema(schema) == {"b": "int64!", "a": "list<string>"}


def test_wrong_type_in_a_schema_names_its_field() -> None:
    with pytest.raises(ArrowTextError, match="field 'a': 'strng'"):
        parse_schema({"a": "strng"})
    with pytest.raises(ArrowTextError, match="field 'a'"):
        parse_schema({"a": 5})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    "kind", [pa.dictionary(pa.int8(), pa.string()), pa.dense_union([pa.field("a", pa.int8())])]
)
def test_type_that_the_notation_lacks_is_refused(kind: pa.DataType) -> None:
    with pytest.raises(ArrowTextError):
        format_type(kind)


simple = st.sampled_from(
    [
        *(pa.null(), pa.bool_(), pa.int8(), pa.uint64(), pa.float16(), pa.float32(), pa.float64()),
        *(pa.string(), pa.large_string(), pa.binary(), pa.large_binary(), pa.string_view(), pa.binary_view()),
        *(pa.date32(), pa.date64(), pa.time32("ms"), pa.time64("ns"), pa.duration("us"), pa.timestamp("ns")),
        *(pa.timestamp("us", tz="UTC"), pa.timestamp("s", tz="+01:30"), pa.binary(7), pa.decimal128(5, -2)),
        *(pa.decimal256(50, 3), pa.month_day_nano_interval()),
    ]
)


def nested(children: st.SearchStrategy[pa.DataType]) -> st.SearchStrategy[pa.DataType]:
    item = st.builds(lambda t, n: pa.field("item", t, nullable=n or t == pa.null()), children, st.booleans())
    field = st.builds(
        lambda name, t, n: pa.field(name, t, nullable=n or t == pa.null()),
        st.text(max_size=5),
        children,
        st.booleans(),
    )
    return st.one_of(
        item.map(pa.list_),
        item.map(pa.large_list),
        st.builds(pa.list_, item, st.integers(1, 5)),
        st.lists(field, max_size=3, unique_by=lambda f: f.name).map(pa.struct),
        st.builds(pa.map_, children.filter(lambda key: key != pa.null()), children),
    )


@given(st.recursive(simple, nested, max_leaves=6), st.booleans())
def test_written_type_is_read_back_the_same(kind: pa.DataType, nullable: bool) -> None:
    nullable = nullable or kind == pa.null()
    assert parse_type(format_type(kind, nullable)) == (kind, nullable)
