"""Differences, tests, power and p-values of many tests, against scipy, statsmodels and published numbers."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize_scalar
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestIndPower, TTestPower
from statsmodels.stats.proportion import confint_proportions_2indep

from dyff_dagster.analysis import AnalysisError
from dyff_dagster.analysis.statistics import (
    adjust,
    adjust_by_name,
    detectable_paired_difference,
    mean_difference,
    minimum_detectable_effect,
    paired_auc_difference,
    paired_mean_difference,
    paired_rate_difference,
    paired_test,
    rate_difference,
)


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def paired(both: int, lost: int, gained: int, neither: int) -> tuple[list[int], list[int]]:
    first = [1] * both + [1] * lost + [0] * gained + [0] * neither
    second = [1] * both + [0] * lost + [1] * gained + [0] * neither
    return first, second


def test_paired_shares_have_the_interval_of_tango() -> None:
    # Fagerland, Lydersen, Laake (2014), Stat. Med. 33, 2850-2875: airway hyper-responsiveness before and after
    # stem cell transplantation (Bentur et al. 2009), 1, 1, 7 and 12 children.
    estimate = paired_rate_difference(*paired(1, 7, 1, 12))
    assert estimate.value == pytest.approx(-6 / 21)
    assert (estimate.low, estimate.high) == (pytest.approx(-0.517, abs=5e-4), pytest.approx(-0.026, abs=5e-4))


@pytest.mark.parametrize("table", [(30, 4, 11, 15), (80, 0, 3, 17), (5, 6, 6, 5), (0, 1, 40, 0)])
def test_the_bounds_are_where_the_score_test_gives_up(table: tuple[int, int, int, int]) -> None:
    # By its definition: the variance at the likeliest probabilities that have this difference.
    _, lost, gained, _ = table
    n = sum(table)

    def score(delta: float) -> float:
        def less_likely(q: float) -> float:
            cells = ((lost, q), (gained, q + delta), (n - lost - gained, 1 - 2 * q - delta))
            return -sum(count * math.log(max(p, 1e-300)) for count, p in cells if count)

        ends = (max(0.0, -delta), (1 - delta) / 2)
        q = minimize_scalar(less_likely, bounds=ends, method="bounded", options={"xatol": 1e-12}).x
        return (gained - lost - n * delta) / math.sqrt(n * (2 * q + delta - delta**2))

    estimate = paired_rate_difference(*paired(*table))
    assert estimate.low is not None and estimate.high is not None
    assert score(estimate.low) == pytest.approx(1.959964, abs=1e-3)
    assert score(estimate.high) == pytest.approx(-1.959964, abs=1e-3)


def test_two_systems_that_agree_everywhere_still_have_an_interval() -> None:
    estimate = paired_rate_difference([1, 0] * 50, [1, 0] * 50)
    assert estimate.value == 0 and estimate.low is not None and estimate.high is not None
    assert -0.05 < estimate.low < 0 < estimate.high < 0.05


def test_a_system_that_is_always_better_is_bounded_by_one() -> None:
    estimate = paired_rate_difference([0] * 10, [1] * 10)
    # Where nothing is lost the bound is known in closed form.
    z2 = 1.959964**2 / 10
    assert (estimate.value, estimate.high) == (1.0, 1.0)
    assert estimate.low == pytest.approx((1 - z2) / (1 + z2), abs=1e-6)


def test_replications_that_agree_change_no_paired_difference() -> None:
    first, second = paired(10, 2, 6, 4)
    items = list(range(22))
    assert paired_rate_difference(first * 3, second * 3, items * 3) == paired_rate_difference(first, second)


def test_a_paired_difference_of_nothing_can_be_anything() -> None:
    estimate = paired_rate_difference([], [])
    assert (estimate.value, estimate.low, estimate.high, estimate.n) == (None, -1.0, 1.0, 0)


def test_paired_means_are_those_of_the_paired_t_test() -> None:
    rng = np.random.default_rng(11)
    first = rng.normal(size=30)
    second = first + rng.normal(0.2, 0.5, 30)
    interval = stats.ttest_rel(second, first).confidence_interval()
    estimate = paired_mean_difference(first, second)
    assert (estimate.low, estimate.high) == (pytest.approx(interval.low), pytest.approx(interval.high))


def test_unpaired_shares_have_the_interval_of_newcombe() -> None:
    # Newcombe (1998), Stat. Med. 17, 873-890, table II, example (a): 56/70 against 48/80.
    estimate = rate_difference([1] * 48 + [0] * 32, [1] * 56 + [0] * 14)
    assert (estimate.low, estimate.high) == (pytest.approx(0.0524, abs=5e-5), pytest.approx(0.3339, abs=5e-5))
    low, high = confint_proportions_2indep(56, 70, 48, 80, method="newcomb", compare="diff")
    assert (estimate.low, estimate.high, estimate.n) == (pytest.approx(low), pytest.approx(high), 150)


def test_unpaired_means_have_the_interval_of_welch() -> None:
    rng = np.random.default_rng(5)
    first, second = rng.normal(0, 1, 12), rng.normal(1, 3, 40)
    interval = stats.ttest_ind(second, first, equal_var=False).confidence_interval()
    estimate = mean_difference(first, second)
    assert (estimate.low, estimate.high) == (pytest.approx(interval.low), pytest.approx(interval.high))


def test_a_difference_without_spread_has_no_interval() -> None:
    assert mean_difference([1, 1], [2, 2]).low is None
    assert mean_difference([], [2, 2]).value is None
    assert paired_mean_difference([1, 2], [2, 3]).low is None


def test_aucs_on_the_same_items_differ_by_delong() -> None:
    # By its definition, over all pairs, with the covariance of the two.
    rng = np.random.default_rng(3)
    labels = np.repeat([1, 0], [25, 40])
    first = rng.normal(labels * 1.0)
    second = first + rng.normal(labels * 0.5, 0.7)
    kernels = [(s[:25, None] > s[None, 25:]).astype(float) for s in (first, second)]
    difference = kernels[1] - kernels[0]
    error = math.sqrt(difference.mean(1).var(ddof=1) / 25 + difference.mean(0).var(ddof=1) / 40)
    estimate = paired_auc_difference(labels, first, second)
    assert estimate.value == pytest.approx(difference.mean())
    assert estimate.high == pytest.approx(difference.mean() + 1.959964 * error, abs=1e-6)


def test_outcomes_are_compared_by_mcnemars_exact_test() -> None:
    first, second = paired(20, 3, 12, 9)
    found = paired_test(first, second)
    assert found.method == "McNemar's exact test" and (found.n, found.differing) == (44, 15)
    assert found.p == pytest.approx(mcnemar([[20, 3], [12, 9]], exact=True).pvalue)


def test_systems_that_never_differ_have_p_of_one() -> None:
    assert paired_test([1, 0, 1], [1, 0, 1]).p == 1.0
    assert paired_test([0.1, 0.2], [0.1, 0.2], test="wilcoxon").p == 1.0


def test_numbers_are_compared_by_all_patterns_of_signs() -> None:
    difference = np.array([0.3, 1.2, -0.4, 0.9, 2.0, 0.1, 0.7])
    signs = np.array(np.meshgrid(*[[-1, 1]] * 7)).reshape(7, -1).T
    extreme = np.abs(signs @ difference) >= abs(difference.sum()) - 1e-9
    found = paired_test(np.zeros(7), difference)
    assert found.method == "permutation test of signs" and found.p == pytest.approx(extreme.mean())


def test_a_permutation_test_repeats_with_its_seed() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=50), rng.normal(0.3, 1, 50)
    assert paired_test(first, second, seed=4).p == paired_test(first, second, seed=4).p
    assert paired_test(first, second, seed=4).p == pytest.approx(
        paired_test(first, second, test="t").p, abs=0.02
    )


def test_wilcoxon_and_the_sign_test_are_scipys() -> None:
    rng = np.random.default_rng(2)
    first, second = rng.normal(size=20), rng.normal(0.5, 1, 20)
    assert paired_test(first, second, test="wilcoxon").p == pytest.approx(
        stats.wilcoxon(second - first).pvalue
    )
    up = int((second > first).sum())
    assert paired_test(first, second, test="sign").p == pytest.approx(stats.binomtest(up, 20).pvalue)


def test_mcnemar_refuses_replications_that_differ() -> None:
    with pytest.raises(AnalysisError, match="test='permutation'"):
        paired_test([1, 0, 1], [1, 1, 1], clusters=[0, 0, 1], test="mcnemar")


def test_items_count_once_however_often_they_are_asked() -> None:
    first, second = paired(20, 3, 12, 9)
    items = list(range(44))
    assert paired_test(first * 5, second * 5, items * 5) == paired_test(first, second)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("holm", "holm"), ("benjamini-hochberg", "fdr_bh"), ("benjamini-yekutieli", "fdr_by")],
)
def test_p_values_of_many_tests_are_those_of_statsmodels(ours: str, theirs: str) -> None:
    p = [0.01, 0.04, 0.03, 0.005, 0.7, 0.04]
    assert adjust(p, ours) == pytest.approx(multipletests(p, method=theirs)[1].tolist())  # type: ignore[arg-type]


def test_p_values_keep_their_names() -> None:
    assert adjust_by_name({"a": 0.02, "b": 0.01}) == {"a": 0.02, "b": 0.02}
    assert adjust([]) == []


@pytest.mark.parametrize("n", [5, 30, 1000])
def test_the_detectable_effect_is_that_of_statsmodels(n: int) -> None:
    expected = TTestPower().solve_power(None, nobs=n, alpha=0.05, power=0.8)
    assert minimum_detectable_effect(1.0, n) == pytest.approx(expected, rel=1e-4)
    expected = TTestIndPower().solve_power(None, nobs1=n, ratio=2, alpha=0.05, power=0.8)
    assert minimum_detectable_effect(1.0, n, 2 * n) == pytest.approx(expected, rel=1e-4)


def test_a_paired_comparison_shows_more_where_systems_agree_more() -> None:
    alike = detectable_paired_difference(*paired(40, 2, 3, 55))
    unlike = detectable_paired_difference(*paired(20, 22, 23, 35))
    assert alike is not None and unlike is not None and alike < unlike / 2


def test_too_few_items_can_show_nothing() -> None:
    assert minimum_detectable_effect(1.0, 1) is None
    assert detectable_paired_difference([1, 1], [1, 1]) is None


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: adjust([0.5, 1.5]), "position 1"),
        (lambda: adjust([0.5], "bonferroni"), "holm, benjamini-hochberg"),  # type: ignore[arg-type]
        (lambda: paired_test([1], [1], test="z"), "mcnemar, sign"),  # type: ignore[arg-type]
        (lambda: paired_rate_difference([1, 0], [1]), "do not belong together"),
        (lambda: minimum_detectable_effect(1, 10, power=80), "write 0.8"),
        (lambda: rate_difference([1], [1], level=95), "write 0.95"),
    ],
)
def test_what_makes_no_sense_is_refused(call: object, named: str) -> None:
    with pytest.raises(AnalysisError, match=named):
        call()  # type: ignore[operator]
