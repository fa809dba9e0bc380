"""What an entity holds for dyff-schema 0.46, beside its wire form: stored apart from it, and compared with it.

The wire form that the store writes for other tools is that of the page, which has no place for such fields
(see ``schema.newer``). They are recorded as a mapping of their own, which has the shape of the wire form and
nothing in it but the fields that are held::

    {"scores": [{"name": "auc", "title": "AUC", "summary": "Area under the curve"}]}
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from dyff_dagster.schema.newer import held_fields, newer_fields

_ASSIGNED_METADATA = frozenset({"metrics", "revision"})
"""Parts of ``metadata`` that the platform assigns: they are nothing that an author says."""


def held_parts(value: Any) -> dict[str, Any]:
    """The held fields of a model and of all that it is made of, without those that the platform assigns.

    The members of a list stand under their positions, as text. Empty where nothing is held.
    """
    found: dict[str, Any] = {}
    if isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            if below := held_parts(getattr(value, name)):
                found[field.alias or name] = below
        known = newer_fields(type(value))
        for name, held in held_fields(value).items():
            said = _said_by_author(name, held)
            if not known[name].assigned and said not in ({}, []):
                found[name] = copy.deepcopy(said)
    elif isinstance(value, dict):
        found = {str(key): below for key, item in value.items() if (below := held_parts(item))}
    elif isinstance(value, list):
        found = {str(index): below for index, item in enumerate(value) if (below := held_parts(item))}
    return found


def _said_by_author(name: str, held: Any) -> Any:
    if name == "metadata" and isinstance(held, dict):
        return {part: value for part, value in held.items() if part not in _ASSIGNED_METADATA}
    return held


def with_held(resource: Mapping[str, Any], held: Mapping[str, Any]) -> dict[str, Any]:
    """A wire form with what is held put in its place; neither argument is changed.

    Args:
        resource: The wire form.
        held: As :func:`held_parts` gives it.
    """
    merged: dict[str, Any] = _merged(resource, held)
    return merged


def _merged(value: Any, held: Any) -> Any:
    if isinstance(value, Mapping) and isinstance(held, Mapping):
        below = {name: _merged(value.get(name), item) for name, item in held.items()}
        return {**value, **below}
    if isinstance(value, list) and isinstance(held, Mapping):
        return [_merged(item, held.get(str(index))) for index, item in enumerate(value)]
    return value if held is None else copy.deepcopy(held)
