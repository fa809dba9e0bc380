"""Intervals that several estimators share: Wilson's for a share that is no ratio of counts, and sums of parts."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dyff_dagster.analysis.statistics.estimate import Estimate


def normal_quantile(level: float) -> float:
    """How many standard errors an interval of that level reaches to each side: 1.96 for 0.95."""
    from scipy.stats import norm

    return float(norm.ppf((1 + level) / 2))


def wilson(share: float, n: int, z: float) -> tuple[float, float]:
    """Wilson's interval for a share of ``n`` items that need not be a ratio of whole numbers.

    ``scipy.stats.binomtest`` has it for counts only; where ``share * n`` is a whole number both agree.
    Source: Wilson (1927), J. Am. Stat. Assoc. 22, 209-212.
    """
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(max(0.0, share * (1 - share)) / n + z * z / (4 * n * n))
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    # At the ends the two terms cancel but for rounding.
    return (0.0 if share <= 0 else low), (1.0 if share >= 1 else high)


def sum_of_parts(weights: Sequence[float], parts: Sequence[Estimate]) -> tuple[float, float, float]:
    """Value and interval of a weighted sum of independent estimates, from their own intervals.

    Distances between value and bound are added as standard errors are ("square and add", MOVER). It needs
    no symmetry, and is defined where every part is 0 or 1. Parts must have values and intervals.

    Sources: Newcombe (1998), Stat. Med. 17, 873-890, for a difference; Zou, Donner (2008), Stat. Med. 27,
    1693-1702, for sums.
    """
    value = below = above = 0.0
    for weight, part in zip(weights, parts, strict=True):
        assert part.value is not None and part.low is not None and part.high is not None  # noqa: S101
        value += weight * part.value
        down, up = part.value - part.low, part.high - part.value
        if weight < 0:
            down, up = up, down
        below += (weight * down) ** 2
        above += (weight * up) ** 2
    return value, value - math.sqrt(below), value + math.sqrt(above)
