"""What entities accept, write, depend on and cost."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pydantic
import pytest

from dyff_dagster.schema import platform as p
from dyff_dagster.schema import requests
from dyff_dagster.schema.errors import DyffError

ID = "0" * 31 + "1"
SCHEMA = {"arrowSchema": "x"}
DIGEST = "sha256:" + "0" * 64


def gpu(*types: str, count: int = 1) -> dict[str, object]:
    return {"kind": "GPU", "gpu": {"hardwareTypes": list(types), "count": count}}


def service(accelerator: dict[str, object] | None = None, model: bool = False) -> dict[str, object]:
    runner = {"kind": "vllm", "resources": {"storage": "1Gi"}, "accelerator": accelerator}
    found: dict[str, object] = {
        "id": "service",
        "account": "acme",
        "name": "s",
        "interface": {"endpoint": "generate", "outputSchema": SCHEMA},
        "runner": runner,
    }
    if model:
        artifact = {"kind": "Mock"}
        found["model"] = {"id": "model", "account": "acme", "name": "m", "artifact": artifact}
        found["model"]["storage"] = {"medium": "Mock"}  # type: ignore[index]
    return found


def session(**fields: object) -> p.InferenceSession:
    return p.InferenceSession.model_validate(
        {"id": ID, "account": "acme", "inferenceService": service(), **fields}
    )


def evaluation(**fields: object) -> p.Evaluation:
    base = {
        "id": ID,
        "account": "acme",
        "dataset": "rows",
        "inferenceSession": {"inferenceService": service()},
    }
    return p.Evaluation.model_validate({**base, **fields})


def method(kind: str = "Measurement") -> dict[str, object]:
    return {
        "id": "method",
        "account": "acme",
        "name": "m",
        "scope": "Evaluation",
        "implementation": {"kind": "PythonFunction", "pythonFunction": {"fullyQualifiedName": "a.b"}},
        "output": {"kind": kind},
        "modules": ["code"],
    }


def analysis(kind: str) -> dict[str, object]:
    inputs = [{"keyword": "a", "entity": "first"}, {"keyword": "b", "entity": "second"}]
    found: dict[str, object] = {
        "id": ID,
        "account": "acme",
        "name": "n",
        "method": method(kind),
        "inputs": inputs,
    }
    if kind == "Measurement":
        found |= {"level": "Instance", "schema": SCHEMA}
    return found


def common(**fields: object) -> dict[str, object]:
    return {"id": ID, "account": "acme", **fields}


ENTITIES: dict[str, p.DyffEntity] = {
    "Audit": p.Audit.model_validate(common(auditProcedure="procedure", inferenceService="service")),
    "AuditProcedure": p.AuditProcedure.model_validate(
        common(name="p", requirements=[{"dataset": "d", "rubric": "r"}])
    ),
    "DataSource": p.DataSource.model_validate(common(name="d", sourceKind="zenodo", source="123")),
    "Dataset": p.Dataset.model_validate(common(name="d", artifacts=[{"path": "a.parquet"}], schema=SCHEMA)),
    "Evaluation": evaluation(),
    "Family": p.Family.model_validate(common(memberKind="Model")),
    "History": p.History.model_validate(common(latest="r", revisions={})),
    "InferenceService": p.InferenceService.model_validate(common(**{**service(), "id": ID})),
    "InferenceSession": session(),
    "Measurement": p.Measurement.model_validate(analysis("Measurement")),
    "Method": p.Method.model_validate({**method(), "id": ID}),
    "Model": p.Model.model_validate(
        common(
            name="m",
            artifact={"kind": "Mock"},
            storage={"medium": "Mock"},
            source={"kind": "Mock"},
            resources={"storage": "1Gi"},
        )
    ),
    "Module": p.Module.model_validate(common(name="m", artifacts=[{"path": "a.py"}])),
    "Report": p.Report.model_validate(
        common(rubric="r", evaluation="answers", dataset="d", inferenceService="s", modules=["code"])
    ),
    "SafetyCase": p.SafetyCase.model_validate(analysis("SafetyCase")),
}
ENTITIES["Revision"] = p.Revision(
    id=ID, account="acme", creationTime=datetime.now(UTC), entity=ENTITIES["Audit"]
)


def test_every_entity_class_is_tried_here() -> None:
    assert {p.entity_class(kind) for kind in ENTITIES} == set(p.DyffEntity.__subclasses__())


@pytest.mark.parametrize("kind", ENTITIES)
def test_entity_comes_back_from_its_wire_form(kind: str) -> None:
    entity = ENTITIES[kind]
    adapter = pydantic.TypeAdapter(p.DyffEntityType)
    assert adapter.validate_json(entity.model_dump_json()) == entity
    assert adapter.validate_python(entity.model_dump()) == entity


def test_wire_form_uses_the_wires_names_without_being_asked() -> None:
    wire = json.loads(ENTITIES["Dataset"].model_dump_json())
    assert "schema" in wire
    assert "schema_" not in wire
    assert ENTITIES["Measurement"].model_dump(mode="json")["schema"] == {
        **SCHEMA,
        "dyffSchema": None,
        "jsonSchema": None,
    }


def test_aliased_field_is_read_under_both_names() -> None:
    assert p.MeasurementSpec.model_validate({"name": "n", "level": "Dataset", "schema": SCHEMA}) == (
        p.MeasurementSpec.model_validate({"name": "n", "level": "Dataset", "schema_": SCHEMA})
    )


def test_unknown_field_names_the_one_that_was_meant() -> None:
    with pytest.raises(pydantic.ValidationError) as caught:
        evaluation(inferenceSesion={})
    (error,) = caught.value.errors()
    assert error["loc"] == ("inferenceSesion",)
    assert error["type"] == "extra_forbidden"
    assert error["msg"] == "Evaluation has no field 'inferenceSesion'; did you mean 'inferenceSession'?"


def test_unknown_field_deep_inside_keeps_its_place_and_the_other_errors() -> None:
    with pytest.raises(pydantic.ValidationError) as caught:
        evaluation(dataset=1, foo=1, inferenceSession={"inferenceService": service(), "replica": 2})
    found = {error["loc"]: error["msg"] for error in caught.value.errors()}
    assert found[("inferenceSession", "replica")].endswith("did you mean 'replicas'?")
    assert found[("foo",)].startswith("Evaluation has no field 'foo'; it has: account, ")
    assert found[("dataset",)] == "Input should be a valid string"


def test_braces_in_an_unknown_field_are_no_placeholders() -> None:
    with pytest.raises(pydantic.ValidationError, match=r"no field '\{x\}'"):
        p.Digest.model_validate({"{x}": 1})


def test_validation_errors_do_not_repeat_the_input() -> None:
    with pytest.raises(pydantic.ValidationError) as caught:
        p.APIKey.model_validate({"id": "a", "secret": ["hunter2"], "sekret": "hunter3"})
    assert "hunter" not in str(caught.value)


def test_entity_reads_a_moment_without_time_zone_as_utc() -> None:
    naive = session(expires="2030-01-01T00:00:00")
    assert naive.expires == datetime(2030, 1, 1, tzinfo=UTC)


def test_entity_writes_moments_in_utc() -> None:
    east = session(expires=datetime(2030, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))))
    assert json.loads(east.model_dump_json())["expires"] == "2030-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("Audit", ["procedure", "service"]),
        ("AuditProcedure", []),
        ("DataSource", []),
        ("Dataset", []),
        ("Evaluation", ["rows", "service"]),
        ("Family", []),
        ("History", []),
        ("InferenceService", []),
        ("InferenceSession", ["service"]),
        ("Measurement", ["method", "first", "second"]),
        ("Method", ["code"]),
        ("Model", []),
        ("Module", []),
        ("Report", ["answers", "code"]),
        ("Revision", []),
        ("SafetyCase", ["method", "first", "second"]),
    ],
)
def test_dependencies_are_the_references(kind: str, expected: list[str]) -> None:
    assert ENTITIES[kind].dependencies() == expected


def test_service_depends_on_its_model() -> None:
    with_model = p.InferenceService.model_validate({**service(model=True), "id": ID})
    assert with_model.dependencies() == ["model"]


@pytest.mark.parametrize(
    ("kind", "cores"),
    [
        ("Dataset", 1),
        ("Model", 1),
        ("SafetyCase", 1),
        ("InferenceSession", 1),
        ("Evaluation", 2),
        ("Audit", 2),
        ("Report", 2),
        ("Measurement", 2),
    ],
)
def test_work_on_cpus_is_charged_by_kind(kind: str, cores: int) -> None:
    allocation = ENTITIES[kind].resource_allocation()
    assert allocation is not None
    expected = {"cpu": str(cores), "memory": f"{cores}Gi", "workflows.dyff.io/admitted": "1"}
    assert allocation.quantities == expected


@pytest.mark.parametrize(
    "kind",
    ["AuditProcedure", "DataSource", "Family", "History", "InferenceService", "Method", "Module", "Revision"],
)
def test_kinds_that_run_nothing_are_not_charged(kind: str) -> None:
    assert ENTITIES[kind].resource_allocation() is None


def test_gpus_are_count_times_replicas() -> None:
    allocation = session(accelerator=gpu("nvidia.com/gpu", count=2), replicas=3).resource_allocation()
    assert allocation is not None
    assert allocation.quantities == {"nvidia.com/gpu": "6", "workflows.dyff.io/admitted": "1"}


def test_alternative_hardware_types_are_charged_once() -> None:
    allocation = session(accelerator=gpu("nvidia.com/a", "nvidia.com/b", count=2)).resource_allocation()
    assert allocation is not None
    assert allocation.quantities == {"nvidia.com/a": "2", "workflows.dyff.io/admitted": "1"}


def test_session_without_accelerator_runs_on_its_services() -> None:
    allocation = session(inferenceService=service(gpu("nvidia.com/gpu"))).resource_allocation()
    assert allocation is not None
    assert allocation.quantities["nvidia.com/gpu"] == "1"


def test_sessions_own_accelerator_comes_before_its_services() -> None:
    both = session(inferenceService=service(gpu("nvidia.com/a")), accelerator=gpu("nvidia.com/b", count=4))
    allocation = both.resource_allocation()
    assert allocation is not None
    assert allocation.quantities == {"nvidia.com/b": "4", "workflows.dyff.io/admitted": "1"}


def test_evaluation_is_charged_for_its_sessions_gpus() -> None:
    asked = evaluation(
        inferenceSession={
            "inferenceService": service(gpu("nvidia.com/gpu")),
            "replicas": 2,
            "useSpotPods": False,
        }
    )
    allocation = asked.resource_allocation()
    assert allocation is not None
    assert allocation.quantities == {"nvidia.com/gpu": "2", "workflows.dyff.io/admitted": "1"}
    assert allocation.serviceClass == p.ServiceClass.STANDARD


def test_evaluation_on_a_running_session_is_not_charged_for_its_gpus() -> None:
    asked = evaluation(
        inferenceSession={"inferenceService": service(gpu("nvidia.com/gpu"))},
        inferenceSessionReference="running",
    )
    allocation = asked.resource_allocation()
    assert allocation is not None
    assert "nvidia.com/gpu" not in allocation.quantities
    assert allocation.quantities["cpu"] == "2"


@pytest.mark.parametrize(("spot", "expected"), [(True, "preemptible"), (False, "standard")])
def test_service_class_follows_spot_pods(spot: bool, expected: str) -> None:
    allocation = session(useSpotPods=spot).resource_allocation()
    assert allocation is not None
    assert allocation.serviceClass == expected


def test_work_without_a_session_is_not_preemptible() -> None:
    allocation = ENTITIES["Measurement"].resource_allocation()
    assert allocation is not None
    assert allocation.serviceClass == "standard"


def test_hardware_type_that_cannot_name_a_resource_is_said_so() -> None:
    with pytest.raises(DyffError, match="'A100 80GB' cannot name a resource"):
        session(accelerator=gpu("A100 80GB")).resource_allocation()


@pytest.mark.parametrize(
    "host", ["docker.io", "localhost:5000", "127.0.0.1", "[::1]:5000", "registry", "a-b.c-d.io:1"]
)
def test_registry_host_is_accepted(host: str) -> None:
    image = p.ContainerImageSource(host=host, name="a/b", digest=DIGEST, tag="v1")
    assert image.url() == f"{host}/a/b@{DIGEST}"


@pytest.mark.parametrize(
    "host",
    [
        "https://docker.io",
        "docker.io/library",
        "my_host",
        "",
        "a b",
        "x?y",
        "x#y",
        "u@h",
        "h:",
        "h:0",
        "h:65536",
        "h:port",
        "-a",
        "a-",
        "a..b",
        "docker.io\n",
    ],
)
def test_registry_host_is_refused(host: str) -> None:
    with pytest.raises(pydantic.ValidationError):
        p.ContainerImageSource(host=host, name="a/b", digest=DIGEST)


@pytest.mark.parametrize("name", ["A/b", "a//b", "a/", "a..b", "-a", "a/b:tag", "a b", "axb@"])
def test_image_name_is_refused(name: str) -> None:
    with pytest.raises(pydantic.ValidationError):
        p.ContainerImageSource(host="h", name=name, digest=DIGEST)


def test_snapshot_lies_where_the_hugging_face_cache_has_it() -> None:
    cached = p.ModelArtifactHuggingFaceCache(repoID="org/name", revision="abc")
    assert cached.snapshot_path() == "models--org--name/snapshots/abc"


@pytest.mark.parametrize("key", ["my-key", "your.com/key-0", "a", "A.b.c/D"])
def test_label_key_is_accepted(key: str) -> None:
    assert p.Label(key=key).key == key


@pytest.mark.parametrize(
    "key", ["my_key", "a/b/c", "/a", "a.b", "-a", "a-", "", "your.com/", "a\n", "x" * 64]
)
def test_label_key_is_refused(key: str) -> None:
    with pytest.raises(pydantic.ValidationError):
        p.Label(key=key)


@pytest.mark.parametrize("value", ["500m", "2", "16Gi", "1e3", ".5", "+1", "-1"])
def test_quantity_is_accepted(value: str) -> None:
    assert p.ModelResources(storage=value).storage == value


@pytest.mark.parametrize("value", ["", "Gi", "1 Gi", "1GiB", "1x5", "one"])
def test_quantity_is_refused(value: str) -> None:
    with pytest.raises(pydantic.ValidationError):
        p.ModelResources(storage=value)


def test_tag_name_may_begin_with_an_underscore_but_not_with_a_dot() -> None:
    assert p.FamilyMemberBase(name="_a.b-c", resource="r").name == "_a.b-c"
    with pytest.raises(pydantic.ValidationError):
        p.FamilyMemberBase(name=".a", resource="r")


def test_kind_that_is_none_names_the_nearest() -> None:
    with pytest.raises(p.UnknownKindError, match="did you mean 'Dataset'"):
        p.entity_class("DataSet")


@pytest.mark.parametrize("kind", ["Account", "Analysis", "Documentation"])
def test_kinds_without_entities_have_no_class(kind: str) -> None:
    with pytest.raises(p.UnknownKindError):
        p.entity_class(p.Entities[kind])


def test_every_kind_but_the_account_has_a_plural() -> None:
    for kind in p.Entities:
        if kind is p.Entities.Account:
            with pytest.raises(KeyError):
                p.Resources.for_kind(kind)
        else:
            assert p.Resources.for_kind(kind).name == kind
    assert p.Resources.for_kind("SafetyCase") == "safetycases"
    assert p.Resources.ALL == "*"


@pytest.mark.parametrize(
    ("status", "terminal", "success", "failure"),
    [
        ("Created", False, False, False),
        ("Schedulable", False, False, False),
        ("Admitted", False, False, False),
        ("Ready", True, True, False),
        ("Complete", True, True, False),
        ("Error", True, False, True),
        ("Failed", True, False, True),
        ("Terminated", True, False, False),
        ("Deleted", True, False, False),
        (None, False, False, False),
    ],
)
def test_status_is_classified(status: str | None, terminal: bool, success: bool, failure: bool) -> None:
    assert p.is_status_terminal(status) is terminal
    assert p.is_status_success(status) is success
    assert p.is_status_failure(status) is failure


def test_every_status_is_classified_here() -> None:
    assert len(p.EntityStatus) == 9
    assert {*p.JobStatus, *p.ResourceStatus} <= {str(status) for status in p.EntityStatus}


def test_evaluation_request_takes_the_services_id() -> None:
    request = requests.EvaluationCreateRequest.model_validate(
        {
            "account": "acme",
            "dataset": "rows",
            "inferenceSession": {"inferenceService": "service", "replicas": 2},
        }
    )
    assert request.inferenceSession is not None
    assert request.inferenceSession.inferenceService == "service"
    assert request.replications == 1


def test_evaluation_request_may_name_a_running_session_alone() -> None:
    request = requests.EvaluationCreateRequest(account="a", dataset="d", inferenceSessionReference="running")
    assert request.inferenceSession is None


def test_evaluation_request_must_say_who_answers() -> None:
    with pytest.raises(pydantic.ValidationError, match="state who answers"):
        requests.EvaluationCreateRequest(account="a", dataset="d")


@pytest.mark.parametrize(
    ("cls", "fields"),
    [
        (requests.InferenceSessionCreateRequest, {"account": "a", "inferenceService": "s"}),
        (requests.EvaluationInferenceSessionRequest, {"inferenceService": "s"}),
        (requests.InferenceSessionTokenCreateRequest, {}),
    ],
)
def test_request_refuses_a_moment_without_time_zone(
    cls: type[pydantic.BaseModel], fields: dict[str, str]
) -> None:
    assert cls.model_validate({**fields, "expires": "2030-01-01T00:00:00Z"})
    with pytest.raises(pydantic.ValidationError, match="timezone"):
        cls.model_validate({**fields, "expires": "2030-01-01T00:00:00"})


def test_analysis_request_takes_the_methods_id() -> None:
    request = requests.AnalysisCreateRequest.model_validate(
        {
            "account": "acme",
            "method": "method",
            "scope": {"evaluation": "e"},
            "arguments": [{"keyword": "k", "value": "v"}],
            "inputs": [{"keyword": "i", "entity": "e"}],
        }
    )
    assert request.method == "method"
    assert request.inputs[0].entity == "e"


def test_service_request_may_have_a_models_id() -> None:
    interface = {"endpoint": "x", "outputSchema": SCHEMA}
    request = requests.InferenceServiceCreateRequest.model_validate(
        {"account": "a", "name": "n", "interface": interface, "model": "model"}
    )
    assert request.model == "model"


def test_request_refuses_what_the_system_assigns() -> None:
    with pytest.raises(pydantic.ValidationError, match="no field 'status'"):
        requests.AuditCreateRequest.model_validate(
            {"account": "a", "auditProcedure": "p", "inferenceService": "s", "status": "Complete"}
        )
