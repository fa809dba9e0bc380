"""The page of an audit, and its commit."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from dyff_dagster.analysis.html import Origin, Page, render_body
from dyff_dagster.analysis.making import MADE, Making, version_of_directory
from dyff_dagster.analysis.score_table import score_table
from dyff_dagster.analysis.templating import environment
from dyff_dagster.audits.audit import Case, Evidence
from dyff_dagster.audits.requirements import Judgement
from dyff_dagster.schema.platform import Report
from dyff_dagster.schema.scores import declared_scores
from dyff_dagster.store import Commit, Facts, Inputs, Store

PAGE = "index.html"
SUMMARY = "audit.json"


@dataclass(frozen=True)
class Demand:
    """A line of the table of thresholds, as text."""

    what: str
    demanded: str
    found: str
    met: bool


def publish(case: Case, store: Store, *, inputs: Inputs, making: Making | None = None) -> Commit:
    """Write an audit's page, and a summary for programs, and commit both.

    Args:
        case: The audit with its results.
        store: Where it is committed; the caller holds the store's lock on it.
        inputs: What the page depends on.
        making: How it is made, for the page and the commit.

    Raises:
        RequirementsUnmet: A requirement is not met: nothing is written.
    """
    case.require()
    audit = case.audit
    making = making or Making.now()
    with store.draft(audit.id) as draft:
        Path(draft.path / PAGE).write_text(render_audit(case, inputs, making), "utf-8")
        summary = json.dumps(_summary(case), indent=1, sort_keys=True, allow_nan=False) + "\n"
        Path(draft.path / SUMMARY).write_text(summary, "utf-8")
        facts = Facts(
            scores=case.scores,
            page=PAGE,
            conclusion=conclusion(case),
            notes={"requirements": _met(case), "holds": holds(case), MADE: making.to_json()},
        )
        return draft.commit(
            entity=audit,
            data_version=version_of_directory(Path(draft.path), PAGE),
            inputs=inputs,
            facts=facts,
            run_id=making.run,
        )


def conclusion(case: Case) -> str:
    """What the audit comes to: whether everything is there, and whether the thresholds are met."""
    number = len(case.requirements)
    each = "The one requirement" if number == 1 else f"Each of the {number} requirements"
    met = f"{each} of “{case.procedure.name}” is met for “{case.service.name}”"
    said = f"{met} by a result that is complete and up to date."
    judged = case.judgements
    if not judged:
        return f"{said} The author of the audit sets no thresholds."
    kept = sum(item.holds for item in judged)
    if kept == len(judged):
        return f"{said} {'The one threshold is' if kept == 1 else f'All {kept} thresholds are'} met."
    missed = ", ".join(item.threshold.text for item in judged if not item.holds)
    return f"{said} {kept} of {len(judged)} thresholds are met; not met: {missed}."


def holds(case: Case) -> bool | None:
    """Whether all thresholds are met; None where there are none."""
    return all(item.holds for item in case.judgements) if case.thresholds else None


def render_audit(case: Case, inputs: Inputs, making: Making | None = None) -> str:
    """The audit's page: thresholds, requirements, results with their scores, and where all of it comes from.

    Args:
        case: The audit, all of whose requirements are met.
        inputs: What it depends on: the extras ``service`` and ``procedure`` are shown as their versions.
        making: How it is made; None: that is not shown.
    """
    counted = case.counted
    others = {
        item.result.id: item
        for found in case.requirements
        for item in found.evidence
        if item.fault and item.result.id not in counted
    }
    body = (
        environment("dyff_dagster.audits")
        .get_template("audit.html.j2")
        .render(
            case=case,
            demands=[_demand(item) for item in case.judgements],
            # Made here, of numbers and escaped names.
            tables={name: Markup(_scores(case, item)) for name, item in counted.items()},  # noqa: S704
            others=list(others.values()),
        )
    )
    words: dict[bool | None, str] = {
        True: "Complete, and every threshold is met",
        False: "Complete, and not every threshold is met",
        None: "Complete",
    }
    page = Page(
        title=f"{case.procedure.name}: {case.service.name}",
        kind=case.audit.kind,
        entity_id=case.audit.id,
        account=case.audit.account,
        conclusion=conclusion(case),
        holds=holds(case),
        verdict=words[holds(case)],
        provenance=tuple(dict.fromkeys(_origins(case, inputs))),
        making=making,
    )
    return render_body(body, page)


def _scores(case: Case, item: Evidence) -> str:
    """The table of a result's scores, with the audit's thresholds drawn into it."""
    scores = () if item.commit is None else item.commit.facts.scores
    marks: dict[str, list[float]] = {}
    for threshold in case.thresholds:
        owner, _, name = threshold.score.partition("/")
        if owner == item.result.id:
            marks.setdefault(name, []).append(threshold.number)
    declared = () if isinstance(item.result, Report) else declared_scores(item.result.method)
    about = {spec.name: spec.summary for spec in declared}
    return score_table(scores, about, marks) if scores else ""


_BOUNDS = {"value": "", "low": ", lower end of its interval", "high": ", upper end of its interval"}
_WORDS = {
    ">=": "at least",
    ">": "more than",
    "<=": "at most",
    "<": "less than",
    "==": "exactly",
    "!=": "other than",
}


def _demand(judgement: Judgement) -> Demand:
    threshold, score = judgement.threshold, judgement.score
    name = threshold.score if score is None else score.label
    found = judgement.reason
    if judgement.value is not None:
        found = f"{judgement.value:.3f}" if score is None else score.shown(judgement.value)
    return Demand(
        what=f"{name}{_BOUNDS[threshold.bound]}",
        demanded=f"{_WORDS[threshold.op]} {threshold.number:g}",
        found=found,
        met=judgement.holds,
    )


def _origins(case: Case, inputs: Inputs) -> Iterator[Origin]:
    yield Origin(
        "Audit procedure", case.procedure.id, case.procedure.name, inputs.extras.get("procedure", "")
    )
    yield Origin("Inference service", case.service.id, case.service.name, inputs.extras.get("service", ""))
    image = None if case.service.runner is None else case.service.runner.image
    if image is not None:
        place = f"{image.host}/{image.name}"
        yield Origin("Container image", place, image.tag or "", image.digest.removeprefix("sha256:"))
    else:
        yield Origin("Container image", "", "none: the service is run without one")
    for item in case.counted.values():
        yield from _of_evidence(item)


def _of_evidence(item: Evidence) -> Iterator[Origin]:
    if item.commit is None or item.answers is None:
        return
    read = {**item.answers.inputs["upstream"], **item.commit.inputs["upstream"]}
    model = item.evaluation.inferenceSession.inferenceService.model
    if model is not None:
        yield Origin("Model", model.id, "", read.get(model.id, ""))
    dataset = item.evaluation.dataset
    yield Origin("Data set", dataset, "", item.answers.inputs["upstream"].get(dataset, ""))
    yield Origin("Answers", item.evaluation.id, "", item.answers.data_version)
    result = item.result
    yield Origin(
        result.kind, result.id, "" if isinstance(result, Report) else result.name, item.commit.data_version
    )
    modules = result.modules if isinstance(result, Report) else result.method.modules
    if not isinstance(result, Report):
        yield Origin("Method", result.method.id, result.method.name, item.commit.inputs["spec"])
    for module in modules:
        yield Origin("Method code", module, "a module", read.get(module, ""))


def _met(case: Case) -> list[dict[str, object]]:
    return [
        {
            "dataset": found.requirement.dataset,
            "rubric": found.requirement.rubric,
            "met by": [item.result.id for item in found.counted],
        }
        for found in case.requirements
    ]


def _summary(case: Case) -> dict[str, object]:
    """The audit for programs: what is required, what meets it, and every score."""
    return {
        "audit": case.audit.id,
        "auditProcedure": case.procedure.id,
        "inferenceService": case.service.id,
        "requirements": _met(case),
        "results": {
            name: {
                "kind": item.result.kind,
                "version": "" if item.commit is None else item.commit.data_version,
                "evaluation": item.evaluation.id,
                "evaluationVersion": "" if item.answers is None else item.answers.data_version,
            }
            for name, item in case.counted.items()
        },
        "thresholds": [
            {"threshold": item.threshold.text, "holds": item.holds, "value": item.value}
            for item in case.judgements
        ],
        "scores": [
            {
                "name": score.name,
                "value": score.value if math.isfinite(score.value) else None,
                "low": score.low,
                "high": score.high,
                "n": score.n,
            }
            for score in case.scores
        ],
    }
