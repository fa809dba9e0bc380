"""Rows of a data set as instances of a pydantic model, and back, without loss.

What a model can hold and Arrow cannot is an error that names row and field: numbers beyond their width, times
without a time zone. Numbers in a ``float32`` field are rounded to 32 bits when they are written.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from enum import Enum
from typing import Any, TypeVar

import pyarrow as pa
import pydantic

from dyff_dagster.schema import arrow
from dyff_dagster.schema.errors import DyffError
from dyff_dagster.schema.types import BEYOND_FLOAT32

__all__ = ["RowError", "batches_of", "models_of"]

Model = TypeVar("Model", bound=pydantic.BaseModel)


class RowError(DyffError):
    """A row that is none of its model's. It says where and why, and holds nothing of the row.

    ``model`` is the model's name, ``row`` which row it is (its ``_index_``, or its place from 0), ``field`` the
    field, ``problem`` what is wrong with it.
    """

    def __init__(self, model: str, row: str, field: str, problem: str) -> None:
        self.model, self.row, self.field, self.problem = model, row, field, problem
        super().__init__(f"{row} does not fit {model}: field '{field}' {problem}")


def batches_of(
    rows: Iterable[pydantic.BaseModel | Mapping[str, Any]],
    model: type[pydantic.BaseModel],
    *,
    batch_size: int = 1024,
) -> Iterator[pa.RecordBatch]:
    """Yield ``rows`` as record batches of ``arrow_schema(model)``, for ``write_dataset``.

    ``rows`` are instances of ``model``, or mappings that it accepts; all are checked.

    Raises:
        RowError: a row does not fit.
        ArrowTypeError: a field of ``model`` has no Arrow type.
    """
    schema = arrow.arrow_schema(model)
    numbered = enumerate(rows)
    while some := list(itertools.islice(numbered, batch_size)):
        yield pa.RecordBatch.from_pylist([_wire(row, model, at) for at, row in some], schema=schema)


def models_of(batches: Iterable[pa.RecordBatch], model: type[Model]) -> Iterator[Model]:
    """Yield the rows of ``batches`` as instances of ``model``; fields that it does not have are left out.

    Raises:
        RowError: a row does not fit.
    """
    wanted = [info.serialization_alias or info.alias or name for name, info in model.model_fields.items()]
    at = 0
    for batch in batches:
        for row in batch.to_pylist():
            yield _checked({name: row[name] for name in wanted if name in row}, model, _row(row, at))
            at += 1


def _wire(row: pydantic.BaseModel | Mapping[str, Any], model: type[pydantic.BaseModel], at: int) -> Any:
    # An instance may have been changed, or made unchecked.
    content = row.model_dump(by_alias=True, warnings=False) if isinstance(row, pydantic.BaseModel) else row
    where = _row(content, at)
    made = _checked(content, model, where)
    return {name: _plain(value, model, where, name) for name, value in made.model_dump(by_alias=True).items()}


def _row(row: Mapping[str, Any], at: int) -> str:
    index = row.get("_index_")
    return f"the row with _index_ {index}" if type(index) is int else f"row {at} (from 0)"


def _checked(row: Any, model: type[Model], where: str) -> Model:
    try:
        return model.model_validate(row)
    except pydantic.ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    raise RowError(model.__name__, where, _field(first["loc"]), _problem(first["type"], first["msg"]))


def _field(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _problem(kind: str, message: str) -> str:
    """What pydantic says, without the parts that can quote the value."""
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        return "is none of the model's"
    if kind in ("value_error", "assertion_error"):
        return BEYOND_FLOAT32 if message.endswith(BEYOND_FLOAT32) else "is refused by the model's own check"
    if kind.endswith(("_parsing", "_from_date_parsing", "_inexact")):
        message = message.partition(",")[0]
    return "is wrong: " + message[:1].lower() + message[1:]


def _plain(value: Any, model: type[pydantic.BaseModel], where: str, field: str) -> Any:
    """``value`` as pyarrow takes it."""
    if isinstance(value, dict):
        return {name: _plain(inner, model, where, f"{field}.{name}") for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, model, where, f"{field}[{at}]") for at, inner in enumerate(value)]
    if isinstance(value, uuid.UUID):
        return value.bytes
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime) and value.tzinfo is None:
        raise RowError(model.__name__, where, field, "is a time without a time zone")
    return value
