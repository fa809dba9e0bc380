"""Random entities and requests go to the reference and come back, through JSON, as they were."""

from __future__ import annotations

import json
from typing import Any

import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dyff_dagster.schema import platform, requests
from dyff_dagster.schema.base import DyffEntity
from dyff_dagster.schema.enumerations import InferenceServiceRunnerKind
from dyff_dagster.schema.interchange import full_form, read_entity, write_entity
from dyff_dagster.schema.newer import hold
from dyff_dagster.schema.platform import entity_class
from tests.reference.asking import Reference
from tests.reference.strategies import JSON, LABEL_KEYS, MOMENTS, TEXT, WORDS, instances

KINDS = [
    "Audit", "AuditProcedure", "DataSource", "Dataset", "Evaluation", "Family", "History", "InferenceService",
    "InferenceSession", "Measurement", "Method", "Model", "Module", "Report", "Revision", "SafetyCase",
]  # fmt: skip
REVISED = [kind for kind in KINDS if kind not in ("History", "Revision")]

bounded = settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)

LABELS = st.dictionaries(LABEL_KEYS, st.sampled_from(["", "a", "a-b_c.d"]), max_size=2)
ASSIGNED = {"status": st.just("Ready"), "creationTime": MOMENTS.map(lambda moment: moment.isoformat())}


def entities(kind: str, *, for_newer: bool) -> st.SearchStrategy[DyffEntity]:
    """Valid entities of a kind; ``for_newer`` keeps to what 0.46 can read as well."""
    only: dict[str, st.SearchStrategy[Any]] = {}
    if for_newer:
        only = {**ASSIGNED, "labels": LABELS}
    if kind == "Revision":
        # The older reference can hold no family in a revision: it cannot make one.
        kinds = [kind for kind in REVISED if for_newer or kind != "Family"]
        inner = st.sampled_from(kinds).flatmap(lambda kind: entities(kind, for_newer=for_newer))
        only["entity"] = inner
    if kind == "History":
        times = st.fixed_dictionaries({"creationTime": ASSIGNED["creationTime"]})
        revisions = st.dictionaries(WORDS, times, min_size=1, max_size=3)
        made = instances(entity_class(kind), {**only, "revisions": revisions})
        return made.map(lambda made: made.model_copy(update={"latest": next(iter(made.revisions))}))
    made = instances(entity_class(kind), only)
    if not for_newer:
        return made.filter(lambda entity: "container" not in runner_kinds(entity))
    return made.map(with_times) if kind == "Family" else made


def with_times(family: Any) -> Any:
    """0.46 demands a time of each member, and a name that is its key."""
    members = {
        name: member.model_copy(
            update={"name": name, "creationTime": member.creationTime or family.creationTime}
        )
        for name, member in family.members.items()
    }
    return family.model_copy(update={"members": members})


def runner_kinds(value: Any) -> set[str]:
    """Kinds of all runners in an entity: 0.12 does not know them all."""
    return {kind for kind in InferenceServiceRunnerKind if f'"kind":"{kind}"' in value.model_dump_json()}


@pytest.mark.parametrize("kind", KINDS)
def test_an_entity_survives_the_older_reference(older: Reference, kind: str) -> None:
    @bounded
    @given(entities(kind, for_newer=False))
    def survives(entity: DyffEntity) -> None:
        answer = older.ask("entity", entity=write_entity(entity, "0.12").data)
        assert read_entity(answer["entity"]).entity == entity
        assert answer["dependencies"] == entity.dependencies()

    survives()


@pytest.mark.parametrize("kind", KINDS)
def test_an_entity_survives_the_newer_reference(newer: Reference, kind: str) -> None:
    @bounded
    @given(entities(kind, for_newer=True))
    def survives(entity: DyffEntity) -> None:
        written = write_entity(entity, "0.46", history_of="h")
        assert written.lost == ()
        answer = newer.ask("entity", entity=written.data)
        read = read_entity(answer["entity"])
        assert read.lost == ()
        assert read.entity == entity
        # They have no order there, and each stands once.
        assert sorted(answer["dependencies"]) == sorted(set(entity.dependencies()))

    survives()


COMMON = {
    "metadata": {
        "revision": "r1",
        "documentation": {"title": "A title"},
        "preconditions": [{"kind": "Model", "id": "m1"}],
    },
    "message": "all is well",
    "lastTransitionTime": "2025-01-01T00:00:00Z",
}
SECURITY = {"securityContext": {"trusted": False}}
RUNNER = {
    "command": ["serve", "--now"],
    "env": [{"name": "A", "value": "b"}],
    "imageRef": {"kind": "OCIArtifact", "id": "0" * 32},
    "nodes": 2,
    "volumeMounts": [
        {
            "kind": "Scratch",
            "name": "tmp",
            "mountPath": "/tmp",
            "scratch": {"capacity": "1Gi"},
        }
    ],
    "workingDir": "/srv",
}
SCORES = [
    {"name": "auc", "title": "AUC", "summary": "Area", "minimum": 0.0, "maximum": 1.0, "unit": "1"},
    {"name": "n", "title": "N", "summary": "Rows", "priority": "secondary", "format": "{quantity:.0f}"},
]
IMAGE = {"host": "registry.example", "name": "a/b", "digest": "sha256:" + "0" * 64}
HELD: dict[str, dict[str, Any]] = {
    "Evaluation": {**SECURITY, "client": {"badRequestPolicy": "Skip", "batchSize": 10}},
    "InferenceSession": SECURITY,
    "Measurement": {**SECURITY, "data": [{"key": "k", "value": "AAAA"}]},
    "SafetyCase": SECURITY,
    "Method": {"scores": SCORES, "analysisImage": IMAGE},
}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("Family", "History", "Revision")])
def test_newer_fields_of_an_entity_are_read_and_written_again(newer: Reference, kind: str) -> None:
    added = {**COMMON, **HELD.get(kind, {})}

    @settings(bounded, max_examples=3)
    @given(entities(kind, for_newer=True))
    def survives(entity: DyffEntity) -> None:
        made = hold(entity, added)
        answer = newer.ask("entity", entity=write_entity(made, "0.46").data)
        assert full_form(read_entity(answer["entity"]).entity) == full_form(made)

    survives()


def test_newer_fields_of_parts_are_read_and_written_again(newer: Reference) -> None:
    @settings(bounded, max_examples=3)
    @given(entities("InferenceService", for_newer=True), instances(platform.InferenceServiceRunner))
    def survives(service: Any, runner: platform.InferenceServiceRunner) -> None:
        runner = runner.model_copy(update={"resources": hold(runner.resources, {"cpu": "500m"})})
        made = service.model_copy(update={"runner": hold(runner, RUNNER)})
        answer = newer.ask("entity", entity=write_entity(made, "0.46").data)
        assert full_form(read_entity(answer["entity"]).entity) == full_form(made)

    survives()


# The reference has none of these (an account's came with 0.46), or another of that name.
NONE_THERE = {"AuditCreateRequest", "AuditProcedureCreateRequest", "DataSourceCreateRequest"}
OLDER_HAS_NONE = NONE_THERE | {"AccountCreateRequest"}
# Their forms changed with families, labels and documentation: see docs/reference.md.
CHANGED = {"DocumentationEditRequest", "FamilyMembersEditRequest", "LabelUpdateRequest"}
REQUESTS = sorted(set(requests.__all__) - {"DyffRequestBase", "DyffEntityCreateRequest"})

ACCOUNTS = {"account": st.text("abc019", min_size=1, max_size=6)}
PATHS = st.lists(WORDS, min_size=1, max_size=3).map("/".join)
ARTIFACTS = {"artifacts": st.lists(instances(platform.Artifact, {"path": PATHS}), min_size=1, max_size=2)}
IDS = st.none() | st.uuids(version=4).map(lambda made: made.hex)
SCOPES = instances(
    platform.AnalysisScope,
    dict.fromkeys(("dataset", "evaluation", "inferenceService", "model"), IDS),
)
RUNNERS = instances(platform.InferenceServiceRunner, {"image": instances(platform.ContainerImageSource)})
# What 0.46 demands of requests, and of no entity.
DEMANDED = {
    "AnalysisCreateRequest": {"scope": SCOPES},
    "DatasetCreateRequest": ARTIFACTS,
    "ModuleCreateRequest": ARTIFACTS,
    "InferenceServiceCreateRequest": {"runner": RUNNERS},
}


@pytest.mark.parametrize("name", sorted(set(REQUESTS) - OLDER_HAS_NONE))
def test_a_request_survives_the_older_reference(older: Reference, name: str) -> None:
    check_requests(older, name, {})


@pytest.mark.parametrize("name", sorted(set(REQUESTS) - NONE_THERE - CHANGED))
def test_a_request_survives_the_newer_reference(newer: Reference, name: str) -> None:
    has_account = "account" in getattr(requests, name).model_fields
    check_requests(newer, name, {**(ACCOUNTS if has_account else {}), **DEMANDED.get(name, {})})


def check_requests(reference: Reference, name: str, only: dict[str, st.SearchStrategy[Any]]) -> None:
    model: type[pydantic.BaseModel] = getattr(requests, name)
    made = instances(model, only)
    if name == "EvaluationCreateRequest":
        # The older one takes one of them and no more.
        session = instances(requests.EvaluationInferenceSessionRequest)
        made = instances(model, {**only, "inferenceSession": session, "inferenceSessionReference": st.none()})
        made |= instances(model, {**only, "inferenceSession": st.none(), "inferenceSessionReference": TEXT})

    @bounded
    @given(made)
    def survives(made: pydantic.BaseModel) -> None:
        data = json.loads(made.model_dump_json())
        if reference.version == "0.12.0" and '"kind": "container"' in json.dumps(data):
            return
        answer = reference.ask("create_request", type=name, data=data)
        assert model.model_validate(answer) == made

    survives()


NOT_ENTITIES = [
    "APIKey", "Account", "AccessGrant", "AnalysisOutputQueryFields", "ArchiveFormat", "ArtifactURL",
    "Documentation", "ExtractorStep", "ForeignInferenceService", "ForeignMethod", "ForeignModel", "Identity",
    "InferenceSessionAndToken", "InferenceSessionReference", "TaskSchema", "DatasetFilter", "StorageSignedURL",
]  # fmt: skip


@pytest.mark.parametrize("name", NOT_ENTITIES)
def test_what_is_no_entity_survives_the_older_reference(older: Reference, name: str) -> None:
    model = getattr(platform, name)

    @bounded
    @given(instances(model))
    def survives(made: pydantic.BaseModel) -> None:
        data = json.loads(made.model_dump_json())
        if '"kind": "container"' not in json.dumps(data):
            assert model.model_validate(older.ask("model", type=name, data=data)) == made

    survives()


def test_the_older_reference_declares_families_and_cannot_make_them(
    older: Reference, newer: Reference
) -> None:
    # The oracle gives them the methods that they lack. Where this changes, docs/reference.md is wrong.
    assert older.ask("abstract", kinds=KINDS) == ["Family", "History", "Revision"]
    assert newer.ask("abstract", kinds=KINDS) == ["History"]


@bounded
@given(JSON)
def test_free_form_json_survives_both(older: Reference, newer: Reference, value: Any) -> None:
    for reference in (older, newer):
        adapter = {"kind": "TransformJSON", "configuration": {"template": value}}
        assert reference.ask("model", type="SchemaAdapter", data=adapter) == adapter
