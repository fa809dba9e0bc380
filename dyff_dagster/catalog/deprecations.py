"""What the platform has given up: kinds and values that are still read, and what to use instead."""

from __future__ import annotations

from collections.abc import Iterator

from dyff_dagster.catalog.entries import Entry, Findings
from dyff_dagster.schema.platform import (
    DyffEntity,
    Measurement,
    Method,
    MethodBase,
    MethodImplementationKind,
    MethodInputKind,
    Report,
    SafetyCase,
)

_REPORT = "entities of kind Report are deprecated since 0.8.0; use a Method and a Measurement"


def check_deprecations(entry: Entry, findings: Findings) -> None:
    """Warn of deprecated kinds and values. (An accelerator's ``memory`` is told with accelerators.)"""
    entity = entry.entity
    if isinstance(entity, Report):
        findings.warn(entry, ("kind",), _REPORT)
    if isinstance(entity, Method):
        for place, message in _of_method(entity):
            findings.warn(entry, place, message)


def deprecations(entity: DyffEntity) -> Iterator[str]:
    """What an entity is computed by, or of, that the platform has given up: a sentence for each."""
    if isinstance(entity, Report):
        yield _REPORT
    if isinstance(entity, Measurement | SafetyCase):
        for _, message in _of_method(entity.method):
            yield f"its method {entity.method.id}: {message}"


def _of_method(method: MethodBase) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if method.implementation.kind == MethodImplementationKind.PythonRubric:
        message = "PythonRubric is deprecated since 0.8.0; use PythonFunction or JupyterNotebook"
        yield ("implementation", "kind"), message
    for index, item in enumerate(method.inputs):
        if item.kind == MethodInputKind.Report:
            message = "inputs of kind Report are deprecated since 0.8.0; use Measurement"
            yield ("inputs", index, "kind"), message
