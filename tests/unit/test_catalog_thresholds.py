"""The grammar of the ``checks`` annotation."""

from __future__ import annotations

import math

import pytest

from dyff_dagster.catalog import Threshold, ThresholdError, parse_checks
from dyff_dagster.catalog.cron import describe_bad_cron


def test_points_and_bounds_are_told_apart() -> None:
    assert parse_checks("sensitivity >= 0.9; lower(auc) >= .95;upper( brier )<1e-1 ;") == [
        Threshold("sensitivity", "value", ">=", 0.9, "sensitivity >= 0.9"),
        Threshold("auc", "low", ">=", 0.95, "lower(auc) >= .95"),
        Threshold("brier", "high", "<", 0.1, "upper(brier) < 1e-1"),
    ]


def test_a_score_may_be_called_like_a_bound() -> None:
    [threshold] = parse_checks("lower == -1")

    assert (threshold.score, threshold.bound, threshold.number) == ("lower", "value", -1.0)


@pytest.mark.parametrize(
    ("check", "holding", "failing"),
    [
        ("x >= 1", [1, 2], [0.999]),
        ("x > 1", [1.001], [1]),
        ("x <= 1", [1, 0], [1.001]),
        ("x < 1", [0.999], [1]),
        ("x == 1", [1], [2]),
        ("x != 1", [2], [1]),
    ],
)
def test_operators(check: str, holding: list[float], failing: list[float]) -> None:
    [threshold] = parse_checks(check)

    assert [threshold.holds(value) for value in holding] == [True] * len(holding)
    assert [threshold.holds(value) for value in failing] == [False] * len(failing)
    assert threshold.holds(math.nan) is False


@pytest.mark.parametrize("text", ["", ";", "auc", "auc => 1", "auc >= high", "0.9 <= auc", "mean(x) > 1", "a > 1;; b > 1", "a > 1, b > 1", "a > nan", "a >= 90%"])  # fmt: skip  # noqa: E501
def test_what_is_no_check_is_refused(text: str) -> None:
    with pytest.raises(ThresholdError, match="is no check; write NAME OP NUMBER"):
        parse_checks(text)


def test_the_same_check_twice_is_refused() -> None:
    with pytest.raises(ThresholdError, match=r"^'auc > 1' stands twice$"):
        parse_checks("auc > 1; auc>1")


def test_numbers_beyond_floats_are_refused() -> None:
    with pytest.raises(ThresholdError, match="too large"):
        parse_checks("auc > 1e999")


def test_scores_of_audits_are_named_by_the_result_that_they_are_of() -> None:
    (point, bound) = parse_checks("0123abcd/accuracy >= 0.9; lower(9a.b-c/auc) >= 0.8")
    assert (point.score, bound.score, bound.bound) == ("0123abcd/accuracy", "9a.b-c/auc", "low")
    with pytest.raises(ThresholdError, match="is no check"):
        parse_checks("0.9 >= 1")


@pytest.mark.parametrize("line", ["* * * * *", "0 6 * * 1", "*/15 0-6,20 1 jan-mar MON", "0 0 1-31/2 12 7"])
def test_cron_lines_are_known(line: str) -> None:
    assert describe_bad_cron(line) is None


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("* * * *", "a cron line has five fields and this has 4"),
        ("60 * * * *", "'60' is no minute of a cron line: it lies between 0 and 59"),
        ("* * 0 * *", "'0' is no day of the month of a cron line: it lies between 1 and 31"),
        ("* 6-3 * * *", "'6-3' is a range that runs backwards"),
        ("*/0 * * * *", "'*/0' has a step of 0"),
        ("* * * monday *", "'monday' is no month of a cron line: it lies between 1 and 12"),
        ("?? * * * *", "'??' is no minute of a cron line"),
    ],
)
def test_bad_cron_lines_are_explained(line: str, wrong: str) -> None:
    assert describe_bad_cron(line) == wrong
