"""Whether several answers to the same item agree: replications, raters, a judge and a label."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dyff_dagster.analysis.errors import AnalysisError
from dyff_dagster.analysis.metrics.classes import Labels, classify
from dyff_dagster.analysis.statistics.bootstrap import estimate_of_sums
from dyff_dagster.analysis.statistics.estimate import Estimate, estimator
from dyff_dagster.analysis.statistics.observations import Clusters, Numbers, check_level, items_of
from dyff_dagster.analysis.statistics.proportions import proportion


@estimator
def agreement(answers: Labels, clusters: Clusters, level: float = 0.95) -> Estimate:
    """The share of items all of whose answers are the same, of those with at least two, as a proportion.

    Source: McHugh (2012), Biochem. Med. 22, 276-282 (per cent agreement).

    Args:
        answers: One answer per observation: a class, a text.
        clusters: The item of each observation.
        level: The interval's level.

    Raises:
        AnalysisError: Lengths differ, or an answer is null.
    """
    counts = _ratings("agreement", answers, clusters)
    several = counts[counts.sum(axis=1) > 1]
    same = (several.max(axis=1, initial=0) == several.sum(axis=1)).sum()
    return proportion(int(same), len(several), level)


@estimator
def krippendorff_alpha(
    answers: Labels, clusters: Clusters, level: float = 0.95, *, seed: int = 0
) -> Estimate:
    """Agreement beyond chance, for classes without an order (1: all agree; 0: no more than chance).

    Items with one answer are left out; items may have different numbers of answers. None where all answers
    are the same class: there is nothing to disagree about. The interval is a bootstrap over items (seeded).

    Source: Krippendorff (2019), Content Analysis, 4th edition, chapter 12, nominal data.

    Args:
        answers: The class that was said, per observation.
        clusters: The item of each observation.
        level: The interval's level.
        seed: Of the bootstrap.

    Raises:
        AnalysisError: Lengths differ, or an answer is null.
    """
    check_level("krippendorff_alpha", level)
    counts = _ratings("krippendorff_alpha", answers, clusters)
    counts = counts[counts.sum(axis=1) > 1]
    size = counts.sum(axis=1)
    disagreeing = (size**2 - (counts**2).sum(axis=1)) / np.maximum(size - 1, 1)
    rows = np.concatenate([counts, disagreeing[:, None], size[:, None]], axis=1).astype(np.float64)

    def statistic(sums: Numbers) -> Numbers:
        share, total = sums[..., :-2], sums[..., -1]
        expected = (total**2 - (share**2).sum(axis=-1)) / (total - 1)
        alpha: Numbers = np.where(
            expected > 0, 1 - sums[..., -2] / np.where(expected > 0, expected, 1), np.nan
        )
        return alpha

    return estimate_of_sums(rows, statistic, level=level, maximum=1.0, seed=seed)


@estimator
def fleiss_kappa(answers: Labels, clusters: Clusters, level: float = 0.95, *, seed: int = 0) -> Estimate:
    """Agreement beyond chance of equally many answers to each item (1: all agree; 0: no more than chance).

    None where all answers are the same class. The interval is a bootstrap over items (seeded). Where items have
    different numbers of answers, use :func:`krippendorff_alpha`.

    Source: Fleiss (1971), Psychol. Bull. 76, 378-382; with two answers each it is Scott's pi.

    Args:
        answers: The class that was said, per observation.
        clusters: The item of each observation.
        level: The interval's level.
        seed: Of the bootstrap.

    Raises:
        AnalysisError: Lengths differ, an answer is null, or items do not all have the same number of answers, at
            least two.
    """
    check_level("fleiss_kappa", level)
    counts = _ratings("fleiss_kappa", answers, clusters)
    sizes = np.unique(counts.sum(axis=1))
    if len(sizes) > 1 or (len(sizes) and sizes[0] < 2):
        raise AnalysisError(
            f"fleiss_kappa: items have from {int(sizes[0])} to {int(sizes[-1])} answers, and must all have the same "
            "number, at least two; krippendorff_alpha takes any"
        )
    m = float(sizes[0]) if len(sizes) else 2.0
    agreeing = ((counts**2).sum(axis=1) - m) / (m * (m - 1))
    rows = np.concatenate([counts, agreeing[:, None], np.ones((len(counts), 1))], axis=1).astype(np.float64)

    def statistic(sums: Numbers) -> Numbers:
        items = sums[..., -1]
        chance = ((sums[..., :-2] / (items * m)[..., None]) ** 2).sum(axis=-1)
        varied = chance < 1 - 1e-12
        kappa: Numbers = np.where(
            varied, (sums[..., -2] / items - chance) / np.where(varied, 1 - chance, 1), np.nan
        )
        return kappa

    return estimate_of_sums(rows, statistic, level=level, maximum=1.0, seed=seed)


def _ratings(function: str, answers: Labels, clusters: Clusters) -> NDArray[np.int64]:
    """How often each class was said of each item, shape ``(items, classes)``."""
    data = classify(function, answers, answers)
    inverse, n = items_of(function, clusters, len(data.truth))
    k = len(data.classes)
    return np.bincount(inverse * k + data.truth, minlength=n * k).reshape(n, k).astype(np.int64)
