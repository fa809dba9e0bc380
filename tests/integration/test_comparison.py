"""A against B on real measurements and evaluations, as a catalog declares it: scores, rows and the page."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from dyff_dagster import Catalog, analysis
from dyff_dagster.analysis import AnalysisError
from dyff_dagster.analysis.comparison import compare
from dyff_dagster.analysis.html import Page, render_page
from dyff_dagster.analysis.records import read_scores
from dyff_dagster.analysis.rows import record_scores
from dyff_dagster.analysis.statistics import paired_mean_difference, paired_rate_difference, paired_test
from dyff_dagster.catalog import CatalogError
from dyff_dagster.orchestration.metadata import score_table
from dyff_dagster.schema.ids import replication_id
from dyff_dagster.schema.platform import AnalysisScope, Measurement, SafetyCase
from dyff_dagster.store import Commit, Facts, Inputs, Score, Store

SCORES = (
    "{score: string!, value: float64, low: float64, high: float64, n: int64!, asked: int64, "
    "worst_low: float64, worst_high: float64}"
)
ROWS = "{_index_: int64!, first: float64!, second: float64!, difference: float64!, flip: string!}"

CATALOG = f"""
kind: Dataset
id: questions
account: acme
name: Questions
annotations: {{dyff-dagster/withhold: answer}}
artifacts: [{{path: data.parquet}}]
schema: {{arrow: {{question: string!, answer: string!}}}}
---
{{kind: InferenceService, id: old, account: acme, name: Old,
 interface: {{endpoint: "http://127.0.0.1:1/a", outputSchema: {{arrow: {{said: string!}}}}}}}}
---
{{kind: InferenceService, id: new, account: acme, name: New,
 interface: {{endpoint: "http://127.0.0.1:1/b", outputSchema: {{arrow: {{said: string!}}}}}}}}
---
{{kind: Evaluation, id: by-old, account: acme, dataset: questions, inferenceSession: {{inferenceService: old}}}}
---
{{kind: Evaluation, id: by-new, account: acme, dataset: questions, inferenceSession: {{inferenceService: new}}}}
---
kind: Method
id: compare
account: acme
name: Compare
scope: Evaluation
implementation:
  {{kind: PythonFunction, pythonFunction: {{fullyQualifiedName: dyff_dagster.analysis.comparison.compare}}}}
parameters: [{{keyword: prediction}}, {{keyword: label}}, {{keyword: normalization}}, {{keyword: unpaired}}]
inputs:
  - {{keyword: first, kind: Evaluation}}
  - {{keyword: second, kind: Evaluation}}
  - {{keyword: dataset, kind: Dataset}}
output:
  kind: Measurement
  measurement: {{name: Comparison, level: Dataset, schema: {{arrow: {SCORES}}}}}
---
kind: Method
id: compare-rows
account: acme
name: Compare row by row
scope: Evaluation
implementation:
  {{kind: PythonFunction, pythonFunction: {{fullyQualifiedName: dyff_dagster.analysis.comparison.compare_rows}}}}
parameters: [{{keyword: prediction}}, {{keyword: label}}, {{keyword: normalization}}, {{keyword: unpaired}}]
inputs:
  - {{keyword: first, kind: Evaluation}}
  - {{keyword: second, kind: Evaluation}}
  - {{keyword: dataset, kind: Dataset}}
output:
  kind: Measurement
  measurement: {{name: Comparison row by row, level: Instance, schema: {{arrow: {ROWS}}}}}
---
kind: Measurement
id: effect
account: acme
method: compare
annotations: {{dyff-dagster/checks: lower(effect) > 0; p_value < 0.05}}
scope: {{evaluation: by-new, inferenceService: new, dataset: questions}}
arguments: &how
  - {{keyword: prediction, value: said}}
  - {{keyword: label, value: answer}}
  - {{keyword: normalization, value: casefold}}
  - {{keyword: unpaired, value: refuse}}
inputs: &both
  - {{keyword: first, entity: by-old}}
  - {{keyword: second, entity: by-new}}
  - {{keyword: dataset, entity: questions}}
---
kind: Measurement
id: flips
account: acme
method: compare-rows
scope: {{evaluation: by-new, inferenceService: new, dataset: questions}}
arguments:
  - {{keyword: prediction, value: said}}
  - {{keyword: label, value: answer}}
  - {{keyword: normalization, value: casefold}}
  - {{keyword: unpaired, value: refuse}}
inputs:
  - {{keyword: first, entity: by-old}}
  - {{keyword: second, entity: by-new}}
  - {{keyword: dataset, entity: questions}}
---
kind: Module
id: comparison-page
account: acme
name: The page that ships with the package
annotations: {{dyff-dagster/files: "dyff-dagster:comparison"}}
---
kind: Method
id: show-comparison
account: acme
name: Comparison
scope: Evaluation
implementation:
  kind: JupyterNotebook
  jupyterNotebook: {{notebookModule: comparison-page, notebookPath: comparison.ipynb}}
modules: [comparison-page]
parameters: [{{keyword: first}}, {{keyword: second}}, {{keyword: fields}}]
inputs:
  - {{keyword: scores, kind: Measurement}}
  - {{keyword: rows, kind: Measurement}}
  - {{keyword: dataset, kind: Dataset}}
output: {{kind: SafetyCase, safetyCase: {{name: New against old}}}}
---
kind: SafetyCase
id: page
account: acme
method: show-comparison
scope: {{evaluation: by-new, inferenceService: new, dataset: questions}}
arguments: [{{keyword: first, value: Old}}, {{keyword: second, value: New}}, {{keyword: fields, value: FIELDS}}]
inputs:
  - {{keyword: scores, entity: effect}}
  - {{keyword: rows, entity: flips}}
  - {{keyword: dataset, entity: questions}}
"""

N = 40
OLD_WRONG = set(range(16))
NEW_WRONG = {0, 1, 2, 3, 39}


class Audit:
    """The catalog on disk, its inputs written by hand, and analyses run for real."""

    def __init__(self, root: Path, fields: str = "") -> None:
        self.root = root
        (root / "catalog").mkdir(parents=True)
        self.manifest = root / "catalog" / "audit.yaml"
        # YAML's anchors do not reach over documents.
        text = CATALOG.replace(" &how", "").replace(" &both", "")
        self.manifest.write_text(text.replace("FIELDS", f'"{fields}"'))
        self.store = Store(root / "store")
        self.paths: dict[str, Path] = {}
        rows = [{"_index_": i, "question": f"prompt {i}", "answer": f"Answer {i}"} for i in range(N)]
        pq.write_table(pa.Table.from_pylist(rows), root / "catalog" / "data.parquet")
        self.put("questions", rows)
        self.put("by-old", answers("by-old", OLD_WRONG))
        self.put("by-new", answers("by-new", NEW_WRONG, replications=2))

    def put(self, entity: str, rows: list[dict[str, Any]]) -> None:
        directory = self.root / "inputs" / entity
        directory.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), directory / "data.parquet")
        self.paths[entity] = directory

    def run(self, entity_id: str, change: Callable[[str], str] = str) -> Commit:
        self.manifest.write_text(change(self.manifest.read_text()))
        catalog = Catalog.load(self.root / "catalog")
        entity = catalog.get(entity_id)
        assert isinstance(entity, Measurement | SafetyCase)
        commit = analysis.run(
            entity,
            self.store,
            inputs=Inputs(spec="5" * 64, upstream=dict.fromkeys(self.paths, "d" * 64)),
            input_paths=self.paths,
            modules={module: catalog.files(module) for module in entity.method.modules},
        )
        self.paths[entity_id] = Path(str(commit.path))
        return commit


def answers(evaluation: str, wrong: set[int], replications: int = 1) -> list[dict[str, Any]]:
    return [
        {
            "_replication_": replication_id(evaluation, replication),
            "_index_": i,
            "responses": [{"_response_index_": 0, "said": "no idea" if i in wrong else f" ANSWER  {i}"}],
        }
        for replication in range(replications)
        for i in range(N)
    ]


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> Audit:
    audit = Audit(tmp_path_factory.mktemp("comparison"))
    for entity in ("effect", "flips", "page"):
        audit.run(entity)
    return audit


@pytest.fixture(scope="module")
def effect(audit: Audit) -> Commit:
    commit = audit.store.current("effect")
    assert commit is not None
    return commit


@pytest.fixture(scope="module")
def page(audit: Audit) -> str:
    return (audit.paths["page"] / "index.html").read_text("utf-8")


def test_the_catalog_has_nothing_to_complain_of(audit: Audit) -> None:
    assert not Catalog.load(audit.root / "catalog").warnings


def test_the_effect_is_paired_over_items(effect: Commit) -> None:
    old = [i not in OLD_WRONG for i in range(N)]
    new = [i not in NEW_WRONG for i in range(N)]
    expected = paired_rate_difference(old, new)
    score = effect.facts.headline
    assert score is not None
    assert (score.name, score.value, score.low, score.high, score.n) == (
        "effect",
        expected.value,
        expected.low,
        expected.high,
        N,
    )
    p = effect.facts.score("p_value")
    assert p is not None and p.value == paired_test(old, new).p


def test_both_systems_and_the_flips_each_way_are_counted(effect: Commit) -> None:
    found = {score.name: score.value for score in effect.facts.scores}
    assert found["first"] == pytest.approx(24 / 40) and found["second"] == pytest.approx(35 / 40)
    assert (found["gained"], found["lost"]) == (12, 1)
    assert found["detectable"] > 0


def test_every_row_is_there_with_its_flip(audit: Audit) -> None:
    rows = pq.read_table(audit.paths["flips"] / "part-00000.parquet").to_pylist()
    assert [row["_index_"] for row in rows] == list(range(N))
    assert [row["_index_"] for row in rows if row["flip"] == "lost"] == [39]
    assert [row["_index_"] for row in rows if row["flip"] == "gained"] == list(range(4, 16))
    assert rows[4] == {"_index_": 4, "first": 0.0, "second": 1.0, "difference": 1.0, "flip": "gained"}


def test_the_page_shows_effect_interval_p_a_figure_and_the_rows(page: str, effect: Commit) -> None:
    score = effect.facts.headline
    assert score is not None and score.low is not None
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    for shown in (
        f"{score.value:+.3f}",
        f"{score.low:+.3f}",
        "New is better than Old",
        "12 were gained",
        "39",
    ):
        assert shown in text
    assert 'src="data:image/png' in page


def test_the_page_names_rows_and_shows_no_prompt(page: str) -> None:
    assert "prompt 39" not in page


def test_the_page_shows_the_fields_that_its_method_is_told(tmp_path: Path, audit: Audit) -> None:
    told = Audit(tmp_path, fields="question")
    told.paths.update({name: audit.paths[name] for name in ("effect", "flips")})
    told.run("page")
    page = (told.paths["page"] / "index.html").read_text("utf-8")
    assert "prompt 39" in page and "prompt 20" not in page


def test_rows_that_do_not_pair_are_refused_by_name(tmp_path: Path) -> None:
    audit = Audit(tmp_path)
    audit.put("by-new", [row for row in answers("by-new", NEW_WRONG) if row["_index_"] not in (3, 8)])
    with pytest.raises(AnalysisError, match=r"2 only in first \(_index_ 3, 8\)"):
        audit.run("effect")


def test_rows_that_are_left_out_are_counted_and_bounded(tmp_path: Path) -> None:
    audit = Audit(tmp_path)
    audit.put("by-new", [row for row in answers("by-new", NEW_WRONG) if row["_index_"] not in (20, 21)])
    commit = audit.run("effect", lambda text: text.replace("value: refuse", "value: leave-out"))
    score = commit.facts.headline
    assert score is not None and (score.n, score.asked) == (38, 40)
    # Old was right on both; new could have been right on both, or on neither.
    assert score.worst_low == pytest.approx(9 / 40) and score.worst_high == pytest.approx(11 / 40)
    assert "of 40 asked" in str(score)


def test_an_answer_to_no_row_of_the_data_set_is_refused(tmp_path: Path) -> None:
    audit = Audit(tmp_path)
    extra = {"_replication_": "r", "_index_": 99, "responses": [{"_response_index_": 0, "said": "x"}]}
    audit.put("by-old", [*answers("by-old", OLD_WRONG), extra])
    with pytest.raises(AnalysisError, match="_index_ 99 is not in the data set"):
        audit.run("effect")


def test_a_module_of_the_package_that_is_not_there_is_refused(tmp_path: Path) -> None:
    audit = Audit(tmp_path)
    audit.manifest.write_text(
        audit.manifest.read_text().replace("dyff-dagster:comparison", "dyff-dagster:../x")
    )
    with pytest.raises(CatalogError, match="names no module of this package; there are: comparison"):
        Catalog.load(audit.root / "catalog")


def test_two_data_sets_are_refused_when_the_catalog_is_loaded(tmp_path: Path) -> None:
    audit = Audit(tmp_path)
    text = audit.manifest.read_text()
    other = text.split("---")[0].replace("id: questions", "id: others")
    text = text.replace(
        "id: by-old, account: acme, dataset: questions", "id: by-old, account: acme, dataset: others"
    )
    audit.manifest.write_text(f"{text}---{other}")
    with pytest.raises(
        CatalogError, match="'by-new' is about the data set 'questions', and the input 'first'"
    ):
        Catalog.load(audit.root / "catalog")


def measurement(rows: list[dict[str, Any]]) -> pyarrow.dataset.Dataset:
    return pyarrow.dataset.dataset(pa.Table.from_pylist(rows))


def scores(first: list[dict[str, Any]], second: list[dict[str, Any]], **arguments: str) -> dict[str, Any]:
    (batch,) = compare(arguments, first=measurement(first), second=measurement(second))
    return {row["score"]: row for row in batch.to_pylist()}


def test_intervals_of_another_level_say_so_from_the_rows_to_the_page(tmp_path: Path) -> None:
    first = [{"_index_": i, "correct": i % 2 == 0} for i in range(20)]
    second = [{"_index_": i, "correct": i % 4 != 1} for i in range(20)]
    (batch,) = compare(
        {"field": "correct", "level": "0.9"}, first=measurement(first), second=measurement(second)
    )
    assert set(batch.column("level").to_pylist()) == {0.9}
    assert "level" not in scores(first, second, field="correct")["effect"]
    pq.write_table(pa.Table.from_batches([batch]), tmp_path / "part.parquet")
    scope = AnalysisScope(dataset="questions")
    record_scores(tmp_path, batch.schema, analysis_id="effect", method="compare", scope=scope)
    effect = read_scores(tmp_path)[0]
    assert effect.level == 0.9
    assert str(effect).endswith("] (90 %) n=20")
    assert "(90 %)" in score_table((effect,))
    assert "90 % interval" in render_page(nbformat.v4.new_notebook(), Page(title="T", scores=(effect,)))
    assert Facts.from_json(Facts(scores=(effect,)).to_json()).scores == (effect,)


def test_measurements_are_compared_by_a_field_of_numbers() -> None:
    first = [{"_index_": i, "loss": 1.0 + i} for i in range(6)]
    second = [{"_index_": i, "loss": 0.5 + i + 0.1 * (i % 2)} for i in reversed(range(6))]
    found = scores(first, second, field="loss")
    expected = paired_mean_difference([row["loss"] for row in first], [row["loss"] for row in second[::-1]])
    assert (found["effect"]["value"], found["effect"]["low"]) == (
        pytest.approx(expected.value),
        pytest.approx(expected.low),
    )
    assert (found["gained"]["value"], found["lost"]["value"]) == (0, 6)


def test_numbers_that_are_missing_are_bounded_where_their_range_is_known() -> None:
    first = [{"_index_": i, "grade": 3.0 + i % 2} for i in range(4)]
    without = {"field": "grade", "unpaired": "leave-out"}
    found = scores(first, first[:3], **without)["effect"]
    assert (found["n"], found["asked"], found["worst_low"]) == (3, 4, None)
    found = scores(first, first[:3], **without, minimum="1", maximum="5")["effect"]
    assert (found["worst_low"], found["worst_high"]) == (pytest.approx(-3 / 4), pytest.approx(1 / 4))


def test_systems_with_other_replications_pair_by_item() -> None:
    first = [{"_index_": i, "correct": i > 1} for i in range(4)]
    second = [{"_index_": i, "correct": r == 0} for i in range(4) for r in range(2)]
    found = scores(first, second, field="correct")
    assert found["effect"]["value"] == pytest.approx(0.0) and found["effect"]["n"] == 4
    assert (found["gained"]["value"], found["lost"]["value"]) == (2, 2)


@pytest.mark.parametrize(
    ("change", "arguments", "named"),
    [
        ({}, {}, "needs the argument field"),
        ({}, {"field": "right"}, "first has no field 'right'; it has: _index_, correct, label"),
        ({}, {"field": "label"}, "true or false, or a number"),
        ({"label": "other"}, {"field": "correct", "same": "label"}, "not of the same data set"),
        ({"correct": None}, {"field": "correct"}, "is null in 1 rows, first in the row with _index_ 2"),
        (
            {"_index_": 7},
            {"field": "correct"},
            r"1 only in first \(_index_ 2\) and 1 only in second \(_index_ 7\)",
        ),
        ({}, {"field": "correct", "test": "z"}, "must be one of auto, mcnemar"),
        ({}, {"field": "correct", "level": "95"}, "write 0.95"),
        ({}, {"field": "correct", "seed": "-1"}, "whole number from 0"),
        ({}, {"field": "correct", "alpha": "0.05"}, "has no argument 'alpha'"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], arguments: dict[str, str], named: str) -> None:
    first = [{"_index_": i, "correct": i > 1, "label": f"label {i}"} for i in range(4)]
    second = [{**row, **change} if row["_index_"] == 2 else row for row in first]
    with pytest.raises(AnalysisError, match=named):
        scores(first, second, **arguments)


def test_no_error_holds_what_is_in_a_row() -> None:
    first = [{"_index_": 0, "correct": True, "label": "the secret label"}]
    second = [{"_index_": 0, "correct": True, "label": "another secret"}]
    with pytest.raises(AnalysisError) as caught:
        scores(first, second, field="correct", same="label")
    assert "secret" not in str(caught.value)


def test_missing_answers_stand_beside_the_score_wherever_it_is_shown() -> None:
    score = Score("effect", 0.1, 0.05, 0.2, 38, asked=40, worst_low=0.05, worst_high=0.15)
    assert str(score) == "effect 0.100 [0.050, 0.200] n=38 of 40 asked, at worst 0.050 to 0.150"
    table = score_table((score, Score("other", 0.5)))
    assert table.splitlines()[0].endswith("| asked | at worst |")
    assert table.splitlines()[2].endswith("| 38 | 40 | 0.0500 to 0.1500 |")
    page = render_page(nbformat.v4.new_notebook(), Page(title="T", scores=(score,)))
    assert "38 of 40 asked" in page
    assert "effect, whatever the missing answers had been: 0.050 to 0.150" in page
    assert Facts.from_json(Facts(scores=(score,)).to_json()).scores == (score,)
