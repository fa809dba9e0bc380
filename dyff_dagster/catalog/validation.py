"""pydantic's complaints about a manifest, as problems that name the line and what would be right."""

from __future__ import annotations

from typing import Any

import pydantic

from dyff_dagster.catalog.documents import Document, Place, line_of, spelling_of
from dyff_dagster.catalog.entries import as_written
from dyff_dagster.catalog.problems import Location, Problem, format_location
from dyff_dagster.catalog.yaml_reader import is_unusual_number
from dyff_dagster.schema.base import closest
from dyff_dagster.schema.resources import LABEL_KEY_PATTERN, QUANTITY_PATTERN

_WANT_TEXT = {
    "string_type",
    "literal_error",
    "enum",
    "model_type",
    "model_attributes_type",
    "dict_type",
    "list_type",
}
_TRUTH = {"yes", "no", "on", "off", "true", "false", "y", "n"}


_FORMS = {
    LABEL_KEY_PATTERN: "must be letters, digits and hyphens (no underscore), "
    "at most with a DNS domain and a slash before them, as in 'team.example/tier'",
    QUANTITY_PATTERN: "must be a quantity in Kubernetes' notation, as in '500m', '2' or '16Gi'",
}
_PLAIN = {
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "list_type": "must be a list",
    "dict_type": "must be a mapping",
}


def problems_of(document: Document, entity_id: str | None, error: pydantic.ValidationError) -> list[Problem]:
    """One problem for each complaint, on the line of the value that it is about."""
    found: list[Problem] = []
    for detail in error.errors(include_url=False):
        location = _in_file(document.place, tuple(detail["loc"]))
        spelling = spelling_of(document.place, location)
        if spelling is not None and is_unusual_number(spelling):
            continue  # told when it was read
        message = _sentence(dict(detail), location, spelling)
        line = line_of(document.place, location)
        field = format_location(as_written(document.place, location))
        found.append(Problem(document.path, line, field, message, entity_id))
    return found


def put_in_quotes(spelling: str) -> str:
    """What YAML made of an unquoted word that was meant as text, and what would be right."""
    lowered = spelling.lower()
    what = "a truth value" if lowered in _TRUTH else "nothing" if lowered in ("~", "null") else "a number"
    return f"`{spelling}` is read as {what} by YAML; put it in quotes: '{spelling}'"


def _in_file(place: Place, location: Location) -> Location:
    """``location`` without the names of union members, and of a mapping's keys, that pydantic puts in."""
    kept: list[str | int] = []
    for index, step in enumerate(location):
        last = index == len(location) - 1
        if step == "[key]" or (isinstance(step, str) and step[:1].isupper() and not last):
            continue
        kept.append(step)
    return tuple(kept)


def _sentence(detail: dict[str, Any], location: Location, spelling: str | None) -> str:
    kind, message = detail["type"], str(detail["msg"])
    if kind == "missing":
        return "is missing"
    if spelling is not None and kind in _WANT_TEXT and (kind != "dict_type" or spelling.lower() in _TRUTH):
        if spelling == "":
            return "is empty; write a value"
        return put_in_quotes(spelling)
    if kind in ("enum", "literal_error"):
        expected = detail.get("ctx", {}).get("expected", "")
        given = detail.get("input")
        known = expected.replace("'", "").replace(" or ", ", ").split(", ")
        near = closest(given, known) if isinstance(given, str) else None
        if expected:
            return f"must be {expected}" + (f"; did you mean '{near}'?" if near else "")
    if kind == "string_pattern_mismatch":
        pattern = detail.get("ctx", {}).get("pattern", "")
        return _FORMS.get(pattern, f"must be of the form {pattern}")
    if kind in _PLAIN:
        return _PLAIN[kind]
    if kind.startswith(("datetime_", "timezone_")):
        return "must be a time with its zone, as in 2030-01-31T18:00:00Z"
    if kind in ("model_type", "model_attributes_type"):
        return "must be a mapping of fields, or (where another entity is meant) its id"
    message = message.removeprefix("Value error, ").removeprefix("Input ")
    return (
        message[:1].lower() + message[1:]
        if not message[:2].isupper() and kind != "extra_forbidden"
        else message
    )
