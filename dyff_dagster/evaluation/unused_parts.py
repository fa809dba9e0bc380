"""Answers beside the versions that no evaluation will take up: of an earlier generation, or of another service."""

from __future__ import annotations

import re
from collections.abc import Collection

from dyff_dagster.evaluation.part import Part
from dyff_dagster.store import Store

_DIRECTORY = "parts"
_BEGUN = re.compile(r"g\d{6}\.begun")
_DIGITS = 32
"""Of a service's digest, in the name of the directory of its answers."""


def outdated_parts(store: Store, entity_id: str) -> list[str]:
    """Parts that a later run asked for again, with ``force``, below ``.dyff``: no run looks at them any more."""
    found: list[str] = []
    for service in store.working_names(entity_id, _DIRECTORY):
        names = store.working_names(entity_id, f"{_DIRECTORY}/{service}")
        begun = max((int(name[1:7]) for name in names if _BEGUN.fullmatch(name)), default=0)
        parts = [part for name in names if (part := Part.parse(name)) is not None]
        found += [f"{_DIRECTORY}/{service}/{part.name}" for part in parts if part.generation < begun]
    return found


def parts_of_other_services(store: Store, entity_id: str, digests: Collection[str]) -> list[tuple[str, int]]:
    """Directories of answers of services that nobody asks as they were then, below ``.dyff``, and how many answers.

    Args:
        store: The store.
        entity_id: The evaluation.
        digests: Digests of the services that count.
    """
    keep = {digest[:_DIGITS] for digest in digests}
    found: list[tuple[str, int]] = []
    for service in store.working_names(entity_id, _DIRECTORY):
        if service not in keep:
            names = store.working_names(entity_id, f"{_DIRECTORY}/{service}")
            parts = [part for name in names if (part := Part.parse(name)) is not None]
            found.append((f"{_DIRECTORY}/{service}", sum(part.rows for part in parts)))
    return found
