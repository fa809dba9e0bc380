"""FileUpload: requests that carry a file, as ``multipart/form-data`` (RFC 7578)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dyff_dagster.schema.adapter import (
    AdapterConfigurationError,
    AdapterError,
    Row,
    RowAdapter,
    name_of,
    settings,
)
from dyff_dagster.schema.base import closest
from dyff_dagster.schema.jsonpath import JSONPathError, MatchError, Path, QueryError
from dyff_dagster.schema.template import filled
from dyff_dagster.schema.transform import template_of

__all__ = ["ENCODINGS", "FileUpload", "Multipart"]

ENCODINGS = ("base64", "binary", "utf-8", "json")
"""How the file may stand in the row."""

# RFC 9110, 8.3.1: type "/" subtype and parameters, whose values are tokens or quoted strings.
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105  (a token of HTTP's grammar)
_MEDIA_TYPE = re.compile(rf'{_TOKEN}/{_TOKEN}(?:[ \t]*;[ \t]*{_TOKEN}=(?:{_TOKEN}|"[ !#-\[\]-~]*"))*')


_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Multipart:
    """A request with one file and further fields.

    Attributes:
        name: Name of the part that is the file.
        filename: The file's name, as told to the service.
        content_type: The file's media type.
        content: The file.
        fields: Names and values of the other parts, which come before the file.
    """

    name: str
    filename: str
    content_type: str
    content: bytes
    fields: tuple[tuple[str, str], ...] = ()

    def canonical(self) -> bytes:
        """Return a text that two requests share only if they are equal, for digests.

        It is a line of JSON, ``[name, filename, content type, fields, SHA-256 of the file in hexadecimal]``,
        in UTF-8.
        """
        digest = hashlib.sha256(self.content).hexdigest()
        return json.dumps([self.name, self.filename, self.content_type, self.fields, digest]).encode()

    def boundary(self) -> str:
        """Return what separates the parts: always the same for equal requests, and nowhere within a part."""
        seed = self.canonical()
        for attempt in itertools.count():
            found = "dyff-" + hashlib.sha256(seed + b"\n%d" % attempt).hexdigest()[:40]
            if not any(found.encode() in part for part in self._texts()):
                return found
        raise AssertionError

    def encode(self, boundary: str | None = None) -> bytes:
        """Return the body of the request; ``boundary`` is :meth:`boundary` where none is given.

        In names, line breaks and quotation marks stand as ``%0D``, ``%0A`` and ``%22``, as browsers send them.
        """
        mark = (boundary or self.boundary()).encode()
        body = bytearray()
        for name, value in self.fields:
            body += b"--%b\r\nContent-Disposition: form-data; name=%b\r\n\r\n" % (mark, _quoted(name))
            body += value.encode() + b"\r\n"
        body += (
            b"--%b\r\nContent-Disposition: form-data; name=%b; filename=%b\r\nContent-Type: %b\r\n\r\n"
            % (
                mark,
                _quoted(self.name),
                _quoted(self.filename),
                self.content_type.encode(),
            )
        )
        return bytes(body + self.content + b"\r\n--%b--\r\n" % mark)

    def request_type(self, boundary: str | None = None) -> str:
        """Return the Content-Type of the request that :meth:`encode` makes with the same ``boundary``."""
        return f"multipart/form-data; boundary={boundary or self.boundary()}"

    def _texts(self) -> Iterator[bytes]:
        yield self.content
        for text in (self.name, self.filename, self.content_type, *itertools.chain(*self.fields)):
            yield text.encode()


def _quoted(text: str) -> bytes:
    escaped = text.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")
    return f'"{escaped}"'.encode()


class FileUpload(RowAdapter):
    """Make a request of a row that carries a file; the last adapter of an input pipeline.

    ``field`` is the query that finds the file, ``encoding`` how it stands there: ``base64`` (default; bytes
    are taken as they are), ``binary`` (bytes only), ``utf-8`` (text) or ``json`` (any value, sent as JSON).
    ``name`` is the part's name, ``filename``, ``contentType`` and each of ``formFields`` a literal, a query
    or a computation, as in TransformJSON. Nothing else of the row is sent.
    """

    kind = "FileUpload"
    uploads = True

    def __init__(self, configuration: Any) -> None:
        optional = ["encoding", "name", "filename", "contentType", "formFields"]
        config = settings(self.kind, configuration, ["field"], optional)
        self._field = self._query(config["field"])
        self._encoding = config.get("encoding", "base64")
        if self._encoding not in ENCODINGS:
            near = closest(str(self._encoding), ENCODINGS)
            hint = f"did you mean '{near}'?" if near else f"there are {', '.join(ENCODINGS)}"
            raise AdapterConfigurationError(self.kind, "encoding", f"there is no such encoding; {hint}")
        self._name = config.get("name", "file")
        if not isinstance(self._name, str):
            raise AdapterConfigurationError(
                self.kind, "name", f"it must be a string, not {name_of(self._name)}"
            )
        self._filename = filled(template_of(self.kind, config.get("filename", "file"), "filename"))
        content_type = config.get("contentType", "application/octet-stream")
        self._content_type = filled(template_of(self.kind, content_type, "contentType"))
        form_fields = config.get("formFields", {})
        if not isinstance(form_fields, dict):
            problem = f"it must be an object, not {name_of(form_fields)}"
            raise AdapterConfigurationError(self.kind, "formFields", problem)
        self._form_fields = filled(template_of(self.kind, form_fields, "formFields"))
        super().__init__(self._request)

    def _query(self, text: Any) -> Path:
        try:
            if isinstance(text, str):
                return Path(text)
        except JSONPathError as error:
            raise AdapterConfigurationError(self.kind, "field", str(error)) from None
        problem = f"it must be a JSONPath query, not {name_of(text)}"
        raise AdapterConfigurationError(self.kind, "field", problem)

    def _request(self, row: Row) -> Multipart:
        filename, content_type = self._filename(row), self._content_type(row)
        for field, value in (("filename", filename), ("contentType", content_type)):
            if not isinstance(value, str):
                raise self.error(field, f"is {name_of(value)}, not a string")
        if not _MEDIA_TYPE.fullmatch(content_type):
            raise self.error("contentType", "is no media type, as image/png is one")
        request = Multipart(self._name, filename, content_type, self._content(row), self._fields(row))
        for field, text in (("name", self._name), ("filename", filename), *request.fields):
            if _SURROGATE.search(field + text):
                problem = "holds half of a surrogate pair, which is no text"
                raise self.error(field.encode(errors="replace").decode(), problem)
        return request

    def _content(self, row: Row) -> bytes:
        where = f"field {self._field.text}"
        try:
            value = self._field.one(row)
        except MatchError as error:
            found = "nothing" if error.count == 0 else f"{error.count} values"
            raise self.error(where, f"finds {found}, and must find exactly one") from None
        except QueryError:
            raise self.error(where, "cannot be answered on this row") from None
        if self._encoding == "json":
            try:
                return json.dumps(value, allow_nan=False).encode()
            except (TypeError, ValueError):
                raise self.error(where, "holds what JSON cannot say") from None
        if isinstance(value, bytes | bytearray | memoryview) and self._encoding in ("base64", "binary"):
            return bytes(value)
        if self._encoding == "binary":
            problem = f"is {name_of(value)}, not bytes; in an evaluation binary fields are base64"
            raise self.error(where, f"{problem}: take encoding base64")
        if not isinstance(value, str):
            raise self.error(where, f"is {name_of(value)}, not a string, as encoding {self._encoding} needs")
        return self._from_text(where, value)

    def _from_text(self, where: str, text: str) -> bytes:
        try:
            if self._encoding == "utf-8":
                return text.encode()
            # Base64 may be wrapped into lines; anything else that is no base64 is a mistake.
            return base64.b64decode("".join(text.split()), validate=True)
        except UnicodeEncodeError:
            raise self.error(where, "holds half of a surrogate pair, which is no text") from None
        except (binascii.Error, ValueError):
            raise self.error(where, "is no base64") from None

    def _fields(self, row: Row) -> tuple[tuple[str, str], ...]:
        values = self._form_fields(row)
        if not isinstance(values, dict):
            raise self.error("formFields", f"are {name_of(values)}, not an object")
        return tuple((name, self._form_value(name, value)) for name, value in values.items())

    def _form_value(self, name: str, value: Any) -> str:
        if isinstance(value, str):
            return value
        if isinstance(value, bool | int | float):
            return str(value)
        raise self._unsendable(name, value)

    def _unsendable(self, name: str, value: Any) -> AdapterError:
        return self.error(f"formFields.{name}", f"is {name_of(value)}; a form has strings and numbers")
