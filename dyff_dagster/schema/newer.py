"""What dyff-schema 0.46 has beyond the page: fields that are held for it, and written only to it.

The page's types are those of 0.12. An entity that 0.46 wrote has fields besides. Those that are listed here
are taken at their place and held beside the type's own fields: they survive copies and pickling, they are no
part of ``model_dump()``, ``==`` and the wire form, and ``schema.interchange`` writes them for 0.46 again.
Every other unknown field is an error as it always was.

A held field that says what 0.46 takes for granted is not held at all, so that an entity that went there and
back has the digest it had. Of the others, those that could change what is computed count in the digest of a
spec (``computes``), the rest do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError, to_jsonable_python

from dyff_dagster.schema.errors import DyffError

__all__ = [
    "NEWER_FIELDS",
    "NewerField",
    "NewerFieldError",
    "carry",
    "computing_fields",
    "held_fields",
    "hold",
    "newer_fields",
    "without",
]

M = TypeVar("M", bound=BaseModel)

HELD = "_newer"
"""Key of the held fields in an instance's ``__dict__``. Being no field, pydantic copies and pickles it, and
neither compares nor writes it; instances that hold nothing pay nothing."""

Fault = tuple[tuple[str | int, ...], str]
"""A place below a type and what is wrong there."""


@dataclass(frozen=True)
class NewerField:
    """A field that 0.46 added to a type of the page.

    Attributes:
        form: The JSON type of its value.
        default: What 0.46 takes where it is missing; never held.
        computes: Whether it can change what is computed, and so counts in the digest of a spec.
        assigned: Whether the platform assigns it, so that a manifest has no place for it.
    """

    form: type
    default: Any = None
    computes: bool = False
    assigned: bool = False


_SECURITY = NewerField(dict, {"trusted": True, "ignoreQuotas": []})
_CLIENT = {
    "badRequestPolicy": "Abort",
    "transientErrorRetryLimit": 120,
    "transientErrorRetryDelaySeconds": 30,
    "duplicateOutputPolicy": "Deduplicate",
    "missingOutputPolicy": "Error",
    "requestTimeoutSeconds": 30,
    "totalTimeoutSeconds": 7200,
    "batchSize": 1000,
    "extraOptions": {},
}

NEWER_FIELDS: dict[str, dict[str, NewerField]] = {
    "APIKey": {"permissionsVersion": NewerField(str)},
    "Account": {
        "auth": NewerField(
            dict, {"permissions": [], "permissionsVersion": "00000000000000000000000000000000"}
        ),
        "lastTransitionTime": NewerField(str, assigned=True),
        "message": NewerField(str, assigned=True),
        "reason": NewerField(str, assigned=True),
        "status": NewerField(str, "Active", assigned=True),
    },
    "Analysis": {"data": NewerField(list, [], computes=True), "securityContext": _SECURITY},
    "Documentation": {"entity": NewerField(str)},
    "DyffEntity": {
        "lastTransitionTime": NewerField(str, assigned=True),
        "metadata": NewerField(
            dict, {"metrics": None, "revision": None, "documentation": {}, "preconditions": []}
        ),
    },
    "Evaluation": {"securityContext": _SECURITY},
    "EvaluationBase": {"client": NewerField(dict, _CLIENT, computes=True)},
    "History": {"historyOf": NewerField(str)},
    "Identity": {"authentik": NewerField(str), "github": NewerField(str), "gitlab": NewerField(str)},
    "InferenceServiceRunner": {
        "command": NewerField(list, computes=True),
        "env": NewerField(list, computes=True),
        "imageRef": NewerField(dict, computes=True),
        # A number of machines, like a session's replicas.
        "nodes": NewerField(int, 1),
        "volumeMounts": NewerField(list, computes=True),
        "workingDir": NewerField(str, computes=True),
    },
    "InferenceSession": {"securityContext": _SECURITY},
    "MethodBase": {
        "analysisImage": NewerField(dict, computes=True),
        "scores": NewerField(list, [], computes=True),
    },
    "ModelArtifact": {"volume": NewerField(dict, computes=True)},
    "ModelResources": {"cpu": NewerField(str)},
    "RevisionMetadata": {"previousRevision": NewerField(str)},
    "Status": {"message": NewerField(str, assigned=True)},
}
"""The newer fields of each type of the page that declares them; types that inherit from it have them too."""

_FORMS = {dict: "an object", list: "a list", str: "text", int: "a whole number"}


class NewerFieldError(DyffError):
    """A held field that is not as 0.46 has it. ``type_name`` is the type, ``faults`` are (place, problem)."""

    def __init__(self, type_name: str, faults: list[Fault]) -> None:
        self.type_name, self.faults = type_name, faults
        said = "; ".join(f"{'.'.join(map(str, place))}: {problem}" for place, problem in faults)
        super().__init__(f"{type_name}: {said}")


@lru_cache(maxsize=512)  # bounded: named data schemas are types that are made as they are asked for
def newer_fields(model_type: type[BaseModel]) -> Mapping[str, NewerField]:
    """Return the newer fields of a type by their name on the wire, inherited ones included."""
    found: dict[str, NewerField] = {}
    for base in reversed(model_type.__mro__):
        # A type of the page that took such a name for itself would go before.
        found.update(NEWER_FIELDS.get(base.__name__, {}))
    return {name: field for name, field in found.items() if name not in model_type.model_fields}


def split(model_type: type[BaseModel], data: Any) -> tuple[Any, dict[str, Any], list[Fault]]:
    """Return ``data`` without newer fields, those that are to be held, and what is wrong with them."""
    fields = newer_fields(model_type)
    if not fields or not isinstance(data, dict) or fields.keys().isdisjoint(data):
        return data, {}, []
    held: dict[str, Any] = {}
    faults: list[Fault] = []
    for name in fields.keys() & data.keys():
        field = fields[name]
        try:
            value: Any = to_jsonable_python(data[name])
        except (PydanticSerializationError, ValueError):
            faults.append(((name,), "cannot be written as JSON"))
            continue
        if value is None:
            continue
        # bool is an int to Python, and none to JSON.
        if not isinstance(value, field.form) or (field.form is int and isinstance(value, bool)):
            faults.append(((name,), f"must be {_FORMS[field.form]}"))
            continue
        if name == "scores" and isinstance(value, list):
            value = _scores(value, faults)
        value = _stripped(value, field.default)
        if value is not None:
            held[name] = value
    return {name: value for name, value in data.items() if name not in fields}, held, faults


def _scores(value: list[Any], faults: list[Fault]) -> list[Any]:
    # Here and not above: the specification of a score is a type itself, which stands on the base types.
    from dyff_dagster.schema.scores import check_scores

    try:
        return check_scores(value)
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_context=False, include_input=False):
            faults.append((("scores", *detail["loc"]), detail["msg"]))
        return []


def _stripped(value: Any, default: Any) -> Any:
    """``value`` without what 0.46 takes for granted; None where nothing is left."""
    if value == default:
        return None
    if isinstance(value, dict) and isinstance(default, dict):
        kept = {name: _stripped(item, default.get(name)) for name, item in value.items()}
        return {name: item for name, item in kept.items() if item is not None} or None
    return value


def held_fields(model: BaseModel) -> dict[str, Any]:
    """Return the newer fields that ``model`` holds, as JSON values by name; not those of its parts."""
    return dict(model.__dict__.get(HELD, {}))


def computing_fields(model: BaseModel) -> dict[str, Any]:
    """Return those held fields that can change what is computed: what the digest of a spec takes in."""
    held = model.__dict__.get(HELD)
    if not held:
        return {}
    fields = newer_fields(type(model))
    return {name: value for name, value in held.items() if fields[name].computes}


def attach(model: BaseModel, held: Mapping[str, Any]) -> None:
    """Put checked fields on a model that was just made."""
    if held:
        model.__dict__[HELD] = dict(held)


def hold(model: M, fields: Mapping[str, Any]) -> M:
    """Return a copy of ``model`` that holds ``fields`` besides what it held; None lets go of one.

    Example::

        method = hold(method, {"scores": [{"name": "auc", "title": "AUC", "summary": "Area under the curve"}]})

    Raises:
        NewerFieldError: the type has no such newer field, or the value is not of the form it has.
    """
    known = newer_fields(type(model))
    _, held, faults = split(type(model), dict(fields))
    faults += [((name,), "is no newer field of this type") for name in fields if name not in known]
    if faults:
        raise NewerFieldError(type(model).__name__, faults)
    copy = model.model_copy()
    kept = {name: value for name, value in held_fields(model).items() if name not in fields}
    copy.__dict__.pop(HELD, None)
    attach(copy, {**kept, **held})
    return copy


def without(model: M, names: frozenset[str]) -> M:
    """Return ``model``, or a copy of it that does not hold the fields ``names``."""
    held = held_fields(model)
    if names.isdisjoint(held):
        return model
    return hold(model, dict.fromkeys(names & held.keys()))


def carry(source: BaseModel, target: BaseModel) -> None:
    """Let ``target``, just made of the fields of ``source``, hold what ``source`` holds and it can have."""
    known = newer_fields(type(target))
    attach(target, {name: value for name, value in held_fields(source).items() if name in known})
