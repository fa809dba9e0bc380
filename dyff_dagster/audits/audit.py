"""An Audit: is there, for each thing that its procedure requires, a result that is complete and up to date?

The results are gathered by whoever knows what is out of date; what counts is decided here, and fails closed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dyff_dagster.analysis.making import MADE
from dyff_dagster.audits.conformance import schema_fault
from dyff_dagster.audits.requirements import Judgement, judge
from dyff_dagster.catalog import Catalog, Threshold, parse_checks
from dyff_dagster.schema.canonical import canonical_json, sha256_text
from dyff_dagster.schema.errors import DyffError
from dyff_dagster.schema.platform import (
    Audit,
    AuditProcedure,
    AuditRequirement,
    Evaluation,
    InferenceService,
    Measurement,
    Report,
)
from dyff_dagster.store import Commit, Completeness, Facts, Score, Store

_LISTED = 20
"""Requirements that an error lists."""


@dataclass(frozen=True)
class Evidence:
    """A result that is offered for a requirement.

    Attributes:
        result: The Report or Measurement.
        evaluation: The Evaluation that it rests on.
        commit: Its current version, or None.
        answers: The Evaluation's current version, or None.
        fault: Why it does not count, as one clause; empty where it counts.
    """

    result: Measurement | Report
    evaluation: Evaluation
    commit: Commit | None
    answers: Commit | None
    fault: str

    @property
    def name(self) -> str:
        """What people call the result."""
        return self.result.rubric if isinstance(self.result, Report) else self.result.name

    @property
    def scores(self) -> tuple[Score, ...]:
        """Its scores, under names that say whose they are: ``wdbc-accuracy/sensitivity``."""
        if self.commit is None:
            return ()
        return tuple(
            replace(score, name=f"{self.result.id}/{score.name}", title=f"{self.name}: {score.label}")
            for score in self.commit.facts.scores
        )


@dataclass(frozen=True)
class Requirement:
    """A requirement, and what is offered for it."""

    requirement: AuditRequirement
    evidence: tuple[Evidence, ...]

    @property
    def counted(self) -> tuple[Evidence, ...]:
        """What counts of it."""
        return tuple(item for item in self.evidence if not item.fault)

    @property
    def fault(self) -> str:
        """Why the requirement is not met, as one clause; empty where it is."""
        if self.counted:
            return ""
        if not self.evidence:
            return "the catalog has no Report or Measurement of it for this service"
        return "; ".join(f"{item.result.id} {item.fault}" for item in self.evidence)

    def __str__(self) -> str:
        return f"{self.requirement.rubric} on {self.requirement.dataset}"


class RequirementsUnmet(DyffError):
    """An audit whose procedure requires what is not there.

    Attributes:
        audit: The audit's id.
        unmet: The requirements that are not met; none where the procedure requires nothing.
        reason: The platform's word for it.
    """

    reason = "UnsatisfiedDependency"

    def __init__(self, audit: str, procedure: str, unmet: Sequence[Requirement], total: int) -> None:
        self.audit = audit
        self.unmet = tuple(unmet)
        if not unmet:
            super().__init__(
                f"{audit}: procedure {procedure} requires nothing, so there is nothing to audit: add requirements to it"
            )
            return
        listed = "; ".join(f"({n}) {item}: {item.fault}" for n, item in enumerate(unmet[:_LISTED], 1))
        more = f"; and {len(unmet) - _LISTED} more" if len(unmet) > _LISTED else ""
        super().__init__(
            f"{audit}: {len(unmet)} of {total} requirements of {procedure} are not met: {listed}{more}; "
            "materialize what is missing or out of date, and then the audit"
        )


@dataclass(frozen=True)
class Case:
    """An audit with everything that it rests on.

    Attributes:
        audit: The audit.
        procedure: What is required.
        service: What is audited.
        requirements: The procedure's, in its order.
        thresholds: What its author demands of the scores.
    """

    audit: Audit
    procedure: AuditProcedure
    service: InferenceService
    requirements: tuple[Requirement, ...]
    thresholds: tuple[Threshold, ...] = ()

    @property
    def unmet(self) -> tuple[Requirement, ...]:
        """The requirements that nothing meets."""
        return tuple(item for item in self.requirements if item.fault)

    @property
    def counted(self) -> dict[str, Evidence]:
        """The results that count, by id, in the order of the requirements; each once."""
        return {item.result.id: item for found in self.requirements for item in found.counted}

    @property
    def scores(self) -> tuple[Score, ...]:
        """The scores of all results that count."""
        return tuple(score for item in self.counted.values() for score in item.scores)

    @property
    def judgements(self) -> tuple[Judgement, ...]:
        """The thresholds, held against the scores."""
        facts = Facts(scores=self.scores)
        return tuple(judge(threshold, facts) for threshold in self.thresholds)

    def require(self) -> None:
        """See that every requirement is met.

        Raises:
            RequirementsUnmet: One is not, or there are none.
        """
        if self.unmet or not self.requirements:
            raise RequirementsUnmet(self.audit.id, self.procedure.id, self.unmet, len(self.requirements))

    @property
    def digest(self) -> str:
        """Digest of what the audit's page says of the results, beside their data versions."""
        said = [_described(found) for found in self.requirements]
        return sha256_text(canonical_json([said, [threshold.text for threshold in self.thresholds]]))


def examine(
    catalog: Catalog,
    store: Store,
    audit: Audit,
    current: Callable[[str], Commit | None],
    out_of_date: Callable[[str], str],
) -> Case:
    """Gather what is offered for each requirement of an audit, and say what of it counts.

    Args:
        catalog: Where the audit is from.
        store: Where results are committed.
        audit: The audit.
        current: The current version of an entity, or None; the same whenever it is asked.
        out_of_date: Why the current version of an entity is not what would be computed now, as one clause; empty
            where it is.
    """
    found: dict[str, Evidence] = {}
    requirements = []
    for candidates in catalog.candidates(audit.id):
        for result in candidates.results:
            if result not in found:
                evaluation = catalog.get_as(candidates.evaluations[result], Evaluation)
                found[result] = _evidence(catalog, store, result, evaluation, current, out_of_date)
        requirements.append(
            Requirement(candidates.requirement, tuple(found[result] for result in candidates.results))
        )
    return Case(
        audit=audit,
        procedure=catalog.get_as(audit.auditProcedure, AuditProcedure),
        service=catalog.get_as(audit.inferenceService, InferenceService),
        requirements=tuple(requirements),
        thresholds=tuple(parse_checks(text)) if (text := catalog.annotation(audit.id, "checks")) else (),
    )


def _evidence(
    catalog: Catalog,
    store: Store,
    result_id: str,
    evaluation: Evaluation,
    current: Callable[[str], Commit | None],
    out_of_date: Callable[[str], str],
) -> Evidence:
    result = catalog.get(result_id)
    assert isinstance(result, Measurement | Report)  # noqa: S101
    commit, answers = current(result_id), current(evaluation.id)
    if commit is None or answers is None:
        fault = "was never materialized"
    elif not store.intact(commit):
        fault = f"has lost files of its version in {commit.path}"
    else:
        fault = (
            out_of_date(result_id)
            or _incomplete("it", "has", commit.facts.completeness)
            or _incomplete(f"its evaluation {evaluation.id}", "answered", answers.facts.completeness)
            or schema_fault(result, commit)
            or _blocked(catalog, result_id, commit)
        )
    return Evidence(result, evaluation, commit, answers, fault)


def _incomplete(who: str, does: str, counted: Completeness | None) -> str:
    if counted is None or counted.complete:
        return ""
    return f"is incomplete: {who} {does} {counted.answered:,} of {counted.expected:,} rows"


def _blocked(catalog: Catalog, result_id: str, commit: Commit) -> str:
    """The threshold that its author lets block what is downstream, where it does not hold."""
    text = catalog.annotation(result_id, "checks")
    if not text or (catalog.annotation(result_id, "blocking") or "").lower() != "true":
        return ""
    for threshold in parse_checks(text):
        if not judge(threshold, commit.facts).holds:
            return f"does not hold {threshold.text}, which blocks"
    return ""


def _described(found: Requirement) -> Mapping[str, Any]:
    return {
        "dataset": found.requirement.dataset,
        "rubric": found.requirement.rubric,
        "counted": [
            [item.result.id, item.evaluation.id, _facts(item.commit), dict(item.commit.inputs)]
            for item in found.counted
            if item.commit is not None
        ],
        "not counted": [[item.result.id, item.fault] for item in found.evidence if item.fault],
    }


def _facts(commit: Commit) -> dict[str, Any]:
    """What there is to say of a version, without how it was made: that says nothing of what it is."""
    said = commit.facts.to_json()
    return {**said, "notes": {name: note for name, note in said["notes"].items() if name != MADE}}
