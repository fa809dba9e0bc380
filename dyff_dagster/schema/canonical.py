"""One text for one value: canonical JSON, and the digests that are taken of it.

Canonical JSON here: object keys sorted by code point, no white space, UTF-8 without escapes that JSON does
not demand, numbers as Python writes them (the shortest text that reads back the same), no NaN and no
infinity. An integer and a float are different values (``1`` and ``1.0``), and so are ``0.0`` and ``-0.0``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from typing import Any

import pydantic
from pydantic_core import to_jsonable_python

from dyff_dagster.schema.annotations import result_annotations
from dyff_dagster.schema.base import Annotation, DyffEntity
from dyff_dagster.schema.data import DataSchema
from dyff_dagster.schema.errors import DyffError
from dyff_dagster.schema.evaluations import EvaluationBase
from dyff_dagster.schema.newer import computing_fields
from dyff_dagster.schema.services import (
    InferenceServiceRunner,
    InferenceServiceSpec,
    InferenceSessionBase,
)

__all__ = ["CanonicalError", "canonical_json", "service_digest", "sha256_text", "spec_digest"]


class CanonicalError(DyffError):
    """A value that JSON cannot hold; ``path`` is where it is, ``problem`` says why. Holds no value."""

    def __init__(self, path: str, problem: str) -> None:
        self.path, self.problem = path, problem
        super().__init__(f"the value at {path} cannot be written as canonical JSON: {problem}")


def canonical_json(value: Any) -> bytes:
    """Return the one JSON text of ``value``: dict, list, tuple, str, int, float, bool, None, nested freely.

    Raises:
        CanonicalError: a key is no string, a number is NaN or infinite, a string is no Unicode text, or
            there is something else in it.
    """
    try:
        _check_keys(value, "$")
        return _ENCODER.encode(value).encode("utf-8")
    except (TypeError, ValueError, RecursionError):
        # The standard library's message may quote the value.
        raise CanonicalError(*_culprit(value, "$")) from None


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _check_keys(value: Any, path: str) -> None:
    # json.dumps would write the keys 1 and "1" alike.
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise CanonicalError(path, f"a key is {type(key).__name__}, not str")
            if isinstance(item, dict | list | tuple):
                _check_keys(item, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for position, item in enumerate(value):
            if isinstance(item, dict | list | tuple):
                _check_keys(item, f"{path}[{position}]")


def _culprit(value: Any, path: str, depth: int = 0) -> tuple[str, str]:
    if depth > 200:
        return path, "it is nested too deeply, or contains itself"
    children: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        children = [(f"{path}.{key}", item) for key, item in value.items()]
    elif isinstance(value, list | tuple):
        children = [(f"{path}[{position}]", item) for position, item in enumerate(value)]
    elif isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return path, "JSON has no NaN and no infinity"
    elif isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            return path, "it is no Unicode text (it has half of a surrogate pair)"
    elif not isinstance(value, int | float | bool | type(None)):
        return path, f"JSON has no {type(value).__name__}"
    for where, item in children:
        found = _culprit(item, where, depth + 1)
        if found[1]:
            return found
    return path, "" if depth else "a key is no Unicode text"


def sha256_text(text: str | bytes) -> str:
    """Return the SHA-256 of ``text`` (of its UTF-8, if it is a str) as 64 hexadecimal digits."""
    return hashlib.sha256(text.encode("utf-8") if isinstance(text, str) else text).hexdigest()


# What steers work and changes no result, by the class that declares it.
_LEFT_OUT: tuple[tuple[type[pydantic.BaseModel], frozenset[str]], ...] = (
    (DyffEntity, frozenset({"status", "reason", "creationTime", "labels"})),
    (EvaluationBase, frozenset({"workersPerReplica"})),
    (InferenceSessionBase, frozenset({"replicas", "useSpotPods", "expires", "accelerator"})),
    (InferenceServiceRunner, frozenset({"accelerator"})),
    # It says again what the Arrow schema says, in the words of the pydantic that is installed.
    (DataSchema, frozenset({"jsonSchema"})),
)


_AS_THEY_ARE = frozenset({str, int, bool, float})
"""Types whose values are JSON already; by far the most there are. (Enumerations are of types of their own.)"""


def spec_digest(entity: DyffEntity) -> str:
    """Return the code version of ``entity``: the SHA-256 of what can change its result.

    It covers the wire form without what is assigned by the system, labels, steering annotations and
    annotations of others, and without the number and kind of machines: replicas, workersPerReplica,
    useSpotPods, expires, accelerator, at any depth. Fields that are None are left out, so that a field
    added to a type changes no digest until it is set; None inside free-form JSON counts. Fields that are
    held for dyff-schema 0.46 count where they can change a result (see ``schema.newer``).
    """
    return sha256_text(canonical_json(_spec(entity)))


def service_digest(service: InferenceServiceSpec, annotations: Iterable[Annotation] = ()) -> str:
    """Return the SHA-256 of what can change an inference service's answers.

    An InferenceService and the ForeignInferenceService that an evaluation holds of it have the same
    digest. It covers id, model, builder, runner and interface. Name and outputViews change no answer; the
    annotations that do (``answer-rules``) are on the InferenceService alone, so pass them as
    ``annotations`` wherever they are to count.
    """
    spec = _spec(service)
    kept: dict[str, Any] = {
        name: spec[name] for name in ("model", "builder", "runner", "interface") if name in spec
    }
    identity = getattr(service, "id", None)
    if identity is not None:
        # Two local services of the same command line run in different directories.
        kept["id"] = identity
    found = result_annotations(annotations)
    if found:
        kept["annotations"] = found
    return sha256_text(canonical_json(kept))


@cache
def _counted(kind: type[pydantic.BaseModel]) -> tuple[tuple[str, str], ...]:
    """The fields of a type that can change a result: their names, and what they are called on the wire."""
    left_out = {name for base, names in _LEFT_OUT if issubclass(kind, base) for name in names}
    return tuple(
        (name, field.alias or name) for name, field in kind.model_fields.items() if name not in left_out
    )


def _spec(model: pydantic.BaseModel) -> dict[str, Any]:
    spec: dict[str, Any] = {}
    for name, alias in _counted(type(model)):
        value = getattr(model, name)
        if value is None:
            continue
        if name == "annotations" and isinstance(model, DyffEntity):
            value = result_annotations(model.annotations)
            if not value:
                continue
        spec[alias] = _plain(value)
    spec.update(computing_fields(model))
    return spec


def _plain(value: Any) -> Any:
    if type(value) in _AS_THEY_ARE:
        return value
    if isinstance(value, pydantic.BaseModel):
        return _spec(value)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return to_jsonable_python(value)
