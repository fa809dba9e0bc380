"""Every check of a catalog as a whole, after its entities were built one by one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dyff_dagster.catalog.analyses import check_analysis, check_method
from dyff_dagster.catalog.annotations import check_annotations, check_ingest, check_withheld
from dyff_dagster.catalog.endpoints import describe_bad_endpoint
from dyff_dagster.catalog.entries import Entry, Findings
from dyff_dagster.catalog.files import check_files, check_notebook
from dyff_dagster.catalog.problems import Location, suggestion
from dyff_dagster.catalog.references import check_references
from dyff_dagster.schema.adapters import create_adapter, create_pipeline
from dyff_dagster.schema.errors import DyffError
from dyff_dagster.schema.platform import (
    Audit,
    Dataset,
    DataSource,
    DataSources,
    DataView,
    DyffModelWithID,
    Evaluation,
    InferenceService,
    InferenceSession,
    Measurement,
    Method,
    Model,
    ModelArtifactKind,
    ModelSourceKinds,
    Report,
    SafetyCase,
    SchemaAdapter,
)

_SOURCES = {
    ModelSourceKinds.GitLFS: "gitLFS",
    ModelSourceKinds.HuggingFaceHub: "huggingFaceHub",
    ModelSourceKinds.OpenLLM: "openLLM",
}


def check_entries(entries: Mapping[str, Entry], known: Mapping[str, str], findings: Findings) -> None:
    """Note everything that is wrong with the entities of a catalog.

    :param known: ids and kinds of all entities, also of those that could not be built.
    """
    _check_case(known, entries, findings)
    # Services share their interface with every session and evaluation that embeds them: once is enough.
    checked: set[int] = set()
    for entry in entries.values():
        entity = entry.entity
        check_annotations(entry, findings)
        check_references(entry, known, findings)
        check_files(entry, findings)
        if isinstance(entity, Dataset):
            check_withheld(entry, entity, findings)
            source = entries.get((entry.annotation("from") or "").strip())
            check_ingest(entry, None if source is None else source.entity, findings)
            _check_views(entry, ("views",), entity.views, findings)
        elif isinstance(entity, InferenceService):
            _check_service(entry, (), entity, checked, findings)
            if entity.model is not None:
                _check_copy(entry, ("model",), entity.model, entries, findings)
        elif isinstance(entity, InferenceSession):
            _check_service(entry, ("inferenceService",), entity.inferenceService, checked, findings)
            _check_copy(entry, ("inferenceService",), entity.inferenceService, entries, findings)
        elif isinstance(entity, Evaluation):
            location: Location = ("inferenceSession", "inferenceService")
            _check_service(entry, location, entity.inferenceSession.inferenceService, checked, findings)
            _check_copy(entry, location, entity.inferenceSession.inferenceService, entries, findings)
            _check_evaluation(entry, entity, entries, findings)
        elif isinstance(entity, Method):
            check_method(entry, entity, findings)
            notebook = entity.implementation.jupyterNotebook
            module = None if notebook is None else entries.get(notebook.notebookModule)
            check_notebook(entry, entity, module, findings)
        elif isinstance(entity, Measurement | SafetyCase):
            check_analysis(entry, entity, findings)
            _check_copy(entry, ("method",), entity.method, entries, findings)
        elif isinstance(entity, Model):
            _check_model(entry, entity, findings)
        elif isinstance(entity, DataSource) and entity.sourceKind not in list(DataSources):
            names = [str(kind) for kind in DataSources]
            message = (
                f"'{entity.sourceKind}' is no kind of data source; {suggestion(entity.sourceKind, names)}"
            )
            findings.error(entry, ("sourceKind",), message)
        elif isinstance(entity, Audit | Report):
            message = f"entities of kind {entity.kind} are checked and cannot be computed by this release"
            findings.warn(entry, ("kind",), message)


def _check_case(known: Mapping[str, str], entries: Mapping[str, Entry], findings: Findings) -> None:
    """On disks that do not tell upper from lower case, two such ids would share a directory."""
    first: dict[str, str] = {}
    for entity_id in known:
        other = first.setdefault(entity_id.lower(), entity_id)
        if other != entity_id and entity_id in entries:
            findings.warn(
                entries[entity_id],
                ("id",),
                f"'{entity_id}' differs from '{other}' in upper and lower case only; some disks take them for one",
            )


def _check_model(entry: Entry, model: Model, findings: Findings) -> None:
    body = _SOURCES.get(model.source.kind)
    if body is not None and getattr(model.source, body) is None:
        findings.error(entry, ("source",), f"has kind {model.source.kind} and no field '{body}'")
    if model.artifact.kind == ModelArtifactKind.HuggingFaceCache and model.artifact.huggingFaceCache is None:
        findings.error(entry, ("artifact",), "has kind HuggingFaceCache and no field 'huggingFaceCache'")


def _check_evaluation(
    entry: Entry, evaluation: Evaluation, entries: Mapping[str, Entry], findings: Findings
) -> None:
    session = evaluation.inferenceSession
    for location, number in (
        (("replications",), evaluation.replications),
        (("workersPerReplica",), evaluation.workersPerReplica),
        (("inferenceSession", "replicas"), session.replicas),
    ):
        if number is not None and number < 1:
            findings.error(entry, location, f"is {number}; it must be 1 or more")
    running = entries.get(evaluation.inferenceSessionReference or "")
    if running is not None and isinstance(running.entity, InferenceSession):
        serves, asked = running.entity.inferenceService.id, session.inferenceService.id
        if serves != asked:
            findings.error(
                entry,
                ("inferenceSessionReference",),
                f"session '{running.id}' runs service '{serves}', and this asks service '{asked}'",
            )


def _check_copy(
    entry: Entry, location: Location, copy: DyffModelWithID, entries: Mapping[str, Entry], findings: Findings
) -> None:
    """Warn of an embedded entity that is not what the catalog has under its id: the copy is what is used."""
    original = entries.get(copy.id)
    if original is None:
        return
    same = all(
        getattr(copy, name) is getattr(original.entity, name, None)
        or getattr(copy, name) == getattr(original.entity, name, None)
        for name in type(copy).model_fields
    )
    if not same:
        findings.warn(
            entry,
            location,
            f"is a copy of '{copy.id}' that differs from the catalog's, and the copy is what is used; "
            "write the id instead to use the catalog's",
        )


def _check_service(
    entry: Entry,
    location: Location,
    service: InferenceService | object,
    checked: set[int],
    findings: Findings,
) -> None:
    interface = getattr(service, "interface", None)
    if interface is None or id(interface) in checked:
        return
    checked.add(id(interface))
    here = (*location, "interface")
    wrong = describe_bad_endpoint(interface.endpoint)
    if wrong is not None:
        findings.error(entry, (*here, "endpoint"), wrong)
    _check_pipeline(entry, (*here, "inputPipeline"), interface.inputPipeline, findings)
    _check_pipeline(entry, (*here, "outputPipeline"), interface.outputPipeline, findings)
    try:
        interface.outputSchema.decode()
    except DyffError as error:
        findings.error(entry, (*here, "outputSchema", "arrowSchema"), str(error))
    _check_views(entry, (*location, "outputViews"), getattr(service, "outputViews", []), findings)


def _check_views(entry: Entry, location: Location, views: Iterable[DataView], findings: Findings) -> None:
    seen: set[str] = set()
    for index, view in enumerate(views):
        _check_pipeline(entry, (*location, index, "adapterPipeline"), view.adapterPipeline, findings)
        if view.id in seen:
            findings.error(entry, (*location, index, "id"), f"the view '{view.id}' stands twice; rename one")
        seen.add(view.id)


def _check_pipeline(
    entry: Entry, location: Location, pipeline: list[SchemaAdapter] | None, findings: Findings
) -> None:
    """Note each adapter that cannot be made, and else a pipeline whose adapters do not go together."""
    if not pipeline:
        return
    good = True
    for index, adapter in enumerate(pipeline):
        try:
            create_adapter(adapter)
        except DyffError as error:
            good = False
            findings.error(entry, (*location, index), str(error))
    if good:
        try:
            create_pipeline(pipeline)
        except DyffError as error:
            findings.error(entry, location, str(error))
