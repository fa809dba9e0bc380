"""What each kind of runner means in a pod: command line, port, when it is healthy, and where its model lies."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dyff_dagster.schema.platform import (
    InferenceServiceRunnerKind,
    InferenceServiceSpec,
)
from dyff_dagster.sessions.code import code_files
from dyff_dagster.sessions.hosted import is_absolute
from dyff_dagster.sessions.kubernetes.errors import KubernetesError
from dyff_dagster.sessions.kubernetes.settings import KubernetesSettings

MODEL = "/dyff/model"
"""Where the version of a model is mounted that a service loads."""
CODE = "/dyff/code"
SERVICE_FILE = "service.json"
_TOKEN = re.compile(r"\{(port|host|model)\}")


@dataclass(frozen=True)
class Container:
    """What runs in each pod of a session.

    Attributes:
        image: What is pulled.
        command: Replaces the image's entry point; empty: the image's own.
        args: Its arguments.
        port: Where it listens.
        health: Path that answers 200 once it is ready; None: whoever accepts a connection is asked from outside.
        environment: Variables, none of them secret.
        token_variable: The variable that the token goes into; None: it is only mounted as a file.
        shared_memory: Whether it wants a large /dev/shm.
        files: What is put under ``/dyff/code``, by relative path.
        wants_model: Whether the model's files are mounted at ``/dyff/model``.
        read_only: Whether its root file system can be read-only.
        egress: Whether it fetches its model from the net by itself.
    """

    image: str
    command: tuple[str, ...]
    args: tuple[str, ...]
    port: int
    health: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    token_variable: str | None = None
    shared_memory: bool = False
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    wants_model: bool = False
    read_only: bool = False
    egress: bool = False


def container_for(
    service: InferenceServiceSpec,
    settings: KubernetesSettings,
    *,
    owner: str,
    directory: Path,
    model: str | None,
    gpus: int = 0,
) -> Container:
    """What a service's runner is in a pod.

    Args:
        service: The service.
        settings: The administrator's: images of services that name none.
        owner: Whose session it is, for messages.
        directory: The service's manifest's: the code of a standalone service lies there.
        model: Where its model lies in the container; None where no files of it can be mounted.
        gpus: GPUs of each replica.

    Raises:
        KubernetesError: It cannot run in a pod: no image, no command line, an endpoint that is a URL.
    """
    runner = service.runner
    if runner is None:
        raise KubernetesError(f"{owner}: service '{service.name}' has no runner to run", session_id=owner)
    if is_absolute(service.interface.endpoint):
        raise KubernetesError(
            f"{owner}: service '{service.name}' has a runner, so its interface.endpoint must be a path on it, not a "
            "URL; leave out the runner if the service is hosted elsewhere",
            session_id=owner,
        )
    build = {
        InferenceServiceRunnerKind.STANDALONE: _standalone,
        InferenceServiceRunnerKind.CONTAINER: _container,
        InferenceServiceRunnerKind.MOCK: _mock,
        InferenceServiceRunnerKind.VLLM: _vllm,
        InferenceServiceRunnerKind.HUGGINGFACE: _huggingface,
        InferenceServiceRunnerKind.BENTOML_SERVICE_OPENLLM: _bentoml,
    }[runner.kind]
    return build(_Request(service, settings, owner, directory, model, gpus))


@dataclass(frozen=True)
class _Request:
    service: InferenceServiceSpec
    settings: KubernetesSettings
    owner: str
    directory: Path
    model: str | None
    gpus: int

    @property
    def args(self) -> list[str]:
        runner = self.service.runner
        return list(runner.args or []) if runner is not None else []

    def image(self, *, projects_own: bool = False) -> str:
        """The image that the service names, else the administrator's for its kind."""
        runner = self.service.runner
        if runner is not None and runner.image is not None:
            return runner.image.url()
        kind = runner.kind.value if runner is not None else ""
        found = self.settings.images.get(kind) or (
            self.settings.images.get("project") if projects_own else None
        )
        if found is None:
            raise KubernetesError(
                f"{self.owner}: service '{self.service.name}' names no runner.image, and no image is set for runners "
                f"of kind {kind}: name one, by digest, or set images.{kind} in the file that DYFF_KUBERNETES names",
                session_id=self.owner,
            )
        return found

    def filled(self, tokens: Sequence[str], port: int) -> tuple[str, ...]:
        """A command line with ``{port}``, ``{host}`` and ``{model}`` filled in."""
        values = {"port": str(port), "host": "0.0.0.0"}  # noqa: S104 - a pod is reached from others
        if self.model is not None:
            values["model"] = self.model
        elif any("{model}" in token for token in tokens):
            raise KubernetesError(
                f"{self.owner}: runner.args of service '{self.service.name}' say {{model}}, but no files of a model "
                "are at hand; name a model in the service that has an artifact",
                session_id=self.owner,
            )
        return tuple(_TOKEN.sub(lambda match: values[match.group(1)], token) for token in tokens)

    def port(self, default: int) -> int:
        """The port that the service's own arguments say by number, else the default."""
        for before, token in zip(["", *self.args], self.args, strict=False):
            value = token.removeprefix("--port=") if before != "--port" else token
            if value.isdigit() and (before == "--port" or value != token):
                return int(value)
        return default

    def variables(self, port: int) -> dict[str, str]:
        """What the local runner's rules promise in the environment."""
        found = {"DYFF_PORT": str(port), "DYFF_HOST": "0.0.0.0"}  # noqa: S104
        if self.model is not None:
            found["DYFF_MODEL"] = self.model
        return found

    def source(self) -> str:
        """Where a server loads the model from: its mounted files, else its name on the Hub."""
        if self.model is not None:
            return self.model
        cache = None if self.service.model is None else self.service.model.artifact.huggingFaceCache
        if cache is not None:
            return cache.repoID
        raise KubernetesError(
            f"{self.owner}: service '{self.service.name}' has a runner of kind "
            f"{self.service.runner.kind.value if self.service.runner else ''} and no model that it could load: name a "
            "Model in it",
            session_id=self.owner,
        )

    def revision(self) -> str | None:
        """The revision to load from the Hub; None where files are mounted."""
        cache = None if self.service.model is None else self.service.model.artifact.huggingFaceCache
        return None if cache is None or self.model is not None else cache.revision


def _standalone(asked: _Request) -> Container:
    tokens = asked.args
    if not tokens or not tokens[0]:
        raise KubernetesError(
            f"{asked.owner}: the standalone runner of service '{asked.service.name}' has no runner.args; they are the "
            "command line that starts it",
            session_id=asked.owner,
        )
    port = 8000
    line = list(asked.filled(tokens, port))
    if line[0] == "python":
        line[0] = "python3"  # every image that has Python has it under this name
    files = {}
    for name, path in code_files(tokens, asked.directory).items():
        if not path.resolve().is_relative_to(asked.directory.resolve()):
            raise KubernetesError(
                f"{asked.owner}: the code of service '{asked.service.name}' includes {name}, which is not below its "
                "manifest's directory: move it there, or build an image with it",
                session_id=asked.owner,
            )
        files[name] = path.read_bytes()
    return Container(
        image=asked.image(projects_own=True),
        command=(line[0],),
        args=tuple(line[1:]),
        port=port,
        environment=asked.variables(port),
        files=files,
        wants_model=asked.model is not None,
        read_only=True,
    )


def _container(asked: _Request) -> Container:
    port = 8000
    return Container(
        image=asked.image(),
        command=(),
        args=asked.filled(asked.args, port),
        port=port,
        environment=asked.variables(port),
        wants_model=asked.model is not None,
    )


def _mock(asked: _Request) -> Container:
    port = 8000
    content = InferenceServiceSpec.model_validate(
        asked.service.model_dump(mode="json", by_alias=True, include=set(InferenceServiceSpec.model_fields))
    )
    return Container(
        image=asked.image(projects_own=True),
        command=("python3",),
        args=("-m", "dyff_dagster.sessions.mock_server", f"{CODE}/{SERVICE_FILE}", str(port), "0.0.0.0"),  # noqa: S104
        port=port,
        health="/health",
        files={SERVICE_FILE: content.model_dump_json(by_alias=True).encode()},
        read_only=True,
    )


def _vllm(asked: _Request) -> Container:
    """vLLM's OpenAI-compatible server; its flags: https://docs.vllm.ai/en/stable/cli/serve.html."""
    port = asked.port(8000)
    model = asked.service.model
    given = {
        "--host": "0.0.0.0",  # noqa: S104
        "--port": str(port),
        "--served-model-name": model.name if model is not None else asked.service.name,
    }
    if asked.gpus > 1:
        given["--tensor-parallel-size"] = str(asked.gpus)
    if (revision := asked.revision()) is not None:
        given["--revision"] = revision
    own = asked.filled(asked.args, port)
    return Container(
        image=asked.image(),
        command=("python3", "-m", "vllm.entrypoints.openai.api_server"),
        args=("--model", asked.source(), *_without(given, own), *own),
        port=port,
        health="/health",
        environment={"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", **_offline(asked)},
        token_variable="VLLM_API_KEY",  # noqa: S106 - the name of a variable
        shared_memory=True,
        wants_model=asked.model is not None,
        egress=asked.model is None,
    )


def _huggingface(asked: _Request) -> Container:
    """``transformers serve``: https://huggingface.co/docs/transformers/main/en/serving."""
    port = asked.port(8000)
    own = asked.filled(asked.args, port)
    revision = asked.revision()
    model = asked.source() if revision is None else f"{asked.source()}@{revision}"
    given = {"--host": "0.0.0.0", "--port": str(port), "--force-model": model}  # noqa: S104
    return Container(
        image=asked.image(),
        command=("transformers", "serve"),
        args=(*_without(given, own), *own),
        port=port,
        health="/health",
        environment=_offline(asked),
        shared_memory=asked.gpus > 1,
        wants_model=asked.model is not None,
        egress=asked.model is None,
    )


def _bentoml(asked: _Request) -> Container:
    """A Bento: the image and the arguments are its author's; https://docs.bentoml.com has its endpoints."""
    port = 3000
    return Container(
        image=asked.image(),
        command=(),
        args=asked.filled(asked.args, port),
        port=port,
        health="/readyz",
        environment={**asked.variables(port), "BENTOML_DO_NOT_TRACK": "True"},
        shared_memory=asked.gpus > 1,
        wants_model=asked.model is not None,
    )


def _offline(asked: _Request) -> dict[str, str]:
    """A server whose model is mounted asks nobody for it."""
    return {"HF_HUB_OFFLINE": "1"} if asked.model is not None else {}


def _without(given: Mapping[str, str], own: Sequence[str]) -> list[str]:
    """Flags as arguments, without those that the service's own arguments have."""
    said = {token.partition("=")[0] for token in own}
    return [part for flag, value in given.items() if flag not in said for part in (flag, value)]
