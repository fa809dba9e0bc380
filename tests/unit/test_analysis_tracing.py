"""From a score to its rows, and from a row to what was asked and answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from dyff_dagster.analysis import AnalysisContext, AnalysisError
from dyff_dagster.analysis.display import collected
from dyff_dagster.analysis.tracing import (
    Answer,
    answers_of,
    answers_text,
    caption_of,
    fields_cell,
    questions_of,
    trace_rows,
    trace_table,
    with_answers,
    with_questions,
)
from dyff_dagster.schema.ids import replication_id
from dyff_dagster.schema.platform import Analysis

FIRST, SECOND = (replication_id("answers", number) for number in range(2))


def dataset(rows: list[dict[str, Any]]) -> pyarrow.dataset.Dataset:
    return pyarrow.dataset.dataset(pa.Table.from_pylist(rows))


@pytest.fixture
def instances() -> pyarrow.dataset.Dataset:
    """Rows 0 to 5 in two replications: 1 is wrong once, 3 twice, 4 is of the other kind and wrong."""
    return dataset(
        [
            {
                "_index_": index,
                "_replication_": replication,
                "kind": "b" if index == 4 else "a",
                "correct": not (index in (3, 4) or (index == 1 and replication == SECOND)),
                "loss": index / 10,
            }
            for replication in (FIRST, SECOND)
            for index in range(6)
        ]
    )


QUESTIONS = [{"_index_": index, "question": f"What is {index}?", "key": str(index)} for index in range(6)]
ANSWERS = [
    {
        "_index_": index,
        "_replication_": replication,
        "responses": [{"_response_index_": 0, "said": "no" if replication == SECOND else "<yes>"}],
    }
    for replication in (SECOND, FIRST)
    for index in (1, 3)
]


def test_rows_that_lower_a_score_come_first_and_the_right_ones_not_at_all(
    instances: pyarrow.dataset.Dataset,
) -> None:
    trace = trace_rows(instances, outcome="correct", where={"kind": "a"})
    assert [(row.index, row.outcome, row.answers) for row in trace.rows] == [(3, 0.0, 2), (1, 0.5, 2)]
    assert (trace.total, trace.concerned) == (5, 2)
    assert caption_of(trace, "accuracy 0.700", {"kind": "a"}) == (
        "accuracy 0.700 rests on 5 rows with kind a. In 2 of them correct is not always true."
    )


def test_where_less_is_better_the_rows_that_raise_a_score_come_first(
    instances: pyarrow.dataset.Dataset,
) -> None:
    trace = trace_rows(instances, outcome="loss", where={}, order="highest", limit=2)
    assert [row.index for row in trace.rows] == [5, 4]
    assert caption_of(trace, "loss", {}) == "loss rests on 6 rows. The 2 with the highest loss are shown."
    wrong = trace_rows(instances, outcome="correct", where={"kind": "a"}, order="highest", limit=2)
    assert [row.index for row in wrong.rows] == [0, 2]
    assert caption_of(wrong, "x", {}).endswith(
        "In 4 of them correct is not always false; 2 of these are shown."
    )


def test_rows_without_an_outcome_do_not_count() -> None:
    rows = dataset([{"_index_": 0, "loss": 1.0}, {"_index_": 1, "loss": None}, {"_index_": 0, "loss": None}])
    trace = trace_rows(rows, outcome="loss", where={})
    assert [(row.index, row.answers) for row in trace.rows] == [(0, 1)]


def test_a_score_that_nothing_lowered_has_a_sentence_and_no_table(instances: pyarrow.dataset.Dataset) -> None:
    trace = trace_rows(instances.filter(pa.compute.field("_index_") == 0), outcome="correct", where={})
    assert trace_table(trace, "All right.") == '<p class="dyff-more">All right.</p>'


@pytest.mark.parametrize(("outcome", "where"), [("rightness", {}), ("correct", {"sort": 1})])
def test_a_field_that_is_not_there_is_named(
    instances: pyarrow.dataset.Dataset, outcome: str, where: dict[str, Any]
) -> None:
    with pytest.raises(AnalysisError, match=r"there is no field '(rightness|sort)' .* there are: _index_"):
        trace_rows(instances, outcome=outcome, where=where)


def test_a_field_of_texts_averages_to_no_score(instances: pyarrow.dataset.Dataset) -> None:
    with pytest.raises(AnalysisError, match="neither a truth value nor a number"):
        trace_rows(instances, outcome="kind", where={})


def test_a_row_has_its_own_question_and_each_different_answer_once(
    instances: pyarrow.dataset.Dataset,
) -> None:
    trace = trace_rows(instances, outcome="correct", where={"kind": "a"})
    trace = with_questions(trace, dataset(QUESTIONS), ["question"])
    trace = with_answers(trace, dataset(ANSWERS), "answers")
    assert [row.asked for row in trace.rows] == [{"question": "What is 3?"}, {"question": "What is 1?"}]
    assert trace.rows[0].answered == (Answer(("1",), ({"said": "<yes>"},)), Answer(("2",), ({"said": "no"},)))
    shown = trace_table(trace, "Caption")
    assert shown.index("What is 3?") < shown.index("What is 1?")
    assert 'Replication 1: <span class="dyff-cut">&lt;yes&gt;</span>' in shown
    assert "0 of 2" in shown and "1 of 2" in shown


def test_a_row_that_the_data_set_or_the_answers_lack_is_shown_all_the_same(
    instances: pyarrow.dataset.Dataset,
) -> None:
    trace = trace_rows(instances, outcome="correct", where={})
    trace = with_answers(with_questions(trace, dataset(QUESTIONS[:1]), None), dataset(ANSWERS), "answers")
    assert len(trace.rows) == 3
    assert trace_table(trace, "c").count("<tr>") == 4


def test_replications_are_numbered_as_they_were_asked() -> None:
    late = [{**row, "_replication_": replication_id("answers", 7)} for row in ANSWERS[:2]]
    found = answers_of(dataset(late), [1], "answers")
    assert found[1][0].replications == ("8",)
    # Of ids that are not this evaluation's only the order is known.
    assert answers_of(dataset(ANSWERS), [1], "other")[1][0].replications == ("1",)


def test_a_field_that_the_data_set_lacks_is_named() -> None:
    with pytest.raises(
        AnalysisError, match="the data set has no field 'prompt'; it has: _index_, question, key"
    ):
        questions_of(dataset(QUESTIONS), [1], ["prompt"])


def test_long_values_are_folded_and_very_long_ones_are_cut() -> None:
    assert fields_cell([{"text": "short"}]) == '<span class="dyff-cut">short</span>'
    folded = fields_cell([{"text": "<" + "a" * 300}])
    assert folded.startswith("<details><summary>&lt;aaa") and folded.count("a" * 300) == 1
    assert "… (10,000 characters in all)" in fields_cell([{"text": "x" * 10_000}])
    assert fields_cell([]) == "nothing"


def test_values_are_shown_for_people() -> None:
    value = {"a": 0.1 + 0.2, "b": True, "c": None, "d": b"abc", "e": [{"f": "ü"}], "g": 12}
    assert fields_cell([value]) == (
        '<span class="dyff-cut"><i>a</i> 0.3; <i>b</i> yes; <i>c</i> –; <i>d</i> 3 bytes; '
        "<i>e</i> [{&quot;f&quot;: &quot;ü&quot;}]; <i>g</i> 12</span>"
    )


def test_answers_in_a_line_are_cut() -> None:
    answers = (Answer(("1", "3"), ({"said": "yes"},)), Answer(("2",), ({"said": "n" * 400},)))
    assert answers_text(answers).startswith("1, 3: yes | 2: nnn")
    assert len(answers_text(answers)) == 302
    assert answers_text(()) == ""


# In an analysis


@pytest.fixture
def context(tmp_path: Path, instances: pyarrow.dataset.Dataset) -> AnalysisContext:
    for name, rows in (("judged", instances.to_table()), ("questions", None), ("answers", None)):
        (tmp_path / name).mkdir()
        table = (
            rows if rows is not None else pa.Table.from_pylist(QUESTIONS if name == "questions" else ANSWERS)
        )
        pq.write_table(table, tmp_path / name / "data.parquet")
    (tmp_path / "case").mkdir()
    inputs = [("instances", "judged"), ("rows", "questions"), ("said", "answers")]
    analysis = Analysis.model_validate(
        {
            "method": {
                "id": "m",
                "account": "a",
                "name": "M",
                "scope": "Evaluation",
                "implementation": {"kind": "PythonFunction", "pythonFunction": {"fullyQualifiedName": "m.f"}},
                "output": {"kind": "SafetyCase", "safetyCase": {"name": "C"}},
            },
            "inputs": [{"keyword": keyword, "entity": entity} for keyword, entity in inputs],
        }
    )
    return AnalysisContext(analysis=analysis, id="case", local_storage_root=tmp_path)


def test_a_method_traces_a_score_that_it_has_reported(context: AnalysisContext) -> None:
    context.score("accuracy", 0.7, 0.4, 0.9, 5)
    with collected() as shown:
        context.trace(
            "accuracy", "instances", outcome="correct", where={"kind": "a"}, dataset="rows", evaluation="said"
        )
    (table,) = shown
    assert "accuracy 0.700 [0.400, 0.900] n=5 rests on 5 rows" in table
    assert "What is 3?" in table and "&lt;yes&gt;" in table


def test_a_score_that_was_not_reported_cannot_be_traced(context: AnalysisContext) -> None:
    context.score("accuracy", 0.7)
    with pytest.raises(
        AnalysisError, match="there is no score 'acc' to trace; reported before were: accuracy"
    ):
        context.trace("acc", "instances", outcome="correct")
