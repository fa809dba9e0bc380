"""Do the requirements hold?

What an author demands of an analysis's scores is judged here, the same way for asset checks, status tables
and audits, and failing closed: a score that is not there keeps no threshold.
"""

from __future__ import annotations

from dyff_dagster.audits.conformance import schema_fault
from dyff_dagster.audits.requirements import Judgement, judge

__all__ = ["Judgement", "judge", "schema_fault"]
