"""Do Methods, and the Measurements and SafetyCases that use them, agree with each other?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from dyff_dagster.catalog.entries import Entry, Findings
from dyff_dagster.catalog.problems import Location, suggestion
from dyff_dagster.schema.platform import (
    Analysis,
    Method,
    MethodImplementationKind,
)

_BODIES = {
    MethodImplementationKind.JupyterNotebook: "jupyterNotebook",
    MethodImplementationKind.PythonFunction: "pythonFunction",
    MethodImplementationKind.PythonRubric: "pythonRubric",
}
_OUTPUTS = {"Measurement": "measurement", "SafetyCase": "safetyCase"}


def check_method(entry: Entry, method: Method, findings: Findings) -> None:
    """Note a Method that contradicts itself: no body of its kind, doubled keywords, an unlisted module."""
    implementation = method.implementation
    body = {str(kind): name for kind, name in _BODIES.items()}.get(implementation.kind)
    if body is None:
        message = f"'{implementation.kind}' is no kind of implementation; {suggestion(implementation.kind, _BODIES)}"
        findings.error(entry, ("implementation", "kind"), message)
    elif getattr(implementation, body) is None:
        findings.error(entry, ("implementation",), f"has kind {implementation.kind} and no field '{body}'")
    output = _OUTPUTS[str(method.output.kind)]
    if getattr(method.output, output) is None:
        findings.error(entry, ("output",), f"has kind {method.output.kind} and no field '{output}'")
    for name, keywords in (
        ("parameters", [parameter.keyword for parameter in method.parameters]),
        ("inputs", [item.keyword for item in method.inputs]),
    ):
        _check_doubles(entry, name, keywords, findings)
    notebook = implementation.jupyterNotebook
    if notebook is not None and notebook.notebookModule not in method.modules:
        findings.error(
            entry,
            ("implementation", "jupyterNotebook", "notebookModule"),
            f"'{notebook.notebookModule}' must be listed under modules too: naming it here makes it no dependency",
        )


def check_analysis(entry: Entry, analysis: Analysis, findings: Findings) -> None:
    """Note where a Measurement or SafetyCase does not fit its Method.

    Arguments and inputs that are missing, surplus or given twice; a method that makes something else. (The
    kind of an input is checked with all references, the scope in ``scope``.)
    """
    method = analysis.method
    kind = entry.entity.kind
    if str(method.output.kind) != kind:
        findings.error(
            entry, ("method", "id"), f"method '{method.id}' makes a {method.output.kind}, not a {kind}"
        )
        return
    parameters = [parameter.keyword for parameter in method.parameters]
    arguments = [argument.keyword for argument in analysis.arguments]
    _check_keywords(entry, "arguments", "a parameter", method.id, parameters, arguments, findings)
    inputs = [item.keyword for item in method.inputs]
    given = [item.keyword for item in analysis.inputs]
    _check_keywords(entry, "inputs", "an input", method.id, inputs, given, findings)


def _check_keywords(
    entry: Entry,
    field: str,
    noun: str,
    method: str,
    declared: Sequence[str],
    given: Sequence[str],
    findings: Findings,
) -> None:
    for keyword in dict.fromkeys(declared):
        if keyword not in given:
            findings.error(entry, (field,), f"lacks '{keyword}', {noun} of method '{method}'")
    for index, keyword in enumerate(given):
        if keyword not in declared:
            location: Location = (field, index, "keyword")
            message = (
                f"method '{method}' has no {noun.split()[-1]} '{keyword}'; {suggestion(keyword, declared)}"
            )
            findings.error(entry, location, message)
    _check_doubles(entry, field, given, findings)


def _check_doubles(entry: Entry, field: str, keywords: Sequence[str], findings: Findings) -> None:
    for keyword, count in Counter(keywords).items():
        if count > 1:
            last = len(keywords) - 1 - list(reversed(keywords)).index(keyword)
            findings.error(entry, (field, last, "keyword"), f"'{keyword}' stands {count} times; keep one")
