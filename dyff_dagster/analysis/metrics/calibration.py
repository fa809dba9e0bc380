"""Whether probabilities can be taken at their word."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from dyff_dagster.analysis.errors import AnalysisError
from dyff_dagster.analysis.statistics.bootstrap import estimate_of_sums
from dyff_dagster.analysis.statistics.estimate import Estimate, estimator
from dyff_dagster.analysis.statistics.observations import (
    Clusters,
    Numbers,
    binary,
    chances,
    check_level,
    rows_by_item,
    same_length,
)


@estimator
def expected_calibration_error(
    labels: ArrayLike,
    probabilities: ArrayLike,
    clusters: Clusters = None,
    level: float = 0.95,
    *,
    bins: int = 15,
    binning: Literal["width", "mass"] = "width",
    seed: int = 0,
) -> Estimate:
    """The mean distance, over bins of probability, of what was said from how often it came true (0 is perfect).

    For several classes give whether the prediction was right as labels, and the confidence in it as
    probabilities. A bin reaches from above its lower end to its upper end. The value depends on the bins, and
    is too high by about the noise within them: even a perfectly calibrated service does not get 0. The
    interval (bootstrap, seeded) is of this value, and so too high as well.

    Sources: Naeini, Cooper, Hauskrecht (2015), AAAI, 2901-2907; Guo et al. (2017), ICML, 1321-1330, with the 15
    bins of equal width that are the default; ``mass``: Nguyen, O'Connor (2015), EMNLP, 1587-1598.

    Args:
        labels: 1 where it happened (or was right), 0 where not, shape ``(observations,)``.
        probabilities: What was said, between 0 and 1.
        clusters: The item of each observation; None: each is an item of its own.
        level: The interval's level.
        bins: How many, at least 1.
        binning: ``width``: of equal width; ``mass``: with equally many observations in each, but for ties.
        seed: Of the bootstrap.

    Raises:
        AnalysisError: Other labels than 0 and 1, a probability outside [0, 1], lengths that differ, or no such
            binning.
    """
    function = "expected_calibration_error"
    check_level(function, level)
    truth = binary(function, "labels", labels)
    said = chances(function, "probabilities", probabilities)
    same_length(function, truth, said)
    if bins < 1 or binning not in ("width", "mass"):
        raise AnalysisError(f"{function}: give at least one bin, and binning 'width' or 'mass'")
    if binning == "width" or not len(said):
        inner = np.linspace(0, 1, bins + 1)[1:-1]
    else:
        inner = np.unique(np.quantile(said, np.linspace(0, 1, bins + 1)[1:-1], method="inverted_cdf"))
    rows = np.zeros((len(said), len(inner) + 2))
    rows[np.arange(len(said)), np.searchsorted(inner, said, side="left")] = truth - said
    rows[:, -1] = 1
    rows = rows_by_item(function, clusters, rows)

    def statistic(sums: Numbers) -> Numbers:
        error: Numbers = np.abs(sums[..., :-1]).sum(axis=-1) / sums[..., -1]
        return error

    return estimate_of_sums(rows, statistic, level=level, minimum=0.0, maximum=1.0, seed=seed)
