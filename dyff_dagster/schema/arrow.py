"""Arrow schemas: as text, and from pydantic models.

An Arrow schema travels as base64 of its IPC serialisation. Data sets themselves are opened and written by
``schema.parquet``, whose functions are offered here too.
"""

from __future__ import annotations

import base64
import binascii
import types
import typing
import uuid
from collections.abc import Sequence
from datetime import date, datetime
from enum import Enum
from typing import Any, Literal, Union, get_args, get_origin

import annotated_types
import pyarrow as pa
import pydantic
from pydantic.fields import FieldInfo

from dyff_dagster.schema.errors import DyffError
from dyff_dagster.schema.parquet import open_dataset, write_dataset
from dyff_dagster.schema.types import FixedWidth

__all__ = [
    "INDEX_FIELD",
    "REPLICATION_FIELD",
    "RESPONSE_INDEX_FIELD",
    "ArrowTypeError",
    "SchemaEncodingError",
    "arrow_schema",
    "decode_schema",
    "encode_schema",
    "open_dataset",
    "write_dataset",
]

INDEX_FIELD = pa.field(
    "_index_", pa.int64(), nullable=False, metadata={"__doc__": "Which row of the data set this is"}
)
REPLICATION_FIELD = pa.field(
    "_replication_", pa.string(), nullable=False, metadata={"__doc__": "Which replication this belongs to"}
)
RESPONSE_INDEX_FIELD = pa.field(
    "_response_index_",
    pa.int64(),
    nullable=False,
    metadata={"__doc__": "Which of the answers to one request this is"},
)


class SchemaEncodingError(DyffError):
    """A text that is not base64 of an Arrow schema."""

    def __init__(self) -> None:
        super().__init__(
            "arrowSchema is not base64 of an Arrow IPC schema: write it with schema.arrow.encode_schema(), "
            "or give the schema as {arrow: {field: TYPE}}"
        )


class ArrowTypeError(DyffError):
    """A field of a pydantic model that has no Arrow type; ``path`` is the field, ``problem`` says why."""

    def __init__(self, path: str, problem: str) -> None:
        self.path, self.problem = path, problem
        super().__init__(f"{path} has no Arrow type: {problem}")


def encode_schema(schema: pa.Schema) -> str:
    """Return ``schema`` as text: base64 of its Arrow IPC serialisation."""
    return base64.b64encode(schema.serialize().to_pybytes()).decode("ascii")


def decode_schema(text: str) -> pa.Schema:
    """Return the schema that :func:`encode_schema` made ``text`` of.

    Raises:
        SchemaEncodingError: ``text`` is no such text.
    """
    try:
        return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text, validate=True)))
    except (binascii.Error, pa.ArrowException, OSError, ValueError):
        raise SchemaEncodingError from None


def arrow_schema(model: type[pydantic.BaseModel]) -> pa.Schema:
    """Return the Arrow schema of rows that are instances of ``model``.

    Fields stand under their wire names, in the model's order, with their description as metadata
    ``__doc__``. As in the reference, every field is nullable, whether Optional or not.

    Integers need a width (``schema.types``). bytes become binary, UUID a binary of 16, datetime a
    timestamp in microseconds UTC, date a date32, enumerations of strings and Literals of strings a string,
    lists with equal minimal and maximal length a list of fixed size, models a struct.

    Raises:
        ArrowTypeError: a field's type has no counterpart.
    """
    return pa.schema(_fields(model, model.__name__))


def _fields(model: type[pydantic.BaseModel], path: str) -> list[pa.Field]:
    fields = []
    for name, info in model.model_fields.items():
        wire = info.serialization_alias or info.alias or name
        arrow_type = _arrow_type(info.annotation, info.metadata, f"{path}.{wire}")
        metadata = {"__doc__": info.description} if info.description else None
        fields.append(pa.field(wire, arrow_type, metadata=metadata))
    return fields


_SIMPLE: dict[Any, pa.DataType] = {
    str: pa.string(),
    bool: pa.bool_(),
    float: pa.float64(),
    bytes: pa.binary(),
    uuid.UUID: pa.binary(16),
    datetime: pa.timestamp("us", tz="UTC"),
    date: pa.date32(),
}


def _arrow_type(annotation: Any, metadata: Sequence[Any], path: str) -> pa.DataType:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is typing.Annotated:
        extra: list[Any] = []
        for item in arguments[1:]:
            extra += item.metadata if isinstance(item, FieldInfo) else [item]
        return _arrow_type(arguments[0], [*extra, *metadata], path)
    if origin in (Union, types.UnionType):
        kinds = [argument for argument in arguments if argument is not type(None)]
        if len(kinds) != 1:
            raise ArrowTypeError(path, "of a union only 'T | None' can be represented")
        return _arrow_type(kinds[0], metadata, path)
    for item in metadata:
        if isinstance(item, FixedWidth):
            return pa.type_for_alias(item.name)
    if origin is list:
        size = _fixed_length(metadata)
        item_type = _arrow_type(arguments[0], [], f"{path}[]")
        return pa.list_(item_type) if size is None else pa.list_(item_type, size)
    if origin is Literal and all(isinstance(value, str) for value in arguments):
        return pa.string()
    if annotation in _SIMPLE:
        return _SIMPLE[annotation]
    if annotation is int:
        raise ArrowTypeError(path, "an integer needs a width, as in schema.types.int64()")
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return pa.struct(_fields(annotation, path))
    if isinstance(annotation, type) and issubclass(annotation, str) and issubclass(annotation, Enum):
        return pa.string()
    raise ArrowTypeError(path, f"there is no counterpart of {annotation}")


def _fixed_length(metadata: Sequence[Any]) -> int | None:
    low = next((item.min_length for item in metadata if isinstance(item, annotated_types.MinLen)), None)
    high = next((item.max_length for item in metadata if isinstance(item, annotated_types.MaxLen)), None)
    return low if low is not None and low == high else None
