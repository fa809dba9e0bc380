"""A Method's ``scores`` in a manifest: read, checked on their lines, and known to every analysis of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dyff_dagster.catalog import Catalog, CatalogError
from dyff_dagster.schema.canonical import spec_digest
from dyff_dagster.schema.platform import Measurement, Method
from dyff_dagster.schema.scores import declared_scores

MANIFEST = """\
kind: Method
id: counted
account: me
name: Counted
scope: InferenceService
implementation: {kind: PythonFunction, pythonFunction: {fullyQualifiedName: counting.count}}
output:
  kind: Measurement
  measurement: {name: Counted, level: Dataset, schema: {arrow: {score: string!, value: float64!}}}
SCORES
---
kind: InferenceService
id: service
account: me
name: Service
interface: {endpoint: "http://127.0.0.1:8000/answer", outputSchema: {arrow: {answer: string!}}}
---
{kind: Measurement, id: measured, account: me, method: counted, scope: {inferenceService: service}}
"""
SCORES = """\
scores:
  - name: rows
    title: Rows
    summary: How many rows there are
    format: "{quantity:.0f}"
"""


def load(directory: Path, scores: str) -> Catalog:
    (directory / "audit.yaml").write_text(MANIFEST.replace("SCORES\n", scores))
    return Catalog.load(directory)


def test_an_analysis_knows_the_scores_of_the_method_that_it_names(tmp_path: Path) -> None:
    catalog = load(tmp_path, SCORES)
    for method in (catalog.get_as("counted", Method), catalog.get_as("measured", Measurement).method):
        assert [(score.name, score.title) for score in declared_scores(method)] == [("rows", "Rows")]


def test_a_change_of_the_scores_is_a_change_of_every_analysis(tmp_path: Path) -> None:
    digests = [
        spec_digest(load(tmp_path, scores).get("measured"))
        for scores in ("", SCORES, SCORES.replace("Rows", "All rows"))
    ]
    assert len(set(digests)) == 3


def test_a_wrong_score_is_told_on_its_line(tmp_path: Path) -> None:
    with pytest.raises(CatalogError) as caught:
        load(tmp_path, SCORES.replace("    title: Rows\n", "    titel: Rows\n"))
    assert {(problem.line, problem.field) for problem in caught.value.problems} == {
        (11, "scores[0].title"),
        (12, "scores[0].titel"),
    }
    assert any("did you mean 'title'?" in problem.message for problem in caught.value.problems)


def test_declared_scores_are_not_warned_of(tmp_path: Path) -> None:
    assert [warning for warning in load(tmp_path, SCORES).warnings if "0.46" in warning.message] == []
