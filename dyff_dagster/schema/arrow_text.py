"""Arrow types as people write them in manifests: ``list<struct<a: int64!, b: timestamp[us, tz=UTC]>>``.

The notation is Arrow's own, with ``!`` behind a type for "not null"::

    TYPE   = BARE [ "!" ]
    BARE   = a name that pyarrow.type_for_alias knows
           | timestamp[UNIT, tz=ZONE] | fixed_size_binary[N] | decimal128(P, S) | decimal256(P, S)
           | list<TYPE> | large_list<TYPE> | fixed_size_list<TYPE>[N] | map<TYPE, TYPE>
           | struct<NAME: TYPE, ...>
    NAME   = anything but white space and : , < > ! "   or a JSON string

White space between the parts is free.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping

import pyarrow as pa

from dyff_dagster.schema.base import closest
from dyff_dagster.schema.errors import DyffError

__all__ = ["MAX_DEPTH", "ArrowTextError", "format_schema", "format_type", "parse_schema", "parse_type"]

MAX_DEPTH = 64
"""Types nested deeper than this are refused, so that nothing that walks them can run out of stack."""

_UNITS = ("s", "ms", "us", "ns")
_ALIASES = (
    *("null", "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "halffloat", "float", "double", "string", "utf8", "binary"),
    *("large_string", "large_binary", "string_view", "binary_view", "date32", "date64"),
    *("time32[s]", "time32[ms]", "time64[us]", "time64[ns]", "month_day_nano_interval"),
    *(f"timestamp[{unit}]" for unit in _UNITS),
    *(f"duration[{unit}]" for unit in _UNITS),
)
_NESTED = ("list", "large_list", "fixed_size_list", "map", "struct")
_PLAIN_NAMES = {
    "double": "float64",
    "float": "float32",
    "halffloat": "float16",
    "date32[day]": "date32",
    "date64[ms]": "date64",
}
_WORD = re.compile(r"[A-Za-z0-9_]+")
_BRACKETS = re.compile(r"\s*\[([^\[\]]*)\]")
_DECIMAL = re.compile(r"\s*\(\s*([0-9]+)\s*,\s*(-?[0-9]+)\s*\)")
_ZONED = re.compile(r"\s*(s|ms|us|ns)\s*,\s*tz\s*=\s*([^\s,]+)\s*")
_FIELD_NAME = re.compile(r'[^\s:,<>!"]+')
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_SURROGATE = re.compile("[\ud800-\udfff]")
_SHOWN = 120


class ArrowTextError(DyffError):
    """A text that is no Arrow type.

    ``text`` is it, ``position`` the character that is wrong (from 1), ``problem`` what is wrong with it, and
    ``field`` the field of the schema whose type it is, if that is known.
    """

    def __init__(self, text: str, position: int, problem: str, field: str | None = None) -> None:
        self.text, self.position, self.problem, self.field = text, position, problem, field
        where = f"field '{field}': " if field is not None else ""
        shown = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
        super().__init__(f"{where}'{shown}' is no Arrow type: at character {position}, {problem}")


def parse_type(text: str) -> tuple[pa.DataType, bool]:
    """Return the type that ``text`` writes, and whether it may be null.

    Raises:
        ArrowTextError: ``text`` is no type in the notation of this module.
    """
    parser = _Parser(text)
    surrogate = _SURROGATE.search(text)
    if surrogate is not None:
        raise parser.fail("there is half of a surrogate pair, which is no text", surrogate.start())
    parsed = parser.type()
    parser.end()
    return parsed


def parse_schema(fields: Mapping[str, str]) -> pa.Schema:
    """Return the schema with ``fields``, a mapping of names to types, in their order.

    Raises:
        ArrowTextError: a type is none; the message names its field.
    """
    parsed = []
    for name, text in fields.items():
        if not isinstance(text, str):
            raise ArrowTextError(str(text), 1, "a type is written as a string, such as 'int64'", str(name))
        try:
            kind, nullable = parse_type(text)
        except ArrowTextError as error:
            raise ArrowTextError(error.text, error.position, error.problem, str(name)) from None
        parsed.append(pa.field(name, kind, nullable=nullable))
    return pa.schema(parsed)


def format_type(kind: pa.DataType, nullable: bool = True) -> str:
    """Return the text of which :func:`parse_type` makes ``kind`` and ``nullable``.

    Raises:
        ArrowTextError: the notation has nothing for ``kind`` (dictionaries, unions, extension types), or
            it is nested deeper than ``MAX_DEPTH``.
    """
    return _format(kind, nullable, 0)


def format_schema(schema: pa.Schema) -> dict[str, str]:
    """Return the mapping of which :func:`parse_schema` makes ``schema``, metadata aside.

    Raises:
        ArrowTextError: the notation has nothing for a field's type.
    """
    return {field.name: format_type(field.type, field.nullable) for field in schema}


def _format(kind: pa.DataType, nullable: bool, depth: int) -> str:
    return _format_bare(kind, depth) + ("" if nullable else "!")


def _format_field(field: pa.Field, depth: int) -> str:
    return _format(field.type, field.nullable, depth + 1)


def _format_bare(kind: pa.DataType, depth: int) -> str:
    if depth > MAX_DEPTH:
        raise ArrowTextError("…", 1, f"it is nested more than {MAX_DEPTH} levels deep")
    if pa.types.is_struct(kind):
        parts = (f"{_format_name(f.name)}: {_format_field(f, depth)}" for f in kind)
        return f"struct<{', '.join(parts)}>"
    if pa.types.is_fixed_size_list(kind):
        return f"fixed_size_list<{_format_field(kind.value_field, depth)}>[{kind.list_size}]"
    if pa.types.is_large_list(kind):
        return f"large_list<{_format_field(kind.value_field, depth)}>"
    if pa.types.is_list(kind):
        return f"list<{_format_field(kind.value_field, depth)}>"
    if pa.types.is_map(kind):
        key = _format(kind.key_type, True, depth + 1)
        return f"map<{key}, {_format_field(kind.item_field, depth)}>"
    name = _PLAIN_NAMES.get(str(kind), str(kind))
    try:
        if parse_type(name)[0] == kind:
            return name
    except ArrowTextError:
        pass
    raise ArrowTextError(str(kind), 1, "the notation has nothing for such a type")


def _format_name(name: str) -> str:
    return name if _FIELD_NAME.fullmatch(name) else json.dumps(name, ensure_ascii=False)


class _Parser:
    """A reader of one text, from left to right; ``at`` is the index of the next character."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.depth = 0

    def fail(self, problem: str, at: int | None = None) -> ArrowTextError:
        position = (self.at if at is None else at) + 1
        return ArrowTextError(self.text, position, problem)

    def skip(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        match = pattern.match(self.text, self.at)
        if match is not None:
            self.at = match.end()
        return match

    def accept(self, character: str) -> bool:
        self.skip()
        found = self.text.startswith(character, self.at)
        self.at += len(character) if found else 0
        return found

    def expect(self, character: str) -> None:
        if not self.accept(character):
            raise self.fail(f"'{character}' is missing")

    def end(self) -> None:
        self.skip()
        if self.at < len(self.text):
            raise self.fail("the type is over, but the text goes on")

    def type(self) -> tuple[pa.DataType, bool]:
        kind = self.bare()
        nullable = not self.accept("!")
        if pa.types.is_null(kind) and not nullable:
            raise self.fail("null cannot be declared not null", self.at - 1)
        return kind, nullable

    def field(self, name: str) -> pa.Field:
        kind, nullable = self.type()
        return pa.field(name, kind, nullable=nullable)

    def bare(self) -> pa.DataType:
        self.skip()
        start = self.at
        word = self.take(_WORD)
        if word is None:
            raise self.fail("a type is missing")
        name = word.group()
        if name in _NESTED:
            self.depth += 1
            if self.depth > MAX_DEPTH:
                raise self.fail(f"it is nested more than {MAX_DEPTH} levels deep", start)
            kind = self.nested(name)
            self.depth -= 1
            return kind
        if name in ("decimal128", "decimal256"):
            return self.decimal(name, start)
        brackets = self.take(_BRACKETS)
        if brackets is None:
            return self.alias(name, start)
        inside = brackets.group(1)
        zoned = _ZONED.fullmatch(inside) if name == "timestamp" else None
        if zoned is not None:
            return pa.timestamp(zoned.group(1), tz=zoned.group(2))
        if name == "fixed_size_binary":
            return self.sized(pa.binary, inside, start)
        return self.alias(f"{name}[{inside.strip()}]", start)

    def nested(self, name: str) -> pa.DataType:
        self.expect("<")
        if name == "struct":
            return self.struct()
        if name == "map":
            start = self.at
            key, _ = self.type()
            if pa.types.is_null(key):
                raise self.fail("the keys of a map cannot be null", start)
            self.expect(",")
            value = self.field("value")
            self.expect(">")
            return pa.map_(key, value)
        item = self.field("item")
        self.expect(">")
        if name == "large_list":
            return pa.large_list(item)
        if name == "list":
            return pa.list_(item)
        start = self.at
        brackets = self.take(_BRACKETS)
        if brackets is None:
            raise self.fail("the length is missing, as in fixed_size_list<float32>[4]")
        return self.sized(lambda length: pa.list_(item, length), brackets.group(1), start)

    def struct(self) -> pa.DataType:
        fields: list[pa.Field] = []
        if self.accept(">"):
            return pa.struct(fields)
        while True:
            self.skip()
            start = self.at
            quoted = self.take(_QUOTED)
            plain = None if quoted is not None else self.take(_FIELD_NAME)
            if quoted is not None:
                name = self.unquoted(quoted.group(), start)
            elif plain is not None:
                name = plain.group()
            else:
                raise self.fail("a field's name is missing, as in struct<name: TYPE>")
            if any(field.name == name for field in fields):
                raise self.fail(f"there is a second field '{name}'", start)
            self.expect(":")
            fields.append(self.field(name))
            if not self.accept(","):
                self.expect(">")
                return pa.struct(fields)

    def unquoted(self, text: str, start: int) -> str:
        try:
            name = str(json.loads(text))
        except ValueError:
            raise self.fail("the name in quotes is no JSON string", start) from None
        if _SURROGATE.search(name):
            raise self.fail("the name in quotes has half of a surrogate pair, which is no text", start)
        return name

    def decimal(self, name: str, start: int) -> pa.DataType:
        numbers = self.take(_DECIMAL)
        if numbers is None:
            raise self.fail(f"precision and scale are missing, as in {name}(10, 2)")
        try:
            return getattr(pa, name)(int(numbers.group(1)), int(numbers.group(2)))
        except (ValueError, OverflowError, pa.ArrowException):
            raise self.fail(f"{name} has no such precision and scale", start) from None

    def sized(self, make: Callable[[int], pa.DataType], text: str, start: int) -> pa.DataType:
        if not text.strip().isdecimal():
            raise self.fail(f"'{text.strip()}' is no length", start)
        try:
            return make(int(text))
        except (ValueError, OverflowError):
            raise self.fail("the length is too large; it must be below 2**31", start) from None

    def alias(self, name: str, start: int) -> pa.DataType:
        try:
            return pa.type_for_alias(name)
        except ValueError:
            known = (*_ALIASES, *_NESTED)
            near = closest(name, known)
            hint = f"did you mean '{near}'?" if near else "there are " + ", ".join(known)
            raise self.fail(f"there is no type '{name}'; {hint}", start) from None
