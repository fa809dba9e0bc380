"""What was found in a bundle."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["holds", "fails", "skipped"]
Verdict = Literal["recomputed", "differs", "asserted"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: ``container``, ``signature``, ``files``, ``provenance``, ``rows``, ``scores`` or ``code``.
        state: Whether it holds; ``skipped`` where it was not looked at.
        summary: What was looked at, in a clause.
        faults: What does not hold, one sentence each.
        notes: What else there is to know, one sentence each.
    """

    name: str
    state: State
    summary: str
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class CheckedScore:
    """A score of the bundle.

    Attributes:
        entity: The Measurement or SafetyCase that reports it.
        name: Its name.
        value: As it is recorded; None where it is undefined.
        low: Lower bound of its interval.
        high: Upper bound.
        n: Observations that it rests on.
        verdict: ``recomputed``: it was made again, and is the same to 1e-9. ``differs``: it was made again, and is
            not. ``asserted``: it could not be made again.
        why: Why it is asserted, or how it differs.
        estimator: Dotted name of what it was made by, where that is known.
    """

    entity: str
    name: str
    value: float | None
    low: float | None
    high: float | None
    n: int | None
    verdict: Verdict
    why: str = ""
    estimator: str = ""


@dataclass(frozen=True)
class Verification:
    """All that was found.

    Attributes:
        path: The file.
        subject: ID of what the bundle is about; empty where that could not be read.
        key: Fingerprint of the key that was trusted.
        checks: What was looked at, in this order.
        scores: Every score in the bundle, with whether it could be made again.
        left_out: By entity, why files of its version are not in the bundle.
    """

    path: str
    subject: str
    key: str
    checks: tuple[Check, ...]
    scores: tuple[CheckedScore, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Whether everything that must be looked at was, and holds."""
        states = {check.name: check.state for check in self.checks}
        needed = ("container", "signature", "files", "provenance", "rows", "scores")
        return all(states.get(name) == "holds" for name in needed) and "fails" not in states.values()

    def to_json(self) -> dict[str, Any]:
        """As a JSON object, with ``holds``."""
        return {"holds": self.holds, **dataclasses.asdict(self)}
