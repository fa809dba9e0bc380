"""deploy/ without a cluster: what its files say fits together, and fits Dagster's own schemas."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster._config import process_config
from dagster._core.instance.config import dagster_instance_config_schema
from dagster_k8s import K8sRunLauncher
from dagster_postgres.utils import pg_config

from dyff_dagster.sessions.kubernetes import KubernetesSettings
from dyff_dagster.sessions.kubernetes.settings import AcceleratorProfile
from tests import servers

DEPLOY = servers.REPOSITORY / "deploy"
SETTINGS = DEPLOY / "cluster" / "settings.yaml"
VALUES: dict[str, Any] = yaml.safe_load((DEPLOY / "helm" / "values.yaml").read_text())
INSTANCE: dict[str, Any] = yaml.safe_load((DEPLOY / "dagster" / "dagster.yaml").read_text())
LAUNCHER: dict[str, Any] = INSTANCE["run_launcher"]["config"]
CODE: dict[str, Any] = next(yaml.safe_load_all((DEPLOY / "dagster" / "code.yaml").read_text()))


def by_name(items: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {item["name"]: item for item in items}


def test_the_settings_load_as_they_are() -> None:
    settings = KubernetesSettings.load(SETTINGS)
    assert settings.namespace == "dyff-sessions"
    assert settings.steps.sessionsServiceAccount == "dyff-sessions"
    assert (settings.lease, settings.maxLifetime) == (
        KubernetesSettings().lease,
        KubernetesSettings().maxLifetime,
    )


def test_the_settings_load_with_all_that_is_commented_out(tmp_path: Path) -> None:
    text = re.sub(r"^#(?! \S)", "", SETTINGS.read_text(), flags=re.MULTILINE)
    (tmp_path / "settings.yaml").write_text(text)
    settings = KubernetesSettings.load(tmp_path / "settings.yaml")
    assert [profile.hardwareType for profile in settings.accelerators] == [
        "nvidia.com/gpu-l4",
        "nvidia.com/gpu-a100",
        "nvidia.com/gpu-h100",
        "amd.com/gpu-mi300x",
        "nvidia.com/mig-1g.10gb",
    ]
    assert settings.spot is not None
    assert settings.queue == "audits"
    assert settings.steps.resources["Evaluation"].cpu == "500m"
    assert "vllm" in settings.images
    defaults = AcceleratorProfile(hardwareType="x")
    assert settings.accelerators[1].tolerations == defaults.tolerations


def test_dagsters_instance_is_as_dagster_wants_it() -> None:
    outer = {name: value for name, value in INSTANCE.items() if name != "storage"}
    checked = process_config(dagster_instance_config_schema(), outer)
    assert checked.success, checked.errors
    schema = {"postgres_db": pg_config()["postgres_db"]}
    checked = process_config(schema, INSTANCE["storage"]["postgres"])
    assert checked.errors == [] or all("environment variable" in str(e.message) for e in checked.errors or [])


def test_the_run_launcher_is_as_dagster_k8s_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYFF_NAMESPACE", "dyff")
    checked = process_config(K8sRunLauncher.config_type(), LAUNCHER)
    assert checked.success, checked.errors


def test_the_charts_values_say_what_the_plain_manifests_say() -> None:
    (code,) = VALUES["dagster-user-deployments"]["deployments"]
    pod = CODE["spec"]["template"]["spec"]
    container = pod["containers"][0]
    plain = {k: v for k, v in by_name(pod["volumes"]).items() if k != "instance"}
    assert by_name(code["volumes"]) == plain == by_name(LAUNCHER["volumes"])
    mounts = [m for m in container["volumeMounts"] if m["name"] != "instance"]
    assert code["volumeMounts"] == mounts == LAUNCHER["volume_mounts"]
    environment = dict(
        line.split("=", 1) for line in (DEPLOY / "dagster" / "environment.env").read_text().splitlines()
    )
    said = {item["name"]: item["value"] for item in code["env"]}
    assert said.items() <= environment.items()
    assert environment.keys() - said.keys() == {
        "DYFF_PAGES_URL", "DAGSTER_PG_HOST", "DAGSTER_PG_USERNAME", "DAGSTER_PG_DB",
    }  # fmt: skip
    assert [secret["name"] for secret in code["envSecrets"]] == LAUNCHER["env_secrets"]
    launcher = VALUES["runLauncher"]["config"]["k8sRunLauncher"]
    assert launcher["resources"] == LAUNCHER["resources"]
    of_pod = LAUNCHER["run_k8s_config"]["pod_spec_config"]["security_context"]
    assert (
        code["podSecurityContext"] == launcher["runK8sConfig"]["podSpecConfig"]["securityContext"] == of_pod
    )
    assert code["securityContext"] == launcher["securityContext"] == LAUNCHER["security_context"]
    assert pod["securityContext"] == of_pod
    assert container["securityContext"] == LAUNCHER["security_context"]


def test_steps_take_no_limit_from_the_launcher() -> None:
    assert LAUNCHER["resources"].keys() == {"requests"}


def test_what_is_copied_into_the_image_is_not_ignored_and_the_rest_is() -> None:
    text = (DEPLOY / "Containerfile").read_text()
    copied = {
        name
        for line in re.findall(r"^COPY (?!--from)(.*)$", text, flags=re.MULTILINE)
        for name in line.split()[:-1]
    }
    ignore = (servers.REPOSITORY / ".containerignore").read_text().splitlines()
    assert {line[1:] for line in ignore if line.startswith("!")} == copied
    assert "*" in ignore
    assert (servers.REPOSITORY / ".dockerignore").readlink() == Path(".containerignore")


def test_nobody_needs_to_be_root_in_the_image() -> None:
    text = (DEPLOY / "Containerfile").read_text()
    assert re.findall(r"^USER (.*)$", text, flags=re.MULTILINE) == ["65532:65532"]
    assert KubernetesSettings().user == 65532


@pytest.mark.parametrize("path", sorted(DEPLOY.rglob("*")), ids=lambda path: path.name)
def test_every_image_is_one_that_a_person_names(path: Path) -> None:
    if path.is_file():
        images = re.findall(
            r"(?:image|value|project|vllm): ([\w./@:-]+/?[\w.-]+:[\w.@:-]+)", path.read_text()
        )
        assert {image.partition("@")[0] for image in images} <= {
            "dyff-dagster:dev", "postgres:16", "vllm/vllm-openai",
        }  # fmt: skip
