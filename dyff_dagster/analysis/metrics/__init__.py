"""Metrics that people expect, each with its interval over items; docs/statistics.md has their sources.

All take one value per observation, and ``clusters``: the item (``_index_``) of each. What the data do not define
is None, never NaN.
"""

from __future__ import annotations

from dyff_dagster.analysis.metrics.agreement import agreement, fleiss_kappa, krippendorff_alpha
from dyff_dagster.analysis.metrics.calibration import expected_calibration_error
from dyff_dagster.analysis.metrics.classification import (
    ConfusionMatrix,
    accuracy,
    balanced_accuracy,
    confusion_matrix,
    f1,
    precision,
    recall,
    top_k_accuracy,
)
from dyff_dagster.analysis.metrics.texts import (
    REFUSALS,
    bleu,
    chrf,
    exact_match,
    normalize,
    refusal_rate,
    refusals,
    word_error_rate,
)
from dyff_dagster.analysis.metrics.unanswered import with_unanswered
from dyff_dagster.analysis.statistics import auc, brier

__all__ = [
    "REFUSALS",
    "ConfusionMatrix",
    "accuracy",
    "agreement",
    "auc",
    "balanced_accuracy",
    "bleu",
    "brier",
    "chrf",
    "confusion_matrix",
    "exact_match",
    "expected_calibration_error",
    "f1",
    "fleiss_kappa",
    "krippendorff_alpha",
    "normalize",
    "precision",
    "recall",
    "refusal_rate",
    "refusals",
    "top_k_accuracy",
    "with_unanswered",
    "word_error_rate",
]
