"""Do the requirements hold?

What an author demands of an analysis's scores is judged here, the same way for asset checks, status tables
and audits, and failing closed: a score that is not there keeps no threshold. :func:`examine` and :func:`publish`
are what an Audit is made by.
"""

from __future__ import annotations

from dyff_dagster.audits.audit import Case, Evidence, Requirement, RequirementsUnmet, examine
from dyff_dagster.audits.conformance import schema_fault
from dyff_dagster.audits.report_page import publish
from dyff_dagster.audits.requirements import Judgement, judge

__all__ = [
    "Case",
    "Evidence",
    "Judgement",
    "Requirement",
    "RequirementsUnmet",
    "examine",
    "judge",
    "publish",
    "schema_fault",
]
