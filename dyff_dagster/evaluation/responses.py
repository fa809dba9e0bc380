"""A service's reply → the responses that are kept."""

from __future__ import annotations

import base64
import datetime
import decimal
import json
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from dyff_dagster.evaluation.errors import EvaluationError, RowError
from dyff_dagster.schema.adapters import create_pipeline
from dyff_dagster.schema.arrow import decode_schema
from dyff_dagster.schema.errors import DyffError
from dyff_dagster.schema.platform import InferenceInterface, SchemaAdapter

RESPONSE_INDEX = "_response_index_"
_HEAD = 4096
"""Characters of a wrong reply that an error carries; fewer are kept."""

Converter = Callable[[Any, str], Any]


class ResponseReader:
    """Reads replies of one interface.

    Args:
        interface: Its output schema names the fields to keep, its output pipeline prepares them.

    Attributes:
        type: Arrow type of the ``responses`` column: ``list<struct<_response_index_: int64, …>>``.

    Raises:
        EvaluationError: The output schema is no schema of inference outputs.
    """

    def __init__(self, interface: InferenceInterface) -> None:
        schema = decode_schema(interface.outputSchema.arrowSchema)
        position = schema.get_field_index("responses")
        if position < 0 or not pa.types.is_list(schema.field(position).type):
            raise EvaluationError(
                "the service's outputSchema has no `responses: list<struct<…>>`: write it in the short form "
                "({arrow: {field: TYPE}}), or make it with DataSchema.make_output_schema"
            )
        self.type: pa.ListType = schema.field(position).type
        pipeline: Sequence[SchemaAdapter] = interface.outputPipeline or ()
        self._pipeline = create_pipeline(list(pipeline)) if pipeline else None
        self._struct = _struct_converter(self.type.value_type)

    def parse(self, body: bytes) -> Any:
        """A reply's JSON.

        Raises:
            RowError: It is no JSON (``not-json``).
        """
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise RowError("not-json", "the service's reply is no JSON", body=head(body)) from error

    def responses(self, reply: Any, body: bytes) -> list[dict[str, Any]]:
        """The responses in a reply; an empty list is an answer.

        Args:
            reply: What :meth:`parse` made of the body.
            body: For errors.

        Raises:
            RowError: The pipeline fails on it (``adapter``), or a field is missing or of the wrong type
                (``wrong-shape``).
        """
        items = reply if isinstance(reply, list) else [reply]
        for item in items:
            if not isinstance(item, dict):
                raise RowError(
                    "wrong-shape",
                    "the service's reply is neither a JSON object nor an array of objects",
                    body=head(body),
                )
        if self._pipeline is not None:
            try:
                items = list(self._pipeline(items))
            except DyffError as error:
                raise RowError("adapter", f"the output pipeline failed: {error}", body=head(body)) from error
        responses = []
        for position, item in enumerate(items):
            if item.get(RESPONSE_INDEX) is None:
                item = {**item, RESPONSE_INDEX: position}
            try:
                responses.append(self._struct(item, ""))
            except _WrongShape as error:
                raise RowError("wrong-shape", f"the service's reply {error}", body=head(body)) from error
        if len({response[RESPONSE_INDEX] for response in responses}) < len(responses):
            raise RowError(
                "wrong-shape",
                f"the service's reply has several responses with the same {RESPONSE_INDEX}",
                body=head(body),
            )
        return responses


def head(body: bytes) -> str:
    """The beginning of a reply, for an error."""
    return body[: _HEAD * 4].decode("utf-8", "replace")[:_HEAD]


class _WrongShape(Exception):
    """A value that does not fit the declared type; its text names the field."""


def _converter(data_type: pa.DataType) -> Converter:
    """A function that checks one JSON value and makes of it what Arrow takes for ``data_type``."""
    types = pa.types
    if types.is_struct(data_type):
        return _struct_converter(data_type)
    if types.is_list(data_type) or types.is_large_list(data_type) or types.is_fixed_size_list(data_type):
        return _list_converter(data_type)
    if types.is_boolean(data_type):
        return _of_type(bool, "a boolean")
    if types.is_integer(data_type):
        low, high = _integer_bounds(data_type)

        def integer(value: Any, path: str) -> int:
            if isinstance(value, float) and value.is_integer():
                value = int(value)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise _WrongShape(f"has in {path} no integer that fits {data_type}")
            return value

        return integer
    if types.is_floating(data_type):

        def number(value: Any, path: str) -> float:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise _WrongShape(f"has in {path} no number")
            try:
                return float(value)
            except OverflowError:
                raise _WrongShape(f"has in {path} a number that is too large for {data_type}") from None

        return number
    if types.is_string(data_type) or types.is_large_string(data_type):
        return _text
    if parse := _parser(data_type):

        def parsed(value: Any, path: str) -> Any:
            kind, read = parse
            try:
                result = read(value)
                # Arrow has the last word: a time may be too early for nanoseconds, bytes too many.
                pa.array([result], type=data_type)
            except (TypeError, ValueError, OverflowError, ArithmeticError, pa.ArrowException):
                raise _WrongShape(f"has in {path} no {kind} that fits {data_type}") from None
            return result

        return parsed

    def whatever(value: Any, path: str) -> Any:
        try:
            pa.array([value], type=data_type)
        except (ValueError, TypeError, OverflowError, pa.ArrowException):
            raise _WrongShape(f"has in {path} nothing that fits {data_type}") from None
        return value

    return whatever


def _parser(data_type: pa.DataType) -> tuple[str, Callable[[Any], Any]] | None:
    """What a type is called on the wire, and how it is read there; None for a type that JSON has itself."""
    types = pa.types
    if (
        types.is_binary(data_type)
        or types.is_large_binary(data_type)
        or types.is_fixed_size_binary(data_type)
    ):
        return "base64 text", lambda value: base64.b64decode(value, validate=True)
    if types.is_timestamp(data_type):
        return "ISO 8601 time", datetime.datetime.fromisoformat
    if types.is_date(data_type):
        return "ISO 8601 date", datetime.date.fromisoformat
    if types.is_time(data_type):
        return "ISO 8601 time of day", datetime.time.fromisoformat
    if types.is_decimal(data_type):
        return "decimal number", lambda value: decimal.Decimal(str(value))
    return None


def _text(value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise _WrongShape(f"has in {path} no text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _WrongShape(f"has in {path} text with half of a surrogate pair") from None
    return value


def _of_type(kind: type, name: str) -> Converter:
    def convert(value: Any, path: str) -> Any:
        if not isinstance(value, kind):
            raise _WrongShape(f"has in {path} not {name}")
        return value

    return convert


def _integer_bounds(data_type: pa.DataType) -> tuple[int, int]:
    bits = data_type.bit_width
    if pa.types.is_unsigned_integer(data_type):
        return 0, 2**bits - 1
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def _list_converter(data_type: pa.DataType) -> Converter:
    convert = _converter(data_type.value_type)
    size: int | None = data_type.list_size if pa.types.is_fixed_size_list(data_type) else None

    def convert_list(value: Any, path: str) -> list[Any]:
        if not isinstance(value, list) or (size is not None and len(value) != size):
            raise _WrongShape(
                f"has in {path} no array" + (f" of {size} elements" if size is not None else "")
            )
        return [None if item is None else convert(item, f"{path}[{i}]") for i, item in enumerate(value)]

    return convert_list


def _struct_converter(data_type: pa.StructType) -> Converter:
    fields = [(field.name, field.nullable, _converter(field.type)) for field in data_type]

    def convert_struct(value: Any, path: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _WrongShape(f"has in {path} no object")
        result: dict[str, Any] = {}
        for name, nullable, convert in fields:
            item = value.get(name)
            where = f"{path}.{name}" if path else f"the field {name}"
            if item is None:
                if not nullable:
                    raise _WrongShape(f"lacks {where}, which the outputSchema declares as never null")
                result[name] = None
            else:
                result[name] = convert(item, where)
        return result

    return convert_struct
