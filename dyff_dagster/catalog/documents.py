"""Manifest files read into plain values, with the line that each value stands on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from dyff_dagster.catalog.problems import Location, Problem, format_location

SUFFIXES = (".yaml", ".yml", ".json")
"""Names of manifest files end in one of these (in any case)."""

MAX_BYTES = 10 * 1024 * 1024
"""A larger file is refused: nobody writes such a manifest, so it is something else that got there."""

MAX_DEPTH = 100
"""Collections nested deeper than this are refused, so that no later recursion can run out of stack."""


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
    """

    path: Path
    value: Any
    place: Place

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


def read_documents(path: Path, problems: list[Problem]) -> list[Document]:
    """Read every document of one manifest file, oldest line first.

    A file that cannot be ours (no document of it has a top-level ``kind``, as Dagster's component files
    have none) gives an empty list and no problem. What is wrong is appended to ``problems``; duplicate keys
    and the like do not stop the reading, syntax errors do.
    """
    text = _read_text(path, problems)
    # A manifest has a `kind`; one that forgot it still has an `account`. Anything else need not be parsed.
    if text is None or ("kind" not in text and "account" not in text):
        return []
    found: list[Problem] = []
    documents: list[Document] = []
    try:
        for document in _parse(path, text, found):
            documents.append(document)
    except SyntaxFault as fault:
        problems.extend(found)
        problems.append(Problem(path, fault.line, format_location(fault.location), fault.message))
        return []
    documents = [document for document in documents if document.value is not None]
    if not any(_claims_to_be_ours(document.value) for document in documents):
        return []
    problems.extend(found)
    ours: list[Document] = []
    for document in documents:
        if isinstance(document.value, dict):
            ours.append(document)
        else:
            problems.append(
                Problem(path, document.line, "", "a document must be a mapping that begins with `kind: …`")
            )
    return ours


def _claims_to_be_ours(value: Any) -> bool:
    return isinstance(value, dict) and ("kind" in value or {"id", "account"} <= value.keys())


def _parse(path: Path, text: str, problems: list[Problem]) -> Iterator[Document]:
    # The readers build on the types of this module.
    if path.suffix.lower() == ".json":
        from dyff_dagster.catalog.json_reader import read_json

        return read_json(path, text, problems)
    from dyff_dagster.catalog.yaml_reader import read_yaml

    return read_yaml(path, text, problems)


def _read_text(path: Path, problems: list[Problem]) -> str | None:
    """The file as text without a byte-order mark, or None after a problem was noted."""
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        problems.append(Problem(path, None, "", f"cannot be read: {error.strerror or 'unknown error'}"))
        return None
    if len(data) > MAX_BYTES:
        problems.append(
            Problem(
                path,
                None,
                "",
                "is larger than 10 MB, which no manifest is; move it out of the catalog, "
                "or into a folder whose name begins with a dot",
            )
        )
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problems.append(Problem(path, line, "", "is not UTF-8 text; save the file as UTF-8"))
        return None
