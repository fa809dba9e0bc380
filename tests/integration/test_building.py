"""A service with a builder: its image is built and pushed, and is what is asked; where that cannot be, it says so."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dyff_dagster import Catalog, DyffSessions, DyffStorage, build_definitions
from dyff_dagster.orchestration.dependencies import Dependencies
from dyff_dagster.schema.platform import InferenceService
from dyff_dagster.sessions import BuildError, build_fingerprint, build_image
from dyff_dagster.store import Store, local_path
from tests import servers
from tests.registry import Registry, digest_of, registry

SERVICE = """
kind: InferenceService
id: Capitals.v2
account: acme
name: Capitals
builder: {kind: container, args: [image]}
runner: {kind: container, resources: {storage: 1Mi}}
interface: {endpoint: answer, outputSchema: {arrow: {answer: string!}}}
"""
needs_buildah = pytest.mark.skipif(
    shutil.which("buildah") is None or os.geteuid() != 0, reason="no buildah, or no right to build with it"
)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A manifest, and beside it what its image is made of."""
    made = tmp_path / "catalog"
    (made / "image").mkdir(parents=True)
    (made / "audit.yaml").write_text(SERVICE)
    (made / "image" / "Containerfile").write_text("FROM scratch\nCOPY answer.txt /answer.txt\n")
    (made / "image" / "answer.txt").write_text("Paris\n")
    return made


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """A registry that builders may push to, and a builder that needs no more than these tests have."""
    with registry() as kept:
        (tmp_path / "storage.conf").write_text(
            f'[storage]\ndriver = "vfs"\ngraphroot = "{tmp_path}/images"\nrunroot = "{tmp_path}/run"\n'
        )
        (tmp_path / "registries.conf").write_text(
            f'[[registry]]\nlocation = "{kept.host}"\ninsecure = true\n'
        )
        monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(tmp_path / "storage.conf"))
        monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(tmp_path / "registries.conf"))
        monkeypatch.setenv("BUILDAH_ISOLATION", "chroot")
        yield kept


class Site:
    """A catalog with one service, and Dagster's op for it."""

    def __init__(self, directory: Path, tmp_path: Path, repository: str | None) -> None:
        self.directory, self.root = directory, tmp_path / "storage"
        said = {"build": {"repository": repository}} if repository else {}
        (directory / "settings.json").write_text(json.dumps(said))
        self.sessions = DyffSessions(kubernetes="settings.json", base=str(directory))

    @property
    def catalog(self) -> Catalog:
        return Catalog.load(self.directory / "audit.yaml")

    def materialize(self, **config: Any) -> dg.ExecuteInProcessResult:
        definitions = build_definitions(
            self.catalog, storage=DyffStorage(root=str(self.root)), sessions=self.sessions
        )
        job = definitions.resolve_implicit_global_asset_job_def()
        (op,) = (node.name for node in job.nodes)
        return job.execute_in_process(raise_on_error=False, run_config={"ops": {op: {"config": config}}})


def failure(result: dg.ExecuteInProcessResult) -> tuple[str, str, str]:
    """What a step failed with: description, status, reason."""
    (event,) = [event for event in result.all_events if event.is_step_failure]
    data = event.step_failure_data.user_failure_data
    assert data is not None
    return (
        str(data.description),
        str(data.metadata["dyff/status"].value),
        str(data.metadata["dyff/reason"].value),
    )


@needs_buildah
def test_an_image_is_built_pushed_and_known_by_its_digest(
    directory: Path, tmp_path: Path, images: Registry
) -> None:
    site = Site(directory, tmp_path, f"{images.host}/audits")
    result = site.materialize()
    assert result.success
    commit = Store(site.root).current("Capitals.v2")
    assert commit is not None

    digest = f"sha256:{commit.data_version}"
    _media, manifest = images.manifests[digest]
    assert digest_of(manifest) == digest
    layers = [images.blobs[layer["digest"]] for layer in json.loads(manifest)["layers"]]
    assert len(layers) == 1
    assert commit.facts.notes == {
        "image": f"{images.host}/audits/capitals-v2@{digest}",
        "builder": "buildah",
    }
    (event,) = result.get_asset_materialization_events()
    metadata = event.materialization.metadata
    assert metadata["dyff/image"].value == f"{images.host}/audits/capitals-v2@{digest}"
    service = site.catalog.get_as("Capitals.v2", InferenceService)
    image = Dependencies(site.catalog, Store(site.root), service).built_image(service)
    assert image is not None
    assert image.url() == commit.facts.notes["image"]


@needs_buildah
def test_what_did_not_change_is_not_built_again_and_what_did_is(
    directory: Path, tmp_path: Path, images: Registry
) -> None:
    site = Site(directory, tmp_path, images.host)
    assert site.materialize().success
    service = site.catalog.get_as("Capitals.v2", InferenceService)

    def answers_by() -> str:
        return Dependencies(site.catalog, Store(site.root), service).service_digest(service)

    before, pushed = answers_by(), dict(images.manifests)
    (event,) = site.materialize().get_asset_materialization_events()
    assert event.materialization.metadata["dyff/reused"].value is True
    assert images.manifests == pushed

    (directory / "image" / "answer.txt").write_text("Lyon\n")
    (event,) = site.materialize().get_asset_materialization_events()
    assert event.materialization.metadata["dyff/reused"].value is False
    assert images.manifests.keys() > pushed.keys()
    assert answers_by() != before


@needs_buildah
def test_a_build_that_fails_keeps_its_log_and_commits_nothing(
    directory: Path, tmp_path: Path, images: Registry
) -> None:
    (directory / "image" / "Containerfile").write_text("FROM scratch\nCOPY missing.txt /\n")
    site = Site(directory, tmp_path, images.host)
    description, status, reason = failure(site.materialize())
    store = Store(site.root)
    (log,) = local_path(store.working("Capitals.v2")).glob("sessions/*/build.log")
    assert (status, reason) == ("Error", "BuildFailed")
    assert description == f"Capitals.v2: buildah build ended with exit code 125; its log is {log}"
    assert "missing.txt" in log.read_text()
    assert log.stat().st_mode & 0o077 == 0
    assert store.current("Capitals.v2") is None
    assert images.manifests == {}


@needs_buildah
def test_a_registry_that_refuses_is_a_failed_build(directory: Path, tmp_path: Path, images: Registry) -> None:
    images.refuses = True
    description, _, reason = failure(Site(directory, tmp_path, images.host).materialize())
    assert reason == "BuildFailed"
    assert description.startswith("Capitals.v2: buildah push ended with exit code ")


def test_without_a_builder_it_says_what_to_do(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    description, status, reason = failure(
        Site(directory, tmp_path, "registry.example.org/audits").materialize()
    )
    assert (status, reason) == ("Error", "BuildFailed")
    assert description == (
        "Capitals.v2: its image cannot be built here, where buildah and docker are not installed: run this step where "
        "one is, or build the image yourself, name it by digest in runner.image, and leave the builder out"
    )


def test_without_a_registry_it_says_what_to_do(directory: Path, tmp_path: Path) -> None:
    description, _, reason = failure(Site(directory, tmp_path, None).materialize())
    assert reason == "BuildFailed"
    assert description == (
        "Capitals.v2: there is nowhere to push its image to: set build.repository, in the file that DYFF_KUBERNETES "
        "names, to what the cluster's nodes pull from"
    )


@pytest.mark.parametrize("repository", ["https://example.org", "example_org/x", "example.org/UPPER", "a b"])
def test_a_repository_that_cannot_be_is_named(directory: Path, tmp_path: Path, repository: str) -> None:
    description, _, _ = failure(Site(directory, tmp_path, repository).materialize())
    assert description == (
        f"Capitals.v2: build.repository is '{repository}': it must be a registry's host, and a path where it has them, "
        "as in registry.example.org/audits"
    )


def test_a_context_without_a_containerfile_is_named(directory: Path, tmp_path: Path) -> None:
    (directory / "image" / "Containerfile").unlink()
    description, _, reason = failure(Site(directory, tmp_path, "example.org").materialize())
    assert reason == "BuildFailed"
    assert description == (
        f"Capitals.v2: there is no {directory / 'image' / 'Containerfile'}, which would say how its image is built: "
        "write one, or name it with --file in builder.args"
    )


def test_what_depends_on_an_image_waits_for_it(directory: Path, tmp_path: Path) -> None:
    (directory / "audit.yaml").write_text(
        SERVICE + "---\n{kind: InferenceSession, id: running, account: acme, inferenceService: Capitals.v2}\n"
    )
    site = Site(directory, tmp_path, None)
    definitions = build_definitions(
        site.catalog, storage=DyffStorage(root=str(site.root)), sessions=site.sessions
    )
    graph = definitions.resolve_asset_graph()
    key = dg.AssetKey(["inferencesessions", "running"])
    assert graph.get(key).parent_keys == {dg.AssetKey(["inferenceservices", "Capitals.v2"])}
    job = definitions.resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(asset_selection=[key], raise_on_error=False)
    description, _, reason = failure(result)
    assert reason == "UnsatisfiedDependency"
    assert "the InferenceService Capitals.v2, which was never materialized" in description


def test_docker_is_asked_for_the_digest_after_it_has_pushed(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a program that says what docker's command line says: there is no daemon here to ask."""
    (tmp_path / "bin").mkdir()
    digest = "sha256:" + "a" * 64
    docker = tmp_path / "bin" / "docker"
    docker.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n'
        f'[ "$1" = inspect ] && echo example.org/other/capitals-v2@sha256:{"b" * 64}\n'
        f'[ "$1" = inspect ] && echo example.org/capitals-v2@{digest}\n'
        "exit 0\n"
    )
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    service = Catalog.load(directory / "audit.yaml").get_as("Capitals.v2", InferenceService)
    assert service.builder is not None
    builder = service.builder.model_copy(update={"kind": "docker"})
    built = build_image(
        service.id,
        builder,
        directory,
        repository="example.org",
        tag="build-1",
        log=tmp_path / "logs" / "build.log",
    )
    assert built.image.url() == f"example.org/capitals-v2@{digest}"
    image = directory / "image"
    assert (tmp_path / "asked").read_text().splitlines() == [
        f"build --file {image}/Containerfile --tag example.org/capitals-v2:build-1 {image}",
        "push example.org/capitals-v2:build-1",
        "inspect --format {{range .RepoDigests}}{{println .}}{{end}} example.org/capitals-v2:build-1",
    ]


def test_secrets_of_whoever_builds_are_not_the_builders(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    docker = tmp_path / "bin" / "docker"
    docker.write_text(f"#!/bin/sh\nenv > {tmp_path}/environment\nexit 1\n")
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("DYFF_INSTANCE_KEY", "instance-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "aws-key")
    monkeypatch.setenv("DOCKER_CONFIG", "/where/registries/are")
    service = Catalog.load(directory / "audit.yaml").get_as("Capitals.v2", InferenceService)
    assert service.builder is not None
    builder = service.builder.model_copy(update={"kind": "docker"})
    with pytest.raises(BuildError):
        build_image("x", builder, directory, repository="example.org", tag="t", log=tmp_path / "build.log")
    said = (tmp_path / "environment").read_text()
    assert "instance-key" not in said
    assert "aws-key" not in said
    assert "DOCKER_CONFIG=/where/registries/are" in said


def test_a_context_that_a_link_leads_out_of_is_refused(directory: Path, tmp_path: Path) -> None:
    shutil.rmtree(directory / "image")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "Containerfile").write_text("FROM scratch\n")
    (directory / "image").symlink_to(tmp_path / "elsewhere")
    service = Catalog.load(directory / "audit.yaml").get_as("Capitals.v2", InferenceService)
    assert service.builder is not None
    with pytest.raises(BuildError, match="leads outside through a symbolic link"):
        build_fingerprint(service.id, service.builder, directory)


def test_a_build_ends_with_the_process_that_started_it(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    docker = tmp_path / "bin" / "docker"
    docker.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 1000\n")
    docker.chmod(0o755)
    program = (
        "import sys; from pathlib import Path; from dyff_dagster.sessions import build_image\n"
        "from dyff_dagster.schema.platform import InferenceServiceBuilder\n"
        "build_image('x', InferenceServiceBuilder(kind='docker', args=['image']), Path(sys.argv[1]), "
        "repository='example.org', tag='t', log=Path(sys.argv[2]))\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, directory, tmp_path / "build.log"],
        env={**os.environ, "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"},
        cwd=servers.REPOSITORY,
    )
    pid = _wait_for(lambda: int((tmp_path / "pid").read_text()) if (tmp_path / "pid").exists() else None)
    child.send_signal(signal.SIGKILL)
    child.wait()
    _wait_for(lambda: not Path(f"/proc/{pid}").exists() or None)


def _wait_for(look: Any) -> Any:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        found = look()
        if found is not None:
            return found
        time.sleep(0.05)
    raise AssertionError("not within 30 s")
