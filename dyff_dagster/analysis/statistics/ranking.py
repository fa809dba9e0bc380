"""The area under the ROC curve, and the difference of two of them."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from dyff_dagster.analysis.errors import AnalysisError
from dyff_dagster.analysis.statistics.estimate import Estimate, estimator
from dyff_dagster.analysis.statistics.intervals import normal_quantile
from dyff_dagster.analysis.statistics.observations import (
    Clusters,
    Numbers,
    binary,
    by_item,
    check_level,
    numbers,
    same_length,
)


@estimator
def auc(labels: ArrayLike, scores: ArrayLike, clusters: Clusters = None, level: float = 0.95) -> Estimate:
    """The area under the ROC curve: the chance that a positive item scores above a negative one, ties half.

    The interval is DeLong's on the logit scale, which does not leave [0, 1]. At perfect separation, with one
    item of a class, or where DeLong's variance is zero, it is Newcombe's method 5, which is defined there.
    Without items of both classes the value and the interval are None.

    Sources: DeLong, DeLong, Clarke-Pearson (1988), Biometrics 44, 837-845; logit scale: Perme, Manevski
    (2019), Stat. Methods Med. Res. 28, 3755-3768; Newcombe (2006), Stat. Med. 25, 559-573.

    Args:
        labels: 1 for positive, 0 for negative; the same in all replications of an item.
        scores: Finite numbers, higher for positive, shape ``(observations,)``.
        clusters: The item of each observation; None: each is an item of its own.
        level: The interval's level.

    Raises:
        AnalysisError: Other labels than 0 and 1, a score that is not finite, lengths that differ, or an item
            whose replications have different labels.
    """
    check_level("auc", level)
    truth, values = _ranked("auc", labels, numbers("auc", "scores", scores), clusters)
    m, n = int(truth.sum()), len(truth) - int(truth.sum())
    if m == 0 or n == 0:
        return Estimate(None, None, None, m + n, "none", level)
    placements = _place(truth, values)
    value = placements.area
    z = normal_quantile(level)
    if m > 1 and n > 1 and 0 < value < 1:
        variance = float(placements.above.var(ddof=1)) / m + float(placements.below.var(ddof=1)) / n
        if variance > 0:
            from scipy.special import expit, logit

            half = z * math.sqrt(variance) / (value * (1 - value))
            low, high = (float(expit(logit(value) + way * half)) for way in (-1, 1))
            return Estimate(value, low, high, m + n, "DeLong, logit scale", level)
    low, high = _newcombe(value, m, n, z)
    return Estimate(value, low, high, m + n, "Newcombe, method 5", level)


@estimator
def paired_auc_difference(
    labels: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    clusters: Clusters = None,
    level: float = 0.95,
) -> Estimate:
    """The AUC of ``second`` less that of ``first`` on the same items, with DeLong's interval.

    Without two items of each class, or where the two rank all pairs alike, there is no interval.

    Source: DeLong, DeLong, Clarke-Pearson (1988), Biometrics 44, 837-845.

    Args:
        labels: As for :func:`auc`.
        first: One system's scores, shape ``(observations,)``.
        second: The other's, of the same observations.
        clusters: The item of each observation; None: each is an item of its own.
        level: The interval's level.

    Raises:
        AnalysisError: As :func:`auc`.
    """
    function = "paired_auc_difference"
    check_level(function, level)
    one, other = numbers(function, "first", first), numbers(function, "second", second)
    same_length(function, one, other)
    truth, a = _ranked(function, labels, one, clusters)
    _, b = _ranked(function, labels, other, clusters)
    m, n = int(truth.sum()), len(truth) - int(truth.sum())
    if m == 0 or n == 0:
        return Estimate(None, None, None, m + n, "none", level)
    before, after = _place(truth, a), _place(truth, b)
    value = after.area - before.area
    if m < 2 or n < 2:
        return Estimate(value, None, None, m + n, "none", level)
    variance = (
        float((after.above - before.above).var(ddof=1)) / m
        + float((after.below - before.below).var(ddof=1)) / n
    )
    if variance <= 0:
        return Estimate(value, None, None, m + n, "none", level)
    half = normal_quantile(level) * math.sqrt(variance)
    return Estimate(value, max(-1.0, value - half), min(1.0, value + half), m + n, "DeLong", level)


class _Placements(NamedTuple):
    """``above``: the share of negatives below each positive; ``below``: of positives above each negative."""

    above: Numbers
    below: Numbers

    @property
    def area(self) -> float:
        return float(self.above.mean())


def _place(truth: Numbers, values: Numbers) -> _Placements:
    """The share of the other class that each item beats: its overall rank less its rank in its own class."""
    from scipy.stats import rankdata

    positive, negative = values[truth == 1], values[truth == 0]
    m, n = len(positive), len(negative)
    ranks = rankdata(np.concatenate([positive, negative]))
    return _Placements(
        above=(ranks[:m] - rankdata(positive)) / n, below=1 - (ranks[m:] - rankdata(negative)) / m
    )


def _ranked(function: str, labels: ArrayLike, values: Numbers, clusters: Clusters) -> tuple[Numbers, Numbers]:
    truth = binary(function, "labels", labels)
    same_length(function, truth, values)
    truth, values = by_item(function, clusters, truth, values)
    if np.any((truth != 0) & (truth != 1)):
        raise AnalysisError(
            f"{function}: an item has different labels in different replications; a label belongs to an item"
        )
    return truth, values


def _newcombe(value: float, m: int, n: int, z: float) -> tuple[float, float]:
    """Where the squared distance from the estimate is z² times the variance that belongs to the bound itself."""
    from scipy.optimize import brentq

    star = (m + n) / 2 - 1

    def excess(theta: float) -> float:
        spread = 1 + star * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return (value - theta) ** 2 - z * z * theta * (1 - theta) * spread / (m * n)

    # At 0 and 1 the variance vanishes too: a bound that is there is not looked for.
    low = 0.0 if value <= 0 else float(brentq(excess, 0.0, min(value, 1 - 1e-12)))
    high = 1.0 if value >= 1 else float(brentq(excess, max(value, 1e-12), 1.0))
    return low, high
