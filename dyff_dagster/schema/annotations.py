"""This project's annotations of entities: keys under ``dyff-dagster/``, and what each of them touches.

The page reserves ``dyff.io`` and its subdomains for the platform; this prefix is outside of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from dyff_dagster.schema.base import Annotation, DyffEntity
from dyff_dagster.schema.errors import DyffError

__all__ = [
    "ANNOTATIONS",
    "PREFIX",
    "STEERING",
    "AmbiguousAnnotationError",
    "annotation",
    "is_reserved",
    "result_annotations",
]

PREFIX = "dyff-dagster/"

STEERING = frozenset(
    {
        "automation",
        "blocking",
        "checks",
        "files",
        "isolation",
        "max-cost",
        "max-failed-rows",
        "max-memory",
        "max-requests",
        "max-seconds",
        "prices",
        "reuse",
    }
)
"""Annotations that say when, where and how far work is done, and leave its result alone."""

ANNOTATIONS = STEERING | {
    "accept",
    "allow-pickle",
    "answer-rules",
    "from",
    "headers",
    "imported",
    "ingest",
    "rubric",
    "withhold",
}
"""Every annotation there is, without the prefix."""

_FROM_ENVIRONMENT = re.compile(r"\$\{[^}]+\}")
_RESERVED = re.compile(r"(?:[^/]+\.)?dyff\.io/.*", re.IGNORECASE)


class AmbiguousAnnotationError(DyffError):
    """An annotation with two values; ``entity`` is the id, ``key`` the annotation's."""

    def __init__(self, entity: str, key: str) -> None:
        self.entity, self.key = entity, key
        super().__init__(f"entity '{entity}' has the annotation '{key}' with two different values: keep one")


def is_reserved(key: str) -> bool:
    """Tell whether ``key`` belongs to the platform: it is under dyff.io/ or a subdomain."""
    return _RESERVED.fullmatch(key) is not None


def annotation(entity: DyffEntity, name: str) -> str | None:
    """Return the value of the annotation ``dyff-dagster/NAME``, or None where there is none.

    Raises:
        AmbiguousAnnotationError: it is there with different values.
    """
    values = {item.value for item in entity.annotations if item.key == PREFIX + name}
    if len(values) > 1:
        raise AmbiguousAnnotationError(entity.id, PREFIX + name)
    return values.pop() if values else None


def result_annotations(annotations: Iterable[Annotation]) -> dict[str, str]:
    """Return those annotations that can change a result, by key: what digests of a spec take in.

    Annotations of others are none of them. Of ``headers``, those whose values come from the environment
    are left out: they carry secrets, which change without changing what is answered.
    """
    found = {}
    for item in annotations:
        name = item.key.removeprefix(PREFIX)
        if name == item.key or name in STEERING:
            continue
        value = _literal_headers(item.value) if name == "headers" else item.value
        if value is not None:
            found[item.key] = value
    return found


def _literal_headers(text: str) -> str | None:
    try:
        headers = json.loads(text)
    except ValueError:
        return text
    if not isinstance(headers, dict):
        return text
    literal = {k: v for k, v in headers.items() if not (isinstance(v, str) and _FROM_ENVIRONMENT.search(v))}
    return json.dumps(literal, sort_keys=True) if literal else None
