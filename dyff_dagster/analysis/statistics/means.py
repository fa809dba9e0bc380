"""Means of numbers, and of squared errors of probabilities."""

from __future__ import annotations

from numpy.typing import ArrayLike

from dyff_dagster.analysis.statistics.estimate import Estimate, estimator
from dyff_dagster.analysis.statistics.observations import (
    Clusters,
    Numbers,
    binary,
    by_item,
    chances,
    check_level,
    no_spread,
    numbers,
    same_length,
)


@estimator
def mean(
    values: ArrayLike,
    clusters: Clusters = None,
    level: float = 0.95,
    minimum: float | None = None,
    maximum: float | None = None,
) -> Estimate:
    """A mean over items, with Student's t interval.

    Of nothing the value is None. Of one item, or of items that are all equal, there is no interval: they say
    nothing about the spread.

    Source: Student (1908), Biometrika 6, 1-25, as ``scipy.stats.ttest_1samp`` has it.

    Args:
        values: Finite numbers, shape ``(observations,)``.
        clusters: The item of each observation; None: each is an item of its own.
        level: The interval's level.
        minimum: What the quantity cannot go below; the interval does not either.
        maximum: What it cannot exceed.

    Raises:
        AnalysisError: A value that is not finite, lengths that differ, or no such level.
    """
    check_level("mean", level)
    (items,) = by_item("mean", clusters, numbers("mean", "values", values))
    return mean_of_items(items, level, minimum, maximum)


@estimator
def brier(
    labels: ArrayLike, probabilities: ArrayLike, clusters: Clusters = None, level: float = 0.95
) -> Estimate:
    """The mean squared difference of a probability from what happened (0 is perfect), as :func:`mean`.

    Source: Brier (1950), Mon. Weather Rev. 78, 1-3, in the form for two outcomes, between 0 and 1.

    Args:
        labels: 1 where it happened, 0 where not, shape ``(observations,)``.
        probabilities: Between 0 and 1, shape ``(observations,)``.
        clusters: The item of each observation; None: each is an item of its own.
        level: The interval's level.

    Raises:
        AnalysisError: Other labels than 0 and 1, a probability outside [0, 1], or lengths that differ.
    """
    check_level("brier", level)
    truth = binary("brier", "labels", labels)
    chance = chances("brier", "probabilities", probabilities)
    same_length("brier", truth, chance)
    (items,) = by_item("brier", clusters, (chance - truth) ** 2)
    return mean_of_items(items, level, 0.0, 1.0)


def mean_of_items(
    items: Numbers, level: float, minimum: float | None = None, maximum: float | None = None
) -> Estimate:
    """The mean of one number per item, as :func:`mean`."""
    n = len(items)
    if n == 0:
        return Estimate(None, None, None, 0, "none", level)
    value = float(items.mean())
    if no_spread(items):
        return Estimate(value, None, None, n, "none", level)
    from scipy.stats import ttest_1samp

    found = ttest_1samp(items, 0.0).confidence_interval(level)
    low, high = float(found.low), float(found.high)
    if minimum is not None:
        low = max(low, minimum)
    if maximum is not None:
        high = min(high, maximum)
    return Estimate(value, low, high, n, "Student t", level)
