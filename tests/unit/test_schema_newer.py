"""Fields of dyff-schema 0.46 are held beside an entity: kept, compared with nothing, written to no one else."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pyarrow as pa
import pydantic
import pytest

from dyff_dagster.schema.arrow import encode_schema
from dyff_dagster.schema.canonical import spec_digest
from dyff_dagster.schema.newer import NewerFieldError, held_fields, hold
from dyff_dagster.schema.platform import DataSchema, DyffDataSchema, Evaluation, InferenceService, Method
from dyff_dagster.schema.scores import declared_scores

SCORE = {"name": "auc", "title": "AUC", "summary": "Area under the curve"}
METHOD: dict[str, Any] = {
    "kind": "Method",
    "id": "m",
    "account": "a",
    "name": "m",
    "scope": "Evaluation",
    "implementation": {"kind": "PythonFunction"},
    "output": {"kind": "SafetyCase"},
}


def method(**more: Any) -> Method:
    return Method.model_validate({**METHOD, **more})


def service(**runner: Any) -> InferenceService:
    schema = DataSchema.make_output_schema(DyffDataSchema(components=["text.Text"]))
    return InferenceService.model_validate(
        {
            "id": "s",
            "account": "a",
            "name": "s",
            "runner": {"kind": "standalone", "resources": {"storage": "1Gi"}, **runner},
            "interface": {"endpoint": "generate", "outputSchema": schema},
        }
    )


def test_a_newer_field_is_held_and_not_written() -> None:
    made = method(scores=[SCORE], metadata={"revision": "r1"})
    assert held_fields(made)["metadata"] == {"revision": "r1"}
    assert "scores" not in json.loads(made.model_dump_json())
    assert made == method()


def test_copies_and_pickles_hold_what_the_original_held() -> None:
    made = method(metadata={"revision": "r1"})
    others = (
        made.model_copy(update={"name": "other"}),
        made.model_copy(deep=True),
        copy.copy(made),
        pickle.loads(pickle.dumps(made)),
    )
    assert [held_fields(other) for other in others] == [{"metadata": {"revision": "r1"}}] * 4


def test_what_the_newer_schema_takes_for_granted_is_not_held() -> None:
    runner = service(nodes=1, command=None).runner
    assert runner is not None
    assert held_fields(runner) == {}
    made = method(
        metadata={"metrics": None, "documentation": {"title": None}, "preconditions": []}, message=None
    )
    assert held_fields(made) == {}


def test_of_an_object_only_what_is_not_taken_for_granted_is_held() -> None:
    evaluation = {
        "id": "e",
        "account": "a",
        "dataset": "d",
        "inferenceSession": {"inferenceService": json.loads(service().model_dump_json(include=SERVICE))},
        "client": {"badRequestPolicy": "Skip", "batchSize": 1000},
    }
    assert held_fields(Evaluation.model_validate(evaluation)) == {"client": {"badRequestPolicy": "Skip"}}


SERVICE = {"id", "account", "name", "interface"}


def test_every_other_unknown_field_is_refused_as_before() -> None:
    with pytest.raises(pydantic.ValidationError, match="Method has no field 'score'; did you mean 'scope'"):
        method(score=[SCORE])
    with pytest.raises(pydantic.ValidationError, match="has no field 'nodes'"):
        method(nodes=2)


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(pydantic.ValidationError) as caught:
        method(scores=[{"name": "auc"}], analysisImage=[], nonsense=1)
    places = {detail["loc"] for detail in caught.value.errors()}
    assert places == {("nonsense",), ("analysisImage",), ("scores", 0, "title"), ("scores", 0, "summary")}


def test_a_digest_changes_with_what_could_change_a_result_and_with_nothing_else() -> None:
    assert spec_digest(method(metadata={"revision": "r1"}, message="x")) == spec_digest(method())
    assert spec_digest(method(scores=[SCORE])) != spec_digest(method())
    assert spec_digest(service(nodes=2)) == spec_digest(service())
    assert spec_digest(service(command=["serve"])) != spec_digest(service())


def test_hold_gives_a_copy_and_lets_go_of_what_is_none() -> None:
    first = method()
    second = hold(first, {"scores": [SCORE]})
    assert [score.name for score in declared_scores(second)] == ["auc"]
    assert declared_scores(first) == ()
    assert held_fields(hold(second, {"scores": None})) == {}


def test_hold_refuses_what_the_type_has_not() -> None:
    with pytest.raises(NewerFieldError, match="Method: nodes: is no newer field of this type"):
        hold(method(), {"nodes": 2})
    with pytest.raises(NewerFieldError, match="Method: analysisImage: must be an object"):
        hold(method(), {"analysisImage": "image"})


@pytest.mark.parametrize(
    ("scores", "place", "said"),
    [
        ([SCORE, SCORE], ("scores", 1, "name"), "'auc' stands twice; rename one of them"),
        (
            [SCORE, {**SCORE, "name": "b"}],
            ("scores",),
            "2 of them are primary; say priority: secondary on all but one",
        ),
        ([{**SCORE, "priority": "secondary"}], ("scores",), "none of them is primary"),
        ([{**SCORE, "minimum": 1, "maximum": 0}], ("scores", 0), "minimum 1 is above maximum 0"),
        ([{**SCORE, "format": "{quantity:x}"}], ("scores", 0, "format"), "no Python format of 'quantity'"),
        ([{**SCORE, "format": "{quantity:99999f}"}], ("scores", 0, "format"), "above 999"),
        ([{**SCORE, "name": "a b"}], ("scores", 0, "name"), "match pattern"),
        ([{**SCORE, "units": "m"}], ("scores", 0, "units"), "did you mean 'unit'?"),
    ],
)
def test_a_wrong_specification_of_scores_is_refused(
    scores: list[Any], place: tuple[Any, ...], said: str
) -> None:
    with pytest.raises(pydantic.ValidationError) as caught:
        method(scores=scores)
    (detail,) = caught.value.errors()
    assert detail["loc"] == place
    assert said in detail["msg"]


def test_a_curve_is_held_and_is_no_score() -> None:
    curve = {"name": "roc", "title": "ROC", "summary": "Curve", "dimensions": {"x": SCORE}}
    made = method(scores=[SCORE, curve])
    assert [score.name for score in declared_scores(made)] == ["auc"]
    assert [score["name"] for score in held_fields(made)["scores"]] == ["auc", "roc"]


def test_schemas_with_no_newer_fields_are_as_before() -> None:
    with pytest.raises(pydantic.ValidationError, match="has no field 'metadata'"):
        DataSchema.model_validate({"arrowSchema": encode_schema(pa.schema([])), "metadata": {}})
