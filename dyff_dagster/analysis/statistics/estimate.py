"""What every estimator returns, and how it says by what it was made."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ParamSpec

P = ParamSpec("P")


@dataclass(frozen=True)
class Recipe:
    """By which estimator a number was made, so that somebody else can make it again.

    Attributes:
        name: The estimator's dotted name, as it is imported.
        parameters: Its settings, seeds among them: every argument that is a number, a word, a yes or no, or
            None. Data are not in it.
        data: Names of the arguments that were data.
    """

    name: str
    parameters: Mapping[str, Any]
    data: tuple[str, ...] = ()


@dataclass(frozen=True)
class Estimate:
    """A number with its interval.

    Attributes:
        value: The point estimate; None where the data do not define it.
        low: Lower bound of the interval; None where the data do not give one.
        high: Upper bound of the interval; None where ``low`` is.
        n: Independent observations that it rests on: items, not replications.
        method: How the interval was made.
        level: The interval's level, 0.95 unless asked otherwise.
        asked: How many items were asked, where some gave no answer; None where that is not known.
        worst_low: What the value would be if everything unanswered had come out as low as it can.
        worst_high: What it would be if it had come out as high as it can.
        recipe: The estimator and its settings; no part of what makes two estimates equal.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    method: str = ""
    level: float = 0.95
    asked: int | None = None
    worst_low: float | None = None
    worst_high: float | None = None
    recipe: Recipe | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        n = f"n = {self.n}" if self.asked is None else f"n = {self.n} of {self.asked} asked"
        if self.worst_low is not None and self.worst_high is not None:
            n += f"; at worst {self.worst_low:.3f} to {self.worst_high:.3f}"
        if self.value is None:
            return f"undefined ({n})"
        if self.low is None or self.high is None:
            return f"{self.value:.3f} ({n})"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}] ({n})"


def estimator(function: Callable[P, Estimate]) -> Callable[P, Estimate]:
    """Make a function put its :class:`Recipe` on the estimate that it returns."""
    signature = inspect.signature(function)
    # Estimators are imported from their package, whichever of its files they lie in.
    name = f"{function.__module__.rpartition('.')[0]}.{function.__name__}"

    @functools.wraps(function)
    def recorded(*args: P.args, **kwargs: P.kwargs) -> Estimate:
        made = function(*args, **kwargs)
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        given = {key: _scalar(value) for key, value in bound.arguments.items()}
        return replace(
            made,
            recipe=Recipe(
                name=name,
                parameters={key: value for key, value in given.items() if value is not _DATA},
                data=tuple(key for key, value in given.items() if value is _DATA),
            ),
        )

    return recorded


_DATA = object()


def _scalar(value: Any) -> Any:
    """A setting as JSON has it, or ``_DATA``."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        return value.item()
    return _DATA
