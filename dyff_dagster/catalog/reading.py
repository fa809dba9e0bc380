"""Manifest files read: their documents, what is wrong with their form, and the ids of what cannot be read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dyff_dagster.catalog.documents import MARKS, Document, SyntaxFault
from dyff_dagster.catalog.json_reader import read_json
from dyff_dagster.catalog.problems import Problem, format_location
from dyff_dagster.catalog.yaml_reader import read_yaml

MAX_BYTES = 10 * 1024 * 1024
"""A larger file is refused: nobody writes such a manifest, so it is something else that got there."""

_ID = re.compile(
    r"""(?:^|[{,])[ \t]*["']?id["']?[ \t]*:[ \t]*["']?([A-Za-z0-9][A-Za-z0-9._-]{0,127})""", re.MULTILINE
)


def read_documents(path: Path, problems: list[Problem], unread: set[str] | None = None) -> list[Document]:
    """Read every document of one manifest file, oldest line first.

    A file that cannot be ours (no document of it has a top-level ``kind``, as Dagster's component files
    have none) gives an empty list and no problem. What is wrong is appended to ``problems``; duplicate keys
    and the like do not stop the reading. A syntax error does: what stands before it in the file is
    returned, so that all of the catalog's problems are told at once.

    :param unread: gets what looks like ids in a file that could not be read to its end, so that whoever
        refers to one of them is not blamed.
    """
    text = _read_text(path, problems, unread)
    # A manifest has a `kind`; one that forgot it still has an `account`. Anything else need not be parsed.
    if text is None or ("kind" not in text and "account" not in text):
        return []
    found: list[Problem] = []
    documents: list[Document] = []
    fault: SyntaxFault | None = None
    try:
        marks = _marks_in(text)
        for document in _parse(path, text, found):
            document.marks = marks
            documents.append(document)
    except SyntaxFault as error:
        fault = error
        found.append(Problem(path, fault.line, format_location(fault.location), fault.message))
        _salvage(text, unread)
    documents = [document for document in documents if document.value is not None]
    if fault is None and not any(_claims_to_be_ours(document.value) for document in documents):
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


def _marks_in(text: str) -> frozenset[str]:
    # An escape sequence may stand for any character.
    return MARKS if "\\" in text else frozenset(mark for mark in MARKS if mark in text)


def _claims_to_be_ours(value: Any) -> bool:
    return isinstance(value, dict) and ("kind" in value or {"id", "account"} <= value.keys())


def _salvage(text: str, unread: set[str] | None) -> None:
    if unread is not None:
        unread.update(_ID.findall(text))


def _parse(path: Path, text: str, problems: list[Problem]) -> Iterator[Document]:
    read = read_json if path.suffix.lower() == ".json" else read_yaml
    return read(path, text, problems)


def _read_text(path: Path, problems: list[Problem], unread: set[str] | None) -> str | None:
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
        _salvage(data.decode("utf-8", "replace"), unread)
        return None
