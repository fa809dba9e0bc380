"""The ``checks`` annotation: thresholds that the scores of a measurement must keep."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from dyff_dagster.schema.errors import DyffError

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
    "<": operator.lt,
    "==": operator.eq,
    "!=": operator.ne,
}
# Scores of an Audit are ID/NAME, and an id may begin with a digit.
_NAME = r"(?:[A-Za-z0-9][A-Za-z0-9._-]*/)?[A-Za-z_][A-Za-z0-9_.:/@-]*"
_CHECK = re.compile(
    rf"\s*(?:(?P<bound>lower|upper)\s*\(\s*(?P<inner>{_NAME})\s*\)|(?P<name>{_NAME}))"
    r"\s*(?P<op>>=|<=|==|!=|>|<)"
    r"\s*(?P<number>[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)\s*"
)


class ThresholdError(DyffError):
    """A ``checks`` text that does not keep to its grammar; ``part`` is the piece that does not."""

    def __init__(self, part: str, message: str) -> None:
        self.part = part
        super().__init__(message)


@dataclass(frozen=True)
class Threshold:
    """One condition on a score: its point value, or the lower or upper bound of its interval.

    ``text`` is the condition as it was written, in one normal spelling: ``lower(auc) >= 0.95``.
    """

    score: str
    bound: Literal["value", "low", "high"]
    op: str
    number: float
    text: str

    def holds(self, value: float) -> bool:
        """Whether ``value`` keeps the threshold; a NaN keeps none, not even ``!=``."""
        return not math.isnan(value) and _OPERATORS[self.op](value, self.number)


def parse_checks(text: str) -> list[Threshold]:
    """Read ``NAME OP NUMBER; …`` with NAME, ``lower(NAME)`` or ``upper(NAME)`` and OP ``>= > <= < == !=``.

    :raises ThresholdError: for an empty text, a condition outside the grammar, and one that stands twice.
    """
    thresholds: list[Threshold] = []
    parts = text.split(";")
    if len(parts) > 1 and not parts[-1].strip():
        parts.pop()  # a closing semicolon
    for part in parts:
        match = _CHECK.fullmatch(part)
        if match is None:
            raise ThresholdError(
                part.strip(),
                f"'{part.strip()}' is no check; write NAME OP NUMBER, as in `sensitivity >= 0.9; lower(auc) >= 0.95`",
            )
        number = float(match["number"])
        if not math.isfinite(number):
            raise ThresholdError(part.strip(), f"'{part.strip()}' compares with a number that is too large")
        score = match["inner"] or match["name"]
        name = f"{match['bound']}({score})" if match["bound"] else score
        spelled = f"{name} {match['op']} {match['number']}"
        if any(threshold.text == spelled for threshold in thresholds):
            raise ThresholdError(part.strip(), f"'{spelled}' stands twice")
        bound: Literal["value", "low", "high"] = "value"
        if match["bound"]:
            bound = "low" if match["bound"] == "lower" else "high"
        thresholds.append(Threshold(score, bound, match["op"], number, spelled))
    return thresholds
