"""What the platform has given up: kinds and values that are still read, and what to use instead."""

from __future__ import annotations

from dyff_dagster.catalog.entries import Entry, Findings
from dyff_dagster.schema.platform import Method, MethodImplementationKind, MethodInputKind, Report


def check_deprecations(entry: Entry, findings: Findings) -> None:
    """Warn of deprecated kinds and values. (An accelerator's ``memory`` is told with accelerators.)"""
    entity = entry.entity
    if isinstance(entity, Report):
        message = "entities of kind Report are deprecated since 0.8.0; use a Method and a Measurement"
        findings.warn(entry, ("kind",), message)
    if not isinstance(entity, Method):
        return
    if entity.implementation.kind == MethodImplementationKind.PythonRubric:
        message = "PythonRubric is deprecated since 0.8.0; use PythonFunction or JupyterNotebook"
        findings.warn(entry, ("implementation", "kind"), message)
    for index, item in enumerate(entity.inputs):
        if item.kind == MethodInputKind.Report:
            message = "inputs of kind Report are deprecated since 0.8.0; use Measurement"
            findings.warn(entry, ("inputs", index, "kind"), message)
