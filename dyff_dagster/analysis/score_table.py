"""The table of scores that every page has: value, interval as numbers and as a drawing, and n."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dyff_dagster.analysis.drawing import Marks, axes_of, interval_bar
from dyff_dagster.analysis.records import SCORES, describe_scores, read_scores
from dyff_dagster.analysis.templating import environment
from dyff_dagster.schema.scores import ScoreSpec
from dyff_dagster.store import Score

USUAL_LEVEL = 0.95


@dataclass(frozen=True)
class ScoreRow:
    """A line of the table, as text; ``bar`` is a drawing, or empty."""

    label: str
    about: str
    value: str
    interval: str
    bar: str
    n: str
    at_worst: str


def score_table(
    scores: Sequence[Score], about: Mapping[str, str] | None = None, marks: Marks | None = None
) -> str:
    """Scores as an HTML table.

    Args:
        scores: The scores.
        about: What a score measures, by its name.
        marks: Thresholds that are drawn, by name of the score.
    """
    levels = {score.level for score in scores if score.low is not None}
    common = levels.pop() if len(levels) == 1 else None if levels else USUAL_LEVEL
    axes = axes_of(scores, marks or {})
    rows = [
        _row(
            score,
            (about or {}).get(score.name, ""),
            common,
            interval_bar(score, axes[score.name], (marks or {}).get(score.name, ()))
            if score.name in axes
            else "",
        )
        for score in scores
    ]
    return (
        environment()
        .get_template("scores.html.j2")
        .render(rows=rows, interval="Interval" if common is None else f"{100 * common:g} % interval")
    )


def scores_to_show(
    directory: Path, declared: Sequence[ScoreSpec]
) -> tuple[tuple[Score, ...], dict[str, str]]:
    """The scores that an analysis reported, with the titles and formats that its code gave them, and what each is.

    For the process in which that code runs: nobody else takes a format from there.
    """
    try:
        said = json.loads((directory / SCORES).read_text("utf-8"))["scores"]
    except FileNotFoundError:
        return (), {}
    described = {score["name"]: score for score in said}
    titled = (_titled(score, described[score.name]) for score in read_scores(directory))
    return describe_scores(titled, declared), {
        name: str(score["summary"]) for name, score in described.items() if score.get("summary")
    }


def _titled(score: Score, said: Mapping[str, Any]) -> Score:
    title, format_, unit = (said.get(name) for name in ("title", "format", "unit"))
    shown = replace(
        score,
        title=str(title) if title else None,
        format=str(format_) if format_ else None,
        unit=str(unit) if unit else None,
    )
    try:
        shown.shown(score.value)
    except (ValueError, LookupError, AttributeError, TypeError):
        return replace(shown, format=None)  # a file that was written by hand
    return shown


def _row(score: Score, about: str, common: float | None, bar: str) -> ScoreRow:
    interval = ""
    if score.low is not None and score.high is not None:
        interval = f"{score.shown(score.low)} to {score.shown(score.high)}"
        if common is None:
            interval += f" ({100 * score.level:g} %)"
    n = "" if score.n is None else f"{score.n:,}"
    if score.asked is not None:
        n += f" of {score.asked:,} asked"
    at_worst = ""
    if score.worst_low is not None and score.worst_high is not None:
        at_worst = f"{score.shown(score.worst_low)} to {score.shown(score.worst_high)}"
    return ScoreRow(
        label=score.label,
        about=about if about != score.label else "",
        value=score.shown(score.value) if math.isfinite(score.value) else "undefined",
        interval=interval,
        bar=bar,
        n=n,
        at_worst=at_worst,
    )
