"""What can be wrong with a catalog, and where: every check of this room reports in these types."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from dyff_dagster.schema.base import closest
from dyff_dagster.schema.errors import DyffError

Location = tuple[str | int, ...]
"""The way to a value inside one document: mapping keys and list positions, outermost first."""


class Origin(NamedTuple):
    """Where an entity was written down.

    ``path`` is None, and ``line`` 0, for an entity that was made in Python; ``line`` counts from 1.
    """

    path: Path | None
    line: int

    def __str__(self) -> str:
        return "Python" if self.path is None else f"{self.path}:{self.line}"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a catalog; its text is ``FILE:LINE: FIELD: message``.

    What was made in Python has no file: its text begins with the entity's id. A problem of a whole file
    (it cannot be read, it is no YAML) has no field. The message never holds a row of data, nor the value
    of an annotation that may carry a secret.
    """

    path: Path | None
    line: int | None
    field: str
    message: str
    entity_id: str | None = None

    def __str__(self) -> str:
        parts: list[str] = []
        if self.path is not None:
            parts.append(str(self.path) if self.line is None else f"{self.path}:{self.line}")
        elif self.entity_id is not None:
            parts.append(self.entity_id)
        if self.field:
            parts.append(self.field)
        return ": ".join([*parts, self.message])


class CatalogError(DyffError):
    """A catalog was refused; ``problems`` holds everything that is wrong with it, in the order of the files.

    Its text is one line per problem.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class EntityNotFound(DyffError):
    """The catalog has no such entity, or has it as another kind."""

    def __init__(self, entity_id: str, message: str) -> None:
        self.entity_id = entity_id
        super().__init__(message)


def format_location(location: Iterable[str | int]) -> str:
    """Write a location as people do: ``inputs[0].entity``."""
    text = ""
    for step in location:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{step}" if text else step
    return text


def suggestion(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the closest known one, or (if few) all that are known."""
    return _suggestion(name, tuple(dict.fromkeys(known)))


@lru_cache(maxsize=128)
def _suggestion(name: str, names: tuple[str, ...]) -> str:
    match = closest(name, names if len(names) <= _MANY else _alike(name, names))
    if match is not None:
        return f"did you mean '{match}'?"
    if not names:
        return "there is none"
    if len(names) <= 12:
        return "known: " + ", ".join(names)
    return f"none of the {len(names)} known names is like it"


_MANY = 200
_AROUND = 25


def _alike(name: str, names: tuple[str, ...]) -> list[str]:
    """Some of very many names, those that stand next to ``name`` by their beginning or by their end.

    A generator that misspells thousands of ids would otherwise have each compared with all the others,
    which takes minutes.
    """
    forwards, backwards = _sorted_both_ways(names)
    mirrored = [other[::-1] for other in _around(backwards, name[::-1])]
    return list(dict.fromkeys(_around(forwards, name) + mirrored))


@lru_cache(maxsize=16)
def _sorted_both_ways(names: tuple[str, ...]) -> tuple[list[str], list[str]]:
    return sorted(names), sorted(name[::-1] for name in names)


def _around(ordered: list[str], name: str) -> list[str]:
    at = bisect_left(ordered, name)
    return ordered[max(0, at - _AROUND) : at + _AROUND]


def _common(one: str, other: str) -> int:
    """Length of the longest beginning that two texts share."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
