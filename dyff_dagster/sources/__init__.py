"""Bytes from outside into the store: data sources, data sets, models and modules.

:func:`fetch` is the way in for what lies in files, :func:`fetch_answers` for an evaluation's answers. What they read
is named beforehand by :func:`fingerprint` and :func:`answers_fingerprint`, so that a source which has not changed is
not read a second time.
"""

from __future__ import annotations

from dyff_dagster.sources.answers import answers_fingerprint, fetch_answers, reads_questions
from dyff_dagster.sources.errors import SourceError
from dyff_dagster.sources.fetch import fetch, fingerprint
from dyff_dagster.sources.import_data import ImportedData, import_data
from dyff_dagster.sources.import_eval import ImportedEvaluation, import_eval

__all__ = [
    "ImportedData",
    "ImportedEvaluation",
    "SourceError",
    "answers_fingerprint",
    "fetch",
    "fetch_answers",
    "fingerprint",
    "import_data",
    "import_eval",
    "reads_questions",
]
