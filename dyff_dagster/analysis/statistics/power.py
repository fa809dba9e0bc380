"""How small a difference so many items can show."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from dyff_dagster.analysis.errors import AnalysisError
from dyff_dagster.analysis.statistics.observations import (
    Clusters,
    by_item,
    check_level,
    no_spread,
    numbers,
    same_length,
)


def minimum_detectable_effect(
    deviation: float,
    n: int,
    n_second: int | None = None,
    *,
    power: float = 0.8,
    level: float = 0.95,
) -> float | None:
    """The least true difference that a two-sided t test would find that often.

    A result that is not significant says nothing about differences that are smaller.

    Source: Cohen (1988), Statistical Power Analysis, chapter 2, with the noncentral t distribution of
    ``scipy.stats.nct``; equal to ``statsmodels.stats.power`` solved for the effect size.

    Args:
        deviation: Standard deviation of what is averaged: of the items' differences for a paired comparison, of
            the items themselves else; for a share p of independent items, sqrt(p (1 - p)).
        n: Items: pairs of a paired comparison, else those of the first group.
        n_second: Items of the second group; None for a paired comparison.
        power: How often it is to be found.
        level: 1 less the test's level: 0.95 for a test at 5 %.

    Returns:
        The difference, in the units of ``deviation``; None where there are too few items for any test.

    Raises:
        AnalysisError: A deviation below 0, counts below 0, or a power that does not lie between 1 - level and 1.
    """
    check_level("minimum_detectable_effect", level)
    if not 1 - level < power < 1:
        raise AnalysisError(
            f"minimum_detectable_effect: power {power:g} does not lie between {1 - level:g} and 1; write 0.8 for 80 %"
        )
    if not (math.isfinite(deviation) and deviation >= 0) or n < 0 or (n_second is not None and n_second < 0):
        raise AnalysisError(
            "minimum_detectable_effect: a deviation and counts below 0 make no sense; give them as they are counted"
        )
    freedom = n - 1 if n_second is None else n + n_second - 2
    if freedom < 1 or min(n, n if n_second is None else n_second) < 1:
        return None
    scale = math.sqrt(1 / n if n_second is None else 1 / n + 1 / n_second)
    from scipy.optimize import brentq
    from scipy.stats import nct, norm, t

    critical = float(t.ppf((1 + level) / 2, freedom))

    def shortfall(shift: float) -> float:
        wrong_side = float(nct.cdf(-critical, freedom, shift))
        # Far out, where it is nothing, scipy has no number for it.
        found = float(nct.sf(critical, freedom, shift)) + (0.0 if math.isnan(wrong_side) else wrong_side)
        return found - power

    highest = critical + max(1.0, float(norm.ppf(power)))
    while shortfall(highest) < 0:
        highest *= 1.3
    return float(brentq(shortfall, 0.0, highest)) * scale * deviation


def detectable_paired_difference(
    first: ArrayLike,
    second: ArrayLike,
    clusters: Clusters = None,
    *,
    power: float = 0.8,
    level: float = 0.95,
) -> float | None:
    """:func:`minimum_detectable_effect` for items that differ as much as these do.

    None where no item differs from another in its difference: then nothing is known of the spread.

    Args:
        first: One system's outcomes or numbers, shape ``(observations,)``.
        second: The other's, of the same observations.
        clusters: The item of each observation.
        power: How often it is to be found.
        level: 1 less the test's level.

    Raises:
        AnalysisError: A number that is not finite, or lengths that differ.
    """
    function = "detectable_paired_difference"
    one, other = numbers(function, "first", first), numbers(function, "second", second)
    same_length(function, one, other)
    (difference,) = by_item(function, clusters, other - one)
    if no_spread(difference):
        return None
    return minimum_detectable_effect(
        float(np.std(difference, ddof=1)), len(difference), power=power, level=level
    )
