"""What is worth saying about a committed version: counts, columns, scores with their intervals.

Facts travel inside the commit, so that a version which is reused a year later is reported with the same
numbers as on the day it was made.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from dyff_dagster.schema.arrow_text import format_type


@dataclass(frozen=True)
class Score:
    """One number with its uncertainty.

    Attributes:
        name: As thresholds and tables name it, ``sensitivity``.
        value: The point estimate.
        low: Lower bound of its interval, or None where there is none.
        high: Upper bound of the same interval.
        n: How many independent observations it rests on.
        title: What to head it with, where its method declares that.
        unit: Its unit of measure, where the method declares one.
        format: Python format of ``quantity`` (and ``unit``), where the method declares one.
        asked: How many items were asked, where some gave no answer.
        worst_low: What the value would be if everything unanswered had come out as low as it can.
        worst_high: The same, as high as it can.
        level: The interval's level.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None
    title: str | None = None
    unit: str | None = None
    format: str | None = None
    asked: int | None = None
    worst_low: float | None = None
    worst_high: float | None = None
    level: float = 0.95

    def __str__(self) -> str:
        text = f"{self.label} {self.shown(self.value)}"
        if self.low is not None and self.high is not None:
            text += f" [{self.shown(self.low)}, {self.shown(self.high)}]{self.level_note}"
        if self.n is not None:
            text += f" n={self.n}" + (f" of {self.asked} asked" if self.asked is not None else "")
        if self.worst_low is not None and self.worst_high is not None:
            text += f", at worst {self.shown(self.worst_low)} to {self.shown(self.worst_high)}"
        return text

    @property
    def label(self) -> str:
        """What people call it: its title, else its name."""
        return self.title or self.name

    @property
    def level_note(self) -> str:
        """`` (90 %)`` where the interval is not of the level that tables name, else nothing."""
        return "" if self.level == 0.95 else f" ({100 * self.level:g} %)"

    def shown(self, number: float, digits: int = 3) -> str:
        """``number`` as its method wants it shown, else with so many ``digits``; NaN as ``nan``."""
        if self.format is None or not math.isfinite(number):
            return f"{number:.{digits}f}"
        text = self.format.format(quantity=number, unit=self.unit or "").rstrip()
        return f"{text} {self.unit}" if self.unit and "{unit" not in self.format else text


@dataclass(frozen=True)
class Column:
    """One column of a tabular artifact: name, type (as CONTRACT writes types), nullability, description."""

    name: str
    type: str
    nullable: bool = True
    description: str = ""


@dataclass(frozen=True)
class Completeness:
    """Whether every (row, replication) that was asked for was answered exactly once.

    Attributes:
        expected: Rows of the data set times replications.
        answered: Of those, how many have exactly one answer.
        missing: How many have none.
        duplicated: How many have more than one.
        unexpected: Answers to rows that the data set does not have.
        examples: The first few missing or duplicated ones, as ``row 17, replication 1``.
    """

    expected: int
    answered: int
    missing: int = 0
    duplicated: int = 0
    unexpected: int = 0
    examples: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """True where nothing is missing, nothing doubled, and nothing there that nobody asked for."""
        return self.answered == self.expected and not (self.missing or self.duplicated or self.unexpected)


@dataclass(frozen=True)
class Facts:
    """What Dagster shows of a version, and what checks decide on.

    Attributes:
        rows: Number of rows of a tabular artifact.
        columns: Its columns.
        scores: Numbers with intervals; the first is the headline.
        sent_fields: Evaluation: names of the fields of the requests that the service saw.
        withheld: Evaluation: names of the fields it could not see.
        completeness: Evaluation and instance-level Measurement: the exactly-once count.
        page: Name of the HTML page within the version.
        notebook: Name of the executed notebook within the version.
        figure: Name of a small PNG within the version.
        conclusion: The one sentence that a SafetyCase comes to.
        notes: Anything else worth showing, by a short name; values are JSON.
    """

    rows: int | None = None
    columns: tuple[Column, ...] = ()
    scores: tuple[Score, ...] = ()
    sent_fields: tuple[str, ...] | None = None
    withheld: tuple[str, ...] | None = None
    completeness: Completeness | None = None
    page: str | None = None
    notebook: str | None = None
    figure: str | None = None
    conclusion: str | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def headline(self) -> Score | None:
        """The score to show where there is room for one."""
        return self.scores[0] if self.scores else None

    def score(self, name: str) -> Score | None:
        """The score of that name, or None."""
        return next((score for score in self.scores if score.name == name), None)

    def to_json(self) -> dict[str, Any]:
        """As a JSON object; a score that is not a number becomes null."""
        data: dict[str, Any] = _plain(dataclasses.asdict(self))
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Facts:
        """The inverse of :meth:`to_json`; keys of later versions of this package are passed over."""
        known = {f.name for f in dataclasses.fields(cls)}
        data = {key: value for key, value in data.items() if key in known}
        completeness = data.get("completeness")
        return cls(
            **{
                **data,
                "columns": tuple(Column(**column) for column in data.get("columns", ())),
                "scores": tuple(
                    Score(**{**score, "value": math.nan if score["value"] is None else score["value"]})
                    for score in data.get("scores", ())
                ),
                "sent_fields": None if data.get("sent_fields") is None else tuple(data["sent_fields"]),
                "withheld": None if data.get("withheld") is None else tuple(data["withheld"]),
                "completeness": None
                if completeness is None
                else Completeness(**{**completeness, "examples": tuple(completeness["examples"])}),
            }
        )


def columns_of(schema: pa.Schema) -> tuple[Column, ...]:
    """The columns of an Arrow schema, their ``__doc__`` metadata as descriptions."""
    return tuple(
        Column(
            name=column.name,
            type=format_type(column.type, True),
            nullable=column.nullable,
            description=(column.metadata or {}).get(b"__doc__", b"").decode("utf-8", "replace"),
        )
        for column in schema
    )


def _plain(value: Any) -> Any:
    """JSON has no NaN, and tuples are arrays."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
