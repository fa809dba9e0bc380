"""What an entity's specification comes to, in a table for its asset's page, with links to what it names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import dagster as dg

from dyff_dagster.catalog import Catalog
from dyff_dagster.schema.platform import (
    Accelerator,
    Audit,
    AuditProcedure,
    Dataset,
    DataSource,
    DyffEntity,
    Evaluation,
    Family,
    ForeignInferenceService,
    InferenceService,
    InferenceSession,
    Measurement,
    Method,
    Model,
    Module,
    Report,
    SafetyCase,
)

_LISTED = 12
"""Things of one sort that are listed; of the others their number is."""


@dataclass(frozen=True)
class Reference:
    """Another entity that a specification names, by its id."""

    entity_id: str


@dataclass(frozen=True)
class Line:
    """A line of the table: what is said, and the texts and references that say it."""

    label: str
    values: tuple[str | Reference, ...]


def overview(entity: DyffEntity, catalog: Catalog) -> tuple[Line, ...]:
    """The essentials of an entity's specification, by its kind; what is empty is left out."""
    return tuple(line for line in _lines(entity, catalog) if line.values)


def references_in(lines: Sequence[Line], catalog: Catalog) -> dict[str, str]:
    """The entities of the catalog that a table names, by what they are to it: ``{"dataset": "wdbc-held-out"}``."""
    found: dict[str, str] = {}
    for line in lines:
        named = [v.entity_id for v in line.values if isinstance(v, Reference) and v.entity_id in catalog]
        role = line.label.replace(" ", "_")
        for number, entity_id in enumerate(named, 1):
            found[role if len(named) == 1 else f"{role}_{number}"] = entity_id
    return found


def as_markdown(lines: Sequence[Line], keys: Mapping[str, dg.AssetKey], webserver: str | None) -> str:
    """The table as Markdown.

    Args:
        lines: Its lines.
        keys: The assets' keys by entity id.
        webserver: URL of Dagster's web server, to which links lead; None: an asset's key stands there.
    """

    def shown(value: str | Reference) -> str:
        if isinstance(value, str):
            return _escaped(value)
        key = keys.get(value.entity_id)
        if key is None:
            return f"`{value.entity_id}`"
        if webserver is None:
            return f"`{key.to_user_string()}`"
        path = "/".join(quote(part, safe="") for part in key.path)
        return f"[{value.entity_id}]({webserver.rstrip('/')}/assets/{path})"

    rows = []
    for line in lines:
        values = [shown(value) for value in line.values[:_LISTED]]
        if len(line.values) > _LISTED:
            values.append(f"and {len(line.values) - _LISTED} more")
        rows.append(f"| {_escaped(line.label)} | {', '.join(values)} |")
    return "\n".join(["| | |", "|---|---|", *rows]) if rows else ""


_MARKUP = str.maketrans({sign: f"\\{sign}" for sign in r"\`*_{}[]()<>#+!|~$&^-"})


def _escaped(text: str) -> str:
    """Text that says nothing in Markdown but itself."""
    return " ".join(text.split()).translate(_MARKUP)


def _lines(entity: DyffEntity, catalog: Catalog) -> Iterator[Line]:
    thresholds = catalog.annotation(entity.id, "checks")
    if thresholds is not None:
        yield Line("demanded", tuple(part.strip() for part in thresholds.split(";") if part.strip()))
    for kind, of in _KINDS.items():
        if isinstance(entity, kind):
            yield from of(entity, catalog)


def _data_source(entity: DataSource, catalog: Catalog) -> Iterator[Line]:
    yield Line("kind of source", (entity.sourceKind,))
    yield _line("where", without_credentials(entity.source or ""))


def _dataset(entity: Dataset, catalog: Catalog) -> Iterator[Line]:
    source = (catalog.annotation(entity.id, "from") or "").strip()
    yield Line("source", (Reference(source),) if source else ())
    columns = [name for name in entity.schema_.decode().names if name != "_index_"]
    yield Line("columns", tuple(columns))
    withheld = catalog.withheld(entity.id)
    if withheld is not None:
        yield Line("withheld from services", tuple(sorted(withheld)) or ("nothing",))
    yield Line("views", tuple(view.id for view in entity.views))


def _model(entity: Model, catalog: Catalog) -> Iterator[Line]:
    source = entity.source
    where = ""
    if source.huggingFaceHub is not None:
        where = f"{source.huggingFaceHub.repoID} at {source.huggingFaceHub.revision}"
    elif source.gitLFS is not None:
        where = without_credentials(str(source.gitLFS.url))
    elif source.openLLM is not None:
        where = f"{source.openLLM.modelID} at {source.openLLM.modelVersion}"
    yield Line("kind of source", (str(source.kind.value),))
    yield _line("where", where)
    cache = entity.artifact.huggingFaceCache
    yield _line("stored as", f"{cache.repoID} at {cache.revision}" if cache is not None else "")
    yield _line("memory", entity.resources.memory)
    yield Line("runs on", tuple(_accelerator(item) for item in entity.accelerators or ()))


def _service(entity: InferenceService | ForeignInferenceService, catalog: Catalog) -> Iterator[Line]:
    yield Line("model", (Reference(entity.model.id),) if entity.model is not None else ())
    if entity.builder is not None:
        yield Line("built by", (str(entity.builder.kind),))
    if entity.runner is None:
        yield Line("run by", ("somebody else: it is called where it is",))
    else:
        yield Line("run by", (str(entity.runner.kind.value),))
        if entity.runner.accelerator is not None:
            yield Line("accelerator", (_accelerator(entity.runner.accelerator),))
    yield Line("endpoint", (without_credentials(entity.interface.endpoint),))
    responses = entity.interface.outputSchema.decode().field("responses").type.value_type
    names = [field.name for field in responses if field.name != "_response_index_"]
    yield Line("answers with", tuple(names))


def _session(entity: InferenceSession, catalog: Catalog) -> Iterator[Line]:
    yield Line("service", (Reference(entity.inferenceService.id),))
    yield Line("replicas", (str(entity.replicas),))
    accelerator = entity.effective_accelerator()
    yield Line("accelerator", (_accelerator(accelerator),) if accelerator is not None else ())
    yield _line("ends", f"{entity.expires:%Y-%m-%d %H:%M} UTC" if entity.expires else "")


def _evaluation(entity: Evaluation, catalog: Catalog) -> Iterator[Line]:
    session = entity.inferenceSession
    yield Line("dataset", (Reference(entity.dataset),))
    yield Line("service", (Reference(session.inferenceService.id),))
    model = session.inferenceService.model
    yield Line("model", (Reference(model.id),) if model is not None else ())
    running = entity.inferenceSessionReference
    yield Line("session", (Reference(running),) if running is not None else ())
    yield Line("asked", ("once" if entity.replications == 1 else f"{entity.replications} times",))
    workers = entity.workersPerReplica
    each = f", {workers} requests at once for each" if workers else ""
    yield Line("replicas", (f"{session.replicas}{each}",))
    accelerator = session.effective_accelerator()
    yield Line("accelerator", (_accelerator(accelerator),) if accelerator is not None else ())
    for name in ("max-failed-rows", "max-requests", "max-cost", "max-seconds", "accept"):
        yield _line(name.replace("-", " "), catalog.annotation(entity.id, name))


def _module(entity: Module, catalog: Catalog) -> Iterator[Line]:
    yield Line("files", tuple(artifact.path for artifact in entity.artifacts))


def _method(entity: Method, catalog: Catalog) -> Iterator[Line]:
    how = entity.implementation
    if how.jupyterNotebook is not None:
        yield Line("notebook", (how.jupyterNotebook.notebookPath,))
    function = how.pythonFunction or how.pythonRubric
    if function is not None:
        yield Line("function" if how.pythonFunction else "rubric", (function.fullyQualifiedName,))
    yield Line("module", tuple(Reference(module) for module in entity.modules))
    yield Line("about", (f"one {entity.scope.value} each",))
    yield Line("reads", tuple(f"{item.keyword}: {item.kind.value}" for item in entity.inputs))
    yield Line("parameters", tuple(item.keyword for item in entity.parameters))
    measured = entity.output.measurement
    level = "" if measured is None else f", level {measured.level.value}"
    yield Line("makes", (f"{entity.output.kind.value}{level}",))


def _analysis(entity: Measurement | SafetyCase, catalog: Catalog) -> Iterator[Line]:
    yield Line("method", (Reference(entity.method.id),))
    for item in entity.inputs:
        yield Line(f"reads {item.keyword}", (Reference(item.entity),))
    scope = entity.scope
    read = {item.entity for item in entity.inputs}
    about = {
        "about dataset": scope.dataset,
        "about evaluation": scope.evaluation,
        "about service": scope.inferenceService,
        "about model": scope.model,
    }
    for label, name in about.items():
        yield Line(label, (Reference(name),) if name is not None and name not in read else ())
    yield Line("arguments", tuple(f"{item.keyword} = {item.value}" for item in entity.arguments))


def _report(entity: Report, catalog: Catalog) -> Iterator[Line]:
    yield Line("rubric", (entity.rubric,))
    yield Line("evaluation", (Reference(entity.evaluation),))
    yield Line("dataset", (Reference(entity.dataset),))
    yield Line("service", (Reference(entity.inferenceService),))
    yield Line("model", (Reference(entity.model),) if entity.model is not None else ())
    yield Line("module", tuple(Reference(module) for module in entity.modules))


def _procedure(entity: AuditProcedure, catalog: Catalog) -> Iterator[Line]:
    for number, requirement in enumerate(entity.requirements, 1):
        yield Line(f"requirement {number}", (requirement.rubric, Reference(requirement.dataset)))


def _audit(entity: Audit, catalog: Catalog) -> Iterator[Line]:
    yield Line("procedure", (Reference(entity.auditProcedure),))
    yield Line("service", (Reference(entity.inferenceService),))


def _family(entity: Family, catalog: Catalog) -> Iterator[Line]:
    yield Line("of", (str(entity.memberKind.value),))
    for name, member in entity.members.items():
        yield Line(f"member {name}", (Reference(member.resource),))


_KINDS: dict[type[DyffEntity], Callable[[Any, Catalog], Iterator[Line]]] = {
    DataSource: _data_source,
    Dataset: _dataset,
    Model: _model,
    InferenceService: _service,
    InferenceSession: _session,
    Evaluation: _evaluation,
    Module: _module,
    Method: _method,
    Measurement: _analysis,
    SafetyCase: _analysis,
    Report: _report,
    AuditProcedure: _procedure,
    Audit: _audit,
    Family: _family,
}


def _line(label: str, value: str | None) -> Line:
    return Line(label, (value,) if value else ())


def _accelerator(accelerator: Accelerator) -> str:
    gpu = accelerator.gpu
    if gpu is None:
        return str(accelerator.kind)
    return f"{gpu.count} × {' or '.join(gpu.hardwareTypes)}"


def without_credentials(url: str) -> str:
    """A URL without what might be a secret: user, password, query and fragment."""
    if "://" not in url:
        return url
    try:
        parts = urlsplit(url)
    except ValueError:
        return url.partition("://")[0] + "://"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
