"""Labels and predictions as numbers of classes, and what of them each item adds to a count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dyff_dagster.analysis.errors import AnalysisError
from dyff_dagster.analysis.statistics.observations import Clusters, Numbers, rows_by_item, same_length

Labels = Sequence[Any] | NDArray[Any]
"""One class per observation: words, whole numbers, or true and false. None is no class."""


@dataclass(frozen=True)
class Classified:
    """Labels and predictions, encoded.

    Attributes:
        classes: Every class that is a label or a prediction, sorted.
        truth: Number of each observation's label, shape ``(observations,)``.
        predicted: Number of its prediction.
        clusters: The item of each observation, or None.
    """

    classes: tuple[Any, ...]
    truth: NDArray[np.intp]
    predicted: NDArray[np.intp]
    clusters: Clusters

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether each observation's prediction is its label."""
        right: NDArray[np.bool_] = self.truth == self.predicted
        return right

    def counts(self, function: str) -> Numbers:
        """Per item and class: hits, predictions, labels, shape ``(items, 3 * classes)``.

        An item with replications counts in parts.
        """
        k = len(self.classes)
        ones = np.zeros((len(self.truth), 3 * k))
        at = np.arange(len(self.truth))
        ones[at, self.truth] = self.right
        ones[at, k + self.predicted] = 1
        ones[at, 2 * k + self.truth] = 1
        return rows_by_item(function, self.clusters, ones)


def classify(
    function: str,
    labels: Labels,
    predictions: Labels,
    clusters: Clusters = None,
    classes: Sequence[Any] = (),
) -> Classified:
    """Encode labels and predictions.

    Raises:
        AnalysisError: Lengths differ, or a label or prediction is null.
    """
    truth, predicted = plain(labels), plain(predictions)
    same_length(function, truth, predicted)
    if clusters is not None:
        same_length(function, truth, clusters)
    for name, column in (("label", truth), ("prediction", predicted)):
        missing = [position for position, value in enumerate(column) if value is None or value != value]
        if missing:
            raise AnalysisError(
                f"{function}: the {name} at position {missing[0]} is null; leave such rows out knowingly, or give "
                "what they count as a name"
            )
    found = sorted({*truth, *predicted, *classes}, key=lambda value: (_rank(value), value))
    number = {value: position for position, value in enumerate(found)}
    return Classified(
        classes=tuple(found),
        truth=np.array([number[value] for value in truth], dtype=np.intp),
        predicted=np.array([number[value] for value in predicted], dtype=np.intp),
        clusters=clusters,
    )


def plain(values: Labels) -> list[Any]:
    """A column as Python's own values."""
    return values.tolist() if isinstance(values, np.ndarray) else list(values)


def _rank(value: Any) -> str:
    return "number" if isinstance(value, int | float) else type(value).__name__
