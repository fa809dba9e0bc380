"""What a Measurement or SafetyCase is about: does its scope say enough, and does it agree with the rest?"""

from __future__ import annotations

from collections.abc import Mapping

from dyff_dagster.catalog.documents import Branch
from dyff_dagster.catalog.entries import Entry, Findings
from dyff_dagster.catalog.requirements import evaluations_behind, judged_behind
from dyff_dagster.schema.platform import (
    Evaluation,
    InferenceService,
    Measurement,
    MethodScope,
    Report,
    SafetyCase,
)

_NEEDED = {
    MethodScope.InferenceService: ("inferenceService",),
    MethodScope.Evaluation: ("evaluation", "inferenceService", "dataset"),
}
"""What must be named for each scope of a Method, as the page of AnalysisScope says."""


def check_scope(
    entry: Entry, analysis: Measurement | SafetyCase, entries: Mapping[str, Entry], findings: Findings
) -> None:
    """Note a scope that leaves out what it must name, or names what does not belong together.

    One that leaves something out is a problem where a person wrote it, who can mend it, and a warning in
    the wire form and in Python, because the platform takes it.
    """
    scope = analysis.scope
    target = entries.get(scope.evaluation or "")
    evaluation = target.entity if target is not None and isinstance(target.entity, Evaluation) else None
    truth: dict[str, str | None] = {}
    if evaluation is not None:
        service = evaluation.inferenceSession.inferenceService
        model = None if service.model is None else service.model.id
        truth = {"inferenceService": service.id, "dataset": evaluation.dataset, "model": model}
    missing = [name for name in _NEEDED[analysis.method.scope] if getattr(scope, name) is None]
    if missing:
        hints = [f"{name}: {truth[name]}" for name in missing if truth.get(name)]
        message = (
            f"does not name {', '.join(missing)}, which a method of scope {analysis.method.scope} is about"
            + (f"; write {', '.join(hints)}" if hints else "")
        )
        (findings.error if _is_short(entry) else findings.warn)(entry, ("scope",), message)
    if evaluation is not None:
        _check_against_evaluation(entry, analysis, truth, findings)
    elif scope.inferenceService is not None and scope.model is not None:
        named = entries.get(scope.inferenceService)
        if named is not None and isinstance(named.entity, InferenceService):
            model = None if named.entity.model is None else named.entity.model.id
            _check_model(entry, scope.model, scope.inferenceService, model, findings)
    _check_inputs(entry, analysis, evaluation, entries, findings)


def check_report(entry: Entry, report: Report, entries: Mapping[str, Entry], findings: Findings) -> None:
    """Note a Report that names another data set, service or model than its evaluation."""
    target = entries.get(report.evaluation)
    if target is None or not isinstance(target.entity, Evaluation):
        return
    service = target.entity.inferenceSession.inferenceService
    for name, given, right, says in (
        ("dataset", report.dataset, target.entity.dataset, "asks about data set"),
        ("inferenceService", report.inferenceService, service.id, "asks service"),
    ):
        if given != right:
            message = f"is '{given}', and evaluation '{report.evaluation}' {says} '{right}'; write {right}"
            findings.error(entry, (name,), message)
    model = None if service.model is None else service.model.id
    if report.model is not None and report.model != model:
        runs = "has no model; leave it out" if model is None else f"runs model '{model}'; write {model}"
        findings.error(entry, ("model",), f"is '{report.model}', and service '{service.id}' {runs}")


def _is_short(entry: Entry) -> bool:
    """Whether the document names its method by id alone, as people do."""
    place = entry.place
    return isinstance(place, Branch) and not isinstance(place.children.get("method"), Branch)


def _check_against_evaluation(
    entry: Entry, analysis: Measurement | SafetyCase, truth: Mapping[str, str | None], findings: Findings
) -> None:
    scope = analysis.scope
    for name, says in (("inferenceService", "asks service"), ("dataset", "asks about data set")):
        given = getattr(scope, name)
        if given is not None and given != truth[name]:
            message = f"is '{given}', and evaluation '{scope.evaluation}' {says} '{truth[name]}'; write {truth[name]}"
            findings.error(entry, ("scope", name), message)
    if scope.model is not None:
        _check_model(entry, scope.model, str(truth["inferenceService"]), truth["model"], findings)


def _check_model(entry: Entry, given: str, service: str, model: str | None, findings: Findings) -> None:
    if given == model:
        return
    runs = "has no model; leave it out" if model is None else f"runs model '{model}'; write {model}"
    findings.error(entry, ("scope", "model"), f"is '{given}', and service '{service}' {runs}")


def _check_inputs(
    entry: Entry,
    analysis: Measurement | SafetyCase,
    evaluation: Evaluation | None,
    entries: Mapping[str, Entry],
    findings: Findings,
) -> None:
    """Note a result about a service of which no answer is behind it; warn of one about such an evaluation.

    Where no evaluation is behind it, what it is about cannot be told from its inputs.
    """
    service = analysis.scope.inferenceService
    judged = list(judged_behind(analysis, entries))
    behind = [*evaluations_behind(analysis, entries), *judged]
    services = list(dict.fromkeys(one.inferenceSession.inferenceService.id for one in behind))
    told = evaluation is not None and evaluation.inferenceSession.inferenceService.id != service
    if service is not None and services and service not in services and not told:
        others = " and ".join(f"'{one}'" for one in services)
        message = f"is '{service}', and the inputs are made of answers of {others}; write {services[0]}"
        # As above: a person can mend it, and what other tools wrote is taken as the platform takes it.
        (findings.error if _is_short(entry) else findings.warn)(entry, ("scope", "inferenceService"), message)
        return
    named = analysis.scope.evaluation
    if named is None:
        return
    about: list[str] = []
    for item in analysis.inputs:
        source = entries.get(item.entity)
        if source is None:
            continue
        if isinstance(source.entity, Evaluation):
            about.append(source.id)
        elif isinstance(source.entity, Measurement) and source.entity.scope.evaluation is not None:
            about.append(source.entity.scope.evaluation)
    if about and named not in about and named not in {one.id for one in judged}:
        others = ", ".join(f"'{one}'" for one in dict.fromkeys(about))
        findings.warn(
            entry,
            ("scope", "evaluation"),
            f"is '{named}', and the inputs are about {others}; correct the one or the other",
        )
