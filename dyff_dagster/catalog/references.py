"""Which entities an entity names, and which of them its work waits for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from dyff_dagster.catalog.entries import Entry, Findings
from dyff_dagster.catalog.problems import Location, suggestion
from dyff_dagster.catalog.requirements import candidates_of
from dyff_dagster.schema.platform import (
    Audit,
    AuditProcedure,
    DyffEntity,
    Evaluation,
    Family,
    FamilyMemberKind,
    InferenceService,
    InferenceSession,
    Measurement,
    Method,
    Report,
    SafetyCase,
)

METHOD_INPUT_KINDS = ("Dataset", "Evaluation", "Measurement", "Report")

MEMBER_KINDS = tuple(str(kind) for kind in FamilyMemberKind)


UNKNOWN_KIND = ""
"""Stands for the kind of an entity whose kind is misspelled: whoever refers to it is not to blame."""


class Reference(NamedTuple):
    """An id inside an entity: where it stands, and of which kinds the entity that it names may be."""

    location: Location
    id: str
    kinds: tuple[str, ...]


def references(entity: DyffEntity) -> Iterator[Reference]:
    """Every entity that ``entity`` names in its fields (its annotations are not looked at)."""
    if isinstance(entity, Audit):
        yield Reference(("auditProcedure",), entity.auditProcedure, ("AuditProcedure",))
        yield Reference(("inferenceService",), entity.inferenceService, ("InferenceService",))
    elif isinstance(entity, Evaluation):
        yield Reference(("dataset",), entity.dataset, ("Dataset",))
        if entity.inferenceSessionReference is not None:
            yield Reference(
                ("inferenceSessionReference",), entity.inferenceSessionReference, ("InferenceSession",)
            )
        service = entity.inferenceSession.inferenceService.id
        yield Reference(("inferenceSession", "inferenceService", "id"), service, ("InferenceService",))
    elif isinstance(entity, InferenceService):
        if entity.model is not None:
            yield Reference(("model", "id"), entity.model.id, ("Model",))
    elif isinstance(entity, InferenceSession):
        yield Reference(("inferenceService", "id"), entity.inferenceService.id, ("InferenceService",))
    elif isinstance(entity, Method):
        for index, module in enumerate(entity.modules):
            yield Reference(("modules", index), module, ("Module",))
        notebook = entity.implementation.jupyterNotebook
        if notebook is not None:
            location = ("implementation", "jupyterNotebook", "notebookModule")
            yield Reference(location, notebook.notebookModule, ("Module",))
    elif isinstance(entity, Measurement | SafetyCase):
        yield from _of_analysis(entity)
    elif isinstance(entity, Report):
        yield Reference(("evaluation",), entity.evaluation, ("Evaluation",))
        for index, module in enumerate(entity.modules):
            yield Reference(("modules", index), module, ("Module",))
        yield Reference(("dataset",), entity.dataset, ("Dataset",))
        yield Reference(("inferenceService",), entity.inferenceService, ("InferenceService",))
        if entity.model is not None:
            yield Reference(("model",), entity.model, ("Model",))
    elif isinstance(entity, Family):
        for name, member in entity.members.items():
            yield Reference(("members", name, "resource"), member.resource, (str(entity.memberKind),))


_SCOPE = (
    ("evaluation", "Evaluation"),
    ("inferenceService", "InferenceService"),
    ("dataset", "Dataset"),
    ("model", "Model"),
)


def _of_analysis(entity: Measurement | SafetyCase) -> Iterator[Reference]:
    yield Reference(("method", "id"), entity.method.id, ("Method",))
    asked = {item.keyword: (str(item.kind),) for item in entity.method.inputs}
    for index, item in enumerate(entity.inputs):
        kinds = asked.get(item.keyword, METHOD_INPUT_KINDS)
        yield Reference(("inputs", index, "entity"), item.entity, kinds)
    for name, kind in _SCOPE:
        target = getattr(entity.scope, name)
        if target is not None:
            yield Reference(("scope", name), target, (kind,))


def describe_bad_reference(target: str, kinds: Sequence[str], known: Mapping[str, str]) -> str | None:
    """What is wrong with naming ``target`` where one of ``kinds`` is wanted, or None when nothing is.

    :param known: every id of the catalog, with its kind.
    """
    wanted = " or ".join(kinds)
    kind = known.get(target)
    if kind is None:
        candidates = [entity_id for entity_id, of_kind in known.items() if of_kind in kinds]
        return f"there is no {wanted} '{target}' in the catalog; {suggestion(target, candidates)}"
    if kind not in kinds and kind != UNKNOWN_KIND:
        return f"'{target}' is {with_article(kind)}; write the id of {with_article(wanted)}"
    return None


def with_article(kind: str) -> str:
    """The kind as a sentence has it: ``an Evaluation``, ``a Model``."""
    return f"an {kind}" if kind[0] in "AEIO" else f"a {kind}"


_FIELDS: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "Audit": (("auditProcedure", ("AuditProcedure",)), ("inferenceService", ("InferenceService",))),
    "Evaluation": (("dataset", ("Dataset",)), ("inferenceSessionReference", ("InferenceSession",))),
    "Report": (
        ("evaluation", ("Evaluation",)),
        ("dataset", ("Dataset",)),
        ("inferenceService", ("InferenceService",)),
    ),
}


def raw_references(kind: str, data: Mapping[str, Any]) -> Iterator[Reference]:
    """The plain references of a document that is no valid entity, so that they too are checked at once."""
    for name, kinds in _FIELDS.get(kind, ()):
        if isinstance(data.get(name), str):
            yield Reference((name,), data[name], kinds)
    modules = data.get("modules")
    if kind in ("Method", "Report") and isinstance(modules, list):
        for index, module in enumerate(modules):
            if isinstance(module, str):
                yield Reference(("modules", index), module, ("Module",))
    members = data.get("members")
    if kind == "Family" and isinstance(members, dict):
        for member_name, member in members.items():
            if isinstance(member, dict) and isinstance(member.get("resource"), str):
                wanted = (data["memberKind"],) if data.get("memberKind") in MEMBER_KINDS else MEMBER_KINDS
                yield Reference(("members", member_name, "resource"), member["resource"], wanted)
    inputs = data.get("inputs")
    if kind in ("Measurement", "SafetyCase") and isinstance(inputs, list):
        for index, item in enumerate(inputs):
            if isinstance(item, dict) and isinstance(item.get("entity"), str):
                yield Reference(("inputs", index, "entity"), item["entity"], METHOD_INPUT_KINDS)
    scope = data.get("scope")
    if kind in ("Measurement", "SafetyCase") and isinstance(scope, dict):
        for name, scope_kind in _SCOPE:
            if isinstance(scope.get(name), str):
                yield Reference(("scope", name), scope[name], (scope_kind,))


def check_references(entry: Entry, known: Mapping[str, str], findings: Findings) -> None:
    """Note every id in the entity's fields, and in its annotation ``from``, that names nothing right."""
    for reference in references(entry.entity):
        message = describe_bad_reference(reference.id, reference.kinds, known)
        if message is not None:
            findings.error(entry, reference.location, message)
    if isinstance(entry.entity, Family):
        _check_members(entry, entry.entity, findings)
    source = entry.annotation("from")
    if source is not None:
        message = describe_bad_reference(source.strip(), ("DataSource", "Evaluation"), known)
        if message is not None:
            findings.annotation_error(entry, "from", message)
    if isinstance(entry.entity, AuditProcedure):
        for index, requirement in enumerate(entry.entity.requirements):
            message = describe_bad_reference(requirement.dataset, ("Dataset",), known)
            if message is not None:
                findings.warn(entry, ("requirements", index, "dataset"), message)


def _check_members(entry: Entry, family: Family, findings: Findings) -> None:
    """Note a member whose own words contradict where it stands."""
    for name, member in family.members.items():
        if member.name != name:
            message = (
                f"is '{member.name}', and its key is '{name}'; leave the name out, or make them the same"
            )
            findings.error(entry, ("members", name, "name"), message)
        if member.family != family.id:
            message = f"is '{member.family}', and the member stands in '{family.id}'; leave the family out"
            findings.error(entry, ("members", name, "family"), message)


def upstream(entries: Mapping[str, Entry]) -> dict[str, tuple[str, ...]]:
    """For each entity the ids that its work waits for, each once, in the order of ``dependencies()``.

    Added to the dependencies, as CONTRACT says: a Dataset's ``from``, an Evaluation's running session, and
    for an Audit the Reports and Measurements of the catalog that meet its procedure's requirements.
    Entities that the catalog does not have are left out.
    """
    requirements = candidates_of(entries)
    edges: dict[str, tuple[str, ...]] = {}
    for entity_id, entry in entries.items():
        entity = entry.entity
        targets = list(entity.dependencies())
        source = entry.annotation("from")
        if source is not None:
            targets.append(source.strip())
        if isinstance(entity, Evaluation) and entity.inferenceSessionReference is not None:
            targets.append(entity.inferenceSessionReference)
        for candidates in requirements.get(entity_id, ()):
            targets += candidates.results
        edges[entity_id] = tuple(dict.fromkeys(target for target in targets if target in entries))
    return edges
