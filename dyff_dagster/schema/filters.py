"""Dataset filters: which rows of a data set are read.

A DatasetFilter is three texts: a field, a relation, a value. The value is read as the field's type. Null is
in no relation to anything, so a row in which the field is null is never read, also not with ``!=``.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import json
import typing
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dyff_dagster.schema.base import closest
from dyff_dagster.schema.errors import DyffError

if TYPE_CHECKING:
    import pyarrow.dataset

    from dyff_dagster.schema.data import DatasetFilter

__all__ = ["RELATIONS", "FilterError", "filter_expression"]

RELATIONS: Mapping[str, str] = {
    "==": "equal",
    "!=": "not_equal",
    "<": "less",
    "<=": "less_equal",
    ">": "greater",
    ">=": "greater_equal",
    "in": "is_in",
}
"""Every relation, and what Arrow calls it."""


class FilterError(DyffError):
    """A filter that does not fit the data set; ``field`` is the filter's, ``problem`` says why."""

    def __init__(self, field: str, problem: str) -> None:
        self.field, self.problem = field, problem
        super().__init__(f"the filter on field '{field}' cannot be applied: {problem}")


def filter_expression(condition: DatasetFilter, schema: pa.Schema) -> pyarrow.dataset.Expression:
    """Return the Arrow expression that holds for the rows that ``condition`` lets through.

    The field is a column, or a field of a struct column by its path (``answer.label``). The value is read
    as the field's type: numbers and ``true``/``false`` as JSON writes them, times in ISO 8601 (with a zone
    exactly where the type has one), binary in base64, text as it stands. After ``in`` stands a JSON array
    (``["a", "b"]``), or values separated by commas.

    Raises:
        FilterError: there is no such field or relation, the value is none of the field's type, or values
            of that type cannot be compared like this.
    """
    import pyarrow.compute as pc

    path, kind = _find(condition.field, schema)
    if condition.relation not in RELATIONS:
        problem = f"'{condition.relation}' is none of the relations {' '.join(RELATIONS)}"
        raise FilterError(condition.field, problem)
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_nested(kind):
        hint = ", such as " + f"'{condition.field}.{kind.field(0).name}'" if pa.types.is_struct(kind) else ""
        raise FilterError(condition.field, f"it is {kind}; only single values can be compared{hint}")
    column = pc.field(path)
    if condition.relation == "in":
        expression = _is_one_of(
            column, [_read(condition.field, text, kind) for text in _members(condition, kind)], kind
        )
    else:
        value = pa.scalar(_read(condition.field, condition.value, kind), kind)
        expression = getattr(pc, RELATIONS[condition.relation])(column, value)
    try:
        schema.empty_table().filter(expression)
    except (pa.ArrowException, TypeError):
        problem = f"values of type {kind} cannot be compared by '{condition.relation}'; use ==, != or in"
        raise FilterError(condition.field, problem) from None
    return typing.cast("pyarrow.dataset.Expression", expression)


def _is_one_of(column: Any, values: list[Any], kind: pa.DataType) -> Any:
    """The expression that ``column`` is one of ``values``, as ``==`` understands it."""
    if not pa.types.is_floating(kind):
        return column.isin(pa.array(values, kind))
    # Arrow's set finds NaN in itself, and loses 0.0 when it consults a Parquet file's statistics.
    tests = [column == pa.scalar(value, kind) for value in values] or [column.isin(pa.array([], kind))]
    while len(tests) > 1:  # by halves: a long chain would be a deep expression
        pairs = [tests[at : at + 2] for at in range(0, len(tests), 2)]
        tests = [pair[0] | pair[1] if len(pair) == 2 else pair[0] for pair in pairs]
    return tests[0]


def _find(name: str, schema: pa.Schema) -> tuple[tuple[str, ...], pa.DataType]:
    """The steps to a field, and its type; a column whose own name has dots in it goes first."""
    if name in schema.names:
        return (name,), schema.field(name).type
    steps = name.split(".")
    inside: pa.Schema | pa.StructType = schema
    for depth, step in enumerate(steps):
        names = [inside.field(at).name for at in range(_size(inside))]
        if step not in names:
            near = closest(step, names)
            known = ".".join([*steps[:depth], near]) if near else ""
            hint = f"there is no such field; did you mean '{known}'?" if near else ""
            where = f"within '{'.'.join(steps[:depth])}' " if depth else ""
            raise FilterError(name, hint or f"{where}there are only {', '.join(names)}")
        kind = inside.field(step).type
        if depth == len(steps) - 1:
            return tuple(steps), kind
        if not pa.types.is_struct(kind):
            raise FilterError(name, f"'{'.'.join(steps[: depth + 1])}' is {kind}, which has no fields")
        inside = kind
    raise AssertionError("a name has at least one step")


def _size(inside: pa.Schema | pa.StructType) -> int:
    return len(inside) if isinstance(inside, pa.Schema) else int(inside.num_fields)


def _members(condition: DatasetFilter, kind: pa.DataType) -> list[str]:
    text = condition.value.strip()
    if not text.startswith("["):
        return [part.strip() for part in text.split(",")] if text else []
    try:
        members = json.loads(text, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        members = None
    if not isinstance(members, list) or not all(isinstance(item, str | bool) for item in members):
        example = '["a", "b"]' if _is_text(kind) else "[1, 2]"
        problem = f"after 'in' stands a JSON array of values, as in {example}, or values separated by commas"
        raise FilterError(condition.field, problem)
    return [item if isinstance(item, str) else str(item).lower() for item in members]


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_binary(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind))


def _read(field: str, text: str, kind: pa.DataType) -> Any:
    """The value that ``text`` is as ``kind``, as Arrow takes it."""
    try:
        return _reader(kind)(text)
    except (pa.ArrowException, ValueError, TypeError, OverflowError, binascii.Error):
        raise FilterError(field, f"its value cannot be read as {kind}; {_example(kind)}") from None


def _reader(kind: pa.DataType) -> Callable[[str], Any]:
    if _is_text(kind):
        return str
    if pa.types.is_boolean(kind):
        return _boolean
    if _is_binary(kind):
        return lambda text: pa.scalar(base64.b64decode(text, validate=True), kind).as_py()
    if pa.types.is_timestamp(kind):
        return lambda text: _moment(text, kind)
    if pa.types.is_time(kind):
        return lambda text: pa.scalar(datetime.time.fromisoformat(text), kind).as_py()
    return lambda text: pa.scalar(text).cast(kind).as_py()


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(text)
    return text == "true"


def _moment(text: str, kind: pa.DataType) -> Any:
    moment = datetime.datetime.fromisoformat(text)
    if (moment.tzinfo is None) != (kind.tz is None):
        raise ValueError(text)
    # Through Arrow's own reader, because Python's times end at microseconds.
    return pa.scalar(text).cast(kind)


def _example(kind: pa.DataType) -> str:
    if pa.types.is_integer(kind):
        return "write a whole number within its range"
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "write a number"
    if pa.types.is_boolean(kind):
        return "write true or false"
    if pa.types.is_timestamp(kind):
        with_zone = "with its zone, as in 2030-01-31T18:00:00Z"
        return f"write a time {with_zone if kind.tz else 'without a zone, as in 2030-01-31T18:00:00'}"
    if pa.types.is_date(kind):
        return "write a date, as in 2030-01-31"
    if pa.types.is_time(kind):
        return "write a time of day, as in 18:00:00"
    return "write base64" if _is_binary(kind) else "filter on another field"
