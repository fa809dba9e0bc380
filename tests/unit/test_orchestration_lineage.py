"""From which columns the columns of a table may come."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from dyff_dagster import Catalog
from dyff_dagster.catalog import fields_read
from dyff_dagster.orchestration.lineage import column_lineage
from dyff_dagster.orchestration.names import asset_key
from dyff_dagster.schema.platform import SchemaAdapter

EXAMPLES = Path(__file__).parents[2] / "examples"


def lineage(catalog: Catalog, entity_id: str) -> dict[str, set[str]]:
    found = column_lineage(catalog.get(entity_id), catalog, asset_key)
    deps = {} if found is None else found.deps_by_column
    return {
        column: {f"{dep.asset_key.path[-1]}.{dep.column_name}" for dep in upstream}
        for column, upstream in deps.items()
    }


@pytest.fixture(scope="module")
def audit() -> Catalog:
    return Catalog.load(EXAMPLES / "breast_cancer")


@pytest.fixture(scope="module")
def judged() -> Catalog:
    return Catalog.load(EXAMPLES / "judge")


def test_an_answer_comes_from_what_its_service_saw_and_from_nothing_that_was_withheld(audit: Catalog) -> None:
    found = lineage(audit, "wdbc-logreg-eval")
    assert found["_index_"] == {"wdbc-held-out._index_"}
    assert "wdbc-held-out.mean_radius" in found["responses"]
    assert len(found["responses"]) == 30
    assert not {"wdbc-held-out.diagnosis", "wdbc-held-out.patient"} & found["responses"]
    assert "_replication_" not in found


def test_a_measurements_keys_are_its_inputs_and_its_values_may_come_from_all_of_them(audit: Catalog) -> None:
    found = lineage(audit, "wdbc-instances")
    assert found["_index_"] == {"wdbc-held-out._index_", "wdbc-logreg-eval._index_"}
    assert found["_replication_"] == {"wdbc-logreg-eval._replication_"}
    assert {"wdbc-held-out.diagnosis", "wdbc-logreg-eval.responses"} <= found["correct"]


def test_a_dataset_made_of_answers_says_which_field_is_the_question_and_which_the_answer(
    judged: Catalog,
) -> None:
    assert lineage(judged, "replies-to-judge") == {
        "reply": {"assistant-answers.responses"},
        "question": {"judge-questions.question"},
        "key": {"judge-questions.key"},
        "_source_index_": {"assistant-answers._index_"},
        "_replication_": {"assistant-answers._replication_"},
    }


@pytest.mark.parametrize("entity_id", ["wdbc-source", "wdbc-held-out", "wdbc-logreg", "wdbc-safety-case"])
def test_what_has_no_columns_upstream_has_no_lineage(audit: Catalog, entity_id: str) -> None:
    assert lineage(audit, entity_id) == {}


def test_far_too_many_pairs_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "data.parquet").touch()
    fields = ", ".join(f"f{n}: int64" for n in range(1100))
    (tmp_path / "catalog.yaml").write_text(
        "kind: Dataset\nid: wide\naccount: a\nname: W\nannotations: {dyff-dagster/withhold: ''}\n"
        f"artifacts: [{{path: data.parquet}}]\nschema: {{arrow: {{{fields}}}}}\n---\n"
        "kind: InferenceService\nid: s\naccount: a\nname: S\n"
        "interface: {endpoint: 'http://127.0.0.1:9/x', outputSchema: {arrow: {y: int64}}}\n---\n"
        "kind: Evaluation\nid: e\naccount: a\ndataset: wide\ninferenceSession: {inferenceService: s}\n"
    )
    assert lineage(Catalog.load(tmp_path), "e") == {}


FIELDS = [pa.field(name, pa.string()) for name in ("question", "context", "note")]


@pytest.mark.parametrize(
    ("pipeline", "read"),
    [
        (None, ("question", "context", "note")),
        ([("TransformJSON", {"prompt": "$.question"})], ("question",)),
        (
            [("TransformJSON", {"prompt": "$.question", "k": 3}), ("Rename", {"prompt": "input"})],
            ("question",),
        ),
        ([("Select", {"fields": ["note"]})], ("note",)),
        ([("Drop", {"fields": ["note"]})], ("question", "context")),
        ([("Rename", {"note": "n"}), ("Drop", {"fields": ["n", "context"]})], ("question", "note")),
        ([("TransformJSON", {"all": "$"})], ("question", "context", "note")),
    ],
)
def test_a_pipeline_reads_what_it_names_and_what_it_lets_through(
    pipeline: list[tuple[str, dict[str, object]]] | None, read: tuple[str, ...]
) -> None:
    adapters = pipeline and [SchemaAdapter(kind=kind, configuration=config) for kind, config in pipeline]
    assert fields_read(adapters, FIELDS) == read
