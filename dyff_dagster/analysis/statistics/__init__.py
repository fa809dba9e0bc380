"""Estimates with intervals, and tests, as standard as an audit needs; docs/statistics.md has their sources.

Most take ``clusters``: the item (``_index_``) that each observation belongs to. Replications of one item are no
independent observations, so they are averaged first, and ``n`` counts items.

A result that does not exist is None, never NaN, and nothing here warns: see each function for what it says
of no data, of one class and of no variance.
"""

from __future__ import annotations

from dyff_dagster.analysis.statistics.bootstrap import bootstrap
from dyff_dagster.analysis.statistics.differences import (
    mean_difference,
    paired_mean_difference,
    paired_rate_difference,
    rate_difference,
)
from dyff_dagster.analysis.statistics.estimate import Estimate, Recipe
from dyff_dagster.analysis.statistics.means import brier, mean
from dyff_dagster.analysis.statistics.missing import bounds
from dyff_dagster.analysis.statistics.power import detectable_paired_difference, minimum_detectable_effect
from dyff_dagster.analysis.statistics.proportions import (
    SubgroupGap,
    proportion,
    rate,
    rate_by,
    subgroup_gap,
)
from dyff_dagster.analysis.statistics.ranking import auc, paired_auc_difference
from dyff_dagster.analysis.statistics.significance import (
    Significance,
    adjust,
    adjust_by_name,
    paired_test,
)

__all__ = [
    "Estimate",
    "Recipe",
    "Significance",
    "SubgroupGap",
    "adjust",
    "adjust_by_name",
    "auc",
    "bootstrap",
    "bounds",
    "brier",
    "detectable_paired_difference",
    "mean",
    "mean_difference",
    "minimum_detectable_effect",
    "paired_auc_difference",
    "paired_mean_difference",
    "paired_rate_difference",
    "paired_test",
    "proportion",
    "rate",
    "rate_by",
    "rate_difference",
    "subgroup_gap",
]
