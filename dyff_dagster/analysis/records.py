"""What an analysis says of itself beside its rows or its page: scores, their intervals, a conclusion.

The files lie in ``.dyff/`` of the analysis's directory. ``scores.json`` has the form that the reference
parses (an object ``{"scores": [...]}``, exactly one of them primary); it knows no intervals, so these lie
beside it in ``intervals.json``, an object ``{NAME: {"low", "high", "n", "level"}}``. ``conclusion.json`` is
``{"text", "holds"}``, with ``holds`` true, false or null.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dyff_dagster.analysis.errors import AnalysisError
from dyff_dagster.schema.platform import AnalysisScope
from dyff_dagster.store import Score

SCORES = ".dyff/scores.json"
INTERVALS = ".dyff/intervals.json"
CONCLUSION = ".dyff/conclusion.json"
FIGURE = ".dyff/figure.png"

Valence = Literal["positive", "negative", "neutral"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,126}")
_TITLE_LENGTH, _SUMMARY_LENGTH = 140, 280


@dataclass(frozen=True)
class ScoreRecord:
    """One score as an author reports it.

    Attributes:
        name: A Python identifier; thresholds name the score by it.
        value: The point estimate; None where the data do not define it.
        low: Lower bound of its interval.
        high: Upper bound.
        n: Independent observations that it rests on.
        level: The interval's level.
        title: For people; default the name.
        summary: What the score measures, in a sentence.
        text: What this value means, in a sentence.
        format: Python format with ``quantity`` and, if wanted, ``unit``.
        unit: Unit of measure.
        valence: Whether more is better.
        minimum: The least possible value.
        maximum: The greatest possible value.
    """

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    level: float = 0.95
    title: str | None = None
    summary: str | None = None
    text: str | None = None
    format: str = "{quantity:.3f}"
    unit: str | None = None
    valence: Valence = "neutral"
    minimum: float | None = None
    maximum: float | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise AnalysisError(
                f"score {self.name!r} has a name that thresholds cannot use: "
                "take letters, digits and underscores, and no digit first"
            )
        for part in ("value", "low", "high", "minimum", "maximum"):
            number = getattr(self, part)
            if number is not None and not math.isfinite(number):
                raise AnalysisError(
                    f"{part} of score {self.name!r} is not a finite number; "
                    "where the data do not define it, say None"
                )
        for lower, upper in (("low", "high"), ("minimum", "maximum")):
            a, b = getattr(self, lower), getattr(self, upper)
            if a is not None and b is not None and a > b:
                raise AnalysisError(
                    f"score {self.name!r} has {lower} {a:g} above {upper} {b:g}; exchange them"
                )
        self._check_format()

    def _check_format(self) -> None:
        try:
            shown = {self.format.format(quantity=number, unit=self.unit) for number in (3.14, -2.03)}
        except (ValueError, LookupError, AttributeError, TypeError):
            shown = set()
        if len(shown) != 2:
            raise AnalysisError(
                f"format of score {self.name!r} is no Python format of 'quantity'; write for instance "
                "'{quantity:.2f}', or '{quantity:.2f} {unit}'"
            )

    @property
    def quantity_string(self) -> str:
        """The value as it is to be shown."""
        return "undefined" if self.value is None else self.format.format(quantity=self.value, unit=self.unit)

    @property
    def interval_string(self) -> str:
        """``0.91 to 0.97 (95 % interval), n = 188``, or as much of it as there is."""
        parts = []
        if self.low is not None and self.high is not None:
            low, high = (
                self.format.format(quantity=bound, unit=self.unit) for bound in (self.low, self.high)
            )
            parts.append(f"{low} to {high} ({100 * self.level:g} % interval)")
        if self.n is not None:
            parts.append(f"n = {self.n}")
        return ", ".join(parts)


def add_score(
    directory: Path,
    record: ScoreRecord,
    *,
    analysis_id: str,
    method: str,
    scope: AnalysisScope,
    primary: bool,
) -> None:
    """Append a score to the records of an analysis.

    The first one is primary until one is added that says so.

    Args:
        directory: The analysis's directory.
        record: The score.
        analysis_id: The analysis that it comes from.
        method: ID of its method.
        scope: What it is about.
        primary: Show this one where there is room for one.

    Raises:
        AnalysisError: There is a score of that name already.
    """
    scores: list[dict[str, Any]] = (_read(directory / SCORES) or {}).get("scores", [])
    intervals: dict[str, Any] = _read(directory / INTERVALS) or {}
    if any(score["name"] == record.name for score in scores):
        raise AnalysisError(
            f"score {record.name!r} was reported already; each score has one value, give it one name"
        )
    if primary:
        for score in scores:
            score["priority"] = "secondary"
    about = record.text or ", ".join(
        part for part in (record.quantity_string, record.interval_string) if part
    )
    scores.append(
        {
            "name": record.name,
            "title": (record.title or record.name.replace("_", " "))[:_TITLE_LENGTH],
            "summary": (record.summary or record.title or record.name.replace("_", " "))[:_SUMMARY_LENGTH],
            "valence": record.valence,
            "priority": "primary" if primary or not scores else "secondary",
            "minimum": record.minimum,
            "maximum": record.maximum,
            "format": record.format,
            "unit": record.unit,
            "metadata": {
                "refs": {
                    "method": method,
                    "dataset": scope.dataset,
                    "evaluation": scope.evaluation,
                    "inferenceService": scope.inferenceService,
                    "model": scope.model,
                }
            },
            "analysis": analysis_id,
            "quantity": record.value,
            "quantityString": record.quantity_string,
            "text": about[:_SUMMARY_LENGTH],
        }
    )
    if record.low is not None or record.high is not None or record.n is not None:
        intervals[record.name] = {
            "low": record.low,
            "high": record.high,
            "n": record.n,
            "level": record.level,
        }
    _write(directory / SCORES, {"scores": scores})
    _write(directory / INTERVALS, intervals)


def read_scores(directory: Path) -> tuple[Score, ...]:
    """The scores that an analysis reported, the primary one first.

    Raises:
        AnalysisError: A file is not in the form that this module writes.
    """
    scores: list[dict[str, Any]] = (_read(directory / SCORES) or {}).get("scores", [])
    intervals: Mapping[str, Any] = _read(directory / INTERVALS) or {}
    try:
        ordered = sorted(scores, key=lambda score: score.get("priority") != "primary")
        found = []
        for score in ordered:
            interval = intervals.get(score["name"], {})
            quantity = score.get("quantity")
            found.append(
                Score(
                    name=score["name"],
                    # A score that is not defined compares false with every threshold.
                    value=math.nan if quantity is None else float(quantity),
                    low=interval.get("low"),
                    high=interval.get("high"),
                    n=interval.get("n"),
                )
            )
        return tuple(found)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise AnalysisError(f"{SCORES} of the analysis is not in the form {{'scores': [...]}}") from error


def write_conclusion(directory: Path, text: str, holds: bool | None) -> None:
    """Record what an analysis comes to.

    Raises:
        AnalysisError: It came to a conclusion already.
    """
    if (directory / CONCLUSION).exists():
        raise AnalysisError("this analysis has a conclusion already; it can come to one only")
    _write(directory / CONCLUSION, {"text": text, "holds": holds})


def read_conclusion(directory: Path) -> tuple[str, bool | None] | None:
    """What an analysis comes to and whether it holds, or None where it says nothing."""
    found = _read(directory / CONCLUSION)
    return (str(found["text"]), found["holds"]) if found else None


def _read(path: Path) -> dict[str, Any] | None:
    try:
        data = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise AnalysisError(
            f"{path.name} of the analysis is no JSON; write it through AnalysisContext"
        ) from error
    return data if isinstance(data, dict) else None


def _write(path: Path, data: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1, sort_keys=True, allow_nan=False) + "\n", "utf-8")
