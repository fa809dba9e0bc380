"""Fields that are held for dyff-schema 0.46, and that nothing here acts on: their author is told."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from dyff_dagster.catalog.entries import Entry, Findings
from dyff_dagster.catalog.problems import Location
from dyff_dagster.schema.newer import computing_fields

_ACTED_ON = frozenset({"scores"})
_EMBEDDED = frozenset({"model", "inferenceService", "method"})
"""Embedded entities: what they hold is told where they stand themselves."""


def check_held(entry: Entry, findings: Findings) -> None:
    """Warn of each field of 0.46 that would change what is computed there, and changes nothing here."""
    _check(entry, entry.entity, (), findings)


def _check(entry: Entry, value: Any, location: Location, findings: Findings) -> None:
    if isinstance(value, BaseModel):
        for name in computing_fields(value):
            if name not in _ACTED_ON:
                message = "is held for dyff-schema 0.46 and has no effect here; do not rely on it"
                findings.warn(entry, (*location, name), message)
        for name, field in type(value).model_fields.items():
            inner = getattr(value, name)
            if isinstance(inner, BaseModel) and name not in _EMBEDDED:
                _check(entry, inner, (*location, field.alias or name), findings)
