"""Canonical JSON, and the digests of specifications."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyff_dagster.schema.annotations import AmbiguousAnnotationError, annotation, is_reserved
from dyff_dagster.schema.canonical import (
    CanonicalError,
    canonical_json,
    service_digest,
    sha256_text,
    spec_digest,
)
from dyff_dagster.schema.platform import Dataset, Evaluation, ForeignInferenceService, InferenceService

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"b": 1, "a": [True, None]}, '{"a":[true,null],"b":1}'),
        ('ä\u2028"\\\n', '"ä\u2028\\"\\\\\\n"'),
        (1.0, "1.0"),
        (1, "1"),
        (-0.0, "-0.0"),
        (0.1, "0.1"),
        (1e300, "1e+300"),
        ((1, 2), "[1,2]"),
        ({}, "{}"),
    ],
)
def test_canonical_json_is_this_text(value: object, expected: str) -> None:
    assert canonical_json(value) == expected.encode("utf-8")


@given(JSON)
def test_canonical_json_reads_back_the_same(value: object) -> None:
    assert json.loads(canonical_json(value)) == value


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_order_of_keys_makes_no_difference(value: dict[str, object]) -> None:
    turned = dict(reversed(list(value.items())))
    assert canonical_json(turned) == canonical_json(value)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"a": [1, math.nan]}, r"\$\.a\[1\]"),
        (math.inf, r"\$ "),
        ({1: "secret"}, "a key is int"),
        ({"a": {None: 1}}, r"\$\.a"),
        ({"a": b"secret"}, r"\$\.a cannot be written as canonical JSON: JSON has no bytes"),
        ({"a": "secret\ud800"}, "surrogate"),
        ({"\ud800": 1}, "a key is no Unicode text"),
    ],
)
def test_value_that_json_cannot_hold_is_refused_without_showing_it(value: object, path: str) -> None:
    with pytest.raises(CanonicalError, match=path) as caught:
        canonical_json(value)
    assert "secret" not in str(caught.value)


def test_value_that_contains_itself_is_refused() -> None:
    value: list[object] = []
    value.append(value)
    with pytest.raises(CanonicalError, match="contains itself"):
        canonical_json(value)


def test_sha256_is_of_the_utf8() -> None:
    assert sha256_text("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_text("ä") == sha256_text("ä".encode())


GPU = {"kind": "GPU", "gpu": {"hardwareTypes": ["nvidia.com/gpu"]}}
SERVICE = {
    "id": "service",
    "account": "acme",
    "name": "s",
    "runner": {"kind": "vllm", "resources": {"storage": "1Gi"}, "args": ["serve"]},
    "interface": {
        "endpoint": "generate",
        "outputSchema": {"arrowSchema": "x"},
        "inputPipeline": [
            {"kind": "ExplodeCollections", "configuration": {"collections": ["a"], "index": {"i": None}}}
        ],
    },
}
EVALUATION = {
    "id": "e",
    "account": "acme",
    "dataset": "rows",
    "inferenceSession": {"inferenceService": SERVICE},
}


def evaluation(**changes: object) -> Evaluation:
    return Evaluation.model_validate({**json.loads(json.dumps(EVALUATION)), **changes})


def with_session(**changes: object) -> Evaluation:
    return evaluation(inferenceSession={"inferenceService": SERVICE, **changes})


def with_service(**changes: object) -> Evaluation:
    return with_session(inferenceService={**SERVICE, **changes})


def noted(key: str, value: str) -> list[dict[str, str]]:
    return [{"key": key, "value": value}]


@pytest.mark.parametrize(
    "same",
    [
        evaluation(status="Complete", reason="x", creationTime=datetime.now(UTC)),
        evaluation(labels={"team": "red"}),
        evaluation(workersPerReplica=8),
        with_session(replicas=4, useSpotPods=False, expires=datetime.now(UTC), accelerator=GPU),
        with_service(runner={**SERVICE["runner"], "accelerator": GPU}),  # type: ignore[dict-item]
        *(
            evaluation(annotations=noted(f"dyff-dagster/{name}", "1"))
            for name in ("automation", "checks", "blocking", "max-failed-rows", "reuse", "files", "prices")
        ),
        *(
            evaluation(annotations=noted(f"dyff-dagster/{name}", "1"))
            for name in ("max-requests", "max-cost", "max-seconds", "max-memory", "isolation")
        ),
        evaluation(annotations=noted("example.com/note", "1")),
        evaluation(annotations=noted("dyff-dagster/headers", '{"Authorization": "Bearer ${TOKEN}"}')),
    ],
)
def test_what_only_steers_leaves_the_specs_digest_alone(same: Evaluation) -> None:
    assert spec_digest(same) == spec_digest(evaluation())


@pytest.mark.parametrize(
    "other",
    [
        evaluation(dataset="others"),
        evaluation(replications=2),
        evaluation(inferenceSessionReference="running"),
        with_service(runner={**SERVICE["runner"], "args": ["serve", "--temperature", "1"]}),  # type: ignore[dict-item]
        *(
            evaluation(annotations=noted(f"dyff-dagster/{name}", "1"))
            for name in ("withhold", "accept", "from", "ingest", "answer-rules", "rubric")
        ),
        evaluation(annotations=noted("dyff-dagster/headers", '{"X-Model": "v2", "A": "${TOKEN}"}')),
    ],
)
def test_what_can_change_the_result_changes_the_specs_digest(other: Evaluation) -> None:
    assert spec_digest(other) != spec_digest(evaluation())


def test_null_within_free_json_is_not_the_same_as_nothing() -> None:
    interface = json.loads(json.dumps(SERVICE["interface"]))
    interface["inputPipeline"][0]["configuration"]["index"] = {}
    assert spec_digest(with_service(interface=interface)) != spec_digest(evaluation())


def test_key_in_free_json_is_kept_though_it_has_the_name_of_a_field() -> None:
    def configured(value: int) -> Evaluation:
        interface = json.loads(json.dumps(SERVICE["interface"]))
        interface["inputPipeline"] = [{"kind": "TransformJSON", "configuration": {"replicas": value}}]
        return with_service(interface=interface)

    assert spec_digest(configured(1)) != spec_digest(configured(2))


def test_order_of_annotations_makes_no_difference() -> None:
    one, two = noted("dyff-dagster/withhold", "a"), noted("dyff-dagster/from", "b")
    schema = {"arrowSchema": "x"}
    base = {"id": "d", "account": "a", "name": "n", "artifacts": [{"path": "a"}], "schema": schema}
    first = Dataset.model_validate({**base, "annotations": one + two})
    second = Dataset.model_validate({**base, "annotations": two + one})
    assert spec_digest(first) == spec_digest(second)


def test_digest_of_this_spec_is_this_one() -> None:
    # Whoever changes this drops every code version that is on record.
    assert spec_digest(evaluation()) == PINNED


PINNED = "1ef5ca2099584814fcfc2983787f557ade94350b24109f857d62eb9cb672e3e4"


def foreign(**changes: object) -> ForeignInferenceService:
    return ForeignInferenceService.model_validate({**json.loads(json.dumps(SERVICE)), **changes})


def test_service_has_one_digest_as_an_entity_and_within_an_evaluation() -> None:
    entity = InferenceService.model_validate({**SERVICE, "labels": {"a": "b"}, "status": "Ready"})
    assert service_digest(entity) == service_digest(foreign())


def test_services_name_and_views_and_accelerator_change_no_answers() -> None:
    runner = {**SERVICE["runner"], "accelerator": GPU}  # type: ignore[dict-item]
    assert service_digest(foreign(name="other", runner=runner)) == service_digest(foreign())


@pytest.mark.parametrize(
    "changes",
    [{"id": "other"}, {"runner": None}, {"interface": {**SERVICE["interface"], "endpoint": "chat"}}],  # type: ignore[dict-item]
)
def test_what_can_change_an_answer_changes_the_services_digest(changes: dict[str, object]) -> None:
    assert service_digest(foreign(**changes)) != service_digest(foreign())


def test_answer_rules_count_when_they_are_passed() -> None:
    entity = InferenceService.model_validate(
        {**SERVICE, "annotations": noted("dyff-dagster/answer-rules", "[]")}
    )
    assert service_digest(entity, entity.annotations) != service_digest(entity)
    steering = InferenceService.model_validate({**SERVICE, "annotations": noted("dyff-dagster/prices", "{}")})
    assert service_digest(steering, steering.annotations) == service_digest(steering)


def test_annotation_is_found_by_its_short_name() -> None:
    entity = evaluation(annotations=noted("dyff-dagster/reuse", "true"))
    assert annotation(entity, "reuse") == "true"
    assert annotation(entity, "accept") is None


def test_annotation_with_two_values_is_refused() -> None:
    entity = evaluation(
        annotations=noted("dyff-dagster/reuse", "true") + noted("dyff-dagster/reuse", "false")
    )
    with pytest.raises(AmbiguousAnnotationError, match="'e' has the annotation 'dyff-dagster/reuse'"):
        annotation(entity, "reuse")


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("dyff.io/a", True),
        ("x.dyff.io/a", True),
        ("a.x.dyff.io/a", True),
        ("dyff-dagster/a", False),
        ("mydyff.io/a", False),
        ("dyff.io", False),
        ("dyff.io.evil.com/a", False),
    ],
)
def test_keys_of_the_platform_are_recognised(key: str, expected: bool) -> None:
    assert is_reserved(key) is expected
