"""Estimates with intervals, as few and as standard as an audit needs.

Everything here takes ``clusters``: the item (``_index_``) that each observation belongs to. Replications of
one item are no independent observations, so they are averaged first, and ``n`` counts items.

A result that does not exist is None, never NaN, and nothing here warns: see each function for what it says
of no data, of one class and of no variance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dyff_dagster.analysis.errors import AnalysisError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Estimate:
    """A number with its interval.

    Attributes:
        value: The point estimate; None where the data do not define it.
        low: Lower bound of the interval; None where the data do not give one.
        high: Upper bound of the interval; None where ``low`` is.
        n: Independent observations that it rests on: items, not replications.
        method: How the interval was made.
        level: The interval's level, 0.95 unless asked otherwise.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    method: str = ""
    level: float = 0.95

    def __str__(self) -> str:
        if self.value is None:
            return f"undefined (n = {self.n})"
        if self.low is None or self.high is None:
            return f"{self.value:.3f} (n = {self.n})"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}] (n = {self.n})"


def proportion(successes: int, n: int, level: float = 0.95) -> Estimate:
    """A share of independent items, with Wilson's score interval.

    Of nothing (``n`` = 0) the value is None and the interval is all of [0, 1].

    Source: Wilson (1927), J. Am. Stat. Assoc. 22, 209-212, as ``scipy.stats.binomtest`` has it.

    Raises:
        AnalysisError: ``successes`` is not between 0 and ``n``.
    """
    if not 0 <= successes <= n:
        raise AnalysisError(
            f"proportion: {successes} successes out of {n} is no share; give 0 <= successes <= n"
        )
    if n == 0:
        return Estimate(None, 0.0, 1.0, 0, "none", level)
    from scipy.stats import binomtest

    interval = binomtest(int(successes), int(n)).proportion_ci(confidence_level=level, method="wilson")
    return Estimate(successes / n, float(interval.low), float(interval.high), int(n), "Wilson", level)


def rate(outcomes: ArrayLike, clusters: Sequence[Any] | None = None, level: float = 0.95) -> Estimate:
    """A share of true outcomes, replications of an item averaged first.

    Where all replications of each item agree this is :func:`proportion` over items. Where they do not, the
    items' averages lie between 0 and 1, so that their variance is at most p(1 - p), and Wilson's formula
    with that share and the number of items gives an interval that is not too short.

    Of nothing the value is None and the interval is all of [0, 1].

    Args:
        outcomes: True or false (1 or 0), one per observation.
        clusters: The item of each observation; None: each is an item of its own.
        level: The interval's level.

    Raises:
        AnalysisError: Something else than true and false, or lengths that differ.
    """
    values = _binary("rate", "outcomes", outcomes)
    (items,) = _by_item("rate", clusters, values)
    n = len(items)
    successes = float(items.sum())
    if n == 0 or successes == int(successes):
        return proportion(int(successes), n, level)
    z = _normal_quantile(level)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Estimate(share, max(0.0, centre - half), min(1.0, centre + half), n, "Wilson over items", level)


def mean(
    values: ArrayLike,
    clusters: Sequence[Any] | None = None,
    level: float = 0.95,
    minimum: float | None = None,
    maximum: float | None = None,
) -> Estimate:
    """A mean over items, with Student's t interval.

    Of nothing the value is None. Of one item, or of items that are all equal, there is no interval: they say
    nothing about the spread.

    Args:
        values: Finite numbers, one per observation.
        clusters: The item of each observation; None: each is an item of its own.
        level: The interval's level.
        minimum: What the quantity cannot go below; the interval does not either.
        maximum: What it cannot exceed.

    Raises:
        AnalysisError: A value that is not finite, or lengths that differ.
    """
    import numpy as np

    (items,) = _by_item("mean", clusters, _numbers("mean", "values", values))
    n = len(items)
    if n == 0:
        return Estimate(None, None, None, 0, "none", level)
    value = float(items.mean())
    # Equal numbers can have a tiny variance by rounding; that is no spread either.
    if n == 1 or np.ptp(items) <= 1e-12 * max(1.0, float(np.abs(items).max())):
        return Estimate(value, None, None, n, "none", level)
    from scipy.stats import t

    half = float(t.ppf((1 + level) / 2, n - 1)) * float(items.std(ddof=1)) / math.sqrt(n)
    low, high = value - half, value + half
    if minimum is not None:
        low = max(low, minimum)
    if maximum is not None:
        high = min(high, maximum)
    return Estimate(value, low, high, n, "Student t", level)


def brier(
    labels: ArrayLike, probabilities: ArrayLike, clusters: Sequence[Any] | None = None, level: float = 0.95
) -> Estimate:
    """The mean squared difference of a probability from what happened (0 is perfect), as :func:`mean`.

    Source: Brier (1950), Mon. Weather Rev. 78, 1-3.

    Args:
        labels: 1 where it happened, 0 where not.
        probabilities: Between 0 and 1.
        clusters: The item of each observation; None: each is an item of its own.
        level: The interval's level.

    Raises:
        AnalysisError: Other labels than 0 and 1, a probability outside [0, 1], or lengths that differ.
    """
    truth = _binary("brier", "labels", labels)
    chance = _numbers("brier", "probabilities", probabilities)
    _same_length("brier", truth, chance)
    outside = (chance < 0) | (chance > 1)
    if outside.any():
        raise AnalysisError(
            f"brier: a probability lies between 0 and 1; the one at position {int(outside.argmax())} does not"
        )
    return mean((chance - truth) ** 2, clusters, level, minimum=0.0, maximum=1.0)


def auc(
    labels: ArrayLike, scores: ArrayLike, clusters: Sequence[Any] | None = None, level: float = 0.95
) -> Estimate:
    """The area under the ROC curve: the chance that a positive item scores above a negative one, ties half.

    The interval is DeLong's on the logit scale, which does not leave [0, 1]. At perfect separation, with one
    item of a class, or where DeLong's variance is zero, it is Newcombe's method 5, which is defined there.
    Without items of both classes the value and the interval are None.

    Sources: DeLong, DeLong, Clarke-Pearson (1988), Biometrics 44, 837-845; logit scale: Perme, Manevski
    (2019), Stat. Methods Med. Res. 28, 3755-3768; Newcombe (2006), Stat. Med. 25, 559-573.

    Args:
        labels: 1 for positive, 0 for negative; the same in all replications of an item.
        scores: Finite numbers, higher for positive.
        clusters: The item of each observation; None: each is an item of its own.
        level: The interval's level.

    Raises:
        AnalysisError: Other labels than 0 and 1, a score that is not finite, lengths that differ, or an item
            whose replications have different labels.
    """
    import numpy as np
    from scipy.stats import rankdata

    truth = _binary("auc", "labels", labels)
    values = _numbers("auc", "scores", scores)
    _same_length("auc", truth, values)
    truth, values = _by_item("auc", clusters, truth, values)
    if np.any((truth != 0) & (truth != 1)):
        raise AnalysisError(
            "auc: an item has different labels in different replications; a label belongs to an item"
        )
    positive, negative = values[truth == 1], values[truth == 0]
    m, n = len(positive), len(negative)
    if m == 0 or n == 0:
        return Estimate(None, None, None, m + n, "none", level)
    ranks = rankdata(np.concatenate([positive, negative]))
    # The share of the other class that each item beats: its overall rank less its rank in its own class.
    above = (ranks[:m] - rankdata(positive)) / n
    below = 1 - (ranks[m:] - rankdata(negative)) / m
    value = float(above.mean())
    z = _normal_quantile(level)
    if m > 1 and n > 1 and 0 < value < 1:
        variance = float(above.var(ddof=1)) / m + float(below.var(ddof=1)) / n
        if variance > 0:
            half = z * math.sqrt(variance) / (value * (1 - value))
            centre = math.log(value / (1 - value))
            return Estimate(
                value, _logistic(centre - half), _logistic(centre + half), m + n, "DeLong, logit scale", level
            )
    low, high = _newcombe(value, m, n, z)
    return Estimate(value, low, high, m + n, "Newcombe, method 5", level)


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


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def _normal_quantile(level: float) -> float:
    from scipy.stats import norm

    return float(norm.ppf((1 + level) / 2))


def _numbers(function: str, name: str, values: ArrayLike) -> NDArray[np.float64]:
    import numpy as np

    array = np.asarray(values, dtype=np.float64).reshape(-1)
    broken = ~np.isfinite(array)
    if broken.any():
        raise AnalysisError(
            f"{function}: {name} must be finite numbers; the one at position {int(broken.argmax())} is not: "
            "leave such rows out knowingly, or count them as what they are"
        )
    return array


def _binary(function: str, name: str, values: ArrayLike) -> NDArray[np.float64]:
    array = _numbers(function, name, values)
    other = (array != 0) & (array != 1)
    if other.any():
        raise AnalysisError(
            f"{function}: {name} must be true or false (1 or 0); the one at position {int(other.argmax())} is neither"
        )
    return array


def _same_length(function: str, first: NDArray[np.float64], second: NDArray[np.float64]) -> None:
    if len(first) != len(second):
        raise AnalysisError(
            f"{function}: {len(first)} values and {len(second)} values do not belong together"
        )


def _by_item(
    function: str, clusters: Sequence[Any] | None, *columns: NDArray[np.float64]
) -> tuple[NDArray[np.float64], ...]:
    """Each column averaged over the observations of an item, items in sorted order."""
    import numpy as np

    if clusters is None:
        return columns
    items = np.asarray(clusters).reshape(-1)
    if len(items) != len(columns[0]):
        raise AnalysisError(
            f"{function}: {len(columns[0])} values and {len(items)} clusters do not belong together"
        )
    if not len(items):
        return columns
    _, inverse, counts = np.unique(items, return_inverse=True, return_counts=True)
    return tuple(np.bincount(inverse, weights=column) / counts for column in columns)
