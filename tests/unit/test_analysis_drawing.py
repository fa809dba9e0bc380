"""Intervals as drawings: what is drawn is where the numbers are."""

from __future__ import annotations

import math
import re

import pytest

from dyff_dagster.analysis.drawing import axes_of, interval_bar
from dyff_dagster.store import Score


def score(name: str, value: float, low: float | None, high: float | None, format: str | None = None) -> Score:
    return Score(name, value, low, high, 10, format=format)


def test_shares_near_one_have_one_axis_and_those_near_zero_another() -> None:
    scores = (score("a", 0.915, 0.828, 0.961), score("b", 0.99, 0.975, 0.996), score("c", 0.03, 0.014, 0.052))
    assert axes_of(scores, {}) == {"a": (0.8, 1.0), "b": (0.8, 1.0), "c": (0.0, 0.1)}


def test_a_share_that_may_be_anything_has_the_whole_axis() -> None:
    assert axes_of((score("a", 0.5, 0.2, 0.8),), {}) == {"a": (0.0, 1.0)}


def test_differences_have_an_axis_around_zero() -> None:
    scores = (score("sign", 0.047, 0.008, 0.094, "{quantity:+.3f}"), score("below", 0.0, -0.3, 0.3))
    assert axes_of(scores, {}) == {"sign": (-0.1, 0.1), "below": (-0.5, 0.5)}


def test_other_numbers_have_an_axis_of_their_own_from_zero() -> None:
    assert axes_of((score("ms", 123.4, 110, 180), score("s", 3, 1, 5)), {}) == {"ms": (0, 200), "s": (0, 5)}


def test_there_is_room_for_thresholds() -> None:
    assert axes_of((score("a", 0.95, 0.92, 0.98),), {"a": [0.61]}) == {"a": (0.6, 1.0)}


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [(0.5, None, None), (math.nan, 0.1, 0.2), (0.5, 0.1, None), (0.5, 0.1, math.inf), (1.0, -1e308, 1e308)],
)
def test_what_has_no_interval_is_not_drawn(value: float, low: float | None, high: float | None) -> None:
    assert axes_of((score("a", value, low, high),), {}) == {}


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [(0, 0, 0), (1, 1, 1), (1e-310, 0, 1e-309), (1e90, -1e99, 1e98), (0.9, 0.9, 0.9)],
)
def test_every_number_lies_within_its_axis(value: float, low: float, high: float) -> None:
    one = score("a", value, low, high)
    start, end = axes_of((one,), {})["a"]
    assert start <= low <= high <= end and start < end
    assert "nan" not in interval_bar(one, (start, end)) and "inf" not in interval_bar(one, (start, end))


def places(svg: str) -> dict[str, float]:
    """Where point, interval and threshold are drawn, as numbers on the axis from 0 to 1."""
    axis = re.search(r'class="dyff-axis" x1="([\d.]+)" x2="([\d.]+)"', svg)
    bar = re.search(r'class="dyff-range" x="([\d.]+)" [^>]*width="([\d.]+)"', svg)
    point = re.search(r'class="dyff-point" cx="([\d.]+)"', svg)
    mark = re.search(r'class="dyff-mark" x1="([\d.]+)"', svg)
    assert axis and bar and point and mark
    start, end = map(float, axis.groups())
    places = {
        "low": float(bar[1]),
        "high": float(bar[1]) + float(bar[2]),
        "point": float(point[1]),
        "mark": float(mark[1]),
    }
    return {name: (place - start) / (end - start) for name, place in places.items()}


def test_point_bounds_and_threshold_are_drawn_where_they_are() -> None:
    drawn = places(interval_bar(score("a", 0.6, 0.25, 0.75), (0.0, 1.0), [0.5]))
    assert drawn == pytest.approx({"low": 0.25, "high": 0.75, "point": 0.6, "mark": 0.5}, abs=1e-4)


def test_a_drawing_is_passed_over_by_those_who_listen_and_names_its_ends() -> None:
    svg = interval_bar(score("a", 0.0, -0.3, 0.3), (-0.5, 0.5))
    assert 'aria-hidden="true"' in svg
    assert re.findall(r">([^<>]+)</text>", svg) == ["\N{MINUS SIGN}0.5", "0.5"]
    assert "dyff-zero" in svg
