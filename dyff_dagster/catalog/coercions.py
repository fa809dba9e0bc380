"""What a manifest must not say although pydantic would take it for something else.

``true`` would be read as 1, ``0`` as false, ``7`` as a moment in 1970, a moment without a zone as one in UTC,
and ``schema_`` as ``schema``. Entities that another program wrote are read as it wrote them (see
``schema.interchange``); what a person writes into a manifest is refused, with what would be right.

For each kind it is worked out once at which places such a value can stand: a few look-ups for each entity.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError

from dyff_dagster.catalog.problems import Location
from dyff_dagster.schema.newer import newer_fields
from dyff_dagster.schema.scores import ScoreSpec

Report = Callable[[Location, str], None]

_TIME = "must be a time with its zone, as in 2030-01-31T18:00:00Z"
_MOMENT: TypeAdapter[datetime] = TypeAdapter(datetime)
_DIGITS = re.compile(r"\s*[-+]?[0-9]+(\.[0-9]*)?\s*")


@dataclass(slots=True)
class _Fields:
    """A type whose values are mappings: what is looked at in them, and which names are not the wire's."""

    name: str
    plans: dict[str, _Plan] = field(default_factory=dict)
    misnamed: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Each:
    """A list, or a mapping from any keys: what is looked at in each member."""

    plan: _Plan


@dataclass(slots=True)
class _Kinds:
    """One of several types, told by their ``kind``."""

    plans: dict[str, _Plan]


_Plan = type | _Fields | _Each | _Kinds
"""What is looked at in a value; a plain type for the value itself: int, float, bool or datetime."""


def check_coercions(model: type[BaseModel], data: dict[str, Any], report: Report) -> None:
    """Report every value that would be read as something else than what was written.

    Args:
        model: The type that ``data`` is to become.
        data: A document, before anything is made of it. A field under a Python name (``schema_``) is
            reported and moved to its name on the wire, so that its value can be checked as well.
        report: Told of each place and what would be right there.
    """
    plan = _plan_of(model)
    if isinstance(plan, _Fields):
        _check(plan, data, (), report)
        for name, wire in plan.misnamed.items():
            if name in data:
                value = data.pop(name)
                data.setdefault(wire, value)


def _check(plan: _Plan, value: Any, location: Location, report: Report) -> None:
    if isinstance(plan, _Fields):
        if isinstance(value, dict):
            for name, wire in plan.misnamed.items():
                if name in value:
                    report((*location, name), f"{plan.name} has no field '{name}'; did you mean '{wire}'?")
            for name, below in plan.plans.items():
                if name in value:
                    _check(below, value[name], (*location, name), report)
    elif isinstance(plan, _Each):
        members: Iterable[tuple[str | int, Any]] = ()
        if isinstance(value, dict):
            members = value.items()
        elif isinstance(value, list):
            members = enumerate(value)
        for step, item in members:
            _check(plan.plan, item, (*location, step), report)
    elif isinstance(plan, _Kinds):
        kind = value.get("kind") if isinstance(value, dict) else None
        if isinstance(kind, str) and kind in plan.plans:
            _check(plan.plans[kind], value, location, report)
    else:
        message = _time(value, location) if plan is datetime else _number_or_truth(plan, value)
        if message is not None:
            report(location, message)


def _number_or_truth(wanted: type, value: Any) -> str | None:
    if wanted is bool:
        # Other numbers are refused as they are.
        taken = isinstance(value, int | float) and not isinstance(value, bool) and value in (0, 1)
        return "must be true or false, not a number" if taken else None
    if isinstance(value, bool):
        return f"must be a {'whole ' if wanted is int else ''}number, not a truth value"
    return None


def _time(value: Any, location: Location) -> str | None:
    if isinstance(value, int | float) or (isinstance(value, str) and _DIGITS.fullmatch(value)):
        try:
            _MOMENT.validate_python(value)
        except ValidationError:
            return None  # told as everything is that is no time
        return f"{_TIME}, not a number"
    if isinstance(value, str) and location[-1] == "expires":
        # Whoever reads the manifest elsewhere would read another moment.
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return None  # pydantic says it better
        if moment.tzinfo is None:
            return "has no time zone; add one, as in 2030-01-31T18:00:00Z"
    return None


@lru_cache(maxsize=512)
def _plan_of(model: type[BaseModel]) -> _Fields | None:
    """What is looked at in values of a type; None where nothing is."""
    plan = _Fields(model.__name__)
    for name, info in model.model_fields.items():
        wire = info.alias or name
        if wire != name:
            plan.misnamed[name] = wire
        below = _plan_of_type(info.annotation)
        if below is not None:
            plan.plans[wire] = below
    if "scores" in newer_fields(model):
        scores = _plan_of(ScoreSpec)
        if scores is not None:
            plan.plans["scores"] = _Each(scores)
    return plan if plan.plans or plan.misnamed else None


def _plan_of_type(annotation: Any) -> _Plan | None:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _plan_of_type(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return _plan_of_union([part for part in get_args(annotation) if part is not type(None)])
    if origin in (list, dict):
        below = _plan_of_type(get_args(annotation)[-1])
        return None if below is None else _Each(below)
    if annotation in (int, float, bool, datetime):
        return annotation  # type: ignore[no-any-return]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _plan_of(annotation)
    return None


def _plan_of_union(parts: list[Any]) -> _Plan | None:
    if len(parts) == 1:
        return _plan_of_type(parts[0])
    plans: dict[str, _Plan] = {}
    for part in parts:
        if isinstance(part, type) and issubclass(part, BaseModel) and "kind" in part.model_fields:
            below = _plan_of(part)
            if below is not None:
                plans[str(part.model_fields["kind"].default)] = below
    return _Kinds(plans) if plans else None
