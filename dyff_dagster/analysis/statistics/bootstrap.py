"""Intervals by resampling items, for whatever has no formula of its own."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dyff_dagster.analysis.errors import AnalysisError
from dyff_dagster.analysis.statistics.estimate import Estimate, estimator
from dyff_dagster.analysis.statistics.observations import (
    Clusters,
    Numbers,
    check_level,
    items_of,
    same_length,
)

RESAMPLES = 9_999
"""Resamples by default, as scipy has it."""

MOST_DISTINCT = 2_000
"""Items that differ from each other, beyond which :func:`estimate_of_sums` uses the jackknife."""

MOST_UNDEFINED = 0.05
"""Share of resamples in which a statistic may be undefined; with more there is no interval."""


@estimator
def bootstrap(
    statistic: Callable[..., float | None],
    *columns: Sequence[Any] | NDArray[Any],
    clusters: Clusters = None,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
    minimum: float | None = None,
    maximum: float | None = None,
) -> Estimate:
    """Any statistic of observations, with a bootstrap interval over items.

    Items are drawn, and all observations of an item go with it. The interval is the bias-corrected and
    accelerated one (BCa). It takes ``resamples`` and as many calls of ``statistic`` as there are items.

    There is no interval where the statistic is the same in all resamples (a perfect score, one item), or
    undefined in more than a twentieth of them: the data do not show how it varies.

    Sources: Efron (1987), J. Am. Stat. Assoc. 82, 171-185, as ``scipy.stats.bootstrap`` has it; drawing items
    whole: Davison, Hinkley (1997), Bootstrap Methods and their Application, section 3.8.

    Args:
        statistic: Takes the columns as arrays, and returns a number, or None (or NaN) where it is undefined.
        columns: Any data, each of shape ``(observations, ...)``.
        clusters: The item of each observation; None: each is an item of its own.
        level: The interval's level.
        resamples: How many.
        seed: Of the resampling; the same seed gives the same interval.
        minimum: What the quantity cannot go below.
        maximum: What it cannot exceed.

    Raises:
        AnalysisError: No columns, lengths that differ, or fewer than one resample.
    """
    check_level("bootstrap", level)
    if not columns or resamples < 1:
        raise AnalysisError("bootstrap: give at least one column of data, and at least one resample")
    arrays = [np.asarray(column) for column in columns]
    same_length("bootstrap", *arrays)
    inverse, n = items_of("bootstrap", clusters, len(arrays[0]))
    value = _defined(statistic(*arrays))
    if n < 2 or value is None:
        return Estimate(value, None, None, n, "none", level)
    order = np.argsort(inverse, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(inverse, minlength=n))[:-1])

    def of_items(drawn: NDArray[Any]) -> float:
        rows = drawn.astype(np.intp)
        chosen = rows if clusters is None else np.concatenate([members[item] for item in rows])
        found = _defined(statistic(*(array[chosen] for array in arrays)))
        return math.nan if found is None else found

    from scipy.stats import bootstrap as scipy_bootstrap

    with np.errstate(all="ignore"), warnings.catch_warnings():
        # It warns where its own interval would be undefined; here that is told by the estimate.
        warnings.simplefilter("ignore")
        distribution = scipy_bootstrap(
            (np.arange(n),),
            of_items,
            n_resamples=resamples,
            vectorized=False,
            method="percentile",
            confidence_level=level,
            rng=np.random.default_rng(seed),
        ).bootstrap_distribution
    left_out = np.array([of_items(np.delete(np.arange(n), item)) for item in range(n)])
    low, high = _bca(value, distribution, left_out, np.ones(n), level)
    return _within(value, low, high, n, "bootstrap BCa", level, minimum, maximum)


def estimate_of_sums(
    rows: Numbers,
    statistic: Callable[[Numbers], Numbers],
    *,
    level: float,
    minimum: float | None = None,
    maximum: float | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """A statistic of sums over items, such as F1 of a confusion matrix, with a bootstrap interval.

    The same as :func:`bootstrap`, for a hundred thousand items in a moment: how often each kind of item is
    drawn is multinomial, so that only the kinds are gone through. With more than 2,000 different items, the
    interval is Student's t with the jackknife's standard error, which is then as good.

    Sources: as :func:`bootstrap`; jackknife: Efron, Stein (1981), Ann. Stat. 9, 586-596.

    Args:
        rows: What each item adds to the sums, shape ``(items, sums)``.
        statistic: Takes sums of shape ``(..., sums)`` and returns numbers of shape ``(...)``; NaN where it is
            undefined. It must not change when all sums are multiplied by the same number.
        level: The interval's level.
        minimum: What the quantity cannot go below.
        maximum: What it cannot exceed.
        resamples: How many.
        seed: Of the resampling.
    """
    n = len(rows)
    if n == 0:
        return Estimate(None, None, None, 0, "none", level)
    with np.errstate(all="ignore"):
        total = rows.sum(axis=0)
        value = _defined(float(statistic(total)))
        if n < 2 or value is None:
            return Estimate(value, None, None, n, "none", level)
        kinds, which, counts = np.unique(rows, axis=0, return_inverse=True, return_counts=True)
        which = which.reshape(-1)
        left_out = np.asarray(statistic(total - kinds), dtype=np.float64)
        if len(kinds) > MOST_DISTINCT:
            low, high = _jackknife(value, left_out, counts, level)
            return _within(value, low, high, n, "jackknife", level, minimum, maximum)
        rng = np.random.default_rng(seed)
        batch = max(1, 4_000_000 // len(kinds))
        drawn = []
        for start in range(0, resamples, batch):
            size = min(batch, resamples - start)
            if n > 2 * len(kinds):
                times = rng.multinomial(n, counts / n, size=size)
            else:
                # The same numbers of times, drawn one by one: quicker where items are mostly different.
                rows_drawn = which[rng.integers(0, n, size=(size, n))] + len(kinds) * np.arange(size)[:, None]
                times = np.bincount(rows_drawn.reshape(-1), minlength=size * len(kinds)).reshape(size, -1)
            drawn.append(np.asarray(statistic(times @ kinds)))
        low, high = _bca(value, np.concatenate(drawn), left_out, counts, level)
    return _within(value, low, high, n, "bootstrap BCa", level, minimum, maximum)


def _bca(
    value: float, distribution: Numbers, left_out: Numbers, counts: NDArray[Any], level: float
) -> tuple[float, float] | tuple[None, None]:
    """Efron's interval from resamples and from the statistic without each item.

    ``scipy.stats.bootstrap`` makes it too, but not where the statistic is undefined in some resample, and with
    a pass over all items for each item.
    """
    from scipy.stats import norm

    defined = distribution[np.isfinite(distribution)]
    if len(defined) < (1 - MOST_UNDEFINED) * len(distribution):
        return None, None
    if np.ptp(defined) <= 1e-12 * max(1.0, abs(value)):
        return None, None
    tie = 1e-12 * max(1.0, abs(value))
    below = float(np.mean(defined < value - tie) + np.mean(np.abs(defined - value) <= tie) / 2)
    below = min(max(below, 0.5 / len(defined)), 1 - 0.5 / len(defined))
    bias = float(norm.ppf(below))
    kept = np.isfinite(left_out)
    acceleration = 0.0
    if kept.any():
        weights = counts[kept].astype(np.float64)
        away = np.average(left_out[kept], weights=weights) - left_out[kept]
        spread = float((weights * away**2).sum())
        if spread > 0:
            acceleration = float((weights * away**3).sum()) / (6 * spread**1.5)
    ends = []
    for quantile in (norm.ppf((1 - level) / 2), norm.ppf((1 + level) / 2)):
        shifted = bias + quantile
        share = float(norm.cdf(bias + shifted / (1 - acceleration * shifted)))
        ends.append(float(np.quantile(defined, share)))
    return min(ends), max(ends)


def _jackknife(
    value: float, left_out: Numbers, counts: NDArray[Any], level: float
) -> tuple[float, float] | tuple[None, None]:
    from scipy.stats import t

    if not np.isfinite(left_out).all():
        return None, None
    n = int(counts.sum())
    centre = np.average(left_out, weights=counts)
    variance = (n - 1) / n * float((counts * (left_out - centre) ** 2).sum())
    if variance <= 0:
        return None, None
    low, high = t.interval(level, n - 1, loc=value, scale=math.sqrt(variance))
    return float(low), float(high)


def _within(
    value: float,
    low: float | None,
    high: float | None,
    n: int,
    method: str,
    level: float,
    minimum: float | None,
    maximum: float | None,
) -> Estimate:
    if low is None or high is None:
        return Estimate(value, None, None, n, "none", level)
    # A strongly biased statistic can lie outside of its own interval; that is no reason to move it.
    if minimum is not None:
        low, high = max(low, minimum), max(high, minimum)
    if maximum is not None:
        low, high = min(low, maximum), min(high, maximum)
    return Estimate(value, low, high, n, method, level)


def _defined(value: float | None) -> float | None:
    if value is None:
        return None
    number = float(value)
    return number if math.isfinite(number) else None
