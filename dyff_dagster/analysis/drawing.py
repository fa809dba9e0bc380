"""Intervals as small drawings in a table: where a number lies, how sure it is, and what was asked of it.

Each is SVG that says nothing that is not written beside it, so it is hidden from those who listen to the page.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from dyff_dagster.store import Score

WIDTH, HEIGHT = 240, 18
"""Units of a drawing; the style sheet scales it."""

_LEFT, _RIGHT = 36.0, 204.0
"""Where the axis begins and ends: what is left at the sides is for the numbers of its ends."""

_MIDDLE = HEIGHT / 2

_FARTHEST = 1e100
"""Numbers from here on are not drawn: the length of their axis may be no number."""

Axis = tuple[float, float]
Marks = Mapping[str, Sequence[float]]


def axes_of(scores: Sequence[Score], marks: Marks) -> dict[str, Axis]:
    """The axis of each score that has an interval, by name.

    Shares that lie near 1 have one axis, and so have those near 0: they can be compared by eye, and are seen.
    Differences, whose format has a sign, have one around zero.

    Args:
        scores: The scores of a table.
        marks: Thresholds by name of the score.
    """
    numbers = {
        score.name: [score.low, score.value, score.high, *marks.get(score.name, ())]
        for score in scores
        if score.low is not None and score.high is not None
    }
    # What the data do not define (NaN compares false) is no place on an axis.
    drawn = {
        score.name: score
        for score in scores
        if all(abs(number) < _FARTHEST for number in numbers.get(score.name, [math.nan]))
    }
    groups = {name: _group(score, numbers[name]) for name, score in drawn.items()}
    shared: dict[str, list[float]] = {}
    for name, group in groups.items():
        shared.setdefault(group if group in _SHARED else name, []).extend(numbers[name])
    return {name: _axis(group, shared[group if group in _SHARED else name]) for name, group in groups.items()}


def interval_bar(score: Score, axis: Axis, marks: Sequence[float] = ()) -> str:
    """A score's interval on an axis, as an ``svg`` element.

    Args:
        score: The score; it has an interval.
        axis: Ends of the axis.
        marks: Thresholds.
    """
    assert score.low is not None and score.high is not None  # noqa: S101
    low, high = axis

    def at(number: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * (number - low) / (high - low)

    start, end = at(score.low), at(score.high)
    drawn = [
        f'<text class="dyff-end" x="{_LEFT - 5:g}" y="{_MIDDLE + 3.5:g}" text-anchor="end">{_label(low)}</text>',
        f'<line class="dyff-axis" x1="{_LEFT:g}" x2="{_RIGHT:g}" y1="{_MIDDLE:g}" y2="{_MIDDLE:g}"></line>',
        f'<text class="dyff-end" x="{_RIGHT + 5:g}" y="{_MIDDLE + 3.5:g}">{_label(high)}</text>',
        _line("dyff-zero", at(0), 2) if low < 0 < high else "",
        f'<rect class="dyff-range" x="{start:.2f}" y="{_MIDDLE - 3.5:g}" width="{max(end - start, 1):.2f}" '
        'height="7"></rect>',
        *(_line("dyff-mark", at(mark), 1) for mark in marks),
        f'<circle class="dyff-point" cx="{at(score.value):.2f}" cy="{_MIDDLE:g}" r="3.8"></circle>',
    ]
    return (
        f'<svg class="dyff-bar" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" aria-hidden="true">'
        f"{''.join(drawn)}</svg>"
    )


def _line(kind: str, x: float, top: float) -> str:
    return f'<line class="{kind}" x1="{x:.2f}" x2="{x:.2f}" y1="{top:g}" y2="{HEIGHT - top:g}"></line>'


_Group = Literal["high", "low", "share", "signed", "other"]

_SHARED = ("high", "low", "share")


def _group(score: Score, numbers: Sequence[float]) -> _Group:
    least, most = min(numbers), max(numbers)
    if "+" in (score.format or "") or least < 0:
        return "signed"
    if most > 1:
        return "other"
    return "high" if least >= 0.5 else "low" if most <= 0.5 else "share"


def _axis(group: _Group, numbers: Sequence[float]) -> Axis:
    """The ends of an axis that has room for all numbers."""
    least, most = min(numbers), max(numbers)
    if group == "high":
        return min(math.floor(least * 10 + 1e-9), 9) / 10, 1.0
    if group == "low":
        return 0.0, max(math.ceil(most * 10 - 1e-9), 1) / 10
    if group == "share":
        return 0.0, 1.0
    bound = _round_up(max(abs(least), abs(most)))
    return (-bound if group == "signed" else 0.0), bound


def _round_up(number: float) -> float:
    """The least of 1, 2 and 5, times a power of ten, that is no less."""
    if number < 1e-300:
        return 1.0
    power = 10.0 ** math.floor(math.log10(number))
    return next((step * power for step in (1, 2, 5) if number <= step * power * (1 + 1e-9)), 10 * power)


def _label(number: float) -> str:
    return f"{number:.3g}".replace("-", "\N{MINUS SIGN}")
