"""Estimates with intervals: against scipy and scikit-learn where these have them, and where nothing is defined."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from scipy import stats

from dyff_dagster.analysis import AnalysisError
from dyff_dagster.analysis.statistics import auc, brier, mean, proportion, rate


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize(("k", "n"), [(0, 10), (10, 10), (3, 7), (178, 188)])
def test_a_proportion_has_the_interval_of_wilson(k: int, n: int) -> None:
    interval = stats.binomtest(k, n).proportion_ci(method="wilson")
    estimate = proportion(k, n)
    assert (estimate.value, estimate.low, estimate.high) == (k / n, interval.low, interval.high)


def test_a_proportion_of_nothing_can_be_anything() -> None:
    estimate = proportion(0, 0)
    assert (estimate.value, estimate.low, estimate.high, estimate.n) == (None, 0.0, 1.0, 0)


def test_more_successes_than_items_are_refused() -> None:
    with pytest.raises(AnalysisError, match="5 successes out of 4"):
        proportion(5, 4)


def test_replications_that_agree_do_not_narrow_a_rate() -> None:
    once = [1, 1, 0, 1]
    assert rate(once * 3, clusters=[0, 1, 2, 3] * 3) == rate(once) == proportion(3, 4)


def test_replications_that_differ_are_averaged_per_item() -> None:
    estimate = rate([1, 0, 1, 1, 1, 1], clusters=["a", "a", "b", "b", "c", "c"])
    assert estimate.value == pytest.approx(2.5 / 3) and estimate.n == 3
    low, high = proportion(2, 3).low, proportion(3, 3).high
    assert low is not None and high is not None and estimate.low is not None and estimate.high is not None
    assert low < estimate.low < 2.5 / 3 < estimate.high <= high


def test_a_rate_of_fractions_continues_wilson() -> None:
    # Between the intervals of 2 and of 3 successes, and equal to the formula at a whole number.
    nearly = rate([1] * 5 + [1, 1, 0] * 1, clusters=[0, 1, 2, 3, 4, 5, 5, 5])
    assert nearly.low is not None
    assert proportion(5, 6).low < nearly.low < proportion(6, 6).low  # type: ignore[operator]


def test_a_mean_has_the_interval_of_student() -> None:
    values = [0.1, 0.4, 0.35, 0.9, 0.2]
    low, high = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    estimate = mean(values)
    assert (estimate.low, estimate.high) == (pytest.approx(low), pytest.approx(high))


@pytest.mark.parametrize("values", [[0.3], [0.1, 0.1, 0.1], [1e9, 1e9]])
def test_equal_values_give_no_interval(values: list[float]) -> None:
    estimate = mean(values)
    assert (estimate.low, estimate.high, estimate.n) == (None, None, len(values))
    assert estimate.value == pytest.approx(values[0])


def test_a_mean_of_nothing_is_undefined() -> None:
    assert (mean([]).value, mean([]).low, mean([]).n) == (None, None, 0)
    assert str(mean([])) == "undefined (n = 0)"


def test_a_mean_counts_items() -> None:
    assert mean([1, 3, 5, 7], clusters=[9, 9, 4, 4]) == mean([6, 2])


def test_the_interval_of_a_mean_stays_within_its_bounds() -> None:
    assert mean([0, 0, 0, 1], minimum=0, maximum=1).low == 0


def test_brier_is_the_mean_squared_difference() -> None:
    assert brier([1, 0, 1], [0.9, 0.2, 0.6]).value == pytest.approx((0.01 + 0.04 + 0.16) / 3)


def test_a_probability_outside_of_its_range_is_named_by_position() -> None:
    with pytest.raises(AnalysisError, match="position 1"):
        brier([1, 0], [0.5, 1.2])


def test_auc_counts_pairs_and_ties_half() -> None:
    positive, negative = [0.9, 0.5, 0.4], [0.5, 0.1]
    pairs = [1.0 if p > q else 0.5 if p == q else 0.0 for p in positive for q in negative]
    assert auc([1, 1, 1, 0, 0], positive + negative).value == pytest.approx(np.mean(pairs))


def test_auc_has_the_variance_of_delong() -> None:
    # By its definition, over all pairs; on the logit scale.
    rng = np.random.default_rng(7)
    x, y = rng.normal(1, 1, 23), rng.normal(0, 1, 31)
    kernel = (x[:, None] > y[None, :]).astype(float)
    area = kernel.mean()
    error = math.sqrt(kernel.mean(1).var(ddof=1) / 23 + kernel.mean(0).var(ddof=1) / 31)
    half = 1.959963984540054 * error / (area * (1 - area))
    estimate = auc([1] * 23 + [0] * 31, [*x, *y])
    logit = math.log(area / (1 - area))
    assert estimate.low == pytest.approx(1 / (1 + math.exp(half - logit)))
    assert estimate.high == pytest.approx(1 / (1 + math.exp(-half - logit)))
    assert estimate.n == 54 and estimate.method == "DeLong, logit scale"


def test_perfect_separation_has_a_lower_bound() -> None:
    estimate = auc([1] * 20 + [0] * 20, list(range(40, 0, -1)))
    assert (estimate.value, estimate.high) == (1.0, 1.0)
    assert estimate.low is not None and 0.8 < estimate.low < 1
    mirrored = auc([0] * 20 + [1] * 20, list(range(40, 0, -1)))
    assert mirrored.low == 0 and mirrored.high == pytest.approx(1 - estimate.low)


def test_one_item_of_a_class_still_has_an_interval() -> None:
    estimate = auc([1, 0, 0], [2, 1, 3])
    assert estimate.value == 0.5 and estimate.low is not None and 0 < estimate.low < 0.5


@pytest.mark.parametrize("label", [0, 1])
def test_auc_of_one_class_is_undefined(label: int) -> None:
    estimate = auc([label] * 3, [1, 2, 3])
    assert (estimate.value, estimate.low, estimate.high, estimate.n) == (None, None, None, 3)


def test_auc_counts_items() -> None:
    once = auc([1, 0, 1, 0], [0.9, 0.3, 0.2, 0.1])
    assert auc([1, 0, 1, 0] * 2, [0.9, 0.3, 0.2, 0.1] * 2, clusters=[0, 1, 2, 3] * 2) == once


def test_an_item_with_two_labels_is_refused() -> None:
    with pytest.raises(AnalysisError, match="different labels"):
        auc([1, 0, 1], [1, 2, 3], clusters=[0, 0, 1])


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: mean([1.0, math.nan]), "values must be finite numbers; the one at position 1"),
        (lambda: rate([1, 2]), "outcomes must be true or false"),
        (lambda: auc([1, 0], [1.0]), "do not belong together"),
        (lambda: mean([1.0], clusters=[1, 2]), "do not belong together"),
    ],
)
def test_data_that_make_no_sense_are_refused(call: object, named: str) -> None:
    with pytest.raises(AnalysisError, match=named):
        call()  # type: ignore[operator]
