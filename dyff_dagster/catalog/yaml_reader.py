"""YAML text to documents: values built from the parser's events, so that every value keeps its line.

YAML 1.1 as PyYAML reads it (https://yaml.org/spec/1.1/), less what surprises people: duplicate keys, keys
that are not text, octal and sexagesimal numbers, unknown tags and unbounded aliases are refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from dyff_dagster.catalog.documents import MAX_DEPTH, Branch, Document, Place, Plain, SyntaxFault
from dyff_dagster.catalog.problems import Location, Problem, format_location

MAX_EXPANSION = 100_000
"""How many values the aliases of one file may add to those that are written out ("billion laughs")."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_TRUE = {"yes", "true", "on"}
_UNUSUAL_INT = re.compile(r"[-+]?0[0-9_]+$|.*:|[-+]?0[bxX]")
_WORDS = {
    "bool": "a truth value",
    "int": "a number",
    "float": "a number",
    "null": "nothing",
    "merge": "a merge",
}

_NO_KEY: Any = object()
_MERGE: Any = object()


def is_unusual_number(text: str) -> bool:
    """Whether an integer of YAML 1.1 is spelled in octal, binary, hexadecimal or base 60."""
    return _UNUSUAL_INT.match(text) is not None


@lru_cache(maxsize=4096)
def _plain_kind(text: str) -> str:
    """What YAML takes an unquoted scalar for; the same words come again and again."""
    resolvers = _LOADER.yaml_implicit_resolvers
    for tag, pattern in (*resolvers.get(text[:1], ()), *resolvers.get(None, ())):
        if pattern.match(text):
            return str(tag).removeprefix(_TAG)
    return "str"


@dataclass(slots=True)
class _Frame:
    """A mapping or list that is being read."""

    value: Any
    branch: Branch
    anchor: str | None
    start: int
    key: Any = _NO_KEY
    key_line: int = 0
    merges: list[tuple[dict[str, Any], Branch]] = field(default_factory=list)


def read_yaml(path: Path, text: str, problems: list[Problem]) -> Iterator[Document]:
    """Yield the documents of a YAML text one by one; an empty document's value is None.

    :raises SyntaxFault: where the text is no YAML, or nested or expanded beyond reason.
    """
    try:
        yield from _Reader(path, text, problems).documents()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = None if mark is None else mark.line + 1
        raise SyntaxFault(line, _explain(error, text, line)) from None
    except yaml.YAMLError as error:
        position = getattr(error, "position", None)
        line = text.count("\n", 0, position) + 1 if isinstance(position, int) else None
        raise SyntaxFault(line, "holds a control character that YAML does not allow") from None


def _explain(error: yaml.MarkedYAMLError, text: str, line: int | None) -> str:
    """What libyaml complains of, in words that say what to do. Its messages quote nothing of the file."""
    problem = error.problem or "it cannot be parsed"
    lines = text.splitlines()
    here = lines[line - 1] if line is not None and 0 < line <= len(lines) else ""
    if "\t" in here[: len(here) - len(here.lstrip())] or "'\\t'" in problem:
        return "is indented with a tab; YAML wants spaces"
    if "mapping values are not allowed" in problem:
        return "is no YAML: a second `:` on the line; put text that holds a colon in quotes, or mend the indentation"
    if "cannot start any token" in problem:
        return "is no YAML: a value begins with a character that is reserved; put the text in quotes"
    context = f" {error.context}" if error.context else ""
    return f"is no YAML: {problem}{context}"


class _Reader:
    """One pass over the events of one file."""

    def __init__(self, path: Path, text: str, problems: list[Problem]) -> None:
        self.path = path
        self.problems = problems
        self.loader = _LOADER(text)
        self.stack: list[_Frame] = []
        self.anchors: dict[str, tuple[Any, Place, int]] = {}
        self.count = 0  # values so far, aliases at their full size
        self.expanded = 0

    def documents(self) -> Iterator[Document]:
        while self.loader.check_event():
            event = self.loader.get_event()
            if isinstance(event, yaml.DocumentStartEvent):
                self.anchors.clear()
                yield self._document()

    def _document(self) -> Document:
        get_event = self.loader.get_event
        while True:
            event = get_event()
            line = event.start_mark.line + 1
            done: tuple[Any, Place] | None = None
            kind = type(event)
            if kind is yaml.ScalarEvent:
                self.count += 1
                if self.stack and self._plain_text(event, line):
                    continue
                done = self._scalar(event, line)
            elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
                self._open(event, line)
            elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
                done = self._close()
            elif kind is yaml.AliasEvent:
                done = self._alias(event, line)
            if done is not None and not self.stack:
                self.loader.get_event()  # the document's end
                return Document(self.path, done[0], done[1])
            if done is not None:
                self._deliver(*done, line)

    def _plain_text(self, event: yaml.ScalarEvent, line: int) -> bool:
        """Take in what most events of a manifest are: a key, or a text, about which there is nothing to say.

        False: it is something else, and nothing was done.
        """
        text: str = event.value
        if event.tag is not None or event.anchor is not None:
            return False
        if event.implicit[0] and _plain_kind(text) != "str":
            return False
        frame = self.stack[-1]
        value = frame.value
        if type(value) is list:
            frame.branch.children[len(value)] = line
            value.append(text)
            return True
        key = frame.key
        if key is _NO_KEY:
            frame.key, frame.key_line = text, line
            return True
        if key is _MERGE or key in value:
            return False
        value[key] = text
        frame.branch.children[key] = frame.key_line
        frame.key = _NO_KEY
        return True

    def _location(self) -> Location:
        steps: list[str | int] = []
        for frame in self.stack:
            if isinstance(frame.value, list):
                steps.append(len(frame.value))
            elif frame.key is _MERGE:
                steps.append("<<")
            elif frame.key is not _NO_KEY:
                steps.append(frame.key)
        return tuple(steps)

    def _problem(self, line: int, message: str) -> None:
        self.problems.append(Problem(self.path, line, format_location(self._location()), message))

    def _expects_key(self) -> bool:
        return bool(self.stack) and isinstance(self.stack[-1].value, dict) and self.stack[-1].key is _NO_KEY

    def _scalar(self, event: yaml.ScalarEvent, line: int) -> tuple[Any, Place] | None:
        text: str = event.value
        tag = event.tag
        if tag is None or tag == "!":
            kind = _plain_kind(text) if tag is None and event.implicit[0] else "str"
        else:
            kind = tag.removeprefix(_TAG)
        if self._expects_key():
            self._key(text, kind, line)
            return None
        value, plain = self._value(text, kind, line)
        place: Place = Plain(line, text) if plain else line
        if event.anchor is not None:
            self.anchors[event.anchor] = (value, place, 1)
        return value, place

    def _key(self, text: str, kind: str, line: int) -> None:
        frame = self.stack[-1]
        frame.key_line = line
        if kind == "merge":
            frame.key = _MERGE
            return
        if kind in _WORDS:
            self._problem(
                line, f"the key `{text}` is read as {_WORDS[kind]} by YAML; put it in quotes: '{text}'"
            )
        frame.key = text

    def _value(self, text: str, kind: str, line: int) -> tuple[Any, bool]:
        """The value of a scalar, and whether it is something else than text."""
        if kind in ("str", "timestamp", "value", "merge"):
            return text, False
        try:
            if kind == "null":
                return None, True
            if kind == "bool":
                return text.lower() in _TRUE, True
            node = yaml.ScalarNode(_TAG + kind, text)
            if kind == "int":
                number = self.loader.construct_yaml_int(node)
                if is_unusual_number(text):
                    self._problem(
                        line, f"`{text}` is read as the number {number} by YAML; "
                        f"write {number}, or put it in quotes if it is text: '{text}'"
                    )  # fmt: skip
                return number, True
            if kind == "float":
                real = self.loader.construct_yaml_float(node)
                if not math.isfinite(real):
                    self._problem(
                        line, f"`{text}` is no number that JSON knows; put it in quotes if it is text"
                    )
                elif ":" in text:
                    self._problem(line, f"`{text}` is read as the number {real} by YAML; put it in quotes")
                return real, True
        except (ValueError, yaml.YAMLError):
            self._problem(line, f"is tagged as {kind}, which it is not; leave the tag out")
            return text, False
        self._problem(
            line, f"has the YAML tag !{kind.lstrip('!')}, which manifests do not know; leave it out"
        )
        return text, False

    def _open(self, event: Any, line: int) -> None:
        if self._expects_key():
            raise SyntaxFault(line, "a key must be text, not a mapping or a list", self._location())
        if len(self.stack) >= MAX_DEPTH:
            raise SyntaxFault(line, f"is nested more than {MAX_DEPTH} levels deep")
        mapping = isinstance(event, yaml.MappingStartEvent)
        if event.tag not in (None, "!", _TAG + ("map" if mapping else "seq")):
            self._problem(line, "has a YAML tag that manifests do not know; leave it out")
        self.count += 1
        begins = self.stack[-1].key_line if self.stack and isinstance(self.stack[-1].value, dict) else line
        self.stack.append(_Frame({} if mapping else [], Branch(begins), event.anchor, self.count))

    def _close(self) -> tuple[Any, Place]:
        frame = self.stack.pop()
        for source, branch in frame.merges:
            for key, value in source.items():
                if key not in frame.value:  # what is written out, or merged earlier, wins
                    frame.value[key] = value
                    frame.branch.children[key] = branch.children[key]
        if frame.anchor is not None:
            self.anchors[frame.anchor] = (frame.value, frame.branch, self.count - frame.start + 1)
        return frame.value, frame.branch

    def _alias(self, event: yaml.AliasEvent, line: int) -> tuple[Any, Place] | None:
        if any(frame.anchor == event.anchor for frame in self.stack):
            raise SyntaxFault(
                line, f"*{event.anchor} stands inside the value that it names", self._location()
            )
        if event.anchor not in self.anchors:
            raise SyntaxFault(line, f"*{event.anchor} has no &{event.anchor} before it", self._location())
        value, place, size = self.anchors[event.anchor]
        if self._expects_key():
            if not isinstance(value, str):
                raise SyntaxFault(line, "a key must be text, not a mapping or a list", self._location())
            self._key(value, "str", line)
            return None
        self.count += size
        self.expanded += size
        if self.expanded > MAX_EXPANSION:
            raise SyntaxFault(line, f"the aliases of this file expand to more than {MAX_EXPANSION} values")
        return value, place

    def _deliver(self, value: Any, place: Place, line: int) -> None:
        """Put a finished value into the collection it stands in."""
        frame = self.stack[-1]
        if isinstance(frame.value, list):
            frame.branch.children[len(frame.value)] = place
            frame.value.append(value)
            return
        if frame.key is _MERGE:
            for source, branch in _sources(value, place):
                if not isinstance(source, dict) or not isinstance(branch, Branch):
                    raise SyntaxFault(line, "`<<` merges mappings only", self._location())
                frame.merges.append((source, branch))
        elif frame.key in frame.value:
            first = frame.branch.children[frame.key]
            at = first if isinstance(first, int) else first.line
            self._problem(
                frame.key_line, f"stands twice in the same mapping, first on line {at}; keep one of the two"
            )
        else:
            frame.value[frame.key] = value
            frame.branch.children[frame.key] = _moved(place, frame.key_line)
        frame.key = _NO_KEY


def _sources(value: Any, place: Place) -> list[tuple[Any, Place]]:
    if isinstance(value, list) and isinstance(place, Branch):
        return [(item, place.children[index]) for index, item in enumerate(value)]
    return [(value, place)]


def _moved(place: Place, line: int) -> Place:
    """The place of a mapping's value is the line of its key, also where the value begins below it."""
    if isinstance(place, Branch):
        return place
    return Plain(line, place.text) if isinstance(place, Plain) else line
