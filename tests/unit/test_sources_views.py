"""JSON objects as rows of a schema."""

from __future__ import annotations

import pyarrow as pa
import pytest

from dyff_dagster.sources.views import ViewError, rows_to_batch

_SCHEMA = pa.schema([pa.field("x", pa.struct([("a", pa.int64())]))])


def test_an_object_is_a_struct_and_an_absent_one_is_null() -> None:
    rows = [{"x": {"a": 1}}, {"x": {}}, {"x": None}, {}]
    batch = rows_to_batch(rows, _SCHEMA, ["r1", "r2", "r3", "r4"])
    assert batch.to_pylist() == [{"x": {"a": 1}}, {"x": {"a": None}}, {"x": None}, {"x": None}]


@pytest.mark.parametrize("rows", [[{"x": {}}, {"x": []}], [{}, {"x": []}]])
def test_an_empty_list_is_no_object_without_values(rows: list[dict[str, object]]) -> None:
    with pytest.raises(ViewError, match="x does not fit struct") as caught:
        rows_to_batch(rows, _SCHEMA, ["the first", "the second"])
    assert "the second" in str(caught.value)
