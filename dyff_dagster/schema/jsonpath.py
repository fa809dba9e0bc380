"""JSONPath queries, compiled once and run on many rows.

Paths of names, positions and ``[*]`` (``$.a.b[0]``, ``$['a b'][*].c``) are followed directly, many times faster
than the library does; all others are its own. Both give the same answer to the same query: a test compares them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from dyff_dagster.schema.errors import DyffError

__all__ = ["JSONPathError", "MatchError", "Path", "QueryError"]

_STEP = re.compile(
    r"""\.(?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | \[(?P<index>0|[1-9][0-9]{0,9})\]
      | \[(?P<every>\*)\]
      | \[(?P<quote>['"])(?P<quoted>[^'"\\*\[\]{}()$.,`]+)(?P=quote)\]""",
    re.VERBOSE,
)
# Words of the library's grammar that are no names where they stand bare.
_WORDS = frozenset({"parent", "where", "wherenot", "where_not"})
_NOTHING: Any = object()
_EVERY: Any = object()


class JSONPathError(DyffError):
    """A text that is no JSONPath query; ``text`` is it."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(f"{text!r} is no JSONPath query; write one like $.a.b[0] or $.items[*].name")


class MatchError(Exception):
    """A query that has not exactly one answer; ``count`` is how many it has."""

    def __init__(self, count: int) -> None:
        self.count = count
        super().__init__(f"{count} matches")


class QueryError(Exception):
    """A query that cannot be answered on this value, as one that compares a text with a number may not be."""


class Path:
    """A compiled query.

    Attributes:
        text: What it was compiled from.
        steps: Names and positions that lead to what it finds, where it is a plain path; else None.

    Raises:
        JSONPathError: the text is no query.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        steps = _steps(text)
        self.steps: tuple[str | int, ...] | None = None if steps is None or _EVERY in steps else steps
        self._get = None if self.steps is None else _chain(self.steps)
        self._find = _library(text) if steps is None else _walk(steps)

    def find(self, value: Any) -> list[Any]:
        """Return everything in ``value`` that the query finds, in the document's order.

        Raises:
            QueryError: the query cannot be answered on ``value``.
        """
        return self._find(value)

    def one(self, value: Any) -> Any:
        """Return the one thing in ``value`` that the query finds.

        Raises:
            MatchError: it finds nothing, or several things.
            QueryError: the query cannot be answered on ``value``.
        """
        if self._get is not None:
            found = self._get(value)
            if found is _NOTHING:
                raise MatchError(0)
            return found
        matches = self._find(value)
        if len(matches) != 1:
            raise MatchError(len(matches))
        return matches[0]


def _steps(text: str) -> tuple[Any, ...] | None:
    """Return the names, positions and _EVERY that ``text`` consists of; None if there is more to it."""
    if not text.startswith("$"):
        return None
    steps: list[Any] = []
    at = 1
    while at < len(text):
        match = _STEP.match(text, at)
        if match is None or match["name"] in _WORDS:
            return None
        if match["every"] is not None:
            steps.append(_EVERY)
        elif match["index"] is not None:
            steps.append(int(match["index"]))
        else:
            steps.append(match["name"] or match["quoted"])
        at = match.end()
    return tuple(steps)


def _chain(steps: tuple[str | int, ...]) -> Callable[[Any], Any]:
    def get(value: Any) -> Any:
        for step in steps:
            if isinstance(step, str):
                value = value.get(step, _NOTHING) if type(value) is dict else _NOTHING
                if value is _NOTHING:
                    return _NOTHING
            elif type(value) is list and len(value) > step:
                value = value[step]
            else:
                return _NOTHING
        return value

    return get


def _walk(steps: tuple[Any, ...]) -> Callable[[Any], list[Any]]:
    def find(value: Any) -> list[Any]:
        found = [value]
        for step in steps:
            if step is _EVERY:
                found = [item for value in found for item in _children(value)]
            elif isinstance(step, str):
                found = [value[step] for value in found if type(value) is dict and step in value]
            else:
                found = [value[step] for value in found if type(value) is list and len(value) > step]
        return found

    return find


def _children(value: Any) -> Iterable[Any]:
    if type(value) is list:
        return value
    return value.values() if type(value) is dict else ()


def _library(text: str) -> Callable[[Any], list[Any]]:
    from jsonpath_ng.ext.parser import parse as parse_extended
    from jsonpath_ng.parser import parse

    try:
        # The extended grammar reads some texts differently, so it has the second word: it knows filters.
        try:
            query = parse(text)
        except Exception:
            query = parse_extended(text)
    except Exception:
        # The library raises bare Exceptions for what it cannot read.
        raise JSONPathError(text) from None

    def find(value: Any) -> list[Any]:
        try:
            return [match.value for match in query.find(value)]
        except Exception:
            # A bare Exception again; its text may quote the value.
            raise QueryError(text) from None

    return find
