"""What manifest files are read into: plain values, and the line that each value stands on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from dyff_dagster.catalog.problems import Location

SUFFIXES = (".yaml", ".yml", ".json")
"""Names of manifest files end in one of these (in any case)."""

MAX_DEPTH = 100
"""Collections nested deeper than this are refused, so that no later recursion can run out of stack."""

MARKS = frozenset("@<")
"""Characters that few manifests hold, and that some checks look for in all of their texts."""


class Plain(NamedTuple):
    """The place of an unquoted YAML scalar that does not mean text: its line, and how it was spelled."""

    line: int
    text: str


@dataclass(slots=True)
class Branch:
    """The place of a mapping or list: the line it begins on (its key's), and the places inside it."""

    line: int
    children: dict[str | int, Place] = field(default_factory=dict)


Place = int | Plain | Branch
"""Where one value stands; a bare number is the line of a scalar."""


@dataclass(slots=True)
class Document:
    """One document of a manifest file: plain values (dict, list, str, int, float, bool, None) and places.

    YAML's timestamps are kept as the text that was written: whoever wants a time parses it, and whoever
    wants text (a revision, a label) gets what stands in the file.

    ``marks`` are those of :data:`MARKS` that the file may hold somewhere; the others it does not hold.
    """

    path: Path
    value: Any
    place: Place
    marks: frozenset[str] = MARKS

    @property
    def line(self) -> int:
        """The line (from 1) on which the document begins."""
        return line_of(self.place, ())


@dataclass(slots=True)
class SyntaxFault(Exception):
    """A file that cannot be read any further; ``line`` counts from 1, None where there is none."""

    line: int | None
    message: str
    location: Location = ()


def line_of(place: Place, location: Location) -> int:
    """The line of the value at ``location``, or of the nearest value around it that is in the file.

    Steps that the file does not have (a field that is missing, pydantic's names of union members) are
    passed over.
    """
    for step in location:
        if isinstance(place, Branch) and step in place.children:
            place = place.children[step]
    return place if isinstance(place, int) else place.line


def spelling_of(place: Place, location: Location) -> str | None:
    """How an unquoted non-text scalar at exactly ``location`` was spelled; None for everything else."""
    for step in location:
        if not isinstance(place, Branch) or step not in place.children:
            return None
        place = place.children[step]
    return place.text if isinstance(place, Plain) else None
