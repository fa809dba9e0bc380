"""A service's image, built where a builder is installed, and pushed to where the cluster's nodes pull it from."""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from dyff_dagster.processes import clean_environment, start_guarded
from dyff_dagster.schema.builders import BuilderError, ImageRecipe, parse_builder
from dyff_dagster.schema.platform import ContainerImageSource, InferenceServiceBuilder
from dyff_dagster.sessions.errors import SessionError, exit_text
from dyff_dagster.store import Progress, StoreError, no_progress
from dyff_dagster.store.digests import digest_file, list_files, tree_digest
from dyff_dagster.store.paths import resolve_inside

_SECONDS_BETWEEN_LOOKS = 0.2
_SECONDS_BETWEEN_WORDS = 10.0
_GRACE = 10.0

_THEIR_OWN = (
    "BUILDAH_ISOLATION", "BUILDAH_FORMAT", "BUILDAH_RUNTIME", "CONTAINERS_CONF", "CONTAINERS_REGISTRIES_CONF",
    "CONTAINERS_STORAGE_CONF", "STORAGE_DRIVER", "STORAGE_OPTS", "REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "DOCKER_HOST",
    "DOCKER_CONTEXT", "DOCKER_BUILDKIT", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY", "XDG_CONFIG_HOME",
    "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
)  # fmt: skip
"""Variables that builders read: where registries are, and who may write to them."""


class BuildError(SessionError):
    """An image could not be built or pushed.

    Attributes:
        reason: The platform's word for it.
    """

    reason = "BuildFailed"


@dataclass(frozen=True)
class BuiltImage:
    """An image that sessions run.

    Attributes:
        image: Where it is pulled from, by digest.
        tool: What built it.
    """

    image: ContainerImageSource
    tool: str


@dataclass(frozen=True)
class _Files:
    """What a recipe means on this machine: the directory that is built, and the file that says how."""

    context: Path
    file: Path


def build_fingerprint(service_id: str, builder: InferenceServiceBuilder, directory: Path) -> dict[str, str]:
    """Digest of the files that an image is built from.

    Args:
        service_id: Whose it is, for messages.
        builder: Of the service.
        directory: Of the service's manifest.

    Raises:
        BuildError: The builder cannot be read, or a file is not there.
    """
    files = _located(service_id, _recipe(service_id, builder), directory)
    names = [name for name in list_files(files.context) if ".git" not in name.split("/")]
    digests = {f"context/{name}": digest_file(files.context / name) for name in names}
    return {"files": tree_digest({**digests, "file": digest_file(files.file)})}


def build_image(
    service_id: str,
    builder: InferenceServiceBuilder,
    directory: Path,
    *,
    repository: str | None,
    tag: str,
    log: Path,
    progress: Progress = no_progress,
) -> BuiltImage:
    """Build a service's image and push it.

    The builder, and all that it starts, ends with this process.

    Args:
        service_id: Whose it is.
        builder: How to.
        directory: Of the service's manifest: what is built lies below it.
        repository: Where images go: a registry's host, and a path where it has them.
        tag: For people to read.
        log: Where the builder's output goes.
        progress: Told how far it is.

    Raises:
        BuildError: No builder is installed, nowhere is said to push to, or one of the two fails.
    """
    recipe = _recipe(service_id, builder)
    files = _located(service_id, recipe, directory)
    if repository is None:
        raise BuildError(
            f"{service_id}: there is nowhere to push its image to: set build.repository, in the file that "
            "DYFF_KUBERNETES names, to what the cluster's nodes pull from",
            session_id=service_id,
        )
    tool = next((tool for tool in recipe.tools if shutil.which(tool)), None)
    if tool is None:
        raise BuildError(
            f"{service_id}: its image cannot be built here, where {' and '.join(recipe.tools)} "
            f"{'is' if len(recipe.tools) == 1 else 'are'} not installed: run this step where one is, or build the "
            "image yourself, name it by digest in runner.image, and leave the builder out",
            session_id=service_id,
        )
    host, name = _place(service_id, repository)
    reference = f"{host}/{name}:{tag}"
    command = [tool, "build", *(["--layers"] if tool == "buildah" else []), "--file", str(files.file)]
    command += [*recipe.options, "--tag", reference, str(files.context)]
    log.parent.mkdir(parents=True, exist_ok=True)
    _run(service_id, command, log, f"{tool} build", progress)
    with tempfile.TemporaryDirectory(prefix="dyff-build-") as scratch:
        digest = _pushed(service_id, tool, reference, f"{host}/{name}", Path(scratch), log, progress)
    return BuiltImage(ContainerImageSource(host=host, name=name, digest=digest, tag=tag), tool)


def _recipe(service_id: str, builder: InferenceServiceBuilder) -> ImageRecipe:
    try:
        return parse_builder(builder)
    except BuilderError as error:
        raise BuildError(f"{service_id}: its builder {error}", session_id=service_id) from None


def _located(service_id: str, recipe: ImageRecipe, directory: Path) -> _Files:
    try:
        context = resolve_inside(directory, recipe.context)
        candidates = (
            [resolve_inside(directory, recipe.file)]
            if recipe.file is not None
            else [context / "Containerfile", context / "Dockerfile"]
        )
    except StoreError as error:
        raise BuildError(f"{service_id}: {error}", session_id=service_id) from None
    if not context.is_dir():
        raise BuildError(
            f"{service_id}: there is no directory {context} to build an image from: correct builder.args",
            session_id=service_id,
        )
    file = next((path for path in candidates if path.is_file()), None)
    if file is None:
        raise BuildError(
            f"{service_id}: there is no {candidates[0]}, which would say how its image is built: write one, or name "
            "it with --file in builder.args",
            session_id=service_id,
        )
    return _Files(context, file)


def _place(service_id: str, repository: str) -> tuple[str, str]:
    """Host and name of the image, checked."""
    host, _, path = repository.strip("/").partition("/")
    slug = re.sub(r"[^a-z0-9]+", "-", service_id.lower()).strip("-") or "service"
    name = f"{path}/{slug}" if path else slug
    try:
        ContainerImageSource(host=host, name=name, digest="sha256:" + "0" * 64)
    except ValidationError:
        raise BuildError(
            f"{service_id}: build.repository is '{repository}': it must be a registry's host, and a path where it has "
            "them, as in registry.example.org/audits",
            session_id=service_id,
        ) from None
    return host, name


def _pushed(
    service_id: str, tool: str, reference: str, place: str, scratch: Path, log: Path, progress: Progress
) -> str:
    """Push an image; the digest by which the registry knows it."""
    if tool == "buildah":
        said = scratch / "digest"
        _run(service_id, [tool, "push", "--digestfile", str(said), reference], log, f"{tool} push", progress)
        return said.read_text("utf-8").strip()
    _run(service_id, [tool, "push", reference], log, f"{tool} push", progress)
    listing = scratch / "digests"
    form = "{{range .RepoDigests}}{{println .}}{{end}}"
    _run(service_id, [tool, "inspect", "--format", form, reference], listing, f"{tool} inspect", progress)
    for line in listing.read_text("utf-8").split():
        if line.startswith(f"{place}@"):
            return line.partition("@")[2]
    raise BuildError(
        f"{service_id}: {tool} pushed {reference} and does not say by which digest; its log is {log}",
        session_id=service_id,
        log=log,
    )


def _run(service_id: str, command: Sequence[str], log: Path, what: str, progress: Progress) -> None:
    """Run a builder to its end."""
    environment = clean_environment(keep=_THEIR_OWN)
    log.touch(mode=0o600)
    told = since = time.monotonic()
    progress(f"{service_id}: {what}", None, None)
    try:
        with start_guarded(
            command, cwd=log.parent, env=environment, stdout=log, stderr=log, grace=_GRACE
        ) as process:
            while (status := process.poll()) is None:
                time.sleep(_SECONDS_BETWEEN_LOOKS)
                if time.monotonic() - told >= _SECONDS_BETWEEN_WORDS:
                    told = time.monotonic()
                    progress(f"{service_id}: {what}, for {told - since:.0f} s", None, None)
    except OSError as error:
        raise BuildError(
            f"{service_id}: {what} could not be started ({error.strerror or error})", session_id=service_id
        ) from None
    if status != 0:
        raise BuildError(
            f"{service_id}: {what} ended {exit_text(status)}; its log is {log}",
            session_id=service_id,
            exit_code=status,
            log=log,
        )
