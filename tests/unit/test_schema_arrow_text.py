"""Arrow types that nobody means to write: refused in one sentence, whatever they are."""

from __future__ import annotations

import pyarrow as pa
import pytest

from dyff_dagster.schema.arrow_text import MAX_DEPTH, ArrowTextError, format_type, parse_type


def nested(depth: int) -> pa.DataType:
    kind = pa.int64()
    for _ in range(depth):
        kind = pa.list_(kind)
    return kind


def test_types_as_deep_as_the_limit_are_written_and_read() -> None:
    assert parse_type(format_type(nested(MAX_DEPTH))) == (nested(MAX_DEPTH), True)


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 300, 2000])
def test_deeper_types_are_refused_when_read(depth: int) -> None:
    with pytest.raises(ArrowTextError, match="nested more than 64 levels deep") as caught:
        parse_type("list<" * depth + "int8" + ">" * depth)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 300])
def test_deeper_types_are_refused_when_written(depth: int) -> None:
    with pytest.raises(ArrowTextError, match="nested more than 64 levels deep"):
        format_type(nested(depth))


def test_neighbours_are_not_counted_as_depth() -> None:
    many = ", ".join(f"f{number}: list<int8>" for number in range(2 * MAX_DEPTH))
    assert parse_type(f"struct<{many}>")[0].num_fields == 2 * MAX_DEPTH


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("fixed_size_binary[999999999999]", "the length is too large"),
        ("fixed_size_binary[" + "9" * 5000 + "]", "the length is too large"),
        ("fixed_size_list<int8>[999999999999]", "the length is too large"),
        ("decimal128(99999999999999999999, 2)", "has no such precision and scale"),
        ('struct<"\\ud800": int8>', "half of a surrogate pair"),
        ("struct<\ud800: int8>", "half of a surrogate pair"),
        ('struct<"\\x": int8>', "is no JSON string"),
    ],
)
def test_what_arrow_cannot_hold_is_said(text: str, problem: str) -> None:
    with pytest.raises(ArrowTextError, match=problem):
        parse_type(text)
