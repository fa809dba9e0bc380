"""Accelerators: are they complete, and do they fit the model that is to run on them?"""

from __future__ import annotations

from collections.abc import Mapping

from dyff_dagster.catalog.entries import Entry, Findings
from dyff_dagster.catalog.problems import Location, suggestion
from dyff_dagster.schema.platform import (
    Accelerator,
    DyffEntity,
    Evaluation,
    InferenceService,
    InferenceSession,
    Model,
)

_KINDS = ("GPU",)


def check_accelerators(entry: Entry, entries: Mapping[str, Entry], findings: Findings) -> None:
    """Note accelerators of an unknown kind or without details, and warn of those that fit no model."""
    for location, accelerator, model_id in _accelerators(entry.entity):
        if accelerator.kind not in _KINDS:
            message = (
                f"'{accelerator.kind}' is no kind of accelerator; {suggestion(accelerator.kind, _KINDS)}"
            )
            findings.error(entry, (*location, "kind"), message)
            continue
        gpu = accelerator.gpu
        if gpu is None:
            findings.error(
                entry, location, "has kind GPU and no field 'gpu'; add gpu: {hardwareTypes: [TYPE]}"
            )
            continue
        if gpu.count < 1:
            findings.error(entry, (*location, "gpu", "count"), f"is {gpu.count}; it must be 1 or more")
        if gpu.memory is not None:
            findings.warn(
                entry,
                (*location, "gpu", "memory"),
                "is deprecated; choose by hardwareTypes, and leave it out",
            )
        named = entries.get(model_id or "")
        if named is not None and isinstance(named.entity, Model) and named.entity.accelerators is not None:
            offered = named.entity.accelerators
            if not any(_fits(accelerator, option) for option in offered):
                options = " or ".join(_name(option) for option in offered) or "no accelerator"
                message = f"is {_name(accelerator)}, and model '{model_id}' is made for {options}; choose one of these"
                findings.warn(entry, location, message)


def _accelerators(entity: DyffEntity) -> list[tuple[Location, Accelerator, str | None]]:
    """Accelerators with the places they are written at, and the model that runs on them.

    An embedded service's is told where that service is written down.
    """
    found: list[tuple[Location, Accelerator | None, str | None]] = []
    if isinstance(entity, Model):
        found = [(("accelerators", at), item, None) for at, item in enumerate(entity.accelerators or [])]
    elif isinstance(entity, InferenceService) and entity.runner is not None:
        model = None if entity.model is None else entity.model.id
        found = [(("runner", "accelerator"), entity.runner.accelerator, model)]
    elif isinstance(entity, InferenceSession | Evaluation):
        session = entity.inferenceSession if isinstance(entity, Evaluation) else entity
        model = None if session.inferenceService.model is None else session.inferenceService.model.id
        prefix = ("inferenceSession",) if isinstance(entity, Evaluation) else ()
        found = [((*prefix, "accelerator"), session.accelerator, model)]
    return [(location, item, model) for location, item, model in found if item is not None]


def _fits(accelerator: Accelerator, option: Accelerator) -> bool:
    if accelerator.kind != option.kind or accelerator.gpu is None or option.gpu is None:
        return accelerator.kind == option.kind
    shared = set(accelerator.gpu.hardwareTypes) & set(option.gpu.hardwareTypes)
    return bool(shared) and accelerator.gpu.count >= option.gpu.count


def _name(accelerator: Accelerator) -> str:
    if accelerator.gpu is None:
        return accelerator.kind
    return f"{accelerator.gpu.count} × {' or '.join(accelerator.gpu.hardwareTypes)}"
