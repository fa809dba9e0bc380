"""The label that says how urgent an entity is: ``dyff-dagster/priority``, a whole number, the higher the sooner.

A label and no annotation: it is what people choose and count by in Dagster too, where labels are tags. It steers only:
what is computed does not depend on it.
"""

from __future__ import annotations

import re

from dyff_dagster.schema.annotations import PREFIX
from dyff_dagster.schema.base import DyffEntity

__all__ = ["HIGHEST", "PRIORITY", "is_priority", "priority_of"]

PRIORITY = PREFIX + "priority"
"""The label's key."""

HIGHEST = 1000
"""Dagster reckons with sums of priorities in 32 bits; a thousand is urgent enough."""


def is_priority(value: str | None) -> bool:
    """Whether a label's value is a priority: a whole number from 0 to :data:`HIGHEST`.

    (A label's value begins with a letter or a digit, so that there is nothing less urgent than to say nothing.)
    """
    return value is not None and re.fullmatch(r"[0-9]{1,4}", value) is not None and int(value) <= HIGHEST


def priority_of(entity: DyffEntity) -> int | None:
    """How urgent an entity is; None where it says nothing (of 0, for Dagster) or nothing that can be read."""
    value = entity.labels.get(PRIORITY)
    return int(value) if value is not None and is_priority(value) else None
