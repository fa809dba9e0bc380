"""Tests of whether two systems differ on the same items, and p-values of many tests together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from dyff_dagster.analysis.errors import AnalysisError
from dyff_dagster.analysis.statistics.observations import Clusters, Numbers, by_item, numbers, same_length

K = TypeVar("K")

PairedTest = Literal["auto", "mcnemar", "sign", "wilcoxon", "permutation", "t"]
"""The tests that :func:`paired_test` knows; ``auto`` takes what fits."""

MOST_PERMUTED = 5_000
"""Items that differ, beyond which ``auto`` takes the t test: a permutation test of so many says the same, slowly."""

_TIE = 1e-12
"""Averages of replications that differ by no more are equal but for rounding."""


@dataclass(frozen=True)
class Significance:
    """The outcome of a test.

    Attributes:
        p: Two-sided p-value: how often chance alone would give a difference of this size, or a larger one.
        n: Items that were compared.
        differing: Items that differ; the others say nothing about which is better.
        method: Which test.
    """

    p: float
    n: int
    differing: int
    method: str


def paired_test(
    first: ArrayLike,
    second: ArrayLike,
    clusters: Clusters = None,
    *,
    test: PairedTest = "auto",
    resamples: int = 9_999,
    seed: int = 0,
) -> Significance:
    """Test that two systems do equally well on the same items.

    Where no item differs, p is 1.

    Sources: ``mcnemar``: McNemar (1947), Psychometrika 12, 153-157, exact, as ``scipy.stats.binomtest``;
    ``sign``: Dixon, Mood (1946), J. Am. Stat. Assoc. 41, 557-566, the same; ``wilcoxon``: Wilcoxon (1945),
    Biometrics Bull. 1, 80-83, as ``scipy.stats.wilcoxon``; ``permutation``: Fisher (1935), The Design of
    Experiments, of the signs of the differences of the mean, as ``scipy.stats.permutation_test``: exact where
    there are no more sign patterns than ``resamples``; ``t``: as ``scipy.stats.ttest_1samp``.

    Args:
        first: One system's outcomes or numbers, shape ``(observations,)``.
        second: The other's, of the same observations.
        clusters: The item of each observation; replications of an item are averaged first.
        test: ``auto`` is McNemar's where each item is either right or wrong in both, else ``permutation``,
            or ``t`` where more than 5,000 items differ.
        resamples: Permutations that are drawn where there are more.
        seed: Of the permutations.

    Raises:
        AnalysisError: A number that is not finite, lengths that differ, or a test that does not fit: McNemar's
            needs outcomes that are the same in all replications of an item.
    """
    one, other = numbers("paired_test", "first", first), numbers("paired_test", "second", second)
    same_length("paired_test", one, other)
    one, other = by_item("paired_test", clusters, one, other)
    return compare_items(one, other, test=test, resamples=resamples, seed=seed)


def compare_items(
    first: Numbers,
    second: Numbers,
    *,
    test: PairedTest = "auto",
    resamples: int = 9_999,
    seed: int = 0,
) -> Significance:
    """As :func:`paired_test`, of one number per item; for systems with different replications."""
    difference = second - first
    difference = np.where(np.abs(difference) <= _TIE, 0.0, difference)
    n = len(difference)
    changed = difference[difference != 0]
    binary = bool(np.isin(first, (0.0, 1.0)).all() and np.isin(second, (0.0, 1.0)).all())
    if test == "auto":
        test = "mcnemar" if binary else "permutation" if len(changed) <= MOST_PERMUTED else "t"
    if test == "mcnemar" and not binary:
        raise AnalysisError(
            "paired_test: McNemar's test needs outcomes that are true or false for each item, and here replications "
            "of an item disagree, or these are no outcomes; take test='permutation'"
        )
    if test not in _TESTS:
        raise AnalysisError(f"paired_test: there is no test {test!r}; take one of auto, {', '.join(_TESTS)}")
    p = 1.0 if not len(changed) else _p_value(test, changed, difference, resamples, seed)
    return Significance(p=p, n=n, differing=len(changed), method=_TESTS[test])


_TESTS = {
    "mcnemar": "McNemar's exact test",
    "sign": "sign test",
    "wilcoxon": "Wilcoxon's signed-rank test",
    "permutation": "permutation test of signs",
    "t": "paired t test",
}


def _p_value(test: str, changed: Numbers, difference: Numbers, resamples: int, seed: int) -> float:
    from scipy import stats

    if test in ("mcnemar", "sign"):
        return float(stats.binomtest(int((changed > 0).sum()), len(changed)).pvalue)
    if test == "wilcoxon":
        return float(stats.wilcoxon(changed).pvalue)
    if test == "t":
        if len(difference) < 2 or np.ptp(difference) == 0:
            raise AnalysisError(
                "paired_test: all items differ by the same number, so there is no t test; take test='sign'"
            )
        return float(stats.ttest_1samp(difference, 0.0).pvalue)
    # Items that do not differ add nothing to any permutation.
    found = stats.permutation_test(
        (changed,),
        lambda sample, axis: np.sum(sample, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, 2_000_000 // len(changed)),
        rng=np.random.default_rng(seed),
    )
    return float(found.pvalue)


def adjust(
    p_values: Sequence[float], method: Literal["holm", "benjamini-hochberg", "benjamini-yekutieli"] = "holm"
) -> list[float]:
    """P-values of many tests, so that each can be held against the level that one alone would be held against.

    ``holm`` keeps the chance of any false finding below the level, whatever the tests have to do with each
    other. ``benjamini-hochberg`` keeps the expected share of false ones among the findings below it, for
    tests that are independent or positively dependent; ``benjamini-yekutieli`` for all.

    Sources: Holm (1979), Scand. J. Stat. 6, 65-70; Benjamini, Hochberg (1995), J. R. Stat. Soc. B 57,
    289-300; Benjamini, Yekutieli (2001), Ann. Stat. 29, 1165-1188; the latter two as
    ``scipy.stats.false_discovery_control``.

    Args:
        p_values: Between 0 and 1.
        method: How.

    Returns:
        The adjusted p-values, in the same order.

    Raises:
        AnalysisError: A p-value outside [0, 1], or no such method.
    """
    p = numbers("adjust", "p_values", p_values)
    if ((p < 0) | (p > 1)).any():
        raise AnalysisError(
            f"adjust: a p-value lies between 0 and 1; the one at position {int(((p < 0) | (p > 1)).argmax())} "
            "does not"
        )
    if method not in ("holm", "benjamini-hochberg", "benjamini-yekutieli"):
        raise AnalysisError(
            f"adjust: there is no method {method!r}; take holm, benjamini-hochberg or benjamini-yekutieli"
        )
    if not len(p):
        return []
    if method == "holm":
        order = np.argsort(p, kind="stable")
        stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1.0)
        adjusted = np.empty_like(stepped)
        adjusted[order] = stepped
        return [float(value) for value in adjusted]
    from scipy.stats import false_discovery_control

    made = false_discovery_control(p, method="bh" if method == "benjamini-hochberg" else "by")
    return [float(value) for value in made]


def adjust_by_name(
    p_values: Mapping[K, float],
    method: Literal["holm", "benjamini-hochberg", "benjamini-yekutieli"] = "holm",
) -> dict[K, float]:
    """As :func:`adjust`, of p-values by the name of their test."""
    return dict(zip(p_values, adjust(list(p_values.values()), method), strict=True))
