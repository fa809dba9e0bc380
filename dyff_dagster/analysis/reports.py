"""What a Report's rubric made, counted and committed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from dyff_dagster.analysis.completeness import check_completeness
from dyff_dagster.analysis.errors import AnalysisError, IncompleteRows
from dyff_dagster.analysis.making import MADE, Making
from dyff_dagster.analysis.records import read_scores
from dyff_dagster.analysis.rubrics import as_measurement, summarize_columns
from dyff_dagster.schema.content import digest_dataset
from dyff_dagster.schema.parquet import DatasetPathError, open_dataset
from dyff_dagster.schema.platform import Report
from dyff_dagster.store import Commit, Draft, Facts, Inputs, columns_of


def commit_report(
    report: Report, draft: Draft, inputs: Inputs, input_paths: Mapping[str, Path], making: Making
) -> Commit:
    """Count the rows of a report against the answers that it scores, and commit it.

    A rubric may yield several rows for one answer, and none where there is nothing to score (the platform's
    own do): both are counted. Rows of no answer are an error.

    Args:
        report: The report.
        draft: What its rubric wrote.
        inputs: What it depends on, for the commit.
        input_paths: Directories of the inputs' versions, by entity id.
        making: How it was made, for the commit.

    Raises:
        IncompleteRows: There are rows that belong to no answer.
        AnalysisError: Nothing was written.
    """
    try:
        rows = open_dataset(draft.path)
    except DatasetPathError:
        raise AnalysisError(f"{report.id}: its rubric {report.rubric} wrote no rows") from None
    counted = check_completeness(as_measurement(report), rows, input_paths)
    if counted.unexpected:
        raise IncompleteRows(report.id, replace(counted, missing=0, duplicated=0))
    counted = replace(counted, answered=counted.expected - counted.missing, duplicated=0)
    summarize_columns(draft.path, report)
    facts = Facts(
        rows=rows.count_rows(),
        columns=columns_of(rows.schema),
        scores=read_scores(draft.path),
        completeness=counted,
        notes={MADE: making.to_json()},
    )
    return draft.commit(
        entity=report, data_version=digest_dataset(rows), inputs=inputs, facts=facts, run_id=making.run
    )
