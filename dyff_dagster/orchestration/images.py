"""Images that are built for services: from a builder to a commit, and from the commit to what sessions run."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from dyff_dagster.schema.platform import (
    ContainerImageSource,
    InferenceService,
    InferenceServiceBuilder,
    InferenceSessionSpec,
)
from dyff_dagster.sessions import BuildError, build_image
from dyff_dagster.store import Commit, Facts, Inputs, Progress, Store

_IMAGE = "image.json"
"""In the version of a service with a builder: the image that was built, as the platform writes images."""

_Session = TypeVar("_Session", bound=InferenceSessionSpec)


def build_service(
    entity: InferenceService,
    builder: InferenceServiceBuilder,
    store: Store,
    *,
    directory: Path,
    repository: str | None,
    inputs: Inputs,
    progress: Progress,
    run_id: str,
) -> Commit:
    """Build a service's image, push it, and commit where it is.

    The data version is the image's digest.

    Args:
        entity: The service.
        builder: Its own.
        store: Where the commit goes.
        directory: Of its manifest.
        repository: Where its image goes.
        inputs: What it is made from.
        progress: Told how far it is.
        run_id: Recorded with the commit.

    Raises:
        BuildError: It cannot be built or pushed here, or names an image besides.
    """
    if entity.runner is not None and entity.runner.image is not None:
        raise BuildError(
            f"{entity.id}: it has a builder and a runner.image, and sessions can run one of the two: "
            "leave the other out",
            session_id=entity.id,
        )
    built = build_image(
        entity.id,
        builder,
        directory,
        repository=repository,
        tag=f"build-{inputs.digest[:12]}",
        log=store.scratch(entity.id) / "sessions" / (run_id or "build") / "build.log",
        progress=progress,
    )
    with store.draft(entity.id) as draft:
        (draft.path / _IMAGE).write_text(built.image.model_dump_json(), "utf-8")
        return draft.commit(
            entity=entity,
            data_version=built.image.digest.removeprefix("sha256:"),
            inputs=inputs,
            facts=Facts(notes={"image": built.image.url(), "builder": built.tool}),
            run_id=run_id,
        )


def image_in(version: Path) -> ContainerImageSource:
    """The image that a version of a service names."""
    return ContainerImageSource.model_validate_json((version / _IMAGE).read_bytes())


def with_image(session: _Session, image: ContainerImageSource | None) -> _Session:
    """A session whose service runs an image that was built for it; as it was where none was."""
    service = session.inferenceService
    if image is None or service.runner is None:
        return session
    runner = service.runner.model_copy(update={"image": image})
    return session.model_copy(update={"inferenceService": service.model_copy(update={"runner": runner})})
