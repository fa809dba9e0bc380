"""Every check of a catalog as a whole, after its entities were built one by one."""

from __future__ import annotations

from collections.abc import Mapping

from dyff_dagster.catalog.analyses import check_analysis, check_method
from dyff_dagster.catalog.annotations import check_annotations, check_ingest, check_withheld
from dyff_dagster.catalog.builders import check_builder
from dyff_dagster.catalog.comparisons import check_comparison
from dyff_dagster.catalog.deprecations import check_deprecations
from dyff_dagster.catalog.derived import check_derived
from dyff_dagster.catalog.entries import Entry, Findings
from dyff_dagster.catalog.files import check_files, check_notebook
from dyff_dagster.catalog.hardware import check_accelerators
from dyff_dagster.catalog.held import check_held
from dyff_dagster.catalog.interfaces import InterfaceChecks
from dyff_dagster.catalog.problems import Location, suggestion
from dyff_dagster.catalog.references import check_references
from dyff_dagster.catalog.schemas_fit import (
    check_dataset_schema,
    check_measurement_schema,
    check_method_schema,
    decoded,
)
from dyff_dagster.catalog.scope import check_report, check_scope
from dyff_dagster.catalog.shapes import ANY_OBJECT, shape_of_rows
from dyff_dagster.schema.platform import (
    Dataset,
    DataSource,
    DataSources,
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
    interfaces = InterfaceChecks(known, findings)
    for entry in entries.values():
        entity = entry.entity
        check_annotations(entry, findings)
        check_references(entry, known, findings)
        check_files(entry, findings)
        check_accelerators(entry, entries, findings)
        check_deprecations(entry, findings)
        check_held(entry, findings)
        if isinstance(entity, Dataset):
            check_withheld(entry, entity, findings)
            source = entries.get((entry.annotation("from") or "").strip())
            check_ingest(entry, None if source is None else source.entity, findings)
            check_dataset_schema(entry, entity, findings)
            if source is not None and isinstance(source.entity, Evaluation):
                check_derived(entry, entity, entries.get(source.entity.dataset), source.entity, findings)
            schema = decoded(entity.schema_.arrowSchema)
            rows = ANY_OBJECT if schema is None else shape_of_rows(schema)
            interfaces.check_views(entry, ("views",), entity.views, rows)
        elif isinstance(entity, InferenceService):
            interfaces.check_service(entry, (), entity)
            check_builder(entry, entity, findings)
            if entity.model is not None:
                _check_copy(entry, ("model",), entity.model, entries, findings)
        elif isinstance(entity, InferenceSession):
            interfaces.check_service(entry, ("inferenceService",), entity.inferenceService)
            _check_copy(entry, ("inferenceService",), entity.inferenceService, entries, findings)
        elif isinstance(entity, Evaluation):
            location: Location = ("inferenceSession", "inferenceService")
            interfaces.check_service(entry, location, entity.inferenceSession.inferenceService)
            _check_copy(entry, location, entity.inferenceSession.inferenceService, entries, findings)
            _check_evaluation(entry, entity, entries, findings)
            interfaces.check_requests(entry, entity, entries.get(entity.dataset))
        elif isinstance(entity, Method):
            check_method(entry, entity, findings)
            check_method_schema(entry, entity, findings)
            notebook = entity.implementation.jupyterNotebook
            module = None if notebook is None else entries.get(notebook.notebookModule)
            check_notebook(entry, entity, module, findings)
        elif isinstance(entity, Measurement | SafetyCase):
            check_analysis(entry, entity, findings)
            check_comparison(entry, entity, entries, findings)
            check_scope(entry, entity, entries, findings)
            if isinstance(entity, Measurement):
                check_measurement_schema(entry, entity, findings)
            _check_copy(entry, ("method",), entity.method, entries, findings)
        elif isinstance(entity, Model):
            _check_model(entry, entity, findings)
        elif isinstance(entity, DataSource) and entity.sourceKind not in list(DataSources):
            names = [str(kind) for kind in DataSources]
            message = (
                f"'{entity.sourceKind}' is no kind of data source; {suggestion(entity.sourceKind, names)}"
            )
            findings.error(entry, ("sourceKind",), message)
        elif isinstance(entity, Report):
            check_report(entry, entity, entries, findings)
            interfaces.check_report_views(
                entry, entity, entries.get(entity.dataset), entries.get(entity.evaluation)
            )


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
    service = entries.get(session.inferenceService.id)
    if entry.annotation("max-cost") is not None and (service is None or service.annotation("prices") is None):
        findings.annotation_error(
            entry,
            "max-cost",
            f"stops nothing while nobody says what answers cost: add 'dyff-dagster/prices' to the service "
            f"'{session.inferenceService.id}'",
        )
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
