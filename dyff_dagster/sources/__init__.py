"""Bytes from outside into the store: data sources, data sets, models and modules.

:func:`fetch` is the one way in. What it reads is named beforehand by :func:`fingerprint`, so that a
source which has not changed is not read a second time.
"""

from __future__ import annotations

from dyff_dagster.sources.errors import SourceError
from dyff_dagster.sources.fetch import fetch, fingerprint
from dyff_dagster.sources.import_data import ImportedData, import_data

__all__ = ["ImportedData", "SourceError", "fetch", "fingerprint", "import_data"]
