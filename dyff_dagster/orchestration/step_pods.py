"""What the pod of each step is like, where ``k8s_job_executor`` runs steps in pods.

Dagster reads it from the tag ``dagster-k8s/config`` of an op; other executors pass over it. Tags of a job never reach
its steps.
"""

from __future__ import annotations

from typing import Any

from dyff_dagster.schema.annotations import annotation
from dyff_dagster.schema.platform import DyffEntity, Evaluation, InferenceSession
from dyff_dagster.sessions.kubernetes.names import ACCOUNT, CLIENT, ENTITY, KIND, label_value
from dyff_dagster.sessions.kubernetes.settings import StepPods

TAG = "dagster-k8s/config"

_BESIDE_GPUS = {"Evaluation": ("2", "2Gi"), "InferenceSession": ("1", "1Gi")}
"""What the platform reckons with for a workflow without GPUs. Those belong to the session's own Job."""


def step_pod(entity: DyffEntity, steps: StepPods | None = None) -> dict[str, Any]:
    """The value of ``dagster-k8s/config`` for the op that computes an entity.

    Args:
        entity: The entity.
        steps: What the administrator says of steps.

    Returns:
        Requests for cpu and memory (without a limit), labels that say who pays, and for steps that ask sessions the
        label that their NetworkPolicy looks for.
    """
    steps = steps or StepPods()
    labels = {
        ACCOUNT: label_value(entity.account),
        ENTITY: label_value(entity.id),
        KIND: entity.kind,
    }
    asks = asks_sessions(entity)
    if asks:
        labels[CLIENT] = "true"
    makes_jobs = asks or annotation(entity, "isolation") == "pod"
    account = (steps.sessionsServiceAccount if makes_jobs else None) or steps.serviceAccount
    config: dict[str, Any] = {
        "pod_template_spec_metadata": {"labels": {key: value for key, value in labels.items() if value}},
        "pod_spec_config": {"termination_grace_period_seconds": steps.grace},
    }
    if account is not None:
        config["pod_spec_config"]["service_account_name"] = account
    if requests := requests_of(entity, steps):
        config["container_config"] = {"resources": {"requests": requests}}
    return config


def asks_sessions(entity: DyffEntity) -> bool:
    """Whether computing an entity starts a session or uses one: not where its service is hosted elsewhere."""
    if isinstance(entity, Evaluation):
        return entity.inferenceSession.inferenceService.runner is not None
    return isinstance(entity, InferenceSession) and entity.inferenceService.runner is not None


def requests_of(entity: DyffEntity, steps: StepPods) -> dict[str, str]:
    """Cpu and memory that a step asks for: the administrator's for its kind, else of ``resource_allocation()``."""
    allocation = entity.resource_allocation()
    quantities = {} if allocation is None else dict(allocation.quantities)
    if quantities and "cpu" not in quantities:
        quantities["cpu"], quantities["memory"] = _BESIDE_GPUS[entity.kind]
    said = steps.resources.get(entity.kind)
    if said is not None:
        quantities |= said.model_dump(exclude_none=True)
    return {name: str(quantities[name]) for name in ("cpu", "memory") if name in quantities}
