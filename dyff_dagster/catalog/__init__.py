"""Where entities come from: manifests and Python objects, checked into one graph.

:meth:`Catalog.load` reads YAML and JSON manifests (whole entities as on the wire, or the short form that
people write), and reports everything that is wrong at once, by file, line and field.
"""

from __future__ import annotations

from dyff_dagster.catalog.catalog import Catalog
from dyff_dagster.catalog.fields_read import fields_read
from dyff_dagster.catalog.loading import manifest_paths
from dyff_dagster.catalog.problems import CatalogError, EntityNotFound, Origin, Problem
from dyff_dagster.catalog.requirements import Candidates
from dyff_dagster.catalog.thresholds import Threshold, ThresholdError, parse_checks

__all__ = [
    "Candidates",
    "Catalog",
    "CatalogError",
    "EntityNotFound",
    "Origin",
    "Problem",
    "Threshold",
    "ThresholdError",
    "fields_read",
    "manifest_paths",
    "parse_checks",
]
