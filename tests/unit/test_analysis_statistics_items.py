"""Shares with other intervals, groups, missing answers and the bootstrap."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from dyff_dagster.analysis import AnalysisError
from dyff_dagster.analysis.statistics import (
    bootstrap,
    bounds,
    mean,
    proportion,
    rate,
    rate_by,
    rate_difference,
    subgroup_gap,
)
from dyff_dagster.analysis.statistics.bootstrap import estimate_of_sums


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize(("k", "n"), [(0, 10), (10, 10), (3, 7)])
def test_a_proportion_can_have_the_interval_of_clopper_and_pearson(k: int, n: int) -> None:
    estimate = proportion(k, n, interval="clopper-pearson")
    low, high = proportion_confint(k, n, method="beta")
    assert (estimate.low, estimate.high) == (pytest.approx(low), pytest.approx(high))


def test_replications_that_differ_lie_between_whole_counts() -> None:
    between = rate([1, 1, 1, 1, 0], clusters=[0, 1, 2, 3, 3], interval="clopper-pearson")
    lower, upper = proportion(3, 4, interval="clopper-pearson"), proportion(4, 4, interval="clopper-pearson")
    assert lower.low < between.low < upper.low  # type: ignore[operator]


def test_each_group_has_its_own_rate() -> None:
    found = rate_by([1, 0, 1, 1], ["b", "a", "b", "a"])
    assert list(found) == ["a", "b"] and found["a"] == proportion(1, 2) and found["b"] == proportion(2, 2)


def test_intervals_that_hold_together_are_at_a_higher_level() -> None:
    found = rate_by([1, 0] * 10, ["a", "b", "c", "d"] * 5, simultaneous=True)
    assert found["a"].level == pytest.approx(1 - 0.05 / 4)


def test_the_gap_is_between_the_best_and_the_worst_group() -> None:
    outcomes = [1] * 18 + [0] * 2 + [1] * 10 + [0] * 10 + [1] * 15 + [0] * 5 + [1]
    groups = ["old"] * 20 + ["young"] * 20 + ["middle"] * 20 + ["rare"]
    gap = subgroup_gap(outcomes, groups, smallest=5)
    assert (gap.worst, gap.best, dict(gap.left_out)) == ("young", "old", {"rare": 1})
    # Three pairs could have been chosen.
    expected = rate_difference(outcomes[20:40], outcomes[:20], level=1 - 0.05 / 3)
    assert (gap.gap.value, gap.gap.low, gap.gap.high) == (
        pytest.approx(expected.value),
        pytest.approx(expected.low),
        pytest.approx(expected.high),
    )


def test_one_group_has_no_gap() -> None:
    gap = subgroup_gap([1, 0], ["a", "a"])
    assert gap.gap.value is None and gap.worst is None


def test_missing_answers_bound_a_rate() -> None:
    # Manski (2003): 81 of 90 answered, 10 more asked.
    estimate = bounds(rate, [1] * 81 + [0] * 9, asked=100)
    assert estimate.worst_low == pytest.approx(0.81) and estimate.worst_high == pytest.approx(0.91)
    assert (estimate.value, estimate.n, estimate.asked) == (0.9, 90, 100)
    assert "n = 90 of 100 asked" in str(estimate)


def test_missing_replications_bound_by_item() -> None:
    estimate = bounds(rate, [1, 1, 1, 0], 6, clusters=[0, 0, 1, 1], unanswered=[2, 2])
    assert (estimate.n, estimate.asked) == (2, 3)
    assert estimate.worst_low == pytest.approx(0.5) and estimate.worst_high == pytest.approx(2.5 / 3)


def test_missing_answers_bound_a_mean_within_its_range() -> None:
    estimate = bounds(mean, [2, 4], 4, minimum=1, maximum=5)
    assert (estimate.worst_low, estimate.worst_high) == (2.0, 4.0)


def test_nothing_missing_bounds_nothing() -> None:
    estimate = bounds(rate, [1, 0], asked=2)
    assert estimate.worst_low == estimate.value == estimate.worst_high


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: bounds(rate, [1, 0], 1), "more than the 1"),
        (lambda: bounds(mean, [7], 2), "lies outside"),
        (lambda: bounds(rate, [1], 2, clusters=[0]), "1 observations are unanswered, and none are named"),
        (lambda: rate([1], interval="wald"), "wilson, clopper-pearson"),  # type: ignore[arg-type]
        (lambda: rate([1], level=95), "write 0.95"),
        (lambda: rate_by([1], [None]), "null"),
        (lambda: bootstrap(np.mean, [1, 2], clusters=[1]), "do not belong together"),
        (lambda: rate([1, 0], clusters=[1, "a"]), None),
    ],
)
def test_what_makes_no_sense_is_refused(call: object, named: str | None) -> None:
    if named is None:
        call()  # type: ignore[operator]
        return
    with pytest.raises(AnalysisError, match=named):
        call()  # type: ignore[operator]


def ratio(above: np.ndarray, below: np.ndarray) -> float:
    return float(above.sum() / below.sum())


def test_the_bootstrap_is_scipys() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.gamma(3, 1, 40), rng.gamma(5, 1, 40)
    seed = 7
    expected = stats.bootstrap(
        (np.arange(40),),
        lambda rows: ratio(a[rows.astype(int)], b[rows.astype(int)]),
        n_resamples=999,
        vectorized=False,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    estimate = bootstrap(ratio, a, b, resamples=999, seed=seed)
    assert estimate.method == "bootstrap BCa" and estimate.value == pytest.approx(a.sum() / b.sum())
    assert (estimate.low, estimate.high) == (
        pytest.approx(expected.low, rel=1e-9),
        pytest.approx(expected.high, rel=1e-9),
    )


def test_sums_and_the_general_bootstrap_agree() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.gamma(3, 1, 40), rng.gamma(5, 1, 40)
    general = bootstrap(ratio, a, b, resamples=4_999)
    sums = estimate_of_sums(np.c_[a, b], lambda s: s[..., 0] / s[..., 1], level=0.95)
    assert sums.low == pytest.approx(general.low, abs=0.01) and sums.high == pytest.approx(
        general.high, abs=0.01
    )


def test_few_kinds_of_items_give_the_same_interval_as_many_items() -> None:
    rows = np.repeat([[1.0, 1.0], [0.0, 1.0]], [70, 30], axis=0)
    estimate = estimate_of_sums(rows, lambda s: s[..., 0] / s[..., 1], level=0.95)
    wilson = proportion(70, 100)
    assert estimate.low == pytest.approx(wilson.low, abs=0.02) and estimate.high == pytest.approx(
        wilson.high, abs=0.02
    )


def test_very_many_different_items_take_the_jackknife() -> None:
    values = np.random.default_rng(0).normal(5, 1, 3_000)
    rows = np.c_[values, np.ones(3_000)]
    estimate = estimate_of_sums(rows, lambda s: s[..., 0] / s[..., 1], level=0.95)
    # Of a mean the jackknife is Student's interval.
    expected = mean(values)
    assert estimate.method == "jackknife"
    assert (estimate.low, estimate.high) == (pytest.approx(expected.low), pytest.approx(expected.high))


def test_a_bootstrap_draws_items_whole() -> None:
    items = np.repeat(np.arange(12), 4)
    values = np.random.default_rng(3).normal(size=12)
    once = bootstrap(lambda x: float(np.mean(x)), values, resamples=999)
    often = bootstrap(lambda x: float(np.mean(x)), values.repeat(4), clusters=items, resamples=999)
    assert (often.low, often.high, often.n) == (pytest.approx(once.low), pytest.approx(once.high), 12)


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(3).gamma(2, 1, 30)
    median = lambda x: float(np.median(x))  # noqa: E731
    assert bootstrap(median, values, resamples=300, seed=5) == bootstrap(
        median, values, resamples=300, seed=5
    )


def test_what_never_varies_has_no_interval() -> None:
    estimate = bootstrap(lambda x: float(np.mean(x)), [1, 1, 1], resamples=99)
    assert (estimate.value, estimate.low, estimate.n) == (1.0, None, 3)


def test_a_statistic_that_is_often_undefined_has_no_interval() -> None:
    estimate = bootstrap(lambda x: None if x.max() < 1 else 1.0 + x.mean(), [1.0, 0.0, 0.0], resamples=200)
    assert estimate.value is not None and estimate.low is None


def test_an_estimate_says_how_it_was_made() -> None:
    recipe = rate([1, 0], level=0.9).recipe
    assert recipe is not None and recipe.name == "dyff_dagster.analysis.statistics.rate"
    assert recipe.parameters["level"] == 0.9 and recipe.data == ("outcomes",)
