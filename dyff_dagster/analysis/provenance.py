"""What an analysis was made from, as its page lists it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from dyff_dagster.analysis.errors import AnalysisError
from dyff_dagster.analysis.html import Origin
from dyff_dagster.analysis.notebooks import find_notebook
from dyff_dagster.analysis.own_code import OWN_CODE, own_version
from dyff_dagster.schema.platform import (
    Measurement,
    MethodImplementationJupyterNotebook,
    SafetyCase,
)
from dyff_dagster.store import Inputs
from dyff_dagster.store.digests import digest_file

IMAGE = "image:"
"""Prefix of an extra of the inputs: the container image that a service was run from."""


def origins_of(
    entity: Measurement | SafetyCase, inputs: Inputs, modules: Mapping[str, Path]
) -> tuple[Origin, ...]:
    """Everything that an analysis was made from, in the order in which one asks for it: data, system, code.

    Args:
        entity: The analysis.
        inputs: Versions of it all.
        modules: Directories of the method's modules, by id.
    """
    return (*_about(entity, inputs), *_code(entity, inputs, modules))


def _about(entity: Measurement | SafetyCase, inputs: Inputs) -> Iterator[Origin]:
    scope = entity.scope
    keywords: dict[str, list[str]] = {}
    for item in entity.inputs:
        keywords.setdefault(item.entity, []).append(f"“{item.keyword}”")

    def origin(role: str, name: str) -> Origin:
        read = keywords.pop(name, [])
        version = inputs.upstream.get(name) or inputs.extras.get(f"scope:{name}", "")
        return Origin(role, name, f"read as {', '.join(read)}" if read else "", version)

    for role, name in (
        ("Data set", scope.dataset),
        ("Answers", scope.evaluation),
        ("Inference service", scope.inferenceService),
    ):
        if name:
            yield origin(role, name)
    if scope.inferenceService:
        image = inputs.extras.get(f"{IMAGE}{scope.inferenceService}")
        if image is not None:
            place, _, digest = image.partition("@")
            yield Origin("Container image", place, version=digest.removeprefix("sha256:"))
        elif f"scope:{scope.inferenceService}" in inputs.extras:
            yield Origin("Container image", "", "none: the service was run without one")
    if scope.model:
        yield origin("Model", scope.model)
    for name in list(keywords):
        yield origin("Input", name)


def _code(entity: Measurement | SafetyCase, inputs: Inputs, modules: Mapping[str, Path]) -> Iterator[Origin]:
    method = entity.method
    yield Origin("Method with its arguments", method.id, method.name, inputs.spec)
    for name in method.modules:
        yield Origin("Method code", name, "a module", inputs.upstream.get(name, ""))
    if (notebook := method.implementation.jupyterNotebook) is not None:
        yield Origin(
            "Notebook", notebook.notebookPath, f"in {notebook.notebookModule}", _digest(notebook, modules)
        )
    if OWN_CODE in inputs.extras:
        yield Origin("Code of the package", "dyff-dagster", own_version(), inputs.extras[OWN_CODE])
    for item in entity.arguments:
        yield Origin(f"Argument {item.keyword}", "", item.value)


def _digest(notebook: MethodImplementationJupyterNotebook, modules: Mapping[str, Path]) -> str:
    """SHA-256 of a notebook; empty where there is none, which whoever executes it will say."""
    try:
        return digest_file(find_notebook(modules[notebook.notebookModule], notebook.notebookPath)).sha256
    except AnalysisError:
        return ""
