"""Rows of a data set → what is posted: JSON, or a form with a file."""

from __future__ import annotations

import base64
import datetime
import decimal
import hashlib
import json
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dyff_dagster.evaluation.errors import EvaluationError
from dyff_dagster.evaluation.rows import INDEX
from dyff_dagster.schema.adapters import Multipart, create_pipeline
from dyff_dagster.schema.errors import DyffError
from dyff_dagster.schema.platform import SchemaAdapter

Pipeline = Callable[[Iterable[dict[str, Any]]], Iterable[Any]]

REQUEST_FORMAT = 1
"""Goes up whenever the same row would be sent in other bytes than before."""


@dataclass(frozen=True)
class Request:
    """One row, ready to be posted.

    Attributes:
        index: The row's ``_index_``.
        body: JSON in UTF-8, or ``multipart/form-data`` where the input pipeline ends with FileUpload.
        digest: SHA-256 of the body (32 bytes): part of the answer's key. A form's boundary is always the same
            for the same form, so that its digest is too.
        position: Of the row among the data set's rows.
        content_type: The header Content-Type that the body goes with.
    """

    index: int
    body: bytes
    digest: bytes
    position: int = 0
    content_type: str = "application/json"


class RequestBuilder:
    """Makes requests of rows, and remembers the names of the fields that they carry.

    Args:
        pipeline: The service's input pipeline, or None: then the row itself is posted, less ``_index_``.
        withheld: Fields that no service may see; they are gone before the pipeline sees the row.

    Attributes:
        sent_fields: Names of the top-level fields (or parts) of every request made so far.
    """

    def __init__(self, pipeline: Sequence[SchemaAdapter] | None, withheld: Iterable[str] = ()) -> None:
        self._pipeline: Pipeline | None = create_pipeline(list(pipeline)) if pipeline else None
        self._withheld = frozenset(withheld)
        self.sent_fields: set[str] = set()

    def columns(self, names: Iterable[str]) -> list[str]:
        """Of the data set's fields those that may be read for a request."""
        return [name for name in names if name not in self._withheld]

    def request(self, row: dict[str, Any], position: int = 0) -> Request:
        """The request of a row, which is used up; ``position``: its place among the data set's rows.

        Raises:
            EvaluationError: The pipeline fails on the row, yields none or several, or the row holds what JSON
                cannot say. The row is named, its contents are not shown.
        """
        index = row[INDEX]
        if self._pipeline is None:
            del row[INDEX]
            item = row
        else:
            try:
                items = list(self._pipeline([_jsonable(row)]))
            except DyffError as error:
                raise EvaluationError(f"the input pipeline failed on row {index}: {error}") from error
            if len(items) != 1:
                raise EvaluationError(
                    f"the input pipeline made {len(items)} requests of row {index}: it must make exactly one"
                )
            item = items[0]
        if isinstance(item, Multipart):
            self.sent_fields.update((item.name, *(name for name, _ in item.fields)))
            boundary = item.boundary()
            body = item.encode(boundary)
            content_type = item.request_type(boundary)
            return Request(index, body, hashlib.sha256(body).digest(), position, content_type)
        self.sent_fields.update(item)
        try:
            body = _ENCODER.encode(item).encode()
        except (TypeError, ValueError) as error:
            raise EvaluationError(
                f"row {index} cannot be sent as JSON: its field {_unsendable(item)} holds no finite number, text, "
                "boolean, date or bytes; correct it, or take the field out in the input pipeline"
            ) from error
        return Request(index, body, hashlib.sha256(body).digest(), position)


def _encode(value: object) -> object:
    """Binary is base64, times are ISO 8601 (CONTRACT, wire)."""
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(bytes(value)).decode("ascii")
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, decimal.Decimal | uuid.UUID):
        return str(value)
    raise TypeError(type(value).__name__)


_ENCODER = json.JSONEncoder(default=_encode, allow_nan=False, ensure_ascii=False)
_PLAIN = frozenset({str, int, float, bool, type(None)})


def _jsonable(value: Any) -> Any:
    """What a pipeline sees is JSON, as it would be on the wire."""
    if isinstance(value, dict):
        return {key: item if type(item) in _PLAIN else _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [item if type(item) in _PLAIN else _jsonable(item) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return _encode(value)


def _unsendable(item: Mapping[str, Any]) -> str:
    for name, value in item.items():
        try:
            json.dumps(value, default=_encode, allow_nan=False)
        except (TypeError, ValueError):
            return name
    return "(unknown)"
