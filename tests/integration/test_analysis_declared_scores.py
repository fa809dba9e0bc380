"""A method that declares its scores is held to them, and they are shown as it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dyff_dagster.analysis import AnalysisError
from dyff_dagster.orchestration.metadata import score_table
from dyff_dagster.schema.newer import hold
from dyff_dagster.schema.platform import Measurement
from dyff_dagster.store import Commit
from tests.integration.analysis_support import SCORES, Bench

LATENCY = {
    "name": "latency",
    "title": "Median latency",
    "summary": "How long half of the answers take at most",
    "valence": "negative",
    "format": "{quantity:.1f}",
    "unit": "ms",
    "minimum": 0,
}
AGREED = {
    "name": "agreed",
    "title": "Agreement",
    "summary": "Answers that are those of the panel",
    "priority": "secondary",
    "format": "{quantity:.0%}",
    "minimum": 0,
    "maximum": 1,
}
FUNCTION = """
import pyarrow as pa
def judge(arguments, rows, answers):
    yield pa.RecordBatch.from_pylist(ROWS, schema=pa.schema(
        [("score", pa.string()), ("value", pa.float64()), ("low", pa.float64()), ("high", pa.float64()),
         ("n", pa.int64())]))
"""


def run(
    directory: Path, rows: list[dict[str, Any]], declared: tuple[dict[str, Any], ...] = (LATENCY, AGREED)
) -> Commit:
    bench = Bench(directory)
    bench.function(FUNCTION.replace("ROWS", repr(rows)))
    entity: Measurement = bench.measurement(schema=SCORES, level="Dataset")
    return bench.run(entity.model_copy(update={"method": hold(entity.method, {"scores": list(declared)})}))


def row(
    name: str, value: float | None, low: float | None = None, high: float | None = None
) -> dict[str, Any]:
    return {"score": name, "value": value, "low": low, "high": high, "n": None}


def test_declared_scores_are_shown_with_title_format_and_unit(tmp_path: Path) -> None:
    commit = run(tmp_path, [row("agreed", 0.913), row("latency", 12.34, 11.0, 13.5)])
    latency, agreed = commit.facts.scores
    assert str(latency) == "Median latency 12.3 ms [11.0 ms, 13.5 ms]"
    assert str(agreed) == "Agreement 91%"
    table = score_table(commit.facts.scores)
    assert "| Median latency | 12.3 ms | 11.0 ms to 13.5 ms |" in table
    assert "| Agreement | 91% |" in table


def test_the_records_for_the_reference_say_what_the_method_declares(tmp_path: Path) -> None:
    commit = run(tmp_path, [row("latency", 12.34)])
    (record,) = json.loads(Path(commit.path / ".dyff/scores.json").read_text())["scores"]
    assert {key: record[key] for key in ("title", "summary", "unit", "valence", "priority")} == {
        "title": "Median latency",
        "summary": "How long half of the answers take at most",
        "unit": "ms",
        "valence": "negative",
        "priority": "primary",
    }
    assert record["quantityString"] == "12.3 ms"


def test_a_score_that_is_not_declared_fails_the_run(tmp_path: Path) -> None:
    with pytest.raises(AnalysisError) as caught:
        run(tmp_path, [row("latency", 1.0), row("accuracy", 0.9)])
    assert str(caught.value) == (
        "measured: score 'accuracy' is none that its method declares (latency, agreed); "
        "declare it in the method's `scores`, or do not report it"
    )


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("latency", -1.0, "score 'latency' is -1, and its method declares a range from 0 to ∞"),
        ("agreed", 1.5, "score 'agreed' is 1.5, and its method declares a range from 0 to 1"),
    ],
)
def test_a_value_outside_the_declared_range_fails_the_run(
    tmp_path: Path, name: str, value: float, said: str
) -> None:
    with pytest.raises(AnalysisError, match="measured: ") as caught:
        run(tmp_path, [row(name, value)])
    assert said in str(caught.value)


def test_a_score_that_the_data_do_not_define_is_within_any_range(tmp_path: Path) -> None:
    commit = run(tmp_path, [row("latency", None)])
    assert "| Median latency | undefined |" in score_table(commit.facts.scores)


def test_a_method_that_declares_nothing_is_held_to_nothing(tmp_path: Path) -> None:
    commit = run(tmp_path, [row("anything", 3.0)], declared=())
    assert str(commit.facts.headline) == "anything 3.000"


def test_the_page_of_a_safety_case_shows_declared_scores(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.notebook(
        "from dyff_dagster import AnalysisContext\nctx = AnalysisContext()\nctx.score('agreed', 0.75)"
    )
    case = bench.safety_case()
    declared = [{**AGREED, "priority": "primary"}]
    commit = bench.run(case.model_copy(update={"method": hold(case.method, {"scores": declared})}))
    assert '<th scope="row">Agreement<' in (page := Path(commit.path / "index.html").read_text())
    assert "75%</td>" in page


def test_a_notebook_that_reports_another_score_fails(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.notebook("from dyff_dagster import AnalysisContext\nAnalysisContext().score('accuracy', 0.75)")
    case = bench.safety_case()
    case = case.model_copy(update={"method": hold(case.method, {"scores": [LATENCY]})})
    with pytest.raises(AnalysisError, match=r"case: score 'accuracy' is none .* \(latency\)"):
        bench.run(case)
    assert bench.store.current("case") is None
