"""Estimates and metrics against numbers that were published, and against other packages once more."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk
from statsmodels.stats.power import TTestPower
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint
from statsmodels.stats.weightstats import DescrStatsW

from dyff_dagster.analysis import metrics
from dyff_dagster.analysis.statistics import (
    auc,
    bootstrap,
    brier,
    detectable_paired_difference,
    mean,
    paired_auc_difference,
    paired_test,
    proportion,
    subgroup_gap,
)


@pytest.mark.parametrize(
    ("k", "n", "wilson", "exact"),
    [
        (81, 263, (0.2553, 0.3662), (0.2527, 0.3676)),
        (15, 148, (0.0624, 0.1605), (0.0578, 0.1617)),
        (0, 20, (0.0000, 0.1611), (0.0000, 0.1684)),
        (1, 29, (0.0061, 0.1718), (0.0009, 0.1776)),
    ],
)
def test_shares_have_the_intervals_of_newcombes_table(
    k: int, n: int, wilson: tuple[float, float], exact: tuple[float, float]
) -> None:
    # Newcombe (1998), Stat. Med. 17, 857-872, table I, methods 3 and 5.
    first, second = proportion(k, n), proportion(k, n, interval="clopper-pearson")
    assert (first.low, first.high) == (pytest.approx(wilson[0], abs=5e-5), pytest.approx(wilson[1], abs=5e-5))
    assert (second.low, second.high) == (pytest.approx(exact[0], abs=5e-5), pytest.approx(exact[1], abs=5e-5))
    low, high = proportion_confint(k, n, method="wilson")
    assert (first.low, first.high) == (pytest.approx(low, abs=1e-12), pytest.approx(high))


def hanley_mcneil() -> tuple[list[int], np.ndarray]:
    """Hanley, McNeil (1982), Radiology 143, 29-36, table I: 58 normal and 51 abnormal images, rated 1 to 5."""
    ratings = [np.repeat(range(1, 6), counts) for counts in ((33, 6, 6, 11, 2), (3, 2, 2, 11, 33))]
    return [0] * 58 + [1] * 51, np.concatenate(ratings).astype(float)


def test_an_area_has_the_error_that_stata_gives() -> None:
    # Stata's manual, [R] roctab, example 1: area 0.8932, DeLong's standard error 0.0307.
    labels, ratings = hanley_mcneil()
    estimate = auc(labels, ratings)
    half = 1.959964 * 0.0307 / (0.8932 * (1 - 0.8932))
    centre = math.log(0.8932 / (1 - 0.8932))
    assert estimate.value == pytest.approx(0.8932, abs=5e-5)
    assert estimate.low == pytest.approx(1 / (1 + math.exp(half - centre)), abs=3e-4)
    assert estimate.high == pytest.approx(1 / (1 + math.exp(-half - centre)), abs=3e-4)


def test_against_a_constant_an_area_differs_by_the_interval_that_stata_gives() -> None:
    # The same example, 0.83295 to 0.95339; a score that says nothing has the area 0.5 for certain.
    labels, ratings = hanley_mcneil()
    estimate = paired_auc_difference(labels, np.zeros(109), ratings)
    assert (estimate.low, estimate.high) == (
        pytest.approx(0.83295 - 0.5, abs=1e-5),
        pytest.approx(0.95339 - 0.5, abs=1e-5),
    )


def test_an_area_is_that_of_scikit_learn_and_of_mann_and_whitney() -> None:
    labels, ratings = hanley_mcneil()
    value = auc(labels, ratings).value
    assert value == pytest.approx(sk.roc_auc_score(labels, ratings))
    assert value == pytest.approx(stats.mannwhitneyu(ratings[58:], ratings[:58]).statistic / (58 * 51))


def test_brier_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    said = rng.random(50)
    came_true = (rng.random(50) < said).astype(int)
    assert brier(came_true, said).value == pytest.approx(sk.brier_score_loss(came_true, said))


def test_a_mean_has_the_interval_of_statsmodels() -> None:
    values = np.random.default_rng(2).gamma(2, 3, 37)
    low, high = DescrStatsW(values).tconfint_mean(alpha=0.1)
    estimate = mean(values, level=0.9)
    assert (estimate.low, estimate.high) == (pytest.approx(low), pytest.approx(high))


@pytest.mark.parametrize("statistic", [np.mean, np.median, np.std])
def test_the_bootstrap_is_scipys_to_the_last_digits(statistic: object) -> None:
    values = np.random.default_rng(1).gamma(3, 1, 40)

    def of(x: np.ndarray) -> float:
        return float(statistic(x))  # type: ignore[operator]

    expected = stats.bootstrap(
        (values,), of, n_resamples=999, vectorized=False, rng=np.random.default_rng(7)
    ).confidence_interval
    estimate = bootstrap(of, values, resamples=999, seed=7)
    assert (estimate.low, estimate.high) == (
        pytest.approx(expected.low, rel=1e-12),
        pytest.approx(expected.high, rel=1e-12),
    )


def test_the_gap_of_two_groups_is_that_of_statsmodels() -> None:
    outcomes, groups = [1] * 18 + [0] * 2 + [1] * 10 + [0] * 15, ["a"] * 20 + ["b"] * 25
    gap = subgroup_gap(outcomes, groups).gap
    low, high = confint_proportions_2indep(18, 20, 10, 25, method="newcomb", compare="diff")
    assert (gap.low, gap.high) == (pytest.approx(low), pytest.approx(high))


def test_what_a_comparison_can_show_is_that_of_statsmodels() -> None:
    rng = np.random.default_rng(3)
    first = rng.normal(size=40)
    second = first + rng.normal(0.1, 0.7, 40)
    effect = TTestPower().solve_power(None, nobs=40, alpha=0.05, power=0.8)
    expected = effect * np.std(second - first, ddof=1)
    assert detectable_paired_difference(first, second) == pytest.approx(expected, rel=1e-4)


def test_the_t_test_is_scipys() -> None:
    rng = np.random.default_rng(4)
    first, second = rng.normal(size=30), rng.normal(0.4, 1, 30)
    assert paired_test(first, second, test="t").p == pytest.approx(stats.ttest_rel(first, second).pvalue)


def test_alpha_is_that_of_krippendorffs_own_example() -> None:
    # Krippendorff (2011), Computing Krippendorff's Alpha-Reliability, section C: four observers, twelve units.
    observers = ("1 2 3 3 2 1 4 1 2 . . .", "1 2 3 3 2 2 4 1 2 5 . 3", ". 3 3 3 2 3 4 2 2 5 1 .")
    said = [
        (unit, word)
        for row in (*observers, "1 2 3 3 2 4 4 1 2 5 1 .")
        for unit, word in enumerate(row.split())
    ]
    units, answers = zip(*((unit, word) for unit, word in said if word != "."), strict=True)
    assert metrics.krippendorff_alpha(answers, units).value == pytest.approx(0.743, abs=5e-4)


def test_kappa_is_that_of_a_worked_example() -> None:
    # Fourteen raters, ten subjects, five classes: kappa 0.210 (Wikipedia, Fleiss' kappa, "Worked example").
    table = ["0 0 0 0 14", "0 2 6 4 2", "0 0 3 5 6", "0 3 9 2 0", "2 2 8 1 1"]
    table += ["7 7 0 0 0", "3 2 6 3 0", "2 5 3 2 2", "6 5 2 1 0", "0 2 2 3 7"]
    counts = np.array([line.split() for line in table], dtype=int)
    answers = np.concatenate([np.repeat(range(5), line) for line in counts])
    assert metrics.fleiss_kappa(answers, np.repeat(range(10), 14)).value == pytest.approx(0.210, abs=5e-4)


def test_precision_recall_and_f1_are_those_of_a_worked_example() -> None:
    # Manning, Raghavan, Schütze (2008), Introduction to Information Retrieval, exercise 8.1: 8 relevant among 18
    # that were found, of 20 relevant in all.
    labels, called = [1] * 8 + [0] * 10 + [1] * 12, [1] * 18 + [0] * 12
    assert metrics.precision(labels, called).value == pytest.approx(8 / 18)
    assert metrics.recall(labels, called).value == pytest.approx(8 / 20)
    assert metrics.f1(labels, called).value == pytest.approx(sk.f1_score(labels, called))
