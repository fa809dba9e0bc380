"""Dataset × session → answers: every row answered exactly once in every replication, or a clear failure.

:func:`run` is the one way in, and :func:`count_missing` says what it would ask. Answers are written as they come, in
small durable parts, and what a killed run has left there is not asked again.
"""

from __future__ import annotations

from dyff_dagster.evaluation.errors import EvaluationError, EvaluationIncomplete
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
]
