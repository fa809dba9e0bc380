"""The page of an audit, and its commit."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from dyff_dagster.analysis.html import Origin, Page, render_body
from dyff_dagster.audits.audit import Case, Evidence
from dyff_dagster.schema.platform import Report
from dyff_dagster.store import Commit, Facts, Inputs, Score, Store
from dyff_dagster.store.digests import digest_file, list_files, tree_digest

if TYPE_CHECKING:
    from jinja2 import Environment

PAGE = "index.html"
SUMMARY = "audit.json"


def publish(case: Case, store: Store, *, inputs: Inputs, run_id: str = "") -> Commit:
    """Write an audit's page, and a summary for programs, and commit both.

    Args:
        case: The audit with its results.
        store: Where it is committed; the caller holds the store's lock on it.
        inputs: What the page depends on.
        run_id: The Dagster run.

    Raises:
        RequirementsUnmet: A requirement is not met: nothing is written.
    """
    case.require()
    audit = case.audit
    with store.draft(audit.id) as draft:
        Path(draft.path / PAGE).write_text(render_audit(case, inputs), "utf-8")
        summary = json.dumps(_summary(case), indent=1, sort_keys=True, allow_nan=False) + "\n"
        Path(draft.path / SUMMARY).write_text(summary, "utf-8")
        digests = {name: digest_file(draft.path / name) for name in list_files(draft.path)}
        facts = Facts(
            scores=case.scores,
            page=PAGE,
            conclusion=conclusion(case),
            notes={"requirements": _met(case)},
        )
        return draft.commit(
            entity=audit, data_version=tree_digest(digests), inputs=inputs, facts=facts, run_id=run_id
        )


def conclusion(case: Case) -> str:
    """What the audit comes to, in a sentence."""
    number = len(case.requirements)
    each = "The one requirement" if number == 1 else f"Each of the {number} requirements"
    met = f"{each} of “{case.procedure.name}” is met for “{case.service.name}”"
    return f"{met} by a result that is complete and up to date."


def render_audit(case: Case, inputs: Inputs) -> str:
    """The audit's page: requirements, results with their scores, and where all of it comes from.

    Args:
        case: The audit, all of whose requirements are met.
        inputs: What it depends on: the extras ``service`` and ``procedure`` are shown as their versions.
    """
    counted = case.counted
    others = {
        item.result.id: item
        for found in case.requirements
        for item in found.evidence
        if item.fault and item.result.id not in counted
    }
    body = (
        _templates()
        .get_template("audit.html.j2")
        .render(case=case, conclusion=conclusion(case), others=list(others.values()))
    )
    page = Page(
        title=f"{case.procedure.name}: {case.service.name}",
        kind=case.audit.kind,
        entity_id=case.audit.id,
        account=case.audit.account,
        provenance=tuple(dict.fromkeys(_origins(case, inputs))),
    )
    return render_body(body, page)


def _origins(case: Case, inputs: Inputs) -> Iterator[Origin]:
    yield Origin(
        "Audit procedure", case.procedure.id, case.procedure.name, inputs.extras.get("procedure", "")
    )
    yield Origin("Inference service", case.service.id, case.service.name, inputs.extras.get("service", ""))
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
    yield Origin("Evaluation", item.evaluation.id, "", item.answers.data_version)
    result = item.result
    yield Origin(
        result.kind, result.id, "" if isinstance(result, Report) else result.name, item.commit.data_version
    )
    modules = result.modules if isinstance(result, Report) else result.method.modules
    if not isinstance(result, Report):
        yield Origin("Method", result.method.id, result.method.name, item.commit.inputs["spec"])
    for module in modules:
        yield Origin("Module", module, "", read.get(module, ""))


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


@cache
def _templates() -> Environment:
    from jinja2 import Environment, PackageLoader

    environment = Environment(
        loader=PackageLoader("dyff_dagster.audits"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = _number
    return environment


def _number(value: float, score: Score) -> str:
    return score.shown(value) if math.isfinite(value) else "undefined"
