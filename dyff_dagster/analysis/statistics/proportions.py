"""Shares: of independent items, of items with replications, per class, and between subgroups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from dyff_dagster.analysis.errors import AnalysisError
from dyff_dagster.analysis.statistics.estimate import Estimate, estimator
from dyff_dagster.analysis.statistics.intervals import normal_quantile, wilson
from dyff_dagster.analysis.statistics.observations import (
    Clusters,
    Numbers,
    binary,
    by_item,
    check_level,
    same_length,
)

ShareInterval = Literal["wilson", "clopper-pearson"]
_NAMES = {"wilson": "Wilson", "clopper-pearson": "Clopper-Pearson"}


@estimator
def proportion(successes: int, n: int, level: float = 0.95, interval: ShareInterval = "wilson") -> Estimate:
    """A share of independent items.

    Of nothing (``n`` = 0) the value is None and the interval is all of [0, 1].

    Sources: Wilson (1927), J. Am. Stat. Assoc. 22, 209-212; Clopper, Pearson (1934), Biometrika 26, 404-413;
    both as ``scipy.stats.binomtest`` has them.

    Args:
        successes: How many are so.
        n: Of how many.
        level: The interval's level.
        interval: ``wilson`` covers as often as it says on average; ``clopper-pearson`` never less often, and
            is wider.

    Raises:
        AnalysisError: ``successes`` is not between 0 and ``n``, or there is no such interval or level.
    """
    check_level("proportion", level)
    name = _interval_name("proportion", interval)
    if not 0 <= successes <= n:
        raise AnalysisError(
            f"proportion: {successes} successes out of {n} is no share; give 0 <= successes <= n"
        )
    if n == 0:
        return Estimate(None, 0.0, 1.0, 0, "none", level)
    from scipy.stats import binomtest

    found = binomtest(int(successes), int(n)).proportion_ci(
        confidence_level=level, method="wilson" if interval == "wilson" else "exact"
    )
    return Estimate(successes / n, float(found.low), float(found.high), int(n), name, level)


@estimator
def rate(
    outcomes: ArrayLike,
    clusters: Clusters = None,
    level: float = 0.95,
    interval: ShareInterval = "wilson",
) -> Estimate:
    """A share of true outcomes, replications of an item averaged first.

    Where all replications of each item agree this is :func:`proportion` over items. Where they do not, the
    items' averages lie between 0 and 1, so that their variance is at most p(1 - p), and the formula with that
    share and the number of items gives an interval that is not too short.

    Of nothing the value is None and the interval is all of [0, 1].

    Args:
        outcomes: True or false (1 or 0), shape ``(observations,)``.
        clusters: The item of each observation; None: each is an item of its own.
        level: The interval's level.
        interval: As for :func:`proportion`.

    Raises:
        AnalysisError: Something else than true and false, lengths that differ, or no such interval or level.
    """
    check_level("rate", level)
    values = binary("rate", "outcomes", outcomes)
    (items,) = by_item("rate", clusters, values)
    return share_of_items(items, level, interval)


def share_of_items(items: Numbers, level: float, interval: ShareInterval = "wilson") -> Estimate:
    """As :func:`rate`, of one share per item, shape ``(items,)``."""
    name = _interval_name("rate", interval)
    n = len(items)
    successes = float(items.sum())
    if n == 0 or successes == int(successes):
        return proportion(int(successes), n, level, interval)
    share = successes / n
    if interval == "wilson":
        low, high = wilson(share, n, normal_quantile(level))
    else:
        from scipy.stats import beta

        low = float(beta.ppf((1 - level) / 2, successes, n - successes + 1))
        high = float(beta.ppf((1 + level) / 2, successes + 1, n - successes))
    return Estimate(share, low, high, n, f"{name} over items", level)


def rate_by(
    outcomes: ArrayLike,
    groups: Sequence[Any],
    clusters: Clusters = None,
    level: float = 0.95,
    *,
    interval: ShareInterval = "wilson",
    simultaneous: bool = False,
) -> dict[Any, Estimate]:
    """The :func:`rate` of each class or group, in sorted order of their names.

    Args:
        outcomes: True or false, shape ``(observations,)``.
        groups: The class or group of each observation.
        clusters: The item of each observation; an item may have observations in several groups.
        level: The level of each interval.
        interval: As for :func:`proportion`.
        simultaneous: Make the level hold for all intervals together: each gets the level 1 - (1 - level) / k
            for k groups (Bonferroni; Dunn 1961, J. Am. Stat. Assoc. 56, 52-64).

    Raises:
        AnalysisError: As :func:`rate`, or a group is None.
    """
    check_level("rate_by", level)
    values = binary("rate_by", "outcomes", outcomes)
    labels = list(groups)
    same_length("rate_by", values, labels)
    if clusters is not None:
        same_length("rate_by", values, clusters)
    if any(label is None for label in labels):
        raise AnalysisError("rate_by: a group is null; leave such rows out knowingly, or give them a name")
    names = sorted(set(labels), key=lambda name: (str(type(name)), name))
    each = 1 - (1 - level) / len(names) if simultaneous and names else level
    numbered = {name: position for position, name in enumerate(names)}
    which = np.array([numbered[label] for label in labels], dtype=np.intp)
    items = None if clusters is None else np.asarray(clusters).reshape(-1)
    found = {}
    for name, position in numbered.items():
        chosen = which == position
        found[name] = rate(values[chosen], None if items is None else items[chosen], each, interval)
    return found


@dataclass(frozen=True)
class SubgroupGap:
    """How far the worst group is from the best.

    Attributes:
        groups: The estimate of each group, at a level that holds for all of them together.
        worst: The group with the lowest rate; None where there are no two groups to compare.
        best: The group with the highest rate.
        gap: The rate of the best less that of the worst. Its interval is at the Bonferroni level over all
            pairs of groups, because which two are compared was chosen by looking.
        left_out: Groups that were too small to be compared, with their sizes.
    """

    groups: Mapping[Any, Estimate]
    worst: Any
    best: Any
    gap: Estimate
    left_out: Mapping[Any, int]


def subgroup_gap(
    outcomes: ArrayLike,
    groups: Sequence[Any],
    clusters: Clusters = None,
    level: float = 0.95,
    *,
    smallest: int = 1,
) -> SubgroupGap:
    """The rate of each subgroup, the worst and the best, and the difference between the two.

    Groups are taken to be of different items. Sources: :func:`rate_difference` for the interval; Dunn (1961),
    J. Am. Stat. Assoc. 56, 52-64, for the level over all k (k - 1) / 2 pairs.

    Args:
        outcomes: True (good) or false, shape ``(observations,)``.
        groups: The group of each observation.
        clusters: The item of each observation.
        level: The level of all intervals together.
        smallest: Groups of fewer items are left out, and named.

    Raises:
        AnalysisError: As :func:`rate_by`.
    """
    from dyff_dagster.analysis.statistics.differences import difference_of_shares

    found = rate_by(outcomes, groups, clusters, level, simultaneous=True)
    kept = {name: one for name, one in found.items() if one.n >= smallest and one.value is not None}
    left_out = {name: one.n for name, one in found.items() if name not in kept}
    if len(kept) < 2:
        none = Estimate(None, None, None, sum(one.n for one in kept.values()), "none", level)
        return SubgroupGap(found, None, None, none, left_out)
    # Of equal rates the first name, so that the same data always name the same group.
    worst = min(kept, key=lambda name: kept[name].value or 0.0)
    best = max(kept, key=lambda name: kept[name].value or 0.0)
    pairs = len(kept) * (len(kept) - 1) // 2
    if worst == best:
        best = next(name for name in kept if name != worst)
    gap = difference_of_shares(kept[worst], kept[best], 1 - (1 - level) / pairs)
    return SubgroupGap(found, worst, best, gap, left_out)


def _interval_name(function: str, interval: str) -> str:
    try:
        return _NAMES[interval]
    except KeyError:
        raise AnalysisError(
            f"{function}: there is no interval {interval!r}; take one of {', '.join(_NAMES)}"
        ) from None
