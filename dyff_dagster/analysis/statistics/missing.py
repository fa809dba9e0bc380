"""What answers that are missing could have changed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dyff_dagster.analysis.errors import AnalysisError
from dyff_dagster.analysis.statistics.estimate import Estimate
from dyff_dagster.analysis.statistics.observations import Clusters, numbers, same_length


def bounds(
    estimate: Callable[..., Estimate],
    answered: ArrayLike,
    asked: int,
    *,
    clusters: Clusters = None,
    unanswered: Sequence[Any] | None = None,
    minimum: float = 0.0,
    maximum: float = 1.0,
) -> Estimate:
    """An estimate from what was answered, with what it would be if the rest had come out at its worst or best.

    Value and interval are those of the answered observations. ``worst_low`` and ``worst_high`` assume nothing
    about why the others are missing: every one of them is set to the least, and to the greatest, that it could
    have been. A share of 0.9 of 90 answered out of 100 lies between 0.81 and 0.91.

    Source: Manski (2003), Partial Identification of Probability Distributions, chapter 1.

    Args:
        estimate: :func:`rate`, :func:`mean`, or anything that takes observations (and ``clusters=``) and rises
            with each of them.
        answered: The observations that there are, shape ``(observations,)``.
        asked: How many observations were asked for.
        clusters: The item of each answered observation.
        unanswered: The item of each unanswered one, where ``clusters`` is given.
        minimum: The least that an observation can be.
        maximum: The greatest.

    Returns:
        The estimate, with ``asked`` in the unit of its ``n``: items.

    Raises:
        AnalysisError: More are answered than were asked for, the range is none, or ``unanswered`` is missing or
            of another length.
    """
    values = numbers("bounds", "answered", answered)
    missing = asked - len(values)
    if missing < 0:
        raise AnalysisError(
            f"bounds: {len(values)} observations are more than the {asked} that were asked for"
        )
    if not (math.isfinite(minimum) and math.isfinite(maximum) and minimum <= maximum):
        raise AnalysisError("bounds: the range must be two finite numbers, the least first")
    if ((values < minimum) | (values > maximum)).any():
        raise AnalysisError(
            f"bounds: an observation lies outside of [{minimum:g}, {maximum:g}]; give the range that it can have"
        )
    if clusters is None:
        low, high = (
            estimate(np.concatenate([values, np.full(missing, end)])).value for end in (minimum, maximum)
        )
        return replace(estimate(values), asked=asked, worst_low=low, worst_high=high)
    same_length("bounds", values, clusters)
    if unanswered is None or len(unanswered) != missing:
        count = "none" if unanswered is None else len(unanswered)
        raise AnalysisError(
            f"bounds: {missing} observations are unanswered, and {count} are named; give unanswered= the item of each"
        )
    items = [*np.asarray(clusters).reshape(-1).tolist(), *unanswered]
    low, high = (
        estimate(np.concatenate([values, np.full(missing, end)]), clusters=items).value
        for end in (minimum, maximum)
    )
    return replace(estimate(values, clusters=clusters), asked=len(set(items)), worst_low=low, worst_high=high)
