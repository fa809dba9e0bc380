"""A threshold held against the scores of a committed version."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dyff_dagster.catalog import Threshold
from dyff_dagster.store import Facts, Score


@dataclass(frozen=True)
class Judgement:
    """Whether a threshold holds, and of what.

    Attributes:
        threshold: What was demanded.
        holds: Whether the scores keep it.
        score: The score it is about, or None where there is none of that name.
        value: The number that was compared: the point, or a bound of the interval.
        reason: Why nothing could be compared, or an empty string.
    """

    threshold: Threshold
    holds: bool
    score: Score | None = None
    value: float | None = None
    reason: str = ""


def judge(threshold: Threshold, facts: Facts) -> Judgement:
    """Hold a threshold against the scores; what cannot be compared does not hold.

    Args:
        threshold: ``sensitivity >= 0.9`` compares the point, ``lower(auc) >= 0.95`` the interval's bound.
        facts: Of the committed version.
    """
    score = facts.score(threshold.score)
    if score is None:
        known = ", ".join(known.name for known in facts.scores) or "none"
        return Judgement(threshold, False, reason=f"there is no score {threshold.score}; there are: {known}")
    value = {"value": score.value, "low": score.low, "high": score.high}[threshold.bound]
    if value is None or not math.isfinite(value):
        what = "value" if threshold.bound == "value" else "interval"
        return Judgement(threshold, False, score, reason=f"the score {score.name} has no {what}")
    return Judgement(threshold, threshold.holds(value), score, value)
