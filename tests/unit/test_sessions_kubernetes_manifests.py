"""What is sent to a cluster: fields that there are, Pod Security "restricted", and no token but in the Secret."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dyff_dagster.sessions.kubernetes import KubernetesError, manifests
from dyff_dagster.sessions.kubernetes.manifests import SessionPlan
from dyff_dagster.sessions.kubernetes.planning import MOST_BYTES
from tests.unit.session_plans import FULL, every_plan, gpus, plan

SORTS = [
    "a standalone service", "one with a small model", "one with all that settings can say", "one without a token",
    "a mock", "a container", "vLLM from the Hub", "vLLM from a volume", "transformers", "a Bento",
]  # fmt: skip
TOKEN = "t0ken-of-a-session"
MADE = {"metadata": {"name": "dyff-session-asked", "uid": "11111111-2222-3333-4444-555555555555"}}


@pytest.fixture(params=SORTS)
def planned(request: pytest.FixtureRequest, tmp_path: Path) -> SessionPlan:
    return every_plan(tmp_path)[request.param]


def objects(planned: SessionPlan) -> dict[str, Any]:
    """All that is sent, by kind."""
    made = [
        manifests.job(planned, 1800, "2030-01-01T00:00:00+00:00", "attempt"),
        manifests.secret(planned, MADE, TOKEN),
        manifests.config_map(planned, MADE),
        manifests.service(planned, MADE),
        manifests.network_policy(planned, MADE),
    ]
    return {item["kind"]: item for item in made}


def pod(planned: SessionPlan) -> Any:
    return manifests.job(planned, 1800, None)["spec"]["template"]["spec"]


def test_every_sort_is_looked_at(tmp_path: Path) -> None:
    assert list(every_plan(tmp_path)) == SORTS


# Fields


def unknown_fields(client: Any, model: str, value: Any, where: str) -> Iterator[str]:
    """Fields that the official client's models do not have, and values of other types than they say."""
    if model.startswith("list["):
        assert isinstance(value, list), where
        for at, item in enumerate(value):
            yield from unknown_fields(client, model[5:-1], item, f"{where}[{at}]")
    elif model.startswith("dict"):  # dict(str, str), or dict[str, str]
        assert isinstance(value, dict), where
        for key, item in value.items():
            yield from unknown_fields(client, model[5:-1].split(", ")[1], item, f"{where}.{key}")
    elif model in ("str", "int", "bool", "object", "datetime"):
        types = {"str": str, "int": int, "bool": bool, "object": (str, int, dict), "datetime": str}
        if not isinstance(value, types[model]):
            yield f"{where} is {value!r} and should be {model}"
    else:
        known = getattr(client.models, model)
        names = {json_name: name for name, json_name in known.attribute_map.items()}
        for key, item in value.items():
            if key not in names:
                yield f"{where}.{key} is no field of {model}"
            else:
                yield from unknown_fields(client, known.openapi_types[names[key]], item, f"{where}.{key}")


def test_a_modern_server_knows_every_field(planned: SessionPlan) -> None:
    client = pytest.importorskip("kubernetes").client
    if not hasattr(client.models.V1Job, "attribute_map"):
        pytest.skip("this version of the client describes its models in another way")
    found = [
        problem
        for kind, item in objects(planned).items()
        for problem in unknown_fields(client, f"V1{kind}", item, kind)
    ]
    assert found == []


def test_looking_for_unknown_fields_finds_them(tmp_path: Path) -> None:
    client = pytest.importorskip("kubernetes").client
    item = manifests.job(plan(tmp_path), 1800, None)
    item["spec"]["template"]["spec"]["containers"][0]["imagePolicy"] = "Always"
    item["spec"]["parallelism"] = "3"
    assert list(unknown_fields(client, "V1Job", item, "Job")) == [
        "Job.spec.parallelism is '3' and should be int",
        "Job.spec.template.spec.containers[0].imagePolicy is no field of V1Container",
    ]


def test_the_job_carries_its_deadline_and_starts_suspended(planned: SessionPlan) -> None:
    made = manifests.job(planned, 1234, "2030-01-01T00:00:00+00:00", "attempt")
    spec, replicas = made["spec"], planned.replicas
    assert spec["suspend"] is True
    assert spec["activeDeadlineSeconds"] == 1234
    assert spec["ttlSecondsAfterFinished"] == 3600
    assert (spec["parallelism"], spec["completions"], spec["backoffLimit"]) == (
        replicas,
        replicas + 16,
        3 * replicas,
    )
    # A server that knows podFailurePolicy asks for these two beside it.
    assert spec["podReplacementPolicy"] == "Failed"
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    (rule,) = spec["podFailurePolicy"]["rules"]
    assert rule == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    assert made["metadata"]["annotations"]["dyff-dagster/expires"] == "2030-01-01T00:00:00+00:00"
    assert "dyff-dagster/expires" not in manifests.job(planned, 1, None)["metadata"]["annotations"]
    assert pod(planned)["activeDeadlineSeconds"] == planned.settings.maxLifetime + 60


def test_all_of_it_goes_with_the_job(planned: SessionPlan) -> None:
    for kind, item in objects(planned).items():
        if kind != "Job":
            (owner,) = item["metadata"]["ownerReferences"]
            assert owner == {"apiVersion": "batch/v1", "kind": "Job", "name": MADE["metadata"]["name"],
                             "uid": MADE["metadata"]["uid"]}  # fmt: skip
            assert (
                "blockOwnerDeletion" not in owner
            )  # some clusters refuse it to those who may not set finalizers


def test_all_of_it_says_whose_it_is(planned: SessionPlan) -> None:
    template = manifests.job(planned, 1, None)["spec"]["template"]
    for item in [*objects(planned).values(), template]:
        labels = item["metadata"]["labels"]
        assert labels["app.kubernetes.io/managed-by"] == "dyff-dagster"
        assert labels["dyff-dagster/session"] == planned.name
        assert labels["dyff-dagster/entity"] == "asked"
        assert labels["dyff-dagster/account"] == "acme"
        assert labels["dagster/run-id"] == "run-1"


# Pod Security "restricted": https://kubernetes.io/docs/concepts/security/pod-security-standards/

VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


def test_the_pod_keeps_to_what_is_restricted(planned: SessionPlan) -> None:
    spec = pod(planned)
    for name in (
        "hostNetwork",
        "hostPID",
        "hostIPC",
        "initContainers",
        "ephemeralContainers",
        "serviceAccountName",
    ):
        assert name not in spec
    for volume in spec["volumes"]:
        assert len(volume) == 2 and set(volume) - {"name"} <= VOLUMES, volume
    of_pod = spec["securityContext"]
    assert of_pod["runAsNonRoot"] is True
    assert of_pod["runAsUser"] > 0 and of_pod["runAsGroup"] > 0 and of_pod["fsGroup"] > 0
    assert of_pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"seLinuxOptions", "sysctls", "supplementalGroups", "windowsOptions"} & set(of_pod)
    for container in spec["containers"]:
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert own["runAsNonRoot"] is True
        assert own["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"privileged", "procMount", "runAsUser", "seLinuxOptions", "windowsOptions"} & set(own)
        assert all("hostPort" not in port and "hostIP" not in port for port in container["ports"])
        assert "lifecycle" not in container and "livenessProbe" not in container


def test_the_pod_has_no_way_to_the_api_server(planned: SessionPlan) -> None:
    assert pod(planned)["automountServiceAccountToken"] is False
    assert pod(planned)["enableServiceLinks"] is False


def test_what_is_mounted_is_read_only_but_for_what_is_temporary(planned: SessionPlan) -> None:
    spec = pod(planned)
    (container,) = spec["containers"]
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
    for mount in container["volumeMounts"]:
        assert "emptyDir" in volumes[mount["name"]] or mount["readOnly"] is True
    assert len({mount["mountPath"] for mount in container["volumeMounts"]}) == len(volumes)


def test_what_it_asks_for_is_limited(planned: SessionPlan) -> None:
    (container,) = pod(planned)["containers"]
    requests, limits = container["resources"]["requests"], container["resources"]["limits"]
    assert requests["memory"] == limits["memory"] == planned.memory
    assert "cpu" in requests and "cpu" not in limits
    extended = {key: value for key, value in limits.items() if "/" in key}
    assert (
        extended
        == {key: value for key, value in requests.items() if "/" in key}
        == planned.placement.resources
    )


# The token


def test_the_token_is_in_the_secret_alone(planned: SessionPlan) -> None:
    made = objects(planned)
    assert base64.b64decode(made["Secret"]["data"]["token"]).decode() == TOKEN
    encoded = base64.b64encode(TOKEN.encode()).decode().rstrip("=")
    for kind, item in made.items():
        text = json.dumps(item)
        assert TOKEN not in text, kind
        assert (encoded in text) == (kind == "Secret")
    assert TOKEN not in repr(planned)


def test_a_server_that_checks_tokens_gets_it_by_reference(tmp_path: Path) -> None:
    planned = every_plan(tmp_path)["vLLM from the Hub"]
    (container,) = pod(planned)["containers"]
    (given,) = [item for item in container["env"] if item["name"] == "VLLM_API_KEY"]
    assert given == {
        "name": "VLLM_API_KEY",
        "valueFrom": {"secretKeyRef": {"name": planned.name, "key": "token"}},
    }


def test_without_a_token_there_is_no_secret_to_mount(tmp_path: Path) -> None:
    assert '"secretName"' in json.dumps(pod(plan(tmp_path)))
    assert "secret" not in json.dumps(pod(plan(tmp_path, tokenCheck=False)))


# Where it lies


def test_a_models_files_travel_with_the_session_where_they_are_small(tmp_path: Path) -> None:
    planned = plan(tmp_path, model=True)
    made = objects(planned)["ConfigMap"]["binaryData"]
    (model,) = [volume for volume in pod(planned)["volumes"] if volume["name"] == "model"]
    shown = {item["path"]: base64.b64decode(made[item["key"]]) for item in model["configMap"]["items"]}
    assert shown == {"snapshots/a/config.json": b"{}", "refs/main": b"a"}
    assert all(re.fullmatch(r"[-._a-zA-Z0-9]+", key) for key in made)
    (container,) = pod(planned)["containers"]
    assert {"name": "DYFF_MODEL", "value": "/dyff/model/snapshots/a"} in container["env"]


def test_a_models_files_are_mounted_from_the_volume_where_there_is_one(tmp_path: Path) -> None:
    planned = plan(tmp_path, model=True, storage={"claim": "results", "path": "audits"})
    (model,) = [volume for volume in pod(planned)["volumes"] if volume["name"] == "model"]
    assert model["persistentVolumeClaim"] == {"claimName": "results", "readOnly": True}
    (container,) = pod(planned)["containers"]
    (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == "model"]
    assert mount == {"name": "model", "mountPath": "/dyff/model", "subPath": "audits/llm/.dyff/versions/1",
                     "readOnly": True}  # fmt: skip
    assert not any(key.startswith("model-") for key in objects(planned)["ConfigMap"].get("binaryData", {}))


def test_what_is_too_large_to_travel_is_refused(tmp_path: Path) -> None:
    plan(tmp_path, model=True)
    (tmp_path / "store" / "llm" / ".dyff" / "versions" / "1" / "weights").write_bytes(b"0" * (MOST_BYTES + 1))
    with pytest.raises(
        KubernetesError, match=r"^asked: the model in .* is too large to travel .* storage\.claim"
    ):
        plan(tmp_path, model=True)
    (tmp_path / "code" / "large.py").write_text("#" * (MOST_BYTES + 1))
    (tmp_path / "code" / "many.py").write_text("import large")
    with pytest.raises(
        KubernetesError, match=r"^asked: the code of service 'served' is larger than 700000 bytes"
    ):
        plan(tmp_path, "standalone", "python", "many.py")


# How it is reached


def test_only_clients_reach_it_and_it_reaches_the_name_service_alone(tmp_path: Path) -> None:
    planned = plan(tmp_path)
    policy = objects(planned)["NetworkPolicy"]["spec"]
    assert policy["podSelector"] == {"matchLabels": {"dyff-dagster/session": planned.name}}
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["ingress"] == [{
        "from": [{"podSelector": {"matchLabels": {"dyff-dagster/client": "true"}}}],
        "ports": [{"protocol": "TCP", "port": 8000}],
    }]  # fmt: skip
    assert policy["egress"] == [{"ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]}]


def test_clients_may_be_in_another_namespace(tmp_path: Path) -> None:
    (rule,) = objects(plan(tmp_path, clientNamespace="dagster"))["NetworkPolicy"]["spec"]["ingress"]
    assert rule["from"] == [{
        "podSelector": {"matchLabels": {"dyff-dagster/client": "true"}},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "dagster"}},
    }]  # fmt: skip


@pytest.mark.parametrize(
    ("sort", "open_"),
    [("vLLM from the Hub", True), ("vLLM from a volume", True), ("transformers", True), ("a mock", False)],
)
def test_what_fetches_its_model_may_do_so(tmp_path: Path, sort: str, open_: bool) -> None:
    policy = objects(every_plan(tmp_path)[sort])["NetworkPolicy"]["spec"]
    assert (policy["egress"] == [{}]) == open_


def test_a_service_names_the_replicas_that_are_ready(planned: SessionPlan) -> None:
    spec = objects(planned)["Service"]["spec"]
    assert spec["clusterIP"] == "None"
    assert spec["selector"] == {"dyff-dagster/session": planned.name}
    assert "publishNotReadyAddresses" not in spec
    (container,) = pod(planned)["containers"]
    port = container["ports"][0]["containerPort"]
    assert spec["ports"] == [{"name": "http", "port": port, "targetPort": port}]
    (check,) = [container["readinessProbe"].get(kind) for kind in ("httpGet", "tcpSocket")
                if kind in container["readinessProbe"]]  # fmt: skip
    assert check["port"] == port


# What is the same


def test_a_second_run_recognizes_what_the_first_one_left(tmp_path: Path) -> None:
    for first, second in zip(every_plan(tmp_path).values(), every_plan(tmp_path).values(), strict=True):
        assert first.fingerprint == second.fingerprint
        assert first.name == second.name


@pytest.mark.parametrize(
    "change",
    [{"session": {"replicas": 2}}, {"session": {"accelerator": gpus("l4")}}, {"memory": "1Gi"}, {"user": 1000},
     {"tokenCheck": False}, {"images": {"project": "r.example/other:1"}}],
)  # fmt: skip
def test_other_pods_are_not_taken_over(tmp_path: Path, change: Any) -> None:
    settings = {"preset": "nvidia"}
    assert plan(tmp_path, **settings, **change).fingerprint != plan(tmp_path, **settings).fingerprint


@pytest.mark.parametrize("change", [{"keepFinished": 60}, {"crashes": 9}, {"timeouts": {"ready": 60}}])
def test_what_no_pod_shows_ends_no_session(tmp_path: Path, change: Any) -> None:
    assert plan(tmp_path, **change).fingerprint == plan(tmp_path).fingerprint


def test_what_settings_can_say_is_in_the_pod(tmp_path: Path) -> None:
    planned = every_plan(tmp_path)["one with all that settings can say"]
    spec = pod(planned)
    assert spec["nodeSelector"] == FULL["nodeSelector"]
    assert spec["priorityClassName"] == "low"
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert {"key": "audits", "operator": "Exists", "effect": "NoSchedule"} in spec["tolerations"]
    assert objects(planned)["Job"]["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    assert "kueue.x-k8s.io/queue-name" not in objects(plan(tmp_path))["Job"]["metadata"]["labels"]


def test_an_accelerator_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        KubernetesError, match="asked: it asks for an accelerator of kind TPU and does not say which"
    ):
        plan(tmp_path, session={"accelerator": {"kind": "TPU"}})
    with pytest.raises(
        KubernetesError, match="asked: it asks for 0 replicas of service 'served'; at least 1 is needed"
    ):
        plan(tmp_path, session={"replicas": 0})
