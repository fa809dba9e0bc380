"""Reports: the deprecated kind runs its rubric on an evaluation as before."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from dyff_dagster.analysis import OWN_CODE, AnalysisError, AnalysisTimeout, IncompleteRows, own_code_digest
from dyff_dagster.orchestration.checks import EntityChecks
from dyff_dagster.schema.arrow import open_dataset
from dyff_dagster.schema.errors import DyffError
from dyff_dagster.store.references import Provenance
from tests.integration import small_audit, small_catalog
from tests.integration.small_audit import Place

RUBRICS = '''
import pyarrow as pa

class Doubling:
    """Is the answer twice the row's x?"""

    name = "Doubling"
    schema = pa.schema([
        pa.field("_index_", pa.int64(), nullable=False),
        pa.field("_replication_", pa.string(), nullable=False),
        pa.field("right", pa.bool_(), nullable=False),
        pa.field("answer", pa.int64(), nullable=False),
    ])

    def apply(self, task_data, predictions):
        labels = {row["_index_"]: row["label"] for row in task_data.to_table().to_pylist()}
        for batch in predictions.to_batches():
            yield pa.RecordBatch.from_pylist([
                {
                    "_index_": row["_index_"],
                    "_replication_": row["_replication_"],
                    "right": row["responses"][0]["y"] == labels[row["_index_"]],
                    "answer": row["responses"][0]["y"],
                }
                for row in batch.to_pylist()
            ], schema=self.schema)

class Sparse(Doubling):
    """Several rows for some answers, none for others."""

    def apply(self, task_data, predictions):
        for batch in super().apply(task_data, predictions):
            batch = batch.slice(0, 15)
            yield batch
            yield batch.slice(0, 2)

class Elsewhere(Doubling):
    """Rows of no answer."""

    def apply(self, task_data, predictions):
        for batch in super().apply(task_data, predictions):
            yield batch.set_column(0, self.schema.field(0), pa.array([99] * batch.num_rows, pa.int64()))

class Seen(Doubling):
    """Reads what the views show."""

    def apply(self, task_data, predictions):
        truth = {row["_index_"]: row["truth"] for row in task_data.to_table().to_pylist()}
        for row in predictions.to_table().to_pylist():
            yield pa.RecordBatch.from_pylist([{
                "_index_": row["_index_"],
                "_replication_": row["_replication_"],
                "right": row["said"] == truth[row["_index_"]],
                "answer": row["said"],
            }], schema=self.schema)

class NoSchema:
    def apply(self, task_data, predictions):
        yield from ()

class NoRubric:
    pass

class Hanging(Doubling):
    def apply(self, task_data, predictions):
        import time

        time.sleep(600)

class Raising(Doubling):
    def apply(self, task_data, predictions):
        raise KeyError("row with a secret in it")
'''

MODULE = """
kind: Module
id: rubrics
account: acme
name: Rubrics
annotations: {dyff-dagster/files: rubrics}
artifacts: [{path: small_rubrics.py}, {path: dyff/audit/scoring/short.py}]
"""

REPORT = """
kind: Report
id: report
account: acme
rubric: %s
evaluation: doubled
modules: [rubrics]
dataset: rows
inferenceService: doubler
"""

VIEWS = """
datasetView:
  id: truths
  viewOf: rows
  schema: {arrow: {_index_: int64!, truth: int64!}}
  adapterPipeline: [{kind: Select, configuration: {fields: [_index_, label]}},
                    {kind: Rename, configuration: {label: truth}}]
evaluationView:
  id: said
  viewOf: doubler
  schema: {arrow: {_index_: int64!, _replication_: string!, said: int64!}}
  adapterPipeline:
    - kind: TransformJSON
      configuration: {_index_: $._index_, _replication_: $._replication_, said: "$.responses[0].y"}
"""


MODEL = """
{kind: Model, id: net, account: acme, name: N, source: {kind: Mock}, artifact: {kind: Mock}, storage: {medium: Mock},
 resources: {storage: 1Mi}}
"""


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = small_audit.write(tmp_path_factory.mktemp("report") / "made")
    (place.directory / "rubrics" / "dyff" / "audit" / "scoring").mkdir(parents=True)
    (place.directory / "rubrics" / "small_rubrics.py").write_text(RUBRICS)
    (place.directory / "rubrics" / "dyff" / "audit" / "scoring" / "short.py").write_text(
        "from small_rubrics import Doubling as Rule\n"
    )
    place.add("module.yaml", MODULE)
    for name in ("rows", "doubled", "rubrics"):
        place.compute(name)
    return place


@pytest.fixture
def place(computed: Place, tmp_path: Path) -> Place:
    return computed.copy(tmp_path / "copy")


def report(place: Place, rubric: str, more: str = "") -> None:
    place.add("report.yaml", REPORT % rubric + more)


def failure(place: Place, rubric: str, kind: type[DyffError] = AnalysisError) -> str:
    report(place, rubric)
    with pytest.raises(kind) as caught:
        place.compute("report")
    assert place.store.current("report") is None
    return str(caught.value)


def test_a_report_warns_and_needs_its_evaluation_and_modules(place: Place) -> None:
    report(place, "small_rubrics.Doubling")
    catalog = place.catalog()
    (warning,) = catalog.warnings
    assert warning.message == (
        "entities of kind Report are deprecated since 0.8.0; use a Method and a Measurement"
    )
    assert catalog.upstream("report") == ("doubled", "rubrics")


def test_a_report_is_ended_after_the_time_that_it_states(place: Place) -> None:
    report(place, "small_rubrics.Hanging", "annotations: {dyff-dagster/max-seconds: 8}\n")
    with pytest.raises(
        AnalysisTimeout, match=r"report: ended after 8 seconds, .*: raise dyff-dagster/max-seconds of"
    ):
        place.compute("report")
    assert place.store.current("report") is None


def test_a_report_is_made_with_this_packages_code(place: Place) -> None:
    report(place, "small_rubrics.Doubling")
    assert place.compute("report").inputs["extras"][OWN_CODE] == own_code_digest()


def test_a_report_is_what_its_rubric_yields(place: Place) -> None:
    report(place, "small_rubrics.Doubling")
    commit = place.compute("report")
    rows = open_dataset(commit.path).to_table()
    assert rows.num_rows == 20
    assert rows.schema.field("right").type == pa.bool_()
    assert commit.facts.completeness is not None
    assert commit.facts.completeness.complete
    assert [(score.name, score.value, score.n) for score in commit.facts.scores] == [
        ("right", 1.0, 10),
        ("answer", 9.0, 10),
    ]
    assert place.step("report").compute()[1]


def test_a_short_name_is_looked_for_among_the_platforms_rubrics(place: Place) -> None:
    report(place, "short.Rule")
    assert place.compute("report").facts.rows == 20


def test_a_rubric_sees_its_inputs_through_the_views(place: Place) -> None:
    report(place, "small_rubrics.Seen", VIEWS)
    commit = place.compute("report")
    assert commit.facts.scores[0].value == 1.0


def test_a_view_that_reads_what_is_not_there_is_refused_when_the_catalog_is_loaded(place: Place) -> None:
    report(place, "small_rubrics.Seen", VIEWS.replace("[_index_, label]", "[_index_, lable]"))
    with pytest.raises(DyffError, match=r"datasetView.adapterPipeline\[0\]: .*'lable'.*did you mean 'label'"):
        place.catalog()


def test_rows_may_be_several_for_an_answer_or_none_and_are_counted(place: Place) -> None:
    report(place, "small_rubrics.Sparse")
    commit = place.compute("report")
    count = commit.facts.completeness
    assert count is not None
    assert (commit.facts.rows, count.expected, count.answered, count.missing) == (17, 20, 15, 5)
    catalog = place.catalog()
    checks = EntityChecks.of(catalog, catalog.get("report")).results(commit, Provenance(place.store))
    found = {result.check_name: result for result in checks}
    assert {name: result.passed for name, result in found.items()} == {
        "complete": True,
        "provenance": True,
        "deprecated": False,
    }
    assert found["complete"].metadata["missing"].value == 5


def test_rows_of_no_answer_are_refused(place: Place) -> None:
    assert "that the input does not have" in failure(place, "small_rubrics.Elsewhere", IncompleteRows)


@pytest.mark.parametrize(
    ("rubric", "message"),
    [
        ("small_rubrics.NoSchema", "report: rubric small_rubrics.NoSchema has no Arrow schema"),
        ("small_rubrics.NoRubric", "report: small_rubrics.NoRubric is no rubric: it has no method apply"),
        ("small_rubrics.Missing", "report: Python module 'small_rubrics' has no 'Missing'"),
        ("nothing.Missing", "report: there is no Python module 'nothing' for nothing.Missing"),
        (
            "small_rubrics.Raising",
            "report: function small_rubrics.Raising raised KeyError at small_rubrics.py:",
        ),
    ],
)
def test_what_is_no_rubric_is_one_sentence(place: Place, rubric: str, message: str) -> None:
    found = failure(place, rubric)
    assert found.startswith(message)
    assert "secret" not in found


def test_a_report_reads_the_rows_that_its_evaluation_was_asked_about(place: Place) -> None:
    small_catalog.write_rows(place.directory, 4)
    place.compute("rows")
    report(place, "small_rubrics.Doubling")
    assert place.compute("report").facts.rows == 20


def test_a_report_that_contradicts_its_evaluation_is_refused(place: Place) -> None:
    place.add("more.yaml", MODEL)
    report(place, "small_rubrics.Doubling", "model: net\n")
    with pytest.raises(DyffError, match="model: is 'net', and service 'doubler' has no model; leave it out"):
        place.catalog()


def test_a_report_meets_a_requirement_of_an_audit(place: Place) -> None:
    report(place, "small_rubrics.Doubling")
    place.add(
        "other.yaml",
        "{kind: AuditProcedure, id: by-report, account: acme, name: By report, "
        "requirements: [{dataset: rows, rubric: small_rubrics.Doubling}]}\n---\n"
        "{kind: Audit, id: report-audit, account: acme, auditProcedure: by-report, inferenceService: doubler}\n",
    )
    place.compute("report")
    commit = place.compute("report-audit")
    assert [score.name for score in commit.facts.scores] == ["report/right", "report/answer"]
    assert "by rubric <code>small_rubrics.Doubling</code>" in (commit.path / "index.html").read_text("utf-8")


def test_a_report_with_answers_that_it_left_out_does_not_count_in_an_audit(place: Place) -> None:
    report(place, "small_rubrics.Sparse")
    place.add(
        "other.yaml",
        "{kind: AuditProcedure, id: by-report, account: acme, name: By report, "
        "requirements: [{dataset: rows, rubric: small_rubrics.Sparse}]}\n---\n"
        "{kind: Audit, id: report-audit, account: acme, auditProcedure: by-report, inferenceService: doubler}\n",
    )
    place.compute("report")
    with pytest.raises(DyffError, match="report is incomplete: it has 15 of 20 rows"):
        place.compute("report-audit")


def test_a_measurement_can_be_made_of_a_report(place: Place) -> None:
    report(place, "small_rubrics.Doubling")
    (place.directory / "counting").mkdir()
    (place.directory / "counting" / "counting.py").write_text(
        "import pyarrow as pa\n"
        "def share(arguments, report):\n"
        "    right = report.to_table()['right'].to_pylist()\n"
        "    yield pa.RecordBatch.from_pylist([{'score': 'share', 'value': sum(right) / len(right)}])\n"
    )
    place.add(
        "counting.yaml",
        "{kind: Module, id: counting, account: acme, name: C, artifacts: [{path: counting.py}], "
        "annotations: {dyff-dagster/files: counting}}\n---\n"
        "kind: Method\nid: share\naccount: acme\nname: Share\nscope: Evaluation\n"
        "implementation: {kind: PythonFunction, pythonFunction: {fullyQualifiedName: counting.share}}\n"
        "modules: [counting]\ninputs: [{keyword: report, kind: Report}]\n"
        "output: {kind: Measurement, measurement: {name: S, level: Dataset, "
        "schema: {arrow: {score: string, value: float64}}}}\n---\n"
        "kind: Measurement\nid: shared\naccount: acme\nmethod: share\n"
        "scope: {evaluation: doubled, inferenceService: doubler, dataset: rows}\n"
        "inputs: [{keyword: report, entity: report}]\n",
    )
    place.compute("report")
    place.compute("counting")
    assert place.compute("shared").facts.scores[0].value == 1.0
