"""How far two systems are apart: on the same items, and on different ones.

A difference is always ``second`` less ``first``: positive where the second has more.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from dyff_dagster.analysis.statistics.estimate import Estimate, estimator
from dyff_dagster.analysis.statistics.intervals import normal_quantile, sum_of_parts, wilson
from dyff_dagster.analysis.statistics.means import mean_of_items
from dyff_dagster.analysis.statistics.observations import (
    Clusters,
    Numbers,
    binary,
    by_item,
    check_level,
    no_spread,
    numbers,
    same_length,
)
from dyff_dagster.analysis.statistics.proportions import rate


@estimator
def paired_rate_difference(
    first: ArrayLike, second: ArrayLike, clusters: Clusters = None, level: float = 0.95
) -> Estimate:
    """The share of ``second`` less that of ``first`` on the same items, with Tango's score interval.

    The interval rests on the items that differ, as McNemar's test does. Where an item has replications that
    disagree, it counts as the part by which it differs; its variance is no more than that of an item that
    differs in whole, so the interval is not too short.

    Of nothing the value is None and the interval is all of [-1, 1].

    Source: Tango (1998), Stat. Med. 17, 891-908; recommended by Fagerland, Lydersen, Laake (2014), Stat. Med.
    33, 2850-2875.

    Args:
        first: One system's outcomes, true or false, shape ``(observations,)``.
        second: The other's, of the same observations.
        clusters: The item of each observation; None: each is an item of its own.
        level: The interval's level.

    Raises:
        AnalysisError: Something else than true and false, or lengths that differ.
    """
    function = "paired_rate_difference"
    check_level(function, level)
    one, other = binary(function, "first", first), binary(function, "second", second)
    same_length(function, one, other)
    one, other = by_item(function, clusters, one, other)
    return paired_shares(one, other, level)


def paired_shares(first: Numbers, second: Numbers, level: float) -> Estimate:
    """As :func:`paired_rate_difference`, of one share per item; for systems with different replications."""
    difference = second - first
    n = len(difference)
    if n == 0:
        return Estimate(None, -1.0, 1.0, 0, "none", level)
    gained, lost = float(difference.clip(min=0).sum()), float((-difference).clip(min=0).sum())
    low, high = _tango(gained, lost, n, normal_quantile(level))
    return Estimate((gained - lost) / n, low, high, n, "Tango's score interval", level)


def _tango(gained: float, lost: float, n: int, z: float) -> tuple[float, float]:
    """The differences that a score test at that quantile would not refuse."""
    from scipy.optimize import brentq

    def score(delta: float) -> float:
        # The likeliest share of lost items, were the difference delta: Tango's equation 3.
        a = 2.0 * n
        b = -gained - lost + (2 * n - gained + lost) * delta
        c = -lost * delta * (1 - delta)
        q = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
        variance = n * (2 * q + delta * (1 - delta))
        distance = gained - lost - n * delta
        if variance <= 0:
            return math.copysign(math.inf, distance) if distance else 0.0
        return distance / math.sqrt(variance)

    value = (gained - lost) / n
    edge = 1 - 1e-12

    def excess_low(delta: float) -> float:
        return min(score(delta), 1e6) - z

    def excess_high(delta: float) -> float:
        return max(score(delta), -1e6) + z

    low = -1.0 if value <= -1 or excess_low(-edge) <= 0 else float(brentq(excess_low, -edge, value))
    high = 1.0 if value >= 1 or excess_high(edge) >= 0 else float(brentq(excess_high, value, edge))
    return low, high


@estimator
def paired_mean_difference(
    first: ArrayLike,
    second: ArrayLike,
    clusters: Clusters = None,
    level: float = 0.95,
    minimum: float | None = None,
    maximum: float | None = None,
) -> Estimate:
    """The mean of ``second`` less ``first`` on the same items, with Student's t interval of the differences.

    Items that all differ by the same number give no interval, as with :func:`mean`.

    Source: Student (1908), Biometrika 6, 1-25; as ``scipy.stats.ttest_rel`` has it.

    Args:
        first: One system's numbers, shape ``(observations,)``.
        second: The other's, of the same observations.
        clusters: The item of each observation; None: each is an item of its own.
        level: The interval's level.
        minimum: What a difference cannot go below.
        maximum: What it cannot exceed.

    Raises:
        AnalysisError: A number that is not finite, or lengths that differ.
    """
    function = "paired_mean_difference"
    check_level(function, level)
    one, other = numbers(function, "first", first), numbers(function, "second", second)
    same_length(function, one, other)
    (difference,) = by_item(function, clusters, other - one)
    return mean_of_items(difference, level, minimum, maximum)


@estimator
def rate_difference(
    first: ArrayLike,
    second: ArrayLike,
    first_clusters: Clusters = None,
    second_clusters: Clusters = None,
    level: float = 0.95,
) -> Estimate:
    """The share of ``second`` less that of ``first``, of different items, with Newcombe's score interval.

    ``n`` is the items of both together. On the same items use :func:`paired_rate_difference`: this one would
    take real differences for noise.

    Source: Newcombe (1998), Stat. Med. 17, 873-890, method 10.

    Args:
        first: One group's outcomes, true or false, shape ``(observations,)``.
        second: The other's; of another length, as a rule.
        first_clusters: The item of each observation of ``first``.
        second_clusters: The item of each observation of ``second``.
        level: The interval's level.

    Raises:
        AnalysisError: As :func:`rate`.
    """
    check_level("rate_difference", level)
    return difference_of_shares(
        rate(first, first_clusters, level), rate(second, second_clusters, level), level
    )


def difference_of_shares(first: Estimate, second: Estimate, level: float) -> Estimate:
    """As :func:`rate_difference`, of two shares with any intervals: theirs are made anew at ``level``."""
    n = first.n + second.n
    if first.value is None or second.value is None:
        return Estimate(None, -1.0, 1.0, n, "none", level)
    z = normal_quantile(level)
    parts = [Estimate(one.value, *wilson(one.value or 0.0, one.n, z), one.n) for one in (first, second)]
    value, low, high = sum_of_parts((-1.0, 1.0), parts)
    return Estimate(value, max(-1.0, low), min(1.0, high), n, "Newcombe, method 10", level)


@estimator
def mean_difference(
    first: ArrayLike,
    second: ArrayLike,
    first_clusters: Clusters = None,
    second_clusters: Clusters = None,
    level: float = 0.95,
) -> Estimate:
    """The mean of ``second`` less that of ``first``, of different items, with Welch's interval.

    Variances need not be equal. With fewer than two items on a side, or no spread on either, there is no
    interval.

    Source: Welch (1947), Biometrika 34, 28-35; as ``scipy.stats.ttest_ind`` has it.

    Args:
        first: One group's numbers, shape ``(observations,)``.
        second: The other's.
        first_clusters: The item of each observation of ``first``.
        second_clusters: The item of each observation of ``second``.
        level: The interval's level.

    Raises:
        AnalysisError: A number that is not finite, or lengths that differ.
    """
    function = "mean_difference"
    check_level(function, level)
    (one,) = by_item(function, first_clusters, numbers(function, "first", first))
    (other,) = by_item(function, second_clusters, numbers(function, "second", second))
    n = len(one) + len(other)
    if not len(one) or not len(other):
        return Estimate(None, None, None, n, "none", level)
    value = float(other.mean() - one.mean())
    if min(len(one), len(other)) < 2 or (no_spread(one) and no_spread(other)):
        return Estimate(value, None, None, n, "none", level)
    from scipy.stats import ttest_ind

    with np.errstate(all="ignore"):
        found = ttest_ind(other, one, equal_var=False).confidence_interval(level)
    return Estimate(value, float(found.low), float(found.high), n, "Welch's t", level)
