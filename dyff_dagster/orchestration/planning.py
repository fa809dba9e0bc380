"""What a run would do, why, and what it would cost, said before it is paid."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, replace
from typing import Any

from dyff_dagster import evaluation
from dyff_dagster.catalog import Catalog
from dyff_dagster.orchestration.selection import ancestors_with_ops, is_declared_only
from dyff_dagster.orchestration.steps import Step
from dyff_dagster.schema.errors import DyffError
from dyff_dagster.schema.platform import DyffEntity, Evaluation, InferenceSession
from dyff_dagster.store import Commit, Inputs, Store

RUN, LIKELY, UNCHANGED = "run", "likely", "unchanged"
"""It will be computed; it will, unless what is computed before it comes out as it was; it will be taken over."""


@dataclass(frozen=True)
class Planned:
    """What a run would do with one entity.

    Attributes:
        id: The entity.
        kind: Its kind.
        action: ``run``, ``likely`` or ``unchanged``.
        why: In words.
        answers: An Evaluation's, in all; None where its data set is not there yet or would be computed before it, and
            for other kinds.
        requests: Those that would be asked; where something else that it is made of would be computed before it, all of
            them, which is the most that there can be.
        tokens: That these would take, by what earlier ones took; None where nobody counted.
        cost: The same in money, in the currency of ``prices``.
        seconds: The same in time, by the rate of the last run.
        replicas: Of the session that it would start; 0 where it starts none.
        gpus: Accelerators of that session, over all replicas.
        gpu_hours: By ``seconds``; None where that is not known, or there are no accelerators.
    """

    id: str
    kind: str
    action: str
    why: str = ""
    answers: int | None = None
    requests: int | None = None
    tokens: int | None = None
    cost: float | None = None
    seconds: float | None = None
    replicas: int = 0
    gpus: int = 0
    gpu_hours: float | None = None

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


def plan(
    catalog: Catalog,
    store: Store,
    selected: Collection[str] | None = None,
    step: Callable[[DyffEntity], Step] | None = None,
) -> list[Planned]:
    """What a run of some entities would do with each, dependencies first. Nothing is computed, asked or written.

    Args:
        catalog: The entities.
        store: Where their artifacts are.
        selected: Those that would be materialized; None: all.
        step: Makes the step of an entity; default one on this machine.
    """
    make = step or (lambda entity: Step(catalog, store, entity, lambda *_: None))
    found: dict[str, Planned] = {}
    for entity_id, entity in catalog.entities.items():
        if is_declared_only(entity) or (selected is not None and entity_id not in selected):
            continue
        found[entity_id] = _planned(catalog, store, entity, make(entity), found)
    return list(found.values())


def _planned(
    catalog: Catalog, store: Store, entity: DyffEntity, step: Step, before: dict[str, Planned]
) -> Planned:
    moving = [
        up for up in ancestors_with_ops(catalog, entity.id) if up in before and before[up].action != UNCHANGED
    ]
    commit = store.current(entity.id)
    inputs: Inputs | None = None
    try:
        inputs = step.inputs()
        fault = ""
    except DyffError as error:
        fault = str(error)
    if commit is None:
        action, why = RUN, "it was never computed"
    elif inputs is not None and inputs.digest != commit.input_digest:
        action, why = RUN, _changed(inputs, commit)
    elif moving:
        action, why = LIKELY, f"{_listed(moving)} before it may come out otherwise"
    elif inputs is None:
        action, why = RUN, fault
    elif isinstance(entity, InferenceSession):
        action, why = RUN, "a session is looked at each time, and started where it does not run"
    elif not step.may_be_taken_over(commit):
        action, why = RUN, "more of its rows have no answer than its author allows"
    elif not store.intact(commit):
        action, why = RUN, f"files are missing from {commit.path}"
    else:
        return Planned(entity.id, entity.kind, UNCHANGED)
    found = Planned(entity.id, entity.kind, action, why)
    if isinstance(entity, Evaluation):
        return _of_evaluation(entity, step, inputs, found, moving)
    if isinstance(entity, InferenceSession):
        gpu = entity.effective_gpu()
        return replace(found, replicas=entity.replicas, gpus=gpu.count * entity.replicas if gpu else 0)
    return found


def _changed(inputs: Inputs, commit: Commit) -> str:
    """What is other than it was, in words."""
    was = commit.inputs
    said = []
    if was.get("spec") != inputs.spec:
        said.append("its spec has changed")
    old = was.get("upstream", {})
    if changed := [name for name, version in inputs.upstream.items() if old.get(name) != version]:
        said.append(f"the content of {_listed(changed)} has changed")
    extras = was.get("extras", {})
    if changed := [name for name, digest in inputs.extras.items() if extras.get(name) != digest]:
        said.append(f"what it is made with has changed ({', '.join(changed)})")
    return " and ".join(said) or "what it is made from has changed"


def _of_evaluation(
    entity: Evaluation, step: Step, inputs: Inputs | None, found: Planned, moving: list[str]
) -> Planned:
    """What an evaluation would ask, as far as that can be known before what it is made of is computed."""
    if step.imported(entity) is not None:
        return replace(found, requests=0)  # its answers were given elsewhere
    session = entity.inferenceSession
    starts = entity.inferenceSessionReference is None and session.inferenceService.runner is not None
    gpu = session.effective_gpu()
    more: dict[str, Any] = {}
    if starts:
        more = {"replicas": session.replicas, "gpus": gpu.count * session.replicas if gpu is not None else 0}
    if inputs is not None and entity.dataset not in moving:
        missing = evaluation.count_missing(
            entity,
            step.store,
            dataset=step.path_of(entity.dataset),
            service_digest=inputs.extras["service"],
            withheld=step.withheld(entity),
            options=step.options(entity),
        )
        # Another model or session may mean another service, of which no answer is there.
        requests = missing.expected if moving else missing.requests
        more |= {"answers": missing.expected, "requests": requests}
        more |= _estimates(step.store, entity.id, requests)
        if requests == 0:
            more |= {"replicas": 0, "gpus": 0}
        if more.get("seconds") is not None and more.get("gpus"):
            more["gpu_hours"] = round(more["gpus"] * more["seconds"] / 3600, 4)
    return replace(found, **more)


def _estimates(store: Store, entity_id: str, requests: int) -> dict[str, Any]:
    """Tokens, cost and time of so many requests, by what the ones before took; empty where there were none."""
    try:
        summary = json.loads(store.get_working(entity_id, "summary.json"))
        rows, sent = int(summary["rows"]), int(summary["requests"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return {}
    if not rows or not sent:
        return {}
    estimates: dict[str, Any] = {}
    for name in ("tokens", "cost"):
        if (total := summary.get(name)) is not None:
            each = total / rows * requests
            estimates[name] = round(each) if name == "tokens" else round(each, 6)
    if rate := summary.get("rowsPerSecond"):
        estimates["seconds"] = round(requests / rate, 1)
    return estimates


def _listed(names: list[str]) -> str:
    shown = names[:3]
    return ", ".join(shown) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
