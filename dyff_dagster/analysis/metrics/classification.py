"""How often classes are right: accuracy, precision, recall, F1, and the table that they are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from dyff_dagster.analysis.errors import AnalysisError
from dyff_dagster.analysis.metrics.classes import Classified, Labels, classify, plain
from dyff_dagster.analysis.statistics.bootstrap import estimate_of_sums
from dyff_dagster.analysis.statistics.estimate import Estimate, estimator
from dyff_dagster.analysis.statistics.intervals import sum_of_parts
from dyff_dagster.analysis.statistics.observations import (
    Clusters,
    Numbers,
    check_level,
    same_length,
)
from dyff_dagster.analysis.statistics.proportions import ShareInterval, proportion, rate

Average = Literal["binary", "macro", "micro"]

_WHOLE = 1e-9
"""Counts that are no further from whole numbers are whole, but for rounding."""


@estimator
def accuracy(
    labels: Labels,
    predictions: Labels,
    clusters: Clusters = None,
    level: float = 0.95,
    interval: ShareInterval = "wilson",
) -> Estimate:
    """The share of predictions that are the label, as :func:`~dyff_dagster.analysis.statistics.rate`.

    Source: Metz (1978), Semin. Nucl. Med. 8, 283-298; as ``sklearn.metrics.accuracy_score``.

    Args:
        labels: The true class of each observation, shape ``(observations,)``.
        predictions: The class that was said.
        clusters: The item of each observation; None: each is an item of its own.
        level: The interval's level.
        interval: ``wilson`` or ``clopper-pearson``.

    Raises:
        AnalysisError: Lengths differ, or a label or prediction is null.
    """
    return rate(classify("accuracy", labels, predictions, clusters).right, clusters, level, interval)


@estimator
def top_k_accuracy(
    labels: Labels,
    rankings: Sequence[Sequence[Any]],
    k: int = 5,
    clusters: Clusters = None,
    level: float = 0.95,
) -> Estimate:
    """The share of labels that are among the first ``k`` predictions.

    Source: Russakovsky et al. (2015), Int. J. Comput. Vis. 115, 211-252; as ``sklearn.metrics.top_k_accuracy_score``.

    Args:
        labels: The true class of each observation.
        rankings: The classes that were said, the likeliest first; fewer than ``k`` may be there.
        k: How many may be looked at, at least 1.
        clusters: The item of each observation.
        level: The interval's level.

    Raises:
        AnalysisError: Lengths differ, ``k`` is below 1, or a label is null.
    """
    if k < 1:
        raise AnalysisError(f"top_k_accuracy: k is {k}; look at one prediction at least")
    truth = plain(labels)
    same_length("top_k_accuracy", truth, rankings)
    if any(label is None for label in truth):
        raise AnalysisError("top_k_accuracy: a label is null; leave such rows out knowingly")
    right = [label in list(ranking)[:k] for label, ranking in zip(truth, rankings, strict=True)]
    return rate(right, clusters, level)


@estimator
def balanced_accuracy(
    labels: Labels, predictions: Labels, clusters: Clusters = None, level: float = 0.95
) -> Estimate:
    """The mean of the recalls of all classes that are labels, each class weighing the same.

    The interval adds up Wilson's intervals of the classes, which are of different items. None without data.

    Sources: Brodersen et al. (2010), ICPR, 3121-3124; Zou, Donner (2008), Stat. Med. 27, 1693-1702, for the
    interval.

    Args:
        labels: The true class of each observation; the same in all replications of an item.
        predictions: The class that was said.
        clusters: The item of each observation.
        level: The interval's level.

    Raises:
        AnalysisError: Lengths differ, or a label or prediction is null.
    """
    check_level("balanced_accuracy", level)
    data = classify("balanced_accuracy", labels, predictions, clusters)
    parts = [
        _recall(data, number, level) for number in range(len(data.classes)) if (data.truth == number).any()
    ]
    return _mean_of_classes(parts, 0, level)


@estimator
def recall(
    labels: Labels,
    predictions: Labels,
    clusters: Clusters = None,
    level: float = 0.95,
    *,
    average: Average = "binary",
    positive: Any = 1,
) -> Estimate:
    """The share of a class that was found (sensitivity).

    Source: van Rijsbergen (1979), Information Retrieval, chapter 7; averages as scikit-learn has them.

    Args:
        labels: The true class of each observation; the same in all replications of an item.
        predictions: The class that was said.
        clusters: The item of each observation.
        level: The interval's level.
        average: ``binary``: of the class ``positive``, with Wilson's interval over its items; None where it is
            no label. ``macro``: the mean over all classes, where one that is predicted but never a label counts
            as 0, as in scikit-learn. ``micro``: over all observations, which is the accuracy.
        positive: The class that ``binary`` is about.

    Raises:
        AnalysisError: Lengths differ, a label or prediction is null, or there is no such average.
    """
    data = _checked("recall", labels, predictions, clusters, level, average)
    if average == "micro":
        return rate(data.right, clusters, level)
    if average == "binary":
        number = _number(data, positive)
        return _recall(data, number, level) if number is not None else _undefined(level)
    parts = [_recall(data, number, level) for number in range(len(data.classes))]
    defined = [part for part in parts if part.value is not None]
    return _mean_of_classes(defined, len(parts) - len(defined), level)


@estimator
def precision(
    labels: Labels,
    predictions: Labels,
    clusters: Clusters = None,
    level: float = 0.95,
    *,
    average: Average = "binary",
    positive: Any = 1,
) -> Estimate:
    """The share of what was called a class that is of that class.

    Source: van Rijsbergen (1979), Information Retrieval, chapter 7; averages as scikit-learn has them.

    Args:
        labels: The true class of each observation; the same in all replications of an item.
        predictions: The class that was said.
        clusters: The item of each observation.
        level: The interval's level.
        average: ``binary``: of the class ``positive``, with Wilson's interval over what was called so, or a
            bootstrap interval where replications of an item differ; None where nothing was called so.
            ``macro``: the mean over all classes, where one that is never predicted counts as 0, as in
            scikit-learn. ``micro``: the accuracy.
        positive: The class that ``binary`` is about.

    Raises:
        AnalysisError: Lengths differ, a label or prediction is null, or there is no such average.
    """
    data = _checked("precision", labels, predictions, clusters, level, average)
    if average == "micro":
        return rate(data.right, clusters, level)
    k, rows = len(data.classes), data.counts("precision")
    if average == "binary":
        number = _number(data, positive)
        if number is None:
            return _undefined(level)
        return _share(rows[:, number], rows[:, k + number], level)
    if _whole(rows):
        parts = [_share(rows[:, number], rows[:, k + number], level) for number in range(k)]
        defined = [part for part in parts if part.value is not None]
        return _mean_of_classes(defined, len(parts) - len(defined), level)

    def statistic(sums: Numbers) -> Numbers:
        ratio = _ratio(sums[..., :k], sums[..., k : 2 * k])
        ratio = np.where((sums[..., k : 2 * k] <= 0) & (sums[..., 2 * k :] > 0), 0.0, ratio)
        return _mean_defined(ratio)

    return estimate_of_sums(rows, statistic, level=level, minimum=0.0, maximum=1.0)


@estimator
def f1(
    labels: Labels,
    predictions: Labels,
    clusters: Clusters = None,
    level: float = 0.95,
    *,
    average: Average = "binary",
    positive: Any = 1,
) -> Estimate:
    """The harmonic mean of precision and recall.

    The interval of ``binary`` comes from Wilson's: F1 rises with the share of hits among all items that are of
    the class or were called so, and that share is a proportion. Where replications of an item differ, and for
    ``macro``, it is a bootstrap interval (seeded); where nothing varies, such as without any error, that of
    ``macro`` is the mean of the classes' bounds, which is too wide rather than too short.

    Sources: van Rijsbergen (1979), Information Retrieval, chapter 7; averages as scikit-learn has them (``macro``
    is the mean of the classes' F1).

    Args:
        labels: The true class of each observation; the same in all replications of an item.
        predictions: The class that was said.
        clusters: The item of each observation.
        level: The interval's level.
        average: ``binary``: of the class ``positive``; None where it is neither label nor prediction. ``macro``:
            the mean over all classes. ``micro``: the accuracy.
        positive: The class that ``binary`` is about.

    Raises:
        AnalysisError: Lengths differ, a label or prediction is null, or there is no such average.
    """
    data = _checked("f1", labels, predictions, clusters, level, average)
    if average == "micro":
        return rate(data.right, clusters, level)
    k, rows = len(data.classes), data.counts("f1")
    if average == "binary":
        number = _number(data, positive)
        return _undefined(level) if number is None else _f1(rows[:, number::k], level)

    def statistic(sums: Numbers) -> Numbers:
        return _mean_defined(_ratio(2 * sums[..., :k], sums[..., k : 2 * k] + sums[..., 2 * k :]))

    found = estimate_of_sums(rows, statistic, level=level, minimum=0.0, maximum=1.0)
    if found.low is None and found.n and _whole(rows):
        parts = [_f1(rows[:, number::k], level) for number in range(k)]
        low = float(np.mean([part.low or 0.0 for part in parts]))
        high = float(np.mean([1.0 if part.high is None else part.high for part in parts]))
        return replace(found, low=low, high=high, method="mean of Wilson's bounds")
    return found


@dataclass(frozen=True)
class ConfusionMatrix:
    """How many items of each class were called what.

    Attributes:
        classes: Every class, sorted.
        counts: Items, shape ``(classes, classes)``: labels down, predictions across. An item whose
            replications differ counts in parts.
    """

    classes: tuple[Any, ...]
    counts: Numbers

    def rows(self) -> list[dict[str, Any]]:
        """One mapping per label, for ``ctx.table``: ``{"label": …, "called A": 3, …}``."""
        return [
            {
                "label": str(name),
                **{f"called {c}": float(n) for c, n in zip(self.classes, line, strict=True)},
            }
            for name, line in zip(self.classes, self.counts, strict=True)
        ]


def confusion_matrix(
    labels: Labels, predictions: Labels, clusters: Clusters = None, classes: Sequence[Any] = ()
) -> ConfusionMatrix:
    """Count items by label and prediction.

    Source: Pearson (1904), Drapers' Company Research Memoirs, Biometric Series I (the contingency table); as
    ``sklearn.metrics.confusion_matrix``.

    Args:
        labels: The true class of each observation.
        predictions: The class that was said.
        clusters: The item of each observation; an item weighs 1 however many replications it has.
        classes: Classes that get a row even if nothing is of them.

    Raises:
        AnalysisError: Lengths differ, or a label or prediction is null.
    """
    data = classify("confusion_matrix", labels, predictions, clusters, classes)
    k = len(data.classes)
    if clusters is None:
        weights = np.ones(len(data.truth))
    else:
        _, inverse, size = np.unique(np.asarray(clusters), return_inverse=True, return_counts=True)
        weights = 1 / size[inverse.reshape(-1)]
    flat = np.bincount(data.truth * k + data.predicted, weights=weights, minlength=k * k)
    return ConfusionMatrix(data.classes, flat.reshape(k, k).astype(np.float64))


def _checked(
    function: str, labels: Labels, predictions: Labels, clusters: Clusters, level: float, average: str
) -> Classified:
    check_level(function, level)
    if average not in ("binary", "macro", "micro"):
        raise AnalysisError(f"{function}: there is no average {average!r}; take binary, macro or micro")
    return classify(function, labels, predictions, clusters)


def _number(data: Classified, positive: Any) -> int | None:
    return data.classes.index(positive) if positive in data.classes else None


def _undefined(level: float) -> Estimate:
    return Estimate(None, None, None, 0, "none", level)


def _recall(data: Classified, number: int, level: float) -> Estimate:
    """Of one class; where it is no label, without value and interval."""
    of_class = data.truth == number
    if not of_class.any():
        return _undefined(level)
    clusters = None if data.clusters is None else np.asarray(data.clusters).reshape(-1)[of_class]
    return rate(data.right[of_class], clusters, level)


def _share(hits: Numbers, out_of: Numbers, level: float) -> Estimate:
    """Hits out of what was called so, both per item."""
    if out_of.sum() <= 0:
        return _undefined(level)
    rows = np.stack([hits, out_of], axis=1)
    if _whole(rows):
        return proportion(round(float(hits.sum())), round(float(out_of.sum())), level)
    chosen = rows[out_of > 0]
    return estimate_of_sums(
        chosen, lambda sums: _ratio(sums[..., 0], sums[..., 1]), level=level, minimum=0.0, maximum=1.0
    )


def _f1(rows: Numbers, level: float) -> Estimate:
    """Of one class, from hits, predictions and labels per item, shape ``(items, 3)``."""
    touched = rows[(rows[:, 1] > 0) | (rows[:, 2] > 0)]
    if not len(touched):
        return _undefined(level)
    if not _whole(touched):
        return estimate_of_sums(
            touched,
            lambda sums: _ratio(2 * sums[..., 0], sums[..., 1] + sums[..., 2]),
            level=level,
            minimum=0.0,
            maximum=1.0,
        )
    share = proportion(round(float(touched[:, 0].sum())), len(touched), level)
    value, low, high = (2 * x / (1 + x) for x in (share.value or 0.0, share.low or 0.0, share.high or 0.0))
    return Estimate(value, low, high, len(touched), "Wilson, of the share of hits", level)


def _mean_of_classes(parts: Sequence[Estimate], zeros: int, level: float) -> Estimate:
    """The mean of the classes' shares, which are of different items, and of some that count as 0."""
    n = sum(part.n for part in parts)
    if not parts:
        return Estimate(None, None, None, n, "none", level)
    if any(part.low is None for part in parts):
        value = sum(part.value or 0.0 for part in parts) / (len(parts) + zeros)
        return Estimate(value, None, None, n, "none", level)
    weights = [1 / (len(parts) + zeros)] * len(parts)
    value, low, high = sum_of_parts(weights, parts)
    return Estimate(value, max(0.0, low), min(1.0, high), n, "Wilson's intervals, added up", level)


def _whole(rows: Numbers) -> bool:
    return bool((np.abs(rows - np.round(rows)) <= _WHOLE).all())


def _ratio(above: Numbers, below: Numbers) -> Numbers:
    """``above / below``; NaN where ``below`` is 0."""
    some = below > 0
    ratio: Numbers = np.where(some, above / np.where(some, below, 1.0), np.nan)
    return ratio


def _mean_defined(values: Numbers) -> Numbers:
    """The mean over the last axis of what is not NaN; NaN where all is."""
    some = np.isfinite(values)
    count = some.sum(axis=-1)
    return _ratio(np.where(some, values, 0.0).sum(axis=-1), count.astype(np.float64))
