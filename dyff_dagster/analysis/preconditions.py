"""What must hold before an analysis is worth starting."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dyff_dagster.analysis.errors import AnalysisError
from dyff_dagster.analysis.notebooks import find_notebook
from dyff_dagster.schema.annotations import annotation
from dyff_dagster.schema.platform import Measurement, MethodImplementationKind, MethodOutputKind, SafetyCase


def check_analysis(
    entity: Measurement | SafetyCase,
    input_paths: Mapping[str, Path],
    modules: Mapping[str, Path],
    here: bool = True,
) -> None:
    """Refuse what cannot go well, before anything is started.

    Args:
        entity: The analysis.
        input_paths: Directories of the inputs' versions, by entity id.
        modules: Directories of the modules' versions, by module id.
        here: Whether it is to run on this machine.

    Raises:
        AnalysisError: Arguments or inputs are missing or surplus, something is not committed, or the method
            does not make what the entity is.
    """
    method = entity.method
    for what, declared, given in (
        ("argument", [p.keyword for p in method.parameters], [a.keyword for a in entity.arguments]),
        ("input", [i.keyword for i in method.inputs], [i.keyword for i in entity.inputs]),
    ):
        missing = [keyword for keyword in declared if keyword not in given]
        surplus = [keyword for keyword in given if keyword not in declared]
        doubled = sorted({keyword for keyword in given if given.count(keyword) > 1})
        complaints = [
            f"{word} {', '.join(names)}"
            for word, names in (
                ("it misses", missing),
                ("it has unasked", surplus),
                ("it has twice", doubled),
            )
            if names
        ]
        if complaints:
            wanted = ", ".join(declared) if declared else f"no {what}s"
            raise AnalysisError(
                f"{entity.id}: the {what}s do not fit its method {method.id}, which takes {wanted}: "
                + "; ".join(complaints)
            )
    for item in entity.inputs:
        if item.entity not in input_paths:
            raise AnalysisError(
                f"{entity.id}: input {item.keyword} is {item.entity}, which has no committed version"
            )
    for module in method.modules:
        if module not in modules:
            raise AnalysisError(
                f"{entity.id}: module {module} of its method {method.id} has no committed version"
            )
    isolation = annotation(entity, "isolation") or "process"
    if isolation != "process" and here:
        raise AnalysisError(
            f"{entity.id}: isolation {isolation!r} needs Kubernetes (DYFF_SESSIONS=kubernetes) and is not available in "
            "a process of this machine; set dyff-dagster/isolation to process, or leave it out"
        )
    _check_method(entity, modules)


def _check_method(entity: Measurement | SafetyCase, modules: Mapping[str, Path]) -> None:
    method = entity.method
    if method.output.kind != MethodOutputKind(entity.kind):
        raise AnalysisError(
            f"{entity.id} is a {entity.kind}, and its method {method.id} makes a {method.output.kind}"
        )
    implementation = method.implementation
    if implementation.kind == MethodImplementationKind.JupyterNotebook and implementation.jupyterNotebook:
        module = implementation.jupyterNotebook.notebookModule
        if module not in modules:
            raise AnalysisError(
                f"{entity.id}: the notebook of its method {method.id} lies in module {module}, which the method "
                "does not list in modules"
            )
        find_notebook(modules[module], implementation.jupyterNotebook.notebookPath)
        return
    fits = {
        MethodImplementationKind.PythonFunction: implementation.pythonFunction,
        MethodImplementationKind.PythonRubric: implementation.pythonRubric,
    }
    if not any(implementation.kind == kind and details for kind, details in fits.items()):
        raise AnalysisError(
            f"{entity.id}: method {method.id} is implemented as {implementation.kind!r}; give JupyterNotebook, "
            "PythonFunction or PythonRubric, and the field of that name"
        )
    if isinstance(entity, SafetyCase) and implementation.kind == MethodImplementationKind.PythonRubric:
        raise AnalysisError(
            f"{entity.id}: method {method.id} is a PythonRubric, which scores rows; a SafetyCase is made by a "
            "JupyterNotebook or a PythonFunction"
        )
