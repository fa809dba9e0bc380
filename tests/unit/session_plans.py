"""Plans of sessions of every kind, for the tests of what is sent to a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dyff_dagster.schema.platform import InferenceSessionSpec
from dyff_dagster.sessions.kubernetes import KubernetesSettings, ModelFiles, Owner
from dyff_dagster.sessions.kubernetes.manifests import SessionPlan
from dyff_dagster.sessions.kubernetes.planning import Sessions
from tests.unit.test_sessions_kubernetes_runners import service

IMAGES = {
    kind: f"r.example/{kind}:1"
    for kind in ("project", "vllm", "huggingface", "container", "bentoml_service_openllm")
}
FULL: dict[str, Any] = {
    "preset": "gke",
    "storage": {"claim": "results", "path": "audits"},
    "nodeSelector": {"zone": "a"},
    "tolerations": [{"key": "audits", "effect": "NoSchedule"}],
    "queue": "gpus",
    "priorityClass": "low",
    "imagePullSecrets": ["registry"],
    "egress": "open",
    "clientNamespace": "dagster",
}


def plan(
    directory: Path,
    kind: str = "standalone",
    *args: str,
    model: bool = False,
    session: Any = None,
    **settings: Any,
) -> SessionPlan:
    """The plan of an evaluation's session.

    Args:
        directory: The code is made there, and the storage root.
        kind: Of the runner.
        args: Of the runner; the code's command line where it is standalone and there are none.
        model: Whether a model of two small files lies in the store.
        session: Fields of the session: replicas, accelerator …
        settings: The administrator's.
    """
    code, root = directory / "code", directory / "store"
    version = root / "llm" / ".dyff" / "versions" / "1"
    for path, text in {
        code / "serve.py": "", version / "snapshots" / "a" / "config.json": "{}", version / "refs" / "main": "a",
    }.items():  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    line = args or (("python", "serve.py", "--port", "{port}") if kind == "standalone" else ())
    asked = service(kind, *line, model=model or kind in ("vllm", "huggingface"))
    spec = InferenceSessionSpec.model_validate({"inferenceService": asked, **(session or {})})
    return Sessions(KubernetesSettings.model_validate({"images": IMAGES, **settings}), root).plan(
        spec,
        Owner("asked", "Evaluation", "acme", "run-1"),
        directory=code,
        model=ModelFiles(version, "snapshots/a") if model else None,
        service_digest="digest",
    )


def gpus(*types: str, count: int = 1) -> dict[str, Any]:
    """An accelerator."""
    return {"kind": "GPU", "gpu": {"hardwareTypes": list(types), "count": count}}


def every_plan(directory: Path) -> dict[str, SessionPlan]:
    """One plan of each sort, by what it is of."""
    l4 = {"accelerator": gpus("l4", "t4", count=2), "replicas": 3}
    return {
        "a standalone service": plan(directory),
        "one with a small model": plan(directory, model=True),
        "one with all that settings can say": plan(directory, model=True, session=l4, **FULL),
        "one without a token": plan(directory, tokenCheck=False),
        "a mock": plan(directory, "mock"),
        "a container": plan(directory, "container"),
        "vLLM from the Hub": plan(directory, "vllm", session=l4, preset="nvidia"),
        "vLLM from a volume": plan(directory, "vllm", model=True, session=l4, **FULL),
        "transformers": plan(directory, "huggingface"),
        "a Bento": plan(directory, "bentoml_service_openllm"),
    }
