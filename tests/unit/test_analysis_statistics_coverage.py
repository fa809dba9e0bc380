"""Intervals hold the truth as often as they say: seeded simulations in which the truth is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.random import Generator
from scipy.stats import norm, ttest_1samp

from dyff_dagster.analysis import metrics
from dyff_dagster.analysis.statistics import (
    Estimate,
    adjust,
    auc,
    brier,
    mean,
    mean_difference,
    minimum_detectable_effect,
    paired_auc_difference,
    paired_rate_difference,
    proportion,
    rate,
    rate_by,
    rate_difference,
    subgroup_gap,
)
from dyff_dagster.analysis.statistics.bootstrap import estimate_of_sums

TIMES = 400
"""Of 400 intervals at 95 %, 371 to 389 hold the truth, in 95 of 100 simulations."""


def held(make: Callable[[Generator], Estimate], truth: float, times: int = TIMES) -> float:
    """The share of intervals that hold the truth."""
    rng = np.random.default_rng(0)
    intervals = [make(rng) for _ in range(times)]
    return float(np.mean([one.low <= truth <= one.high for one in intervals]))  # type: ignore[operator]


def areas(rng: Generator) -> Estimate:
    return auc([1] * 30 + [0] * 50, np.r_[rng.normal(1, 1, 30), rng.normal(0, 1, 50)])


def two_areas(rng: Generator) -> Estimate:
    labels = np.repeat([1, 0], [30, 50])
    shared = 0.8 * rng.normal(size=80)
    first, second = (labels * by + shared + rng.normal(0, 0.6, 80) for by in (1.0, 1.5))
    return paired_auc_difference(labels, first, second)


def flips(rng: Generator) -> Estimate:
    first = rng.random(60) < 0.7
    return paired_rate_difference(first, np.where(rng.random(60) < 0.15, ~first, first))


def word_errors(rng: Generator) -> Estimate:
    words = rng.poisson(9, 80) + 1
    wrong = rng.binomial(words, rng.beta(2, 10, 80))
    rows = np.c_[wrong, words].astype(float)
    return estimate_of_sums(rows, lambda sums: sums[..., 0] / sums[..., 1], level=0.95, resamples=1_999)


SHARES, RIGHT = np.array([0.6, 0.3, 0.1]), 0.75
CALLED = RIGHT * np.eye(3) + (1 - RIGHT) / 3
"""What each class is called, as a share of it."""
HITS, PRECISIONS = np.diag(CALLED), np.diag(CALLED) * SHARES / (SHARES @ CALLED)
F1 = 2 * HITS * PRECISIONS / (HITS + PRECISIONS)


def classes(rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    labels = rng.choice(3, 120, p=SHARES)
    return labels, np.where(rng.random(120) < RIGHT, labels, rng.integers(0, 3, 120))


@pytest.mark.parametrize(
    ("make", "truth"),
    [
        (lambda rng: proportion(int(rng.binomial(40, 0.9)), 40), 0.9),
        (lambda rng: mean(rng.normal(3, 1, 12)), 3),
        (lambda rng: mean(rng.gamma(2, 1, 40)), 2),
        (lambda rng: brier(rng.random(60) < 0.5, np.full(60, 0.5) + 0.4 * rng.choice([-1, 1], 60)), 0.41),
        (areas, norm.cdf(1 / np.sqrt(2))),
        (two_areas, norm.cdf(1.5 / np.sqrt(2)) - norm.cdf(1 / np.sqrt(2))),
        (flips, 0.15 * 0.3 - 0.15 * 0.7),
        (lambda rng: rate_difference(rng.random(40) < 0.8, rng.random(60) < 0.9), 0.1),
        (lambda rng: mean_difference(rng.normal(0, 1, 10), rng.normal(1, 3, 25)), 1),
        (word_errors, 2 / 12),
        (lambda rng: metrics.recall(*classes(rng)), HITS[1]),
        (lambda rng: metrics.balanced_accuracy(*classes(rng)), HITS.mean()),
        (lambda rng: metrics.precision(*classes(rng), average="macro"), PRECISIONS.mean()),
        (lambda rng: metrics.f1(*classes(rng)), F1[1]),
    ],
)
def test_an_interval_holds_the_truth_in_95_of_100_cases(
    make: Callable[[Generator], Estimate], truth: float
) -> None:
    assert 0.92 <= held(make, truth) <= 0.98


def ratings(rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    truth = rng.integers(0, 3, (60, 1))
    said = np.where(rng.random((60, 3)) < 0.7, truth, rng.integers(0, 3, (60, 3)))
    return said.reshape(-1), np.repeat(np.arange(60), 3)


@pytest.mark.parametrize(
    ("make", "truth"),
    [
        (lambda rng: metrics.f1(*classes(rng), average="macro"), F1.mean()),
        (lambda rng: metrics.krippendorff_alpha(*ratings(rng)), 0.49),
    ],
)
def test_bootstrap_intervals_do_too(make: Callable[[Generator], Estimate], truth: float) -> None:
    assert 0.91 <= held(make, truth, times=150) <= 0.99


def test_an_exact_interval_holds_the_truth_at_least_as_often() -> None:
    def exact(rng: Generator) -> Estimate:
        return proportion(int(rng.binomial(40, 0.9)), 40, interval="clopper-pearson")

    assert held(exact, 0.9) >= 0.95


def replications(rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    chances = rng.beta(8, 2, 50)
    return (rng.random((50, 3)) < chances[:, None]).reshape(-1), np.repeat(np.arange(50), 3)


def test_replications_of_an_item_do_not_make_an_interval_too_short() -> None:
    assert held(lambda rng: rate(*replications(rng)), 0.8) >= 0.95
    # Taken for items of their own, they do.
    assert held(lambda rng: rate(replications(rng)[0]), 0.8) <= 0.92


def test_the_gap_between_groups_that_were_chosen_by_looking_is_held() -> None:
    def gap(rng: Generator) -> Estimate:
        outcomes = rng.random(160) < np.repeat([0.7, 0.8, 0.9, 0.9], 40)
        return subgroup_gap(outcomes, np.repeat(list("abcd"), 40)).gap

    assert held(gap, 0.2) >= 0.95


def test_simultaneous_intervals_hold_all_truths_at_once() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(list("abcde"), 40)
    together = []
    for _ in range(TIMES):
        found = rate_by(rng.random(200) < 0.8, groups, simultaneous=True)
        together.append(all(one.low <= 0.8 <= one.high for one in found.values()))  # type: ignore[operator]
    assert np.mean(together) >= 0.94


def test_adjusted_p_values_find_nothing_where_there_is_nothing() -> None:
    rng = np.random.default_rng(0)
    tests = rng.random((2_000, 20))
    found = np.mean([min(adjust(list(p))) < 0.05 for p in tests])
    assert found == pytest.approx(0.05, abs=0.015)
    assert np.mean(tests.min(axis=1) < 0.05) > 0.6


@pytest.mark.parametrize("n", [8, 40])
def test_the_detectable_effect_is_found_in_four_cases_of_five(n: int) -> None:
    effect = minimum_detectable_effect(2.0, n)
    rng = np.random.default_rng(0)
    p = ttest_1samp(rng.normal(effect, 2.0, (4_000, n)), 0.0, axis=1).pvalue
    assert np.mean(p < 0.05) == pytest.approx(0.8, abs=0.02)
