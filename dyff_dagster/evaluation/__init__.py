"""Dataset × session → answers: every row answered exactly once in every replication, or a clear failure.

:func:`run` is the one way in, and :func:`count_missing` says what it would ask. Answers are written as they come, in
small durable parts, and what a killed run has left there is not asked again. :func:`take_imported` is the way in for
answers that were given elsewhere.
"""

from __future__ import annotations

from dyff_dagster.evaluation.errors import EvaluationError, EvaluationIncomplete
from dyff_dagster.evaluation.imported import take_imported
from dyff_dagster.evaluation.missing import Missing, count_missing
from dyff_dagster.evaluation.options import EvaluationOptions
from dyff_dagster.evaluation.run import run

__all__ = [
    "EvaluationError",
    "EvaluationIncomplete",
    "EvaluationOptions",
    "Missing",
    "count_missing",
    "run",
    "take_imported",
]
