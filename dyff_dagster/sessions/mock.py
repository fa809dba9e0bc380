"""What a mock service answers: values of the declared types, the same ones for the same request.

Without an output pipeline the answer is one response of the service's output schema. With one, the answer has
to be something the pipeline takes; no general way leads back from its result to its input, so a mock gives it
all that may do: the request's own fields, the fields of the response, and, where the first adapter is a
TransformJSON, something at every plain path (``$.choices[0].message.content``) that it reads. A pipeline that
wants more than that fails on the mock with its own error.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from dyff_dagster.schema.arrow import decode_schema
from dyff_dagster.schema.platform import InferenceServiceSpec

_KEYS = frozenset({"_replication_", "_index_", "_response_index_"})
_PLAIN_PATH = re.compile(r"\$((?:\.[A-Za-z_]\w*|\[\d+\])+)")
_PATH_STEP = re.compile(r"\.([A-Za-z_]\w*)|\[(\d+)\]")
_EPOCH = datetime(2020, 1, 1, tzinfo=UTC)


class MockAnswers:
    """The answers of a mock of one service."""

    def __init__(self, service: InferenceServiceSpec) -> None:
        self._fields = _response_fields(decode_schema(service.interface.outputSchema.arrowSchema))
        self._has_pipeline = bool(service.interface.outputPipeline)
        self._paths: list[tuple[str, pa.DataType]] = []
        if service.interface.outputPipeline and service.interface.outputPipeline[0].kind == "TransformJSON":
            types = {field.name: field.type for field in self._fields}
            template = service.interface.outputPipeline[0].configuration or {}
            self._paths = [
                (path, types.get(name, pa.string()))
                for name, part in template.items()
                for path in _paths_in(part)
            ]

    def answer(self, request: Any) -> Any:
        """The answer to one request, both as Python's json module gives them."""
        canonical = json.dumps(request, sort_keys=True, separators=(",", ":"))
        seed = hashlib.sha256(canonical.encode()).digest()
        response = {field.name: _value(field.type, seed, field.name) for field in self._fields}
        if not self._has_pipeline:
            return response
        answer = {**(request if isinstance(request, dict) else {}), **response}
        for path, type_ in self._paths:
            _put(answer, path, _value(type_, seed, path))
        return answer


def _response_fields(schema: pa.Schema) -> list[pa.Field]:
    fields: list[pa.Field] = list(schema)
    if "responses" in schema.names:
        responses = schema.field("responses").type
        if pa.types.is_list(responses) and pa.types.is_struct(responses.value_type):
            fields = list(responses.value_type)
    return [field for field in fields if field.name not in _KEYS]


def _value(type_: pa.DataType, seed: bytes, place: str) -> Any:
    """A JSON value of an Arrow type, derived from the request's digest and the place in the answer."""
    digest = hashlib.sha256(seed + place.encode()).digest()
    number = int.from_bytes(digest[:8], "big")
    is_ = pa.types
    if is_.is_dictionary(type_):
        return _value(type_.value_type, seed, place)
    if is_.is_struct(type_):
        return {field.name: _value(field.type, seed, f"{place}.{field.name}") for field in type_}
    if is_.is_map(type_):
        return [
            [_value(type_.key_type, seed, f"{place}.key"), _value(type_.item_type, seed, f"{place}.item")]
        ]
    if is_.is_fixed_size_list(type_) or is_.is_list(type_) or is_.is_large_list(type_):
        length = type_.list_size if is_.is_fixed_size_list(type_) else 1 + number % 3
        return [_value(type_.value_type, seed, f"{place}[{i}]") for i in range(length)]
    if is_.is_null(type_):
        return None
    if is_.is_boolean(type_):
        return number % 2 == 0
    if is_.is_floating(type_):
        return (number >> 53) / 2**11  # in [0, 1), and exact in every width down to float16
    if is_.is_fixed_size_binary(type_):
        return base64.b64encode((digest * (type_.byte_width // len(digest) + 1))[: type_.byte_width]).decode()
    if is_.is_binary(type_) or is_.is_large_binary(type_):
        return base64.b64encode(digest[:8]).decode()
    moment = _EPOCH + timedelta(seconds=number % 10**8)
    if is_.is_timestamp(type_):
        return moment.isoformat() if type_.tz else moment.replace(tzinfo=None).isoformat()
    if is_.is_date(type_):
        return moment.date().isoformat()
    if is_.is_time(type_):
        return moment.time().isoformat()
    if is_.is_decimal(type_):
        return str(number % 10)
    if is_.is_integer(type_) or is_.is_duration(type_):
        return number % 100  # fits the narrowest
    return f"mock {digest[:4].hex()}"


def _paths_in(part: Any) -> Iterator[str]:
    if isinstance(part, str):
        if _PLAIN_PATH.fullmatch(part):
            yield part
    elif isinstance(part, dict):
        for inner in part.values():
            yield from _paths_in(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from _paths_in(inner)


def _put(answer: dict[str, Any], path: str, value: Any) -> None:
    """Set what a plain path leads to; objects and lists on the way are made, other things replaced."""
    steps = [name or int(index) for name, index in _PATH_STEP.findall(path)]
    holder: Any = answer
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        empty: Any = [] if isinstance(following, int) else {}
        if isinstance(step, int):
            holder.extend({} for _ in range(step + 1 - len(holder)))
            current = holder[step]
        else:
            current = holder.get(step)
        if following is None:
            holder[step] = value
            return
        if type(current) is not type(empty):
            holder[step] = current = empty
        holder = current
