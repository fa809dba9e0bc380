"""JSON text to documents: one object, or a list of objects, every value with its line."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from json.decoder import JSONDecodeError, scanstring  # type: ignore[attr-defined]
from pathlib import Path
from typing import Any

from dyff_dagster.catalog.documents import MAX_DEPTH, Branch, Document, Place, SyntaxFault
from dyff_dagster.catalog.problems import Location, Problem, format_location

_SPACE = re.compile(r"[ \t\n\r]*")
_DIGITS = 1000
"""Python itself reads no number of more than 4300."""
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?")
_SURROGATE = re.compile("[\ud800-\udfff]")
_CONSTANTS = {"true": True, "false": False, "null": None}


def read_json(path: Path, text: str, problems: list[Problem]) -> Iterator[Document]:
    """Yield the documents of a JSON text: itself, or the members of a list of objects.

    A document may name the schema that editors check it by, as ``$schema``; that is left out.

    :raises SyntaxFault: where the text is no JSON (RFC 8259), or nested beyond reason.
    """
    value, place = _Reader(path, text, problems).whole()
    if isinstance(value, list) and isinstance(place, Branch):
        for index, item in enumerate(value):
            yield Document(path, _without_schema(item), place.children[index])
    else:
        yield Document(path, _without_schema(value), place)


def _without_schema(value: Any) -> Any:
    if isinstance(value, dict) and isinstance(value.get("$schema"), str):
        return {name: item for name, item in value.items() if name != "$schema"}
    return value


class _Reader:
    def __init__(self, path: Path, text: str, problems: list[Problem]) -> None:
        self.path = path
        self.text = text
        self.problems = problems
        self.newlines = [match.start() for match in re.finditer("\n", text)]

    def line(self, position: int) -> int:
        return bisect_left(self.newlines, position) + 1

    def fault(self, position: int, what: str) -> SyntaxFault:
        return SyntaxFault(self.line(position), f"is no JSON: {what}")

    def space(self, position: int) -> int:
        match = _SPACE.match(self.text, position)
        return position if match is None else match.end()

    def whole(self) -> tuple[Any, Place]:
        start = self.space(0)
        value, place, end = self.value(start, self.line(start), ())
        if self.space(end) != len(self.text):
            raise self.fault(self.space(end), "something follows the first value")
        return value, place

    def value(self, position: int, line: int, location: Location) -> tuple[Any, Place, int]:
        if len(location) > MAX_DEPTH:
            raise SyntaxFault(line, f"is nested more than {MAX_DEPTH} levels deep")
        first = self.text[position : position + 1]
        if first == "{":
            return self.object(position + 1, line, location)
        if first == "[":
            return self.array(position + 1, line, location)
        if first == '"':
            text, end = self.string(position)
            return text, line, end
        match = _NUMBER.match(self.text, position)
        if match is not None:
            if match.group(1) or match.group(2):
                return float(match.group()), line, match.end()
            if len(match.group()) > _DIGITS:
                raise SyntaxFault(line, f"a number has more than {_DIGITS} digits")
            return int(match.group()), line, match.end()
        for word, constant in _CONSTANTS.items():
            if self.text.startswith(word, position):
                return constant, line, position + len(word)
        raise self.fault(position, "a value is expected here" if first else "it ends too early")

    def string(self, position: int) -> tuple[str, int]:
        try:
            text, end = scanstring(self.text, position + 1, True)
        except JSONDecodeError as error:
            raise self.fault(error.pos, "a string that does not end, or a bad escape in it") from None
        if not text.isascii() and _SURROGATE.search(text):
            raise self.fault(position, "a string with half of a surrogate pair, which is no text")
        return text, end

    def object(self, position: int, line: int, location: Location) -> tuple[Any, Place, int]:
        found: dict[str, Any] = {}
        branch = Branch(line)
        position = self.space(position)
        if self.text.startswith("}", position):
            return found, branch, position + 1
        while True:
            if not self.text.startswith('"', position):
                raise self.fault(position, "a key in double quotes is expected here")
            key_line = self.line(position)
            key, position = self.string(position)
            position = self.space(position)
            if not self.text.startswith(":", position):
                raise self.fault(position, "`:` is expected here")
            here = (*location, key)
            value, place, position = self.value(self.space(position + 1), key_line, here)
            if key in found:
                first = branch.children[key]
                at = first if isinstance(first, int) else first.line
                message = f"stands twice in the same mapping, first on line {at}; keep one of the two"
                self.problems.append(Problem(self.path, key_line, format_location(here), message))
            else:
                found[key] = value
                branch.children[key] = place
            position = self.space(position)
            if self.text.startswith("}", position):
                return found, branch, position + 1
            if not self.text.startswith(",", position):
                raise self.fault(position, "`,` or `}` is expected here")
            position = self.space(position + 1)

    def array(self, position: int, line: int, location: Location) -> tuple[Any, Place, int]:
        found: list[Any] = []
        branch = Branch(line)
        position = self.space(position)
        if self.text.startswith("]", position):
            return found, branch, position + 1
        while True:
            value, place, position = self.value(position, self.line(position), (*location, len(found)))
            branch.children[len(found)] = place
            found.append(value)
            position = self.space(position)
            if self.text.startswith("]", position):
                return found, branch, position + 1
            if not self.text.startswith(",", position):
                raise self.fault(position, "`,` or `]` is expected here")
            position = self.space(position + 1)
