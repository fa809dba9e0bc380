"""Methods run on data: what they yield is a Measurement or a SafetyCase with its page.

:func:`run` runs one. A method's code makes an :class:`AnalysisContext` to get at its arguments and inputs and
to report; :mod:`dyff_dagster.analysis.statistics` has the estimates with intervals that it may want.
"""

from __future__ import annotations

from dyff_dagster.analysis.child import work
from dyff_dagster.analysis.configuration import has_heading
from dyff_dagster.analysis.context import AnalysisContext
from dyff_dagster.analysis.errors import (
    AnalysisError,
    AnalysisTimeout,
    FunctionFailed,
    IncompleteRows,
    NotebookFailed,
    OutOfMemory,
    UnknownKeyword,
    WrongRow,
)
from dyff_dagster.analysis.html import PAGE_FORMAT
from dyff_dagster.analysis.limits import Limits
from dyff_dagster.analysis.own_code import OWN_CODE, own_code_digest, uses_own_code
from dyff_dagster.analysis.run import Worker, run
from dyff_dagster.analysis.statistics import Estimate
from dyff_dagster.analysis.subjects import SUBJECTS, Subjects, asks_for_subjects, subjects_of

__all__ = [
    "OWN_CODE",
    "PAGE_FORMAT",
    "SUBJECTS",
    "AnalysisContext",
    "AnalysisError",
    "AnalysisTimeout",
    "Estimate",
    "FunctionFailed",
    "IncompleteRows",
    "Limits",
    "NotebookFailed",
    "OutOfMemory",
    "Subjects",
    "UnknownKeyword",
    "Worker",
    "WrongRow",
    "asks_for_subjects",
    "has_heading",
    "own_code_digest",
    "run",
    "subjects_of",
    "uses_own_code",
    "work",
]
