"""Servers of language models that others have made: how each is started, on a machine and in a pod alike.

``transformers serve``: https://huggingface.co/docs/transformers/main/en/serving
``vllm serve``: https://docs.vllm.ai/en/stable/cli/serve.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dyff_dagster.schema.platform import InferenceServiceRunnerKind, InferenceServiceSpec

HEALTH = "/health"
"""Both answer it with 200 once their model is loaded."""

SERVERS = (InferenceServiceRunnerKind.HUGGINGFACE, InferenceServiceRunnerKind.VLLM)


def serve_line(
    service: InferenceServiceSpec,
    model: str,
    own: Sequence[str],
    *,
    host: str,
    port: str,
    gpus: int = 0,
    revision: str | None = None,
) -> tuple[str, ...]:
    """The command line of a service's server; what the service's own arguments say is not said a second time.

    Args:
        service: The service, whose runner is one of :data:`SERVERS`.
        model: A directory with the model's files, or its name on the Hub.
        own: ``runner.args``.
        host: Where to listen.
        port: At which port.
        gpus: GPUs of each replica.
        revision: Of a model on the Hub.
    """
    given = {"--host": host, "--port": port}
    if service.runner is not None and service.runner.kind is InferenceServiceRunnerKind.HUGGINGFACE:
        named = model if revision is None else f"{model}@{revision}"
        return ("transformers", "serve", named, *_without(given, own), *own)
    given["--served-model-name"] = service.model.name if service.model is not None else service.name
    if gpus > 1:
        given["--tensor-parallel-size"] = str(gpus)
    if revision is not None:
        given["--revision"] = revision
    return ("vllm", "serve", model, *_without(given, own), *own)


def serve_environment(service: InferenceServiceSpec, *, mounted: bool) -> dict[str, str]:
    """Variables of a server: it tells nobody that it runs, and one whose model is at hand asks nobody for it."""
    found = {"HF_HUB_OFFLINE": "1"} if mounted else {}
    if service.runner is not None and service.runner.kind is InferenceServiceRunnerKind.VLLM:
        found |= {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    return found


def _without(given: Mapping[str, str], own: Sequence[str]) -> list[str]:
    """Flags as arguments, without those that the service's own arguments have."""
    said = {token.partition("=")[0] for token in own}
    return [part for flag, value in given.items() if flag not in said for part in (flag, value)]
