"""What unanswered rows could have changed in a metric: bounds that hold whatever they would have said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dyff_dagster.analysis.errors import AnalysisError
from dyff_dagster.analysis.metrics.calibration import expected_calibration_error
from dyff_dagster.analysis.metrics.classes import plain
from dyff_dagster.analysis.metrics.classification import (
    accuracy,
    balanced_accuracy,
    f1,
    precision,
    recall,
    top_k_accuracy,
)
from dyff_dagster.analysis.metrics.texts import bleu, bleu_without_brevity, chrf, exact_match, word_error_rate
from dyff_dagster.analysis.statistics import auc, brier
from dyff_dagster.analysis.statistics.estimate import Estimate
from dyff_dagster.analysis.statistics.observations import Clusters, items_of, numbers, same_length

Bounds = tuple[float | None, float | None]


def with_unanswered(
    metric: Callable[..., Estimate],
    labels: Sequence[Any],
    answers: Sequence[Any],
    unanswered: Sequence[Any],
    *,
    clusters: Clusters = None,
    unanswered_clusters: Clusters = None,
    **settings: Any,
) -> Estimate:
    """A metric of what was answered, with what it could have been had everything been answered.

    Value, interval and ``n`` are those of the answered observations, ``asked`` counts the items of all.
    ``worst_low`` and ``worst_high`` assume nothing of why the others are missing. They are reached by the most
    unlucky and the luckiest answers, except that

    - the lower bound of ``precision`` and ``f1`` with ``average="macro"`` takes the worst for each class by itself,
      which with more than two classes cannot all happen at once;
    - those of ``expected_calibration_error`` let each unanswered row move it by its whole weight;
    - the upper bound of ``bleu`` leaves out the brevity penalty;
    - ``auc`` takes scores to have no bounds.

    A wrong answer is one of the classes that are there. ``word_error_rate`` has no upper bound: an answer can be
    wrong at any length. Both are None where the metric is undefined at one of them.

    Source: Manski (2003), Partial Identification of Probability Distributions, chapter 1.

    Args:
        metric: ``accuracy``, ``top_k_accuracy``, ``balanced_accuracy``, ``precision``, ``recall``, ``f1``, ``auc``,
            ``brier``, ``expected_calibration_error``, ``exact_match``, ``word_error_rate``, ``bleu`` or ``chrf``.
            For shares and means, such as the rate of refusals, there is :func:`~.statistics.bounds`.
        labels: What is right, per answered observation; or the reference.
        answers: What was said.
        unanswered: What would have been right, per unanswered observation.
        clusters: The item of each answered observation.
        unanswered_clusters: The item of each unanswered one, where ``clusters`` is given.
        settings: The metric's other arguments, by name.

    Raises:
        AnalysisError: The metric is none of these, ``unanswered_clusters`` is missing or of another length, or what
            the metric raises itself.
    """
    name = getattr(metric, "__name__", "")
    if _BOUNDS.get(name, (None, None))[0] is not metric:
        raise AnalysisError(
            f"with_unanswered: there are no bounds for {name or 'this metric'}; it knows {', '.join(_BOUNDS)}, and "
            "statistics.bounds knows shares and means"
        )
    missing = plain(unanswered)
    if clusters is None:
        items, found = None, metric(labels, answers, **settings)
        asked = len(answers) + len(missing)
    else:
        if unanswered_clusters is None or len(unanswered_clusters) != len(missing):
            count = "none" if unanswered_clusters is None else len(unanswered_clusters)
            raise AnalysisError(
                f"with_unanswered: {len(missing)} observations are unanswered, and the items of {count} are named; "
                "give unanswered_clusters= the item of each"
            )
        items = [
            *plain(np.asarray(clusters).reshape(-1)),
            *plain(np.asarray(unanswered_clusters).reshape(-1)),
        ]
        found = metric(labels, answers, clusters=clusters, **settings)
        asked = len(set(items))
    if not missing:
        return replace(found, asked=asked, worst_low=found.value, worst_high=found.value)
    known = _Known(metric, plain(labels), plain(answers), missing, items, settings)
    same_length("with_unanswered", known.labels, known.answers)
    low, high = _BOUNDS[name][1](known)
    return replace(found, asked=asked, worst_low=low, worst_high=high)


@dataclass(frozen=True)
class _Known:
    """What there is, and the metric of it with answers made up for the rest."""

    metric: Callable[..., Estimate]
    labels: list[Any]
    answers: list[Any]
    unanswered: list[Any]
    items: list[Any] | None
    settings: dict[str, Any]

    def value(self, made_up: Sequence[Any], **changed: Any) -> float | None:
        """The metric, had these been the answers to the unanswered."""
        return self.metric(
            [*self.labels, *self.unanswered],
            [*self.answers, *made_up],
            clusters=self.items,
            **{**self.settings, **changed},
        ).value

    def between(self, worst: Sequence[Any], best: Sequence[Any]) -> Bounds:
        low, high = self.value(worst), self.value(best)
        return (None, None) if low is None or high is None else (low, high)


def _right_or_wrong(known: _Known) -> Bounds:
    return known.between(_wrong(known), known.unanswered)


def _wrong(known: _Known) -> list[Any]:
    classes = {*known.labels, *known.answers, *known.unanswered}
    return [next((one for one in _sorted(classes) if one != label), _OTHER) for label in known.unanswered]


def _sorted(classes: set[Any]) -> list[Any]:
    return sorted(classes, key=lambda one: (type(one).__name__, one))


_OTHER = "another class"
"""Said where there is only one class."""


def _of_classes(known: _Known) -> Bounds:
    """Precision and F1: a class does worst where all others are called so, and none of its own."""
    average = known.settings.get("average", "binary")
    if average == "micro":
        return _right_or_wrong(known)
    classes = _sorted({*known.labels, *known.answers, *known.unanswered})

    def at_worst(positive: Any) -> float | None:
        other = next((one for one in classes if one != positive), _OTHER)
        said = [other if label == positive else positive for label in known.unanswered]
        return known.value(said, average="binary", positive=positive)

    high = known.value(known.unanswered)
    if average == "binary":
        low = at_worst(known.settings.get("positive", 1))
    else:
        low = float(np.mean([at_worst(one) or 0.0 for one in classes]))
    return (None, None) if low is None or high is None else (low, high)


def _of_ranking(known: _Known) -> Bounds:
    truth = numbers("auc", "labels", known.unanswered)
    scores = numbers("auc", "scores", known.answers)
    low, high = (float(scores.min()), float(scores.max())) if len(scores) else (0.0, 0.0)
    # So far out that an item whose other replications were answered is beyond all others too.
    far = (len(scores) + len(truth)) * (high - low + 1)
    return known.between(
        np.where(truth == 1, low - far, high + far).tolist(),
        np.where(truth == 1, high + far, low - far).tolist(),
    )


def _of_rankings(known: _Known) -> Bounds:
    return known.between([[]] * len(known.unanswered), [[label] for label in known.unanswered])


def _of_probabilities(known: _Known) -> Bounds:
    truth = numbers("brier", "labels", known.unanswered)
    low, high = known.value(truth.tolist()), known.value((1 - truth).tolist())
    return low, high


def _of_calibration(known: _Known) -> Bounds:
    if known.settings.get("binning", "width") != "width":
        raise AnalysisError(
            "with_unanswered: bins of equal mass depend on what is missing; take binning='width'"
        )
    # Said for certain and right, a row is in some bin and changes none.
    value = known.value(numbers("expected_calibration_error", "labels", known.unanswered).tolist())
    if value is None:
        return None, None
    inverse, count = items_of(
        "expected_calibration_error", known.items, len(known.labels) + len(known.unanswered)
    )
    weights = 1 / np.bincount(inverse, minlength=count)[inverse[len(known.labels) :]]
    share = float(weights.sum()) / count
    return max(0.0, value - share), min(1.0, value + share)


def _of_texts(known: _Known) -> Bounds:
    # Longer than all that is expected, whatever is left out of it before it is compared.
    wrong = ["".join([one] if isinstance(one, str) else one) + "x" for one in known.unanswered]
    return known.between(wrong, _single(known))


def _single(known: _Known) -> list[str]:
    return [one if isinstance(one, str) else one[0] for one in known.unanswered]


def _of_errors(known: _Known) -> Bounds:
    return known.value(_single(known)), None


def _of_corpus(known: _Known) -> Bounds:
    if any(not isinstance(one, str) for one in [*known.labels, *known.unanswered]):
        raise AnalysisError("with_unanswered: BLEU and chrF have bounds for one reference each")
    # Said at endless length, it matches nothing.
    return 0.0, known.value(known.unanswered)


def _of_bleu(known: _Known) -> Bounds:
    _, high = _of_corpus(known)
    if high is not None:
        given = {name: known.settings[name] for name in ("tokenize", "lowercase") if name in known.settings}
        high = bleu_without_brevity(
            [*known.labels, *known.unanswered], [*known.answers, *known.unanswered], known.items, **given
        )
    return 0.0, high


_BOUNDS: dict[str, tuple[Callable[..., Estimate], Callable[[_Known], Bounds]]] = {
    "accuracy": (accuracy, _right_or_wrong),
    "top_k_accuracy": (top_k_accuracy, _of_rankings),
    "balanced_accuracy": (balanced_accuracy, _right_or_wrong),
    "precision": (precision, _of_classes),
    "recall": (recall, _right_or_wrong),
    "f1": (f1, _of_classes),
    "auc": (auc, _of_ranking),
    "brier": (brier, _of_probabilities),
    "expected_calibration_error": (expected_calibration_error, _of_calibration),
    "exact_match": (exact_match, _of_texts),
    "word_error_rate": (word_error_rate, _of_errors),
    "bleu": (bleu, _of_bleu),
    "chrf": (chrf, _of_corpus),
}
