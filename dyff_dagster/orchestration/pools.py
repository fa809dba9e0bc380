"""Which of Dagster's concurrency pools an entity's op takes a place in, and how urgent it is.

A pool is for what is scarce and what several runs would take at once: accelerators, and services that answer already.
An op has one pool, and its place is held for as long as the op runs. Where two would fit, it is that of what would
break: a service that others use too comes before an accelerator, since a session that is not this op's own starts
nothing and takes no accelerator.
"""

from __future__ import annotations

from dyff_dagster.schema.platform import DyffEntity, Evaluation, InferenceSession
from dyff_dagster.schema.priorities import priority_of
from dyff_dagster.schema.services import InferenceSessionSpec

PRIORITY_TAG = "dagster/priority"
"""Dagster's own tag. On an op it orders steps that are ready in a run, and claims on a pool in all of them."""

_ACCELERATORS, _SERVICES, _SESSIONS = "accelerators", "services", "sessions"


def pool_of(entity: DyffEntity) -> str | None:
    """The pool of the op that computes an entity; None where nothing that it takes is scarce.

    - ``services/ID``: an Evaluation of a service that is hosted already, whichever way it comes to it.
    - ``sessions/ID``: an Evaluation that asks a session which runs already.
    - ``accelerators/TYPE/xN``: what starts a session on N accelerators of a type, in all of its replicas.
    """
    if isinstance(entity, InferenceSession):
        return accelerator_pool(entity)
    if not isinstance(entity, Evaluation):
        return None
    service = entity.inferenceSession.inferenceService
    if service.runner is None:
        return f"{_SERVICES}/{service.id}"
    if entity.inferenceSessionReference is not None:
        return f"{_SESSIONS}/{entity.inferenceSessionReference}"
    return accelerator_pool(entity.inferenceSession)


def accelerator_pool(session: InferenceSessionSpec) -> str | None:
    """The pool of the class of accelerators that a session runs on; None where it runs on CPUs or starts nothing.

    A place in a pool has no weight in Dagster, so that sessions of four GPUs and of one are in two pools. Of
    acceptable types the preferred one, the first, names it.
    """
    accelerator = session.effective_accelerator()
    if accelerator is None or session.inferenceService.runner is None:
        return None
    if accelerator.gpu is None:
        return f"{_ACCELERATORS}/{_word(accelerator.kind)}/x{session.replicas}"
    gpu = accelerator.gpu
    return f"{_ACCELERATORS}/{_word(gpu.hardwareTypes[0])}/x{gpu.count * session.replicas}"


def priority_tags(entity: DyffEntity) -> dict[str, str]:
    """The tag of an op whose entity says how urgent it is."""
    priority = priority_of(entity)
    return {} if priority is None else {PRIORITY_TAG: str(priority)}


def _word(text: str) -> str:
    """Without white space, which no pool's name may have."""
    return "_".join(text.split())
