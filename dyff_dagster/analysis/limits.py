"""How long an analysis may take and how much memory it may hold, as its author or its method's states it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dyff_dagster.analysis.errors import AnalysisError
from dyff_dagster.schema.annotations import PREFIX, annotation
from dyff_dagster.schema.platform import DyffEntity
from dyff_dagster.schema.resources import QuantityError, quantity_value

MAX_SECONDS, MAX_MEMORY = "max-seconds", "max-memory"

DEFAULT_SECONDS = 86_400.0
"""A day: where nobody states one, so that what hangs does not hang for ever."""

_MOST_BYTES = 1 << 60
"""More than any machine has, and less than a system call refuses."""


@dataclass(frozen=True)
class Limits:
    """Limits of one analysis; None: no limit.

    Attributes:
        seconds: After how many it is ended.
        memory: Bytes that its processes may hold together, those of this package among them.
        more_seconds: How to give it more, for the error that says that it was ended.
        more_memory: The same of memory.
    """

    seconds: float | None = None
    memory: int | None = None
    more_seconds: str = "give it more"
    more_memory: str = "give it more"

    @classmethod
    def of(cls, analysis: DyffEntity, method: DyffEntity | None = None) -> Limits:
        """The limits that hold for an analysis: its own, else its method's, else the default.

        Args:
            analysis: A Measurement, SafetyCase or Report.
            method: The entity of its method, where there is one.

        Raises:
            AnalysisError: An annotation has no such form.
            AmbiguousAnnotationError: One stands there with two values.
        """
        seconds, memory = (_said(name, analysis, method) for name in (MAX_SECONDS, MAX_MEMORY))
        return cls(
            seconds=DEFAULT_SECONDS if seconds is None else _seconds(*seconds),
            memory=None if memory is None else _bytes(*memory),
            more_seconds=(
                f"state a longer {PREFIX}{MAX_SECONDS} on {analysis.id}"
                if seconds is None
                else f"raise {PREFIX}{MAX_SECONDS} of {seconds[1]}"
            ),
            more_memory=cls.more_memory if memory is None else f"raise {PREFIX}{MAX_MEMORY} of {memory[1]}",
        )


def _said(name: str, *entities: DyffEntity | None) -> tuple[str, str] | None:
    """The value that the first of the entities states, and whose it is."""
    for entity in entities:
        if entity is not None and (value := annotation(entity, name)) is not None:
            return value, entity.id
    return None


def _seconds(text: str, owner: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise AnalysisError(f"{owner}: {PREFIX}{MAX_SECONDS} must be a number of seconds, more than 0")
    return seconds


def _bytes(text: str, owner: str) -> int:
    try:
        amount = quantity_value(text)
    except QuantityError as error:
        raise AnalysisError(f"{owner}: {PREFIX}{MAX_MEMORY} {error}") from None
    if amount < 1:
        raise AnalysisError(f"{owner}: {PREFIX}{MAX_MEMORY} must be a quantity of bytes, as 2Gi")
    return min(int(amount), _MOST_BYTES)
