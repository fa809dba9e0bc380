"""Data as estimators take them: checked, as arrays, one value per item."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dyff_dagster.analysis.errors import AnalysisError

Numbers: TypeAlias = NDArray[np.float64]
"""An array of shape ``(observations,)`` or ``(items,)``."""

Clusters: TypeAlias = Sequence[Any] | NDArray[Any] | None
"""The item of each observation, or None where each is an item of its own."""


def numbers(function: str, name: str, values: ArrayLike) -> Numbers:
    """``values`` as finite numbers.

    Raises:
        AnalysisError: One is not finite; it is named by its position.
    """
    array = np.asarray(values, dtype=np.float64).reshape(-1)
    broken = ~np.isfinite(array)
    if broken.any():
        raise AnalysisError(
            f"{function}: {name} must be finite numbers; the one at position {int(broken.argmax())} is not: "
            "leave such rows out knowingly, or count them as what they are"
        )
    return array


def binary(function: str, name: str, values: ArrayLike) -> Numbers:
    """``values`` as 0 and 1.

    Raises:
        AnalysisError: One is something else.
    """
    array = numbers(function, name, values)
    other = (array != 0) & (array != 1)
    if other.any():
        raise AnalysisError(
            f"{function}: {name} must be true or false (1 or 0); the one at position {int(other.argmax())} is neither"
        )
    return array


def chances(function: str, name: str, values: ArrayLike) -> Numbers:
    """``values`` as numbers between 0 and 1.

    Raises:
        AnalysisError: One lies outside.
    """
    array = numbers(function, name, values)
    outside = (array < 0) | (array > 1)
    if outside.any():
        raise AnalysisError(
            f"{function}: a probability lies between 0 and 1; the one at position {int(outside.argmax())} does not"
        )
    return array


def same_length(function: str, *columns: Sequence[Any] | NDArray[Any]) -> None:
    """Refuse columns that cannot belong to the same observations.

    Raises:
        AnalysisError: Their lengths differ.
    """
    for column in columns[1:]:
        if len(columns[0]) != len(column):
            raise AnalysisError(
                f"{function}: {len(columns[0])} values and {len(column)} values do not belong together"
            )


def items_of(function: str, clusters: Clusters, observations: int) -> tuple[NDArray[np.intp], int]:
    """The position of each observation's item, items in sorted order, and how many items there are.

    Raises:
        AnalysisError: There are not as many clusters as observations, or items of kinds that have no order.
    """
    if clusters is None:
        return np.arange(observations), observations
    items = np.asarray(clusters).reshape(-1)
    if len(items) != observations:
        raise AnalysisError(
            f"{function}: {observations} values and {len(items)} clusters do not belong together"
        )
    try:
        found, inverse = np.unique(items, return_inverse=True)
    except TypeError:
        raise AnalysisError(
            f"{function}: clusters must be of one kind, all numbers or all words; these are mixed"
        ) from None
    return inverse.reshape(-1).astype(np.intp), len(found)


def by_item(function: str, clusters: Clusters, *columns: Numbers) -> tuple[Numbers, ...]:
    """Each column averaged over the observations of an item, items in sorted order."""
    if clusters is None:
        return columns
    inverse, count = items_of(function, clusters, len(columns[0]))
    size = np.bincount(inverse, minlength=count)
    return tuple(np.bincount(inverse, weights=column, minlength=count) / size for column in columns)


def rows_by_item(function: str, clusters: Clusters, rows: Numbers) -> Numbers:
    """The rows of a table, shape ``(observations, columns)``, averaged over the observations of an item."""
    if clusters is None:
        return rows
    inverse, count = items_of(function, clusters, len(rows))
    sums = np.zeros((count, rows.shape[1]))
    np.add.at(sums, inverse, rows)
    return sums / np.bincount(inverse, minlength=count)[:, None]


def no_spread(values: Numbers) -> bool:
    """Whether numbers are all equal: then they have at most a tiny variance, by rounding."""
    return len(values) < 2 or bool(np.ptp(values) <= 1e-12 * max(1.0, float(np.abs(values).max())))


def check_level(function: str, level: float) -> None:
    """Refuse a level that is no level.

    Raises:
        AnalysisError: It does not lie between 0 and 1; a level is written 0.95, not 95.
    """
    if not 0 < level < 1:
        raise AnalysisError(
            f"{function}: a level lies between 0 and 1, and {level:g} does not; write 0.95 for 95 %"
        )
