"""What an analysis says of itself beside its rows or its page: scores, their intervals, a conclusion.

The files lie in ``.dyff/`` of the analysis's directory. ``scores.json`` has the form that the reference
parses (an object ``{"scores": [...]}``, exactly one of them primary); it knows no intervals, so these lie
beside it in ``intervals.json``, an object ``{NAME: {"low", "high", "n", "level"}}``, with ``"asked",
"worst_low", "worst_high"`` too where answers are missing, and how they were made in
``estimators.json`` (see :mod:`dyff_dagster.analysis.recipes`). ``conclusion.json`` is
``{"text", "holds"}``, with ``holds`` true, false or null.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from dyff_dagster.analysis.errors import AnalysisError
from dyff_dagster.schema.platform import AnalysisScope
from dyff_dagster.schema.scores import ScoreSpec
from dyff_dagster.store import Score

SCORES = ".dyff/scores.json"
INTERVALS = ".dyff/intervals.json"
ESTIMATORS = ".dyff/estimators.json"
CONCLUSION = ".dyff/conclusion.json"
FIGURE = ".dyff/figure.png"

MISSING = ("asked", "worst_low", "worst_high")
"""Parts of a score that say what answers that are missing could have changed."""

_FORMS = {
    SCORES: "{'scores': [{'name', 'quantity', ...}]}",
    INTERVALS: "{NAME: {'low', 'high', 'n', 'level'}}",
    CONCLUSION: "{'text': a sentence, 'holds': true, false or null}",
}

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
        asked: How many items were asked, where some gave no answer.
        worst_low: What the value would be if everything unanswered had come out as low as it can.
        worst_high: The same, as high as it can.
        estimator: How it was made, as ``analysis.recipes.Derivation`` writes it; None where that is not known.
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
    asked: int | None = None
    worst_low: float | None = None
    worst_high: float | None = None
    estimator: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise AnalysisError(
                f"score {self.name!r} has a name that thresholds cannot use: "
                "take letters, digits and underscores, and no digit first"
            )
        for part in ("value", "low", "high", "minimum", "maximum", "worst_low", "worst_high"):
            number = getattr(self, part)
            if number is not None and not math.isfinite(number):
                raise AnalysisError(
                    f"{part} of score {self.name!r} is not a finite number; "
                    "where the data do not define it, say None (null in a row)"
                )
        for lower, upper in (("low", "high"), ("minimum", "maximum"), ("worst_low", "worst_high")):
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
            parts.append(f"n = {self.n}" + (f" of {self.asked} asked" if self.asked is not None else ""))
        if self.worst_low is not None and self.worst_high is not None:
            low, high = (
                self.format.format(quantity=bound, unit=self.unit)
                for bound in (self.worst_low, self.worst_high)
            )
            parts.append(f"{low} to {high} whatever the missing answers had been")
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
        missing = {name: getattr(record, name) for name in MISSING}
        intervals[record.name].update({key: value for key, value in missing.items() if value is not None})
    _write(directory / SCORES, {"scores": scores})
    _write(directory / INTERVALS, intervals)
    if record.estimator is not None:
        known = _read(directory / ESTIMATORS) or {}
        _write(directory / ESTIMATORS, {**known, record.name: dict(record.estimator)})


def read_scores(directory: Path) -> tuple[Score, ...]:
    """The scores that an analysis reported, the primary one first.

    Raises:
        AnalysisError: A file is not in the form that this module writes, or a score has no usable name or a
            number that is none.
    """
    scores = (_read(directory / SCORES) or {"scores": []}).get("scores")
    if not isinstance(scores, list) or not all(isinstance(score, dict) for score in scores):
        raise _wrong_form(SCORES)
    intervals = _read(directory / INTERVALS) or {}
    if not all(isinstance(interval, dict) for interval in intervals.values()):
        raise _wrong_form(INTERVALS)
    found: dict[str, tuple[bool, Score]] = {}
    for position, score in enumerate(scores, start=1):
        name = score.get("name")
        if not isinstance(name, str):
            raise AnalysisError(f"{SCORES} of the analysis: score number {position} has no name")
        if name in found:
            raise AnalysisError(
                f"{SCORES} of the analysis: score {name!r} is there twice; give it one name each"
            )
        if "quantity" not in score:
            raise AnalysisError(
                f"{SCORES} of the analysis: score {name!r} has no quantity; where the data do not define it, "
                "write null"
            )
        found[name] = (score.get("priority") != "primary", _score(name, score, intervals.get(name, {})))
    return tuple(score for _, score in sorted(found.values(), key=lambda item: item[0]))


def settle_scores(directory: Path, declared: Sequence[ScoreSpec], analysis_id: str) -> None:
    """Hold the reported scores against those that the method declares, and record them as it describes them.

    A method that declares none is held to nothing. Title, summary, unit, format, valence, range and priority
    are then the method's; where its primary score was not reported, the first one that was takes its place.

    Raises:
        AnalysisError: A score is not declared, or its value is outside its range; or the file is not in the
            form that this module writes.
    """
    found = _read(directory / SCORES)
    if not declared or found is None:
        return
    read_scores(directory)
    specs = {spec.name: spec for spec in declared}
    settled: list[dict[str, Any]] = []
    for score in found["scores"]:
        name, value = score["name"], score["quantity"]
        spec = specs.get(name)
        if spec is None:
            raise AnalysisError(
                f"{analysis_id}: score {name!r} is none that its method declares ({', '.join(specs)}); "
                "declare it in the method's `scores`, or do not report it"
            )
        if value is not None and not spec.allows(value):
            low = "-∞" if spec.minimum is None else f"{spec.minimum:g}"
            high = "∞" if spec.maximum is None else f"{spec.maximum:g}"
            raise AnalysisError(
                f"{analysis_id}: score {name!r} is {value:g}, and its method declares a range from {low} to {high}"
            )
        shown = "undefined" if value is None else _declared(name, float(value), spec).shown(value)
        described = spec.model_dump(mode="json")
        settled.append({**score, **described, "quantityString": shown})
    if settled and all(score["priority"] != "primary" for score in settled):
        settled[0]["priority"] = "primary"
    _write(directory / SCORES, {**found, "scores": settled})


def describe_scores(scores: Iterable[Score], declared: Sequence[ScoreSpec]) -> tuple[Score, ...]:
    """Scores with the titles, units and formats that the method declares."""
    specs = {spec.name: spec for spec in declared}
    return tuple(
        replace(score, title=spec.title, unit=spec.unit, format=spec.format)
        if (spec := specs.get(score.name)) is not None
        else score
        for score in scores
    )


def _declared(name: str, value: float, spec: ScoreSpec) -> Score:
    return Score(name, value, title=spec.title, unit=spec.unit, format=spec.format)


def _score(name: str, score: Mapping[str, Any], interval: Mapping[str, Any]) -> Score:
    """A score out of files that an author may have written by hand."""
    n = _count(name, interval, "n")
    record = ScoreRecord(
        name=name,
        value=_number(name, "quantity", score),
        low=_number(name, "low", interval),
        high=_number(name, "high", interval),
        n=n,
        asked=_count(name, interval, "asked"),
        worst_low=_number(name, "worst_low", interval),
        worst_high=_number(name, "worst_high", interval),
    )
    # A score that is not defined compares false with every threshold.
    value = math.nan if record.value is None else record.value
    return Score(
        name=name,
        value=value,
        low=record.low,
        high=record.high,
        n=record.n,
        asked=record.asked,
        worst_low=record.worst_low,
        worst_high=record.worst_high,
        level=0.95 if (level := _number(name, "level", interval)) is None else level,
    )


def _count(name: str, found: Mapping[str, Any], part: str) -> int | None:
    n = found.get(part)
    if n is not None and (isinstance(n, bool) or not isinstance(n, int) or n < 0):
        raise AnalysisError(f"{part} of score {name!r} is no count; write a whole number, or null")
    return n


def _number(name: str, part: str, found: Mapping[str, Any]) -> float | None:
    number = found.get(part)
    if number is None:
        return None
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise AnalysisError(f"{part} of score {name!r} is no number; write a finite number, or null")
    try:
        return float(number)
    except OverflowError:
        return math.inf


def write_conclusion(directory: Path, text: str, holds: bool | None) -> None:
    """Record what an analysis comes to.

    Raises:
        AnalysisError: It came to a conclusion already.
    """
    if (directory / CONCLUSION).exists():
        raise AnalysisError("this analysis has a conclusion already; it can come to one only")
    _write(directory / CONCLUSION, {"text": text, "holds": holds})


def read_conclusion(directory: Path) -> tuple[str, bool | None] | None:
    """What an analysis comes to and whether it holds, or None where it says nothing.

    Raises:
        AnalysisError: The file is not in the form that this module writes.
    """
    found = _read(directory / CONCLUSION)
    if found is None:
        return None
    text, holds = found.get("text"), found.get("holds")
    if not isinstance(text, str) or not (holds is None or isinstance(holds, bool)):
        raise _wrong_form(CONCLUSION)
    return text, holds


def write_output(path: Path, data: bytes) -> None:
    """Write a file of an analysis's artifact in the place of whatever is there.

    A symbolic link that a method left there is replaced: what it leads to is not the analysis's to change.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with path.open("xb") as file:
        file.write(data)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        data = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError, OSError) as error:
        raise AnalysisError(
            f"{path.name} of the analysis is no JSON; write it through AnalysisContext"
        ) from error
    if not isinstance(data, dict):
        raise _wrong_form(f".dyff/{path.name}")
    return data


def _wrong_form(name: str) -> AnalysisError:
    return AnalysisError(
        f"{name} of the analysis is not in the form {_FORMS[name]}; write it through AnalysisContext"
    )


def _write(path: Path, data: Mapping[str, Any]) -> None:
    write_output(path, (json.dumps(data, indent=1, sort_keys=True, allow_nan=False) + "\n").encode())
