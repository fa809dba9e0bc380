"""Which results of a catalog can meet the requirements of an audit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dyff_dagster.catalog.entries import Entry
from dyff_dagster.schema.platform import (
    Audit,
    AuditProcedure,
    AuditRequirement,
    DyffEntity,
    Evaluation,
    Measurement,
    Report,
    SafetyCase,
)


@dataclass(frozen=True)
class Candidates:
    """A requirement of an audit, and what in the catalog can meet it.

    Attributes:
        requirement: The data set and the rubric.
        results: Ids of the Reports and Measurements that are about the audited service on that data set, by
            that rubric; sorted.
        evaluations: For each of them the Evaluation that it rests on.
    """

    requirement: AuditRequirement
    results: tuple[str, ...]
    evaluations: Mapping[str, str]


Key = tuple[str, str, str]
"""A service, a data set, a rubric."""


def candidates_of(entries: Mapping[str, Entry]) -> dict[str, tuple[Candidates, ...]]:
    """For each Audit its procedure's requirements, in their order, each with what can meet it."""
    audits = [entry.entity for entry in entries.values() if isinstance(entry.entity, Audit)]
    if not audits:
        return {}
    results = _results(entries)
    found = {}
    for audit in audits:
        entry = entries.get(audit.auditProcedure)
        procedure = None if entry is None else entry.entity
        if isinstance(procedure, AuditProcedure):
            found[audit.id] = tuple(
                Candidates(requirement, tuple(meeting), meeting)
                for requirement in procedure.requirements
                for meeting in [
                    results.get((audit.inferenceService, requirement.dataset, requirement.rubric), {})
                ]
            )
    return found


def _results(entries: Mapping[str, Entry]) -> dict[Key, dict[str, str]]:
    """What each result is about → the results, sorted, with the evaluation that each rests on."""
    found: dict[Key, dict[str, str]] = {}
    for entity_id, entry in sorted(entries.items()):
        entity = entry.entity
        if isinstance(entity, Report):
            rubric: str | None = entity.rubric
        elif isinstance(entity, Measurement):
            rubric = _rubric_of(entity, entries)
        else:
            continue
        evaluation = _evaluation_of(entity, entries)
        if rubric is not None and evaluation is not None:
            service = evaluation.inferenceSession.inferenceService.id
            found.setdefault((service, evaluation.dataset, rubric), {})[entity_id] = evaluation.id
    return found


def _rubric_of(measurement: Measurement, entries: Mapping[str, Entry]) -> str | None:
    """The rubric that its Method implements: what the Method says, else the name of its code."""
    method = entries.get(measurement.method.id)
    named = None if method is None else method.annotation("rubric")
    if named is not None:
        return named.strip()
    implementation = measurement.method.implementation
    function = implementation.pythonFunction or implementation.pythonRubric
    return None if function is None else function.fullyQualifiedName


def _evaluation_of(result: Measurement | Report, entries: Mapping[str, Entry]) -> Evaluation | None:
    """The Evaluation that a result is about, among those whose answers it was computed from.

    What a scope says is not taken for granted: it chooses among the evaluations upstream, and one that names
    none of them is about none.
    """
    near = {evaluation.id: evaluation for evaluation in evaluations_behind(result, entries)}
    if isinstance(result, Report):
        return near.get(result.evaluation)
    scope = result.scope
    behind = dict(near)
    for evaluation in near.values():
        behind.update((one.id, one) for one in _judged(evaluation, entries))
    for group in (near, behind):
        fitting = [
            evaluation
            for evaluation in group.values()
            if scope.evaluation in (None, evaluation.id)
            and scope.inferenceService in (None, evaluation.inferenceSession.inferenceService.id)
            and scope.dataset in (None, evaluation.dataset)
        ]
        if fitting:
            return fitting[0] if len(fitting) == 1 else None
    return None


def evaluations_behind(entity: DyffEntity, entries: Mapping[str, Entry]) -> Iterator[Evaluation]:
    """The evaluations among the inputs of a result, and among those of the results that it reads."""
    seen: set[str] = set()
    stack = [entity]
    while stack:
        here = stack.pop()
        if here.id in seen:
            continue
        seen.add(here.id)
        if isinstance(here, Evaluation):
            yield here
            continue
        names: list[str] = []
        if isinstance(here, Measurement | SafetyCase):
            names = [item.entity for item in here.inputs]
        elif isinstance(here, Report):
            names = [here.evaluation]
        stack += [entries[name].entity for name in names if name in entries]


def _judged(evaluation: Evaluation, entries: Mapping[str, Entry]) -> Iterator[Evaluation]:
    """The evaluations whose answers this one asks about: its data set is made from one, and so on."""
    seen = {evaluation.id}
    while True:
        rows = entries.get(evaluation.dataset)
        source = None if rows is None else entries.get((rows.annotation("from") or "").strip())
        if source is None or not isinstance(source.entity, Evaluation) or source.id in seen:
            return
        evaluation = source.entity
        seen.add(evaluation.id)
        yield evaluation


def judged_behind(entity: DyffEntity, entries: Mapping[str, Entry]) -> Iterator[Evaluation]:
    """The evaluations whose answers were asked about in those behind a result."""
    for evaluation in evaluations_behind(entity, entries):
        yield from _judged(evaluation, entries)
