"""Rows seen through a DataView: its adapters see JSON, as a service would, and what comes out is Arrow again.

Batch by batch; nothing is held in memory whole. An error names the row and the field, and never what stands there.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from dyff_dagster.schema.adapters import Pipeline, create_pipeline
from dyff_dagster.schema.errors import DyffError
from dyff_dagster.schema.parquet import RowsError, conform
from dyff_dagster.schema.platform import DataView
from dyff_dagster.sources.times import holds_times, read_times

__all__ = ["ViewError", "apply", "as_json", "pipeline_of", "rows_to_batch", "seen_through"]

BATCH = 1_024
"""Rows that are taken through a view at a time."""

Row = dict[str, Any]

_MISFITS = (pa.ArrowException, ValueError, TypeError, OverflowError, ArithmeticError)


class ViewError(DyffError):
    """A row that a view cannot show.

    Attributes:
        row: Which one, as ``row 17``.
        problem: What is the matter with it; holds no value.
    """

    def __init__(self, row: str, problem: str) -> None:
        self.row = row
        self.problem = problem
        super().__init__(f"{row}: {problem}")


def pipeline_of(view: DataView | None) -> Pipeline | None:
    """The adapters of a view as one function; None where it has none."""
    return create_pipeline(view.adapterPipeline) if view is not None and view.adapterPipeline else None


def seen_through(
    batches: Iterable[pa.RecordBatch], view: DataView, name_row: Callable[[Row], str]
) -> Iterator[pa.RecordBatch]:
    """The rows of ``batches`` as a view shows them, in the schema that it declares.

    Args:
        batches: The rows of what it is a view of.
        view: The view. Fields that its adapters make and its schema has not are left out.
        name_row: Names a row for errors, by its keys.

    Raises:
        ViewError: The adapters fail on a row, or what they make does not fit the schema.
    """
    schema = view.schema_.decode()
    pipeline = pipeline_of(view)
    for batch in batches:
        for start in range(0, batch.num_rows, BATCH):
            made: list[Row] = []
            names: list[str] = []
            for row in batch.slice(start, BATCH).to_pylist():
                found = apply(pipeline, row, name_row)
                made += found
                names += [name_row(row)] * len(found)
            yield rows_to_batch(made, schema, names)


def apply(pipeline: Pipeline | None, row: Row, name_row: Callable[[Row], str]) -> list[Row]:
    """What a pipeline makes of one row that was read from Arrow; without a pipeline the row as JSON.

    Raises:
        ViewError: The adapters fail on it.
    """
    if pipeline is None:
        return [as_json(row)]
    try:
        return list(pipeline.expand(as_json(row)))
    except DyffError as error:
        raise ViewError(name_row(row), str(error)) from None


def as_json(value: Any) -> Any:
    """A value out of Arrow as it would be sent: binary is base64, times are ISO 8601 (CONTRACT, Services)."""
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(bytes(value)).decode("ascii")
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, decimal.Decimal | uuid.UUID):
        return str(value)
    raise TypeError(type(value).__name__)


def rows_to_batch(rows: Sequence[Row], schema: pa.Schema, names: Sequence[str]) -> pa.RecordBatch:
    """JSON objects as a record batch of ``schema``; other fields are left out, absent ones are null.

    Args:
        rows: The objects.
        schema: What they become.
        names: What each is called in errors.

    Raises:
        ViewError: A value does not fit its field, or one is missing that is never null.
    """
    arrays = []
    for field in schema:
        values = [row.get(field.name) for row in rows]
        try:
            array = _array(values, field.type)
        except _MISFITS:
            # One of them, unless they are too much for Arrow only together.
            wrong = next((at for at, value in enumerate(values) if not _fits(value, field.type)), 0)
            raise ViewError(names[wrong], f"its field {field.name} does not fit {field.type}") from None
        if array.null_count and not field.nullable:
            wrong = values.index(None)
            raise ViewError(
                names[wrong], f"it has no field {field.name}, which the schema declares as never null"
            )
        arrays.append(array)
    batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
    try:
        return conform(batch, schema)
    except RowsError as error:
        raise ViewError(_first_misfit(batch, schema, names), f"field {error.field} {error.problem}") from None


def _first_misfit(batch: pa.RecordBatch, schema: pa.Schema, names: Sequence[str]) -> str:
    for at in range(batch.num_rows):
        try:
            conform(batch.slice(at, 1), schema)
        except RowsError:
            return names[at]
    return names[0]


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_string(kind) or pa.types.is_boolean(kind):
        return pa.array(values, type=kind)
    return pa.array([_arrow_value(value, kind) for value in values], type=kind)


def _fits(value: Any, kind: pa.DataType) -> bool:
    try:
        _array([value], kind)
    except _MISFITS:
        return False
    return True


def _arrow_value(value: Any, kind: pa.DataType) -> Any:
    """A JSON value as pyarrow takes it for a type; truth values are no numbers."""
    types = pa.types
    if value is None:
        return None
    if type(value) is float and types.is_integer(kind):
        # pyarrow would cut off what stands behind the point.
        if not value.is_integer():
            raise ValueError("no integer")
        return int(value)
    if type(value) in (int, float) and not types.is_decimal(kind):
        return value
    if types.is_struct(kind) and isinstance(value, list):
        # pyarrow would take an empty one for a struct whose values are all missing.
        raise TypeError("no object")
    if types.is_struct(kind) and isinstance(value, dict):
        return {field.name: _arrow_value(value.get(field.name), field.type) for field in kind}
    if _is_list(kind) and isinstance(value, list):
        return [_arrow_value(item, kind.value_type) for item in value]
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return base64.b64decode(value, validate=True)
    if types.is_decimal(kind):
        return decimal.Decimal(str(value))
    if isinstance(value, bool) and not types.is_boolean(kind):
        raise TypeError("a truth value")
    return read_times(value, kind) if holds_times(kind) else value


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))
