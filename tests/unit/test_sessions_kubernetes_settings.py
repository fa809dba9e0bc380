"""The file of settings: what it may say, and each sentence about what it may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from dyff_dagster.sessions.kubernetes import KubernetesError, KubernetesSettings


def load(tmp_path: Path, text: str | bytes) -> KubernetesSettings:
    path = tmp_path / "settings.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return KubernetesSettings.load(path)


def refusal(tmp_path: Path, text: str | bytes) -> str:
    with pytest.raises(KubernetesError) as raised:
        load(tmp_path, text)
    said = str(raised.value)
    assert said.startswith(f"{tmp_path}/settings.yaml") and "\n" not in said
    return said.removeprefix(f"{tmp_path}/settings.yaml")


@pytest.mark.parametrize("text", ["", "---\n", "# nothing yet\n"])
def test_a_file_that_says_nothing_means_the_defaults(tmp_path: Path, text: str) -> None:
    assert load(tmp_path, text) == KubernetesSettings.load(None) == KubernetesSettings()


def test_the_defaults_hold_together() -> None:
    said = KubernetesSettings()
    assert said.lease > max(said.requestTimeout, *said.timeouts.model_dump().values())
    assert (said.tokenCheck, said.egress, said.user) == (True, "none", 65532)


def test_everything_can_be_said(tmp_path: Path) -> None:
    said = load(
        tmp_path,
        """
        namespace: audits
        context: gpu-cluster
        images: {vllm: "r.example/vllm@sha256:00", project: "r.example/dyff:1"}
        storage: {claim: results, path: audits}
        preset: gke
        accelerators:
        - hardwareType: nvidia.com/gpu-l4
          nodeLabels: {pool: [l4, l4-spot]}
          tolerations: [{key: pool, operator: Equal, value: l4, effect: NoSchedule}]
          runtimeClass: nvidia
          queue: gpus
        spot: {labels: {pool: spot}, required: true}
        nodeSelector: {zone: a}
        imagePullSecrets: [registry]
        lease: 100
        requestTimeout: 50
        timeouts: {admission: 90, scheduling: 90, pull: 90, ready: 90}
        steps: {resources: {Evaluation: {cpu: 500m}}}
        """,
    )
    assert said.accelerators[0].nodeLabels == {"pool": ["l4", "l4-spot"]}
    assert said.accelerators[0].resource == "nvidia.com/gpu"
    assert said.timeouts.ready == 90


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(KubernetesError) as raised:
        KubernetesSettings.load(tmp_path / "none.yaml")
    assert str(raised.value) == (
        f"DYFF_KUBERNETES names {tmp_path}/none.yaml, which cannot be read (No such file or directory): "
        "name a YAML file of settings"
    )
    with pytest.raises(KubernetesError, match=r"cannot be read \(Is a directory\)"):
        KubernetesSettings.load(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1", ", line 1: is no YAML"),
        ("namespace: a\n\tlease: 1", ", line 2: is no YAML"),
        ("namespace: !!python/object:os.system a", ", line 1: is no YAML"),
        ("expires: 2025-13-45", ": is no YAML (month must be in 1..12"),
        (b"\xff\xfe\x00", ": is no YAML ('utf-8' codec can't decode"),
    ],
)
def test_what_is_no_yaml_is_said_with_its_line(tmp_path: Path, text: str | bytes, said: str) -> None:
    assert refusal(tmp_path, text).startswith(said)


@pytest.mark.parametrize("text", ["audits", "- namespace: audits", "7", "namespace: a\n---\nnamespace: b"])
def test_what_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    said = refusal(tmp_path, text)
    assert said == ": must be a mapping of settings, such as namespace: NAME" or "is no YAML" in said


@pytest.mark.parametrize(
    ("text", "where", "there_are"),
    [
        ("namespaces: a", "namespaces", "accelerators, analysisMemory, "),
        ("timeouts: {boot: 1}", "timeouts.boot", "admission, pull, ready, scheduling"),
        ("storage: {claim: a, mount: b}", "storage.mount", "claim, path"),
        ("spot: {label: {}}", "spot.label", "labels, required, tolerations"),
        ("accelerators: [{hardwareType: a, labels: {}}]", "accelerators.0.labels",
         "hardwareType, nodeLabels, queue, resource, runtimeClass, tolerations"),
        ("accelerators: [{hardwareType: a, tolerations: [{keys: a}]}]", "accelerators.0.tolerations.0.keys",
         "effect, key, operator, value"),
        ("tolerations: [{keys: a}]", "tolerations.0.keys", "effect, key, operator, value"),
        ("steps: {account: a}", "steps.account", "grace, resources, serviceAccount, sessionsServiceAccount"),
        ("steps: {resources: {Evaluation: {gpu: 1}}}", "steps.resources.Evaluation.gpu", "cpu, memory"),
    ],
)  # fmt: skip
def test_a_word_that_is_none_is_answered_with_those_that_are(
    tmp_path: Path, text: str, where: str, there_are: str
) -> None:
    assert refusal(tmp_path, text).startswith(f": {where}: there is no such setting; there are: {there_are}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lease: soon", ": lease: Input should be a valid integer"),
        ("lease: 0", ": lease: Input should be greater than 0"),
        ("user: 0", ": user: Input should be greater than 0"),
        ("grace: -1", ": grace: Input should be greater than or equal to 0"),
        ("crashes: 0", ": crashes: Input should be greater than or equal to 1"),
        ("preset: azure", ": preset: Input should be 'nvidia', 'gke', 'karpenter', 'eks' or 'aks'"),
        ("egress: some", ": egress: Input should be 'none' or 'open'"),
        ("memory: lots", ": memory: "),
        ("storage: {path: a}", ": storage.claim: Field required"),
        ("accelerators: [{resource: a}]", ": accelerators.0.hardwareType: Field required"),
        ("accelerators: {hardwareType: a}", ": accelerators: Input should be a valid list"),
        (
            "steps: {resources: {evaluation: {}}}",
            ": steps.resources: evaluation is no kind of entity; write one as in ",
        ),
    ],
)
def test_a_value_that_cannot_be_is_named(tmp_path: Path, text: str, said: str) -> None:
    assert refusal(tmp_path, text).startswith(said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lease: 600", "lease is 600 and timeouts.ready is 1500"),
        ("requestTimeout: 1800", "lease is 1800 and requestTimeout is 1800"),
        ("timeouts: {pull: 5000}", "lease is 1800 and timeouts.pull is 5000"),
    ],
)
def test_a_lease_outlasts_all_that_is_waited_for(tmp_path: Path, text: str, said: str) -> None:
    assert refusal(tmp_path, text) == (
        f": settings: {said}: a session must not end while it is waited for; make lease the longer"
    )


def test_a_lifetime_is_not_shorter_than_a_lease(tmp_path: Path) -> None:
    assert refusal(tmp_path, "maxLifetime: 60") == (
        ": settings: maxLifetime is 60, and lease 1800 is longer: swap them"
    )
