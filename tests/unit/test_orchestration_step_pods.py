"""What the pods of steps are like, as dagster-k8s itself makes them of an op's tags."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.job import (
    DagsterK8sJobConfig,
    UserDefinedDagsterK8sConfig,
    construct_dagster_k8s_job,
    get_user_defined_k8s_config,
)

from dyff_dagster import (
    Catalog,
    DyffSessions,
    DyffTranslator,
    DyffTranslatorData,
    build_definitions,
    definitions_from_environment,
)
from dyff_dagster.orchestration.names import op_name
from dyff_dagster.sessions.kubernetes import KubernetesError
from tests import servers

EXAMPLE = Catalog.load(servers.EXAMPLE)
EVALUATION = "wdbc-logreg-eval"
GPUS = """
kind: InferenceService
id: served
account: a ward/7
name: Served
runner:
  kind: container
  image: {{host: example.org, name: served, digest: "sha256:{zeros}"}}
  resources: {{storage: 1Gi, memory: 1Gi}}
  accelerator: {{kind: GPU, gpu: {{hardwareTypes: [nvidia.com/gpu-l4], count: 4}}}}
interface: {{endpoint: answer, outputSchema: {{arrow: {{answer: string!}}}}}}
---
kind: Dataset
id: rows
account: a ward/7
name: Rows
annotations: {{dyff-dagster/withhold: ""}}
artifacts: [{{path: rows.parquet}}]
schema: {{arrow: {{question: string!}}}}
---
kind: Evaluation
id: asked
account: a ward/7
dataset: rows
inferenceSession: {{inferenceService: served}}
---
kind: InferenceSession
id: running
account: a ward/7
inferenceService: served
""".format(zeros="0" * 64)


def op_tags(definitions: dg.Definitions, catalog: Catalog, entity_id: str) -> Mapping[str, str]:
    assets = definitions.resolve_asset_graph().assets_defs
    wanted = op_name(catalog.get(entity_id))
    return next(a.op.tags for a in assets if a.is_executable and a.op.name == wanted)


def pod_of(
    definitions: dg.Definitions, catalog: Catalog, entity_id: str, **context: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Metadata and spec of the step's pod, as the executor would send them."""
    launcher = K8sContainerContext(service_account_name="dagster", **context)
    tags = get_user_defined_k8s_config(op_tags(definitions, catalog, entity_id))
    merged = launcher.merge(K8sContainerContext(run_k8s_config=tags))
    job = construct_dagster_k8s_job(
        DagsterK8sJobConfig(job_image="x", dagster_home="/home"),
        args=["true"],
        job_name="step",
        user_defined_k8s_config=merged.run_k8s_config,
    ).to_dict()
    template = job["spec"]["template"]
    return template["metadata"], template["spec"]


@pytest.fixture
def gpus(tmp_path: Path) -> Catalog:
    (tmp_path / "audit.yaml").write_text(GPUS)
    (tmp_path / "rows.parquet").write_bytes(b"")
    return Catalog.load(tmp_path)


def with_settings(tmp_path: Path, settings: Mapping[str, Any]) -> DyffSessions:
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(settings))
    return DyffSessions(backend="kubernetes", kubernetes="settings.yaml", base=str(tmp_path))


@pytest.mark.parametrize(
    ("entity_id", "requests"),
    [
        (EVALUATION, {"cpu": "2", "memory": "2Gi"}),
        ("wdbc-accuracy", {"cpu": "2", "memory": "2Gi"}),
        ("wdbc-safety-case", {"cpu": "1", "memory": "1Gi"}),
        ("wdbc-logreg", {"cpu": "1", "memory": "1Gi"}),
        ("wdbc-analysis", None),
    ],
)
def test_a_step_asks_for_what_the_platform_reckons_with(
    entity_id: str, requests: dict[str, str] | None
) -> None:
    _, spec = pod_of(build_definitions(EXAMPLE), EXAMPLE, entity_id)
    assert (spec["containers"][0]["resources"] or {}).get("requests") == requests


@pytest.mark.parametrize(
    ("entity_id", "requests"),
    [("asked", {"cpu": "2", "memory": "2Gi"}), ("running", {"cpu": "1", "memory": "1Gi"})],
)
def test_gpus_are_the_sessions_and_never_the_steps(
    gpus: Catalog, entity_id: str, requests: dict[str, str]
) -> None:
    _, spec = pod_of(build_definitions(gpus), gpus, entity_id)
    assert spec["containers"][0]["resources"] == {"claims": None, "limits": None, "requests": requests}


def test_steps_that_ask_sessions_are_let_in_and_others_are_not(gpus: Catalog) -> None:
    example = build_definitions(EXAMPLE)
    clients = {
        name: pod_of(definitions, catalog, name)[0]["labels"].get("dyff-dagster/client")
        for definitions, catalog, name in [
            (example, EXAMPLE, EVALUATION),
            (example, EXAMPLE, "wdbc-accuracy"),
            (example, EXAMPLE, "wdbc-safety-case"),
            (build_definitions(gpus), gpus, "asked"),
            (build_definitions(gpus), gpus, "running"),
        ]
    }
    assert clients == {
        EVALUATION: "true",
        "wdbc-accuracy": None,
        "wdbc-safety-case": None,
        "asked": "true",
        "running": "true",
    }


def test_an_evaluation_of_a_hosted_service_asks_no_session(tmp_path: Path) -> None:
    document = GPUS.replace("endpoint: answer", "endpoint: 'https://example.org/answer'")
    head, _, rest = document.partition("runner:\n")
    (tmp_path / "audit.yaml").write_text(head + rest[rest.index("interface:") :])
    (tmp_path / "rows.parquet").write_bytes(b"")
    catalog = Catalog.load(tmp_path)
    metadata, _ = pod_of(build_definitions(catalog), catalog, "asked")
    assert "dyff-dagster/client" not in metadata["labels"]


def test_labels_say_who_pays_as_far_as_labels_can(gpus: Catalog) -> None:
    metadata, _ = pod_of(build_definitions(gpus), gpus, "asked")
    assert metadata["labels"]["dyff-dagster/account"].startswith("a_ward_7-")
    assert metadata["labels"]["dyff-dagster/entity"] == "asked"
    assert metadata["labels"]["dyff-dagster/kind"] == "Evaluation"


def test_the_administrator_says_what_steps_of_a_kind_ask_for(tmp_path: Path) -> None:
    sessions = with_settings(tmp_path, {"steps": {"resources": {"Evaluation": {"cpu": "300m"}}}})
    _, spec = pod_of(build_definitions(EXAMPLE, sessions=sessions), EXAMPLE, EVALUATION)
    assert spec["containers"][0]["resources"]["requests"] == {"cpu": "300m", "memory": "2Gi"}


def test_only_steps_that_ask_sessions_may_make_them(tmp_path: Path) -> None:
    accounts = {"serviceAccount": "work", "sessionsServiceAccount": "sessions"}
    definitions = build_definitions(EXAMPLE, sessions=with_settings(tmp_path, {"steps": accounts}))
    assert pod_of(definitions, EXAMPLE, EVALUATION)[1]["service_account_name"] == "sessions"
    assert pod_of(definitions, EXAMPLE, "wdbc-accuracy")[1]["service_account_name"] == "work"


def test_the_step_of_an_analysis_in_a_pod_may_make_one_and_asks_no_session(tmp_path: Path) -> None:
    documents = list(yaml.safe_load_all((servers.EXAMPLE / "safety-case.yaml").read_text()))
    (case,) = (document for document in documents if document["kind"] == "SafetyCase")
    case.setdefault("annotations", {})["dyff-dagster/isolation"] = "pod"
    shutil.copytree(servers.EXAMPLE, tmp_path / "examples" / "breast_cancer")
    shutil.copytree(servers.REPOSITORY / "notebooks", tmp_path / "notebooks")
    (tmp_path / "examples" / "breast_cancer" / "safety-case.yaml").write_text(yaml.safe_dump_all(documents))
    catalog = Catalog.load(tmp_path / "examples" / "breast_cancer")
    accounts = {"serviceAccount": "work", "sessionsServiceAccount": "sessions"}
    definitions = build_definitions(catalog, sessions=with_settings(tmp_path, {"steps": accounts}))
    metadata, spec = pod_of(definitions, catalog, "wdbc-safety-case")
    assert spec["service_account_name"] == "sessions"
    assert "dyff-dagster/client" not in metadata["labels"]


def test_without_settings_the_run_launchers_service_account_is_everybodys() -> None:
    assert pod_of(build_definitions(EXAMPLE), EXAMPLE, EVALUATION)[1]["service_account_name"] == "dagster"


def test_a_step_has_time_to_end_its_session(tmp_path: Path) -> None:
    definitions = build_definitions(EXAMPLE, sessions=with_settings(tmp_path, {"steps": {"grace": 90}}))
    assert pod_of(definitions, EXAMPLE, EVALUATION)[1]["termination_grace_period_seconds"] == 90


def test_what_the_launcher_says_of_its_pods_stays(tmp_path: Path) -> None:
    of_launcher = UserDefinedDagsterK8sConfig.from_dict(
        {
            "container_config": {"resources": {"limits": {"memory": "4Gi"}}},
            "pod_spec_config": {"node_selector": {"pool": "cpu"}},
            "pod_template_spec_metadata": {"labels": {"team": "audits"}},
        }
    )
    metadata, spec = pod_of(build_definitions(EXAMPLE), EXAMPLE, EVALUATION, run_k8s_config=of_launcher)
    assert spec["containers"][0]["resources"]["limits"] == {"memory": "4Gi"}
    assert spec["containers"][0]["resources"]["requests"] == {"cpu": "2", "memory": "2Gi"}
    assert spec["node_selector"] == {"pool": "cpu"}
    assert metadata["labels"]["team"] == "audits"


def test_a_translator_says_it_otherwise() -> None:
    class OurTranslator(DyffTranslator):
        def get_op_tags(self, data: DyffTranslatorData) -> Mapping[str, Any]:
            tags = dict(super().get_op_tags(data))
            tags["dagster-k8s/config"]["pod_spec_config"]["node_selector"] = {"pool": data.entity.account}
            return tags

    definitions = build_definitions(EXAMPLE, translator=OurTranslator())
    metadata, spec = pod_of(definitions, EXAMPLE, EVALUATION)
    assert spec["node_selector"] == {"pool": "clinical-ai"}
    assert metadata["labels"]["dyff-dagster/client"] == "true"


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (
            {"resources": {"Evaluations": {"cpu": "1"}}},
            "steps.resources: Evaluations is no kind of entity; write one as in Evaluation: {cpu: 500m}",
        ),
        (
            {"resources": {"Evaluation": {"gpus": "1"}}},
            "steps.resources.Evaluation.gpus: there is no such setting; there are: cpu, memory",
        ),
        (
            {"account": "x"},
            "steps.account: there is no such setting; there are: "
            "grace, resources, serviceAccount, sessionsServiceAccount",
        ),
    ],
)
def test_a_wrong_setting_is_named_when_definitions_are_loaded(
    tmp_path: Path, steps: dict[str, Any], message: str
) -> None:
    sessions = with_settings(tmp_path, {"steps": steps})
    with pytest.raises(KubernetesError) as caught:
        build_definitions(EXAMPLE, sessions=sessions)
    assert str(caught.value) == f"{tmp_path / 'settings.yaml'}: {message}"


def test_settings_that_are_named_only_in_a_run_are_not_read_before(tmp_path: Path) -> None:
    sessions = DyffSessions(backend="kubernetes", kubernetes=dg.EnvVar("NOT_SET"), base=str(tmp_path))
    build_definitions(EXAMPLE, sessions=sessions)


def test_steps_in_pods_go_with_their_runs_pod_unless_run_config_says_otherwise() -> None:
    definitions = definitions_from_environment(servers.REPOSITORY, {"DYFF_EXECUTOR": "k8s"})
    job = definitions.resolve_implicit_global_asset_job_def()

    def owned(**config: Any) -> bool:
        resolved = dg.validate_run_config(job, {"execution": {"config": {"max_concurrent": 3, **config}}})
        return bool(resolved["execution"]["k8s"]["enable_owner_references"])

    assert owned() is True
    assert owned(enable_owner_references=False) is False
