"""deploy/ without a cluster: what its files say fits together, and fits Dagster's own schemas."""

from __future__ import annotations

import re
import typing
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster._config import process_config
from dagster._core.instance.config import dagster_instance_config_schema
from dagster_k8s import K8sRunLauncher
from dagster_postgres.utils import pg_config
from pydantic import BaseModel

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
    assert settings.steps.sessionsServiceAccount == "dyff-session-steps"
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
    pools, runs = (VALUES["concurrency"][part] for part in ("pools", "runs"))
    assert INSTANCE["concurrency"] == {
        "pools": {"granularity": pools["granularity"], "default_limit": pools["defaultLimit"]},
        "runs": {"max_concurrent_runs": runs["maxConcurrentRuns"]},
    }
    monitoring, of_instance = VALUES["dagsterDaemon"]["runMonitoring"], INSTANCE["run_monitoring"]
    assert monitoring == {
        "enabled": of_instance["enabled"],
        "startTimeoutSeconds": of_instance["start_timeout_seconds"],
        "freeSlotsAfterRunEndSeconds": of_instance["free_slots_after_run_end_seconds"],
    }
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


def table_of_settings() -> str:
    """Every setting as docs/kubernetes.md lists it: made of the models, so that none is forgotten."""
    rows = ["| setting | meaning | default |", "|---|---|---|"]

    def walk(model: type[BaseModel], prefix: str) -> None:
        for name, field in model.model_fields.items():
            inner, many = inner_model(field.annotation)
            default = field.get_default(call_default_factory=True)
            if inner is None or inner.__name__ in ("Toleration", "StepResources"):
                shown = "required" if field.is_required() else said(default)
                rows.append(f"| `{prefix}{name}` | {field.description} | {shown} |")
                continue
            if many or default is None:
                rows.append(f"| `{prefix}{name}` | {field.description} | {said(default)} |")
            walk(inner, f"{prefix}{name}{'[]' if many else ''}.")

    walk(KubernetesSettings, "")
    return "\n".join(rows)


def inner_model(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """The model that a field holds, and whether it holds a list of them."""
    arguments = typing.get_args(annotation)
    many = typing.get_origin(annotation) in (list, dict)
    for candidate in (annotation, *arguments):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate, many
    return None, False


def said(default: Any) -> str:
    """A default as YAML."""
    if default is None or default == [] or default == {} or default == "":
        return "none"
    if isinstance(default, list):
        default = [item.model_dump(exclude_none=True) for item in default]
    text = yaml.safe_dump(default, default_flow_style=True, width=1000).removesuffix("...\n").strip()
    return f"`{text}`"


def test_the_page_lists_every_setting() -> None:
    page = (servers.REPOSITORY / "docs" / "kubernetes.md").read_text()
    assert page.partition("<!-- settings -->\n")[2].strip() == table_of_settings()


def test_the_page_shows_the_role_as_it_is() -> None:
    page = (servers.REPOSITORY / "docs" / "kubernetes.md").read_text()
    (shown,) = (
        block["rules"]
        for text in re.findall(r"^```yaml\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
        if "rules" in (block := next(yaml.safe_load_all(text)))
    )
    roles = list(yaml.safe_load_all((DEPLOY / "cluster" / "roles.yaml").read_text()))
    assert shown == next(role["rules"] for role in roles if role["metadata"]["name"] == "sessions")
