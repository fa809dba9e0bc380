"""Datasets made from Evaluations: the answers of one service, for another one to judge."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dyff_dagster import Catalog
from dyff_dagster.schema.arrow import open_dataset
from dyff_dagster.schema.errors import DyffError
from dyff_dagster.schema.ids import replication_id
from dyff_dagster.schema.platform import Dataset, Evaluation
from dyff_dagster.sources import SourceError, fetch_answers
from dyff_dagster.store import Commit, Inputs, Store
from tests.integration import small_audit, small_catalog
from tests.integration.small_audit import Place

EXAMPLE = Path(__file__).parents[2] / "examples" / "judge"


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place(tmp_path_factory.mktemp("judge"))
    shutil.copytree(EXAMPLE, place.directory)
    place.compute_all()
    return place


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = small_audit.write(tmp_path_factory.mktemp("answers") / "made")
    (place.directory / "requirements.yaml").unlink()
    place.compute("rows")
    place.compute("doubled")
    return place


@pytest.fixture
def place(answered: Place, tmp_path: Path) -> Place:
    return answered.copy(tmp_path / "copy")


def found(place: Place, name: str) -> Commit:
    commit = place.store.current(name)
    assert commit is not None
    return commit


def rows_of(commit: Commit) -> list[dict[str, Any]]:
    return open_dataset(commit.path).to_table().to_pylist()


def derived(schema: str, withhold: str = "", more: str = "") -> str:
    return (
        "kind: Dataset\nid: judged-rows\naccount: acme\nname: Answers\nartifacts: [{path: data.parquet}]\n"
        f"annotations: {{dyff-dagster/from: doubled, dyff-dagster/withhold: '{withhold}'{more}}}\n"
        f"schema: {{arrow: {{{schema}}}}}\n"
    )


def view(place: Place, pipeline: str, schema: str) -> None:
    place.edit(
        "audit.yaml",
        "interface: {endpoint: answer, outputSchema: {arrow: {y: int64!}}}",
        "interface: {endpoint: answer, outputSchema: {arrow: {y: int64!}}}\n"
        f"outputViews: [{{id: v, viewOf: doubler, schema: {{arrow: {{{schema}}}}}, adapterPipeline: [{pipeline}]}}]",
    )


def test_the_example_measures_how_far_the_judge_agrees(example: Place) -> None:
    assert example.catalog().warnings == []
    scores = {score.name: score for score in found(example, "judge-agreement-found").facts.scores}
    assert {name: (score.value, score.n) for name, score in scores.items()} == {
        "agreement": (0.75, 12),
        "judged_right": (0.75, 12),
        "accepts_right": (0.875, 8),
        "accepts_wrong": (0.5, 4),
    }
    assert scores["agreement"].low == pytest.approx(0.468, abs=5e-4)


def test_the_judge_never_sees_the_key(example: Place) -> None:
    assert found(example, "verdicts").facts.sent_fields == ("question", "reply")


def test_each_answer_is_a_row_that_says_which_answer_it_is(example: Place) -> None:
    rows = rows_of(found(example, "replies-to-judge"))
    assert [row["_index_"] for row in rows] == list(range(24))
    answers = {
        (row["_replication_"], row["_index_"]): row["responses"][0]["answer"]
        for row in rows_of(found(example, "assistant-answers"))
    }
    assert {(row["_replication_"], row["_source_index_"]): row["reply"] for row in rows} == answers
    questions = {row["_index_"]: row for row in rows_of(found(example, "judge-questions"))}
    for row in rows:
        asked = questions[row["_source_index_"]]
        assert (row["question"], row["key"]) == (asked["question"], asked["key"])


def test_what_did_not_change_is_taken_over(example: Place) -> None:
    assert example.step("replies-to-judge").compute()[1]
    assert example.step("verdicts").compute()[1]


def test_without_a_view_the_answers_are_taken_as_they_are(place: Place) -> None:
    place.add("derived.yaml", derived("y: int64!"))
    commit = place.compute("judged-rows")
    assert [row["y"] for row in rows_of(commit)] == [2 * x for x in range(10)] * 2
    assert commit.facts.notes == {"answers": 20, "view": None}


def test_several_answers_to_one_request_are_several_rows_numbered_by_place(
    place: Place, tmp_path: Path
) -> None:
    place.add("derived.yaml", derived("y: int64!, _source_index_: int64!, _response_index_: int64!"))
    catalog = place.catalog()
    answers = tmp_path / "several"
    answers.mkdir()
    rows = [
        {
            "_replication_": replication_id("doubled", 0),
            "_index_": index,
            "responses": [{"_response_index_": at, "y": 10 * index + at} for at in range(index)],
        }
        for index in range(3)
    ]
    import pyarrow.parquet as pq

    kind = pa.list_(pa.struct([("_response_index_", pa.int64()), ("y", pa.int64())]))
    schema = pa.schema([("_replication_", pa.string()), ("_index_", pa.int64()), ("responses", kind)])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), answers / "answers.parquet")
    commit = fetch_answers(
        catalog.get_as("judged-rows", Dataset),
        place.store,
        evaluation=catalog.get_as("doubled", Evaluation),
        answers=answers,
        inputs=Inputs(spec="0" * 64),
    )
    assert [tuple(row.values()) for row in rows_of(commit)] == [(0, 10, 1, 0), (1, 20, 2, 0), (2, 21, 2, 1)]
    assert commit.facts.notes["answers"] == 3


def test_a_change_of_the_view_makes_other_rows_and_asks_nothing_again(place: Place) -> None:
    view(place, "{kind: TransformJSON, configuration: {z: '$.responses[0].y'}}", "z: int64!")
    place.add("derived.yaml", derived("z: int64!", more=", dyff-dagster/ingest: v"))
    first = place.compute("judged-rows")
    place.edit("audit.yaml", "{z: '$.responses[0].y'}", "{z: '$._index_'}")
    commit, reused = place.step("judged-rows").compute()
    assert not reused
    assert commit.data_version != first.data_version
    assert [row["z"] for row in rows_of(commit)] == list(range(10)) * 2
    requests = (place.directory / "requests.log").read_text()
    assert place.compute("doubled").data_version == found(place, "doubled").data_version
    assert (place.directory / "requests.log").read_text() == requests


def test_rows_are_those_that_were_asked_about_although_the_data_set_changed_since(place: Place) -> None:
    place.add("derived.yaml", derived("y: int64!, label: int64!", "label"))
    small_catalog.write_rows(place.directory, 3)
    place.compute("rows")
    rows = rows_of(place.compute("judged-rows"))
    assert len(rows) == 20
    assert all(row["label"] == row["y"] for row in rows)


@pytest.mark.parametrize(
    ("schema", "withhold", "more", "message"),
    [
        (
            "y: int64!, labl: int64!",
            "",
            "",
            "the answers of 'doubled' have no field 'labl', .*did you mean 'label'",
        ),
        (
            "y: int64!, label: int64!",
            "",
            "",
            "the field 'label' comes from data set 'rows', which withholds it",
        ),
        ("y: string!", "", "", "'y' is string in this data set, and in the answers it is a number"),
        ("y: int64!", "", ", dyff-dagster/ingest: w", "the service of 'doubled' has no outputView 'w'"),
        ("y: int64!, _source_index_: string!", "", "", "as a key of answers it is int64"),
    ],
    ids=["unknown", "withheld", "type", "view", "key"],
)
def test_what_cannot_be_made_is_refused_when_the_catalog_is_loaded(
    place: Place, schema: str, withhold: str, more: str, message: str
) -> None:
    place.add("derived.yaml", derived(schema, withhold, more))
    with pytest.raises(DyffError, match=message):
        place.catalog()


def test_an_answer_that_the_view_cannot_show_is_named_and_not_shown(place: Place) -> None:
    view(place, "{kind: TransformJSON, configuration: {z: '$.responses[1].y'}}", "z: int64!")
    place.add("derived.yaml", derived("z: int64!", more=", dyff-dagster/ingest: v"))
    with pytest.raises(SourceError) as caught:
        place.compute("judged-rows")
    assert str(caught.value).startswith("judged-rows: the answer to row 0, replication ")
    assert "cannot be a row through the view v: " in str(caught.value)
    assert caught.value.reason == "IngestFailed"
    assert place.store.current("judged-rows") is None


@pytest.mark.parametrize(("value", "kind"), [("300", "int8"), ("1.5", "int64")])
def test_a_value_that_does_not_fit_names_its_field(place: Place, value: str, kind: str) -> None:
    view(
        place,
        f"{{kind: TransformJSON, configuration: {{z: {{$compute: {{$literal: {value}}}}}}}}}",
        f"z: {kind}",
    )
    place.add("derived.yaml", derived(f"z: {kind}", more=", dyff-dagster/ingest: v"))
    with pytest.raises(SourceError, match=f"through the view v: its field z does not fit {kind}"):
        place.compute("judged-rows")


def test_values_of_every_type_come_through_a_view_as_they_were(tmp_path: Path) -> None:
    """Adapters see JSON, so binaries and times are text on their way."""
    import datetime
    import decimal

    import pyarrow.parquet as pq

    from dyff_dagster.schema.arrow import encode_schema

    inner = {
        "data": (pa.binary(), b"\x00\xff"),
        "when": (pa.timestamp("us", tz="UTC"), datetime.datetime(2024, 2, 29, 12, 30, 0, 5, datetime.UTC)),
        "day": (pa.date32(), datetime.date(2024, 2, 29)),
        "price": (pa.decimal128(9, 2), decimal.Decimal("12.30")),
        "tags": (pa.list_(pa.string()), ["a", "b"]),
        "part": (pa.struct([("x", pa.float64())]), {"x": 0.1}),
        "yes": (pa.bool_(), True),
        "none": (pa.string(), None),
    }
    struct = pa.struct(
        [("_response_index_", pa.int64()), *((name, kind) for name, (kind, _) in inner.items())]
    )
    answers_schema = pa.schema(
        [("_replication_", pa.string()), ("_index_", pa.int64()), ("responses", pa.list_(struct))]
    )
    row = {
        "_replication_": replication_id("e", 0),
        "_index_": 5,
        "responses": [{"_response_index_": 0, **{name: value for name, (_, value) in inner.items()}}],
    }
    (tmp_path / "answers").mkdir()
    pq.write_table(pa.Table.from_pylist([row], schema=answers_schema), tmp_path / "answers" / "a.parquet")
    common = {"account": "acme", "name": "N"}
    service = {
        "id": "s",
        **common,
        "interface": {"endpoint": "x", "outputSchema": {"arrowSchema": encode_schema(answers_schema)}},
    }
    declared = pa.schema(
        [
            pa.field("_index_", pa.int64(), nullable=False),
            *((name, kind) for name, (kind, _) in inner.items()),
        ]
    )
    dataset = Dataset.model_validate(
        {
            "id": "d",
            **common,
            "artifacts": [{"path": "data.parquet"}],
            "schema": {"arrowSchema": encode_schema(declared)},
            "annotations": [{"key": "dyff-dagster/from", "value": "e"}],
        }
    )
    evaluation = Evaluation.model_validate(
        {"id": "e", "account": "acme", "dataset": "q", "inferenceSession": {"inferenceService": service}}
    )
    commit = fetch_answers(
        dataset,
        Store(tmp_path / "store"),
        evaluation=evaluation,
        answers=tmp_path / "answers",
        inputs=Inputs(spec="0" * 64),
    )
    assert rows_of(commit) == [{"_index_": 0, **{name: value for name, (_, value) in inner.items()}}]


def test_a_result_about_judged_answers_may_name_the_evaluation_that_was_judged(
    example: Place, tmp_path: Path
) -> None:
    place = example.copy(tmp_path / "copy")
    place.edit(
        "catalog.yaml",
        "scope: {evaluation: verdicts, inferenceService: judge, dataset: replies-to-judge}",
        "scope: {evaluation: assistant-answers, inferenceService: assistant, dataset: judge-questions}",
    )
    place.add(
        "audit.yaml",
        "{kind: AuditProcedure, id: p, account: me, name: P, "
        "requirements: [{dataset: judge-questions, rubric: agreement.agreement}]}\n---\n"
        "{kind: Audit, id: a, account: me, auditProcedure: p, inferenceService: assistant}\n",
    )
    catalog: Catalog = place.catalog()
    assert catalog.warnings == []
    place.compute("judge-agreement-found")
    commit = place.compute("a")
    assert json.loads((commit.path / "audit.json").read_text())["results"]["judge-agreement-found"][
        "evaluation"
    ] == ("assistant-answers")
