"""What each kind of runner is in a pod: command line, port, health path, model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dyff_dagster.schema.platform import DataSchema, ForeignInferenceService, InferenceServiceRunnerKind
from dyff_dagster.sessions.kubernetes import KubernetesError, KubernetesSettings
from dyff_dagster.sessions.kubernetes.runners import Container, container_for

DIGEST = "sha256:" + "0" * 64
IMAGE = {"host": "r.example", "name": "acme/serve", "digest": DIGEST}
OUTPUT = DataSchema.make_output_schema(pa.schema([pa.field("y", pa.int64())]))
MODEL = {
    "id": "llm",
    "account": "acme",
    "name": "acme/llm",
    "artifact": {
        "kind": "HuggingFaceCache",
        "huggingFaceCache": {"repoID": "acme/llm", "revision": "abc123"},
    },
    "storage": {"medium": "ObjectStorage"},
}


def service(kind: str, *args: str, model: bool = False, **fields: Any) -> ForeignInferenceService:
    runner = {"kind": kind, "args": list(args), "resources": {"storage": "1Gi"}, **fields.pop("runner", {})}
    return ForeignInferenceService.model_validate({
        "id": "served", "account": "acme", "name": "served",
        "interface": {"endpoint": "v1/completions", "outputSchema": OUTPUT, **fields.pop("interface", {})},
        "runner": runner, **({"model": MODEL} if model else {}), **fields,
    })  # fmt: skip


def container(
    asked: ForeignInferenceService,
    directory: Path = Path(),
    *,
    model: str | None = None,
    gpus: int = 0,
    **images: str,
) -> Container:
    settings = KubernetesSettings(images=images)
    return container_for(asked, settings, owner="asked", directory=directory, model=model, gpus=gpus)


def refusal(asked: ForeignInferenceService, directory: Path = Path(), **how: Any) -> str:
    with pytest.raises(KubernetesError) as raised:
        container(asked, directory, **how)
    assert str(raised.value).startswith("asked: ") and "\n" not in str(raised.value)
    return str(raised.value).removeprefix("asked: ")


def flags(args: tuple[str, ...]) -> dict[str, str]:
    return dict(zip(args[::2], args[1::2], strict=True))


# Standalone


def test_a_standalone_service_brings_its_code(tmp_path: Path) -> None:
    (tmp_path / "serve.py").write_text("import model\n")
    (tmp_path / "model.py").write_text("")
    (tmp_path / "other.py").write_text("")
    found = container(
        service("standalone", "python", "serve.py", "--port", "{port}"), tmp_path, project="p:1"
    )
    assert (found.command, found.args) == (("python3",), ("serve.py", "--port", "8000"))
    assert (found.image, found.port, found.health, found.read_only) == ("p:1", 8000, None, True)
    assert set(found.files) == {"serve.py", "model.py"}
    assert found.environment == {"DYFF_PORT": "8000", "DYFF_HOST": "0.0.0.0"}
    assert (found.token_variable, found.egress, found.wants_model) == (None, False, False)


def test_only_the_tokens_that_are_promised_are_filled_in(tmp_path: Path) -> None:
    line = ["serve", "{host}:{port}", "{model}/x", "{other}", "{{port}}", "$PORT"]
    found = container(service("standalone", *line), tmp_path, model="/dyff/model/a", project="p:1")
    assert found.args == ("0.0.0.0:8000", "/dyff/model/a/x", "{other}", "{8000}", "$PORT")
    assert found.environment["DYFF_MODEL"] == "/dyff/model/a"
    assert found.wants_model


def test_what_a_standalone_service_cannot_be(tmp_path: Path) -> None:
    assert refusal(service("standalone"), tmp_path, project="p:1").startswith(
        "the standalone runner of service 'served' has no runner.args; they are the command line that starts it"
    )
    assert refusal(service("standalone", "serve", "{model}"), tmp_path, project="p:1").startswith(
        "runner.args of service 'served' say {model}, but no files of a model are at hand"
    )
    assert refusal(service("standalone", "python", "x.py"), tmp_path) == (
        "service 'served' names no runner.image, and no image is set for runners of kind standalone: name one, by "
        "digest, or set images.standalone in the file that DYFF_KUBERNETES names"
    )


def test_code_from_elsewhere_is_not_carried_along(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "secret.py").write_text("")
    said = refusal(service("standalone", "python", "../secret.py"), tmp_path / "inner", project="p:1")
    assert said.startswith(
        "the code of service 'served' includes secret.py, which is not below its manifest's directory"
    )
    (tmp_path / "inner" / "link.py").symlink_to(tmp_path / "secret.py")
    assert "which is not below" in refusal(
        service("standalone", "python", "link.py"), tmp_path / "inner", project="p:1"
    )


# Others


def test_the_services_image_goes_before_the_administrators() -> None:
    found = container(service("container", runner={"image": IMAGE}), container="c:1")
    assert found.image == f"r.example/acme/serve@{DIGEST}"
    assert container(service("container"), container="c:1").image == "c:1"


def test_a_container_keeps_its_entry_point_and_has_no_files() -> None:
    found = container(service("container", "--listen", "{host}:{port}"), container="c:1")
    assert (found.command, found.args) == ((), ("--listen", "0.0.0.0:8000"))
    assert (found.port, found.health, found.files, found.read_only) == (8000, None, {}, False)
    assert "images.container" in refusal(service("container"), project="p:1")


def test_a_mock_runs_what_this_project_is() -> None:
    found = container(service("mock"), project="p:1")
    assert found.command == ("python3",)
    assert found.args == (
        "-m",
        "dyff_dagster.sessions.mock_server",
        "/dyff/code/service.json",
        "8000",
        "0.0.0.0",
    )
    assert found.health == "/health"
    assert list(found.files) == ["service.json"]
    again = container(service("mock"), project="p:1")
    assert again.files == found.files  # a second run must be able to take the first one's session over


# vLLM


def test_vllm_loads_from_the_hub_the_revision_that_is_named() -> None:
    found = container(service("vllm", model=True), gpus=4, vllm="v:1")
    assert found.command == ("python3", "-m", "vllm.entrypoints.openai.api_server")
    assert flags(found.args) == {
        "--model": "acme/llm",
        "--host": "0.0.0.0",
        "--port": "8000",
        "--served-model-name": "acme/llm",
        "--tensor-parallel-size": "4",
        "--revision": "abc123",
    }
    assert (found.port, found.health, found.token_variable) == (8000, "/health", "VLLM_API_KEY")
    assert (found.shared_memory, found.egress, found.wants_model) == (True, True, False)
    assert "HF_HUB_OFFLINE" not in found.environment


def test_vllm_loads_mounted_files_and_asks_nobody() -> None:
    found = container(service("vllm", model=True), model="/dyff/model/snapshots/a", gpus=1, vllm="v:1")
    assert flags(found.args)["--model"] == "/dyff/model/snapshots/a"
    assert not {"--revision", "--tensor-parallel-size"} & set(found.args)
    assert flags(found.args)["--served-model-name"] == "acme/llm"
    assert (found.egress, found.wants_model, found.environment["HF_HUB_OFFLINE"]) == (False, True, "1")


@pytest.mark.parametrize(
    "own",
    [
        ("--tensor-parallel-size", "2"),
        ("--tensor-parallel-size=2",),
        ("--served-model-name=mine", "--max-model-len", "9"),
    ],
)
def test_a_services_own_flags_win(own: tuple[str, ...]) -> None:
    found = container(service("vllm", *own, model=True), gpus=4, vllm="v:1")
    assert found.args[-len(own) :] == own
    given = [token.partition("=")[0] for token in found.args if token.startswith("--")]
    assert len(given) == len(set(given))


@pytest.mark.parametrize("kind", ["vllm", "huggingface"])
@pytest.mark.parametrize("own", [("--port", "9000"), ("--port=9000",)])
def test_a_port_of_its_own_is_where_it_is_looked_for(kind: str, own: tuple[str, ...]) -> None:
    found = container(service(kind, *own, model=True), **{kind: "i:1"})
    assert found.port == 9000
    assert "8000" not in found.args


@pytest.mark.parametrize(
    "own", [("--port", "{port}"), ("--port={port}",), ("--portable", "7"), ("--seed", "1")]
)
def test_what_is_no_port_changes_none(own: tuple[str, ...]) -> None:
    found = container(service("vllm", *own, model=True), vllm="v:1")
    assert found.port == 8000
    assert "8000" in found.args or "--port=8000" in found.args


# transformers, Bento


def test_transformers_serves_the_revision_that_is_named() -> None:
    found = container(service("huggingface", model=True), huggingface="h:1")
    assert found.command == ("transformers", "serve")
    assert flags(found.args) == {"--host": "0.0.0.0", "--port": "8000", "--force-model": "acme/llm@abc123"}
    assert (found.port, found.health, found.shared_memory, found.egress) == (8000, "/health", False, True)
    mounted = container(service("huggingface", model=True), model="/dyff/model/a", gpus=2, huggingface="h:1")
    assert flags(mounted.args)["--force-model"] == "/dyff/model/a"
    assert (mounted.shared_memory, mounted.egress) == (True, False)


def test_a_bento_is_run_as_its_author_made_it() -> None:
    found = container(service("bentoml_service_openllm", "serve", runner={"image": IMAGE}))
    assert (found.command, found.args) == ((), ("serve",))
    assert (found.port, found.health) == (3000, "/readyz")
    assert found.environment["DYFF_PORT"] == "3000"


@pytest.mark.parametrize("kind", ["vllm", "huggingface"])
def test_a_server_of_models_needs_one(kind: str) -> None:
    assert refusal(service(kind), **{kind: "i:1"}) == (
        f"service 'served' has a runner of kind {kind} and no model that it could load: name a Model in it"
    )


@pytest.mark.parametrize("kind", [kind.value for kind in InferenceServiceRunnerKind])
def test_every_kind_needs_an_endpoint_on_it(kind: str) -> None:
    said = refusal(
        service(kind, "x", model=True, interface={"endpoint": "https://api.example/v1"}), **{kind: "i:1"}
    )
    assert said.startswith(
        "service 'served' has a runner, so its interface.endpoint must be a path on it, not a URL"
    )


@pytest.mark.parametrize("kind", [kind.value for kind in InferenceServiceRunnerKind])
def test_every_kind_is_known(kind: str) -> None:
    found = container(service(kind, "x", model=True), **{kind: "i:1"})
    assert found.image == "i:1"
    assert all("TOKEN" not in name and "KEY" not in name for name in found.environment)


def test_a_service_without_a_runner_is_hosted_elsewhere() -> None:
    hosted = service("mock").model_copy(update={"runner": None})
    assert refusal(hosted) == "service 'served' has no runner to run"
