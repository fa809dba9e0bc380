"""Inference services: endpoints, pipelines, what they read of a data set, and what they answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import pyarrow as pa

from dyff_dagster.catalog.annotations import withheld_fields
from dyff_dagster.catalog.endpoints import describe_bad_endpoint
from dyff_dagster.catalog.entries import Entry, Findings
from dyff_dagster.catalog.pipelines import Doubt, Fault, Flow, follow_pipeline
from dyff_dagster.catalog.problems import Location, suggestion
from dyff_dagster.catalog.schemas_fit import check_output_schema, check_schema, decoded, response_fields
from dyff_dagster.catalog.shapes import ANY_OBJECT, Object, find_missing, shape_of_rows
from dyff_dagster.schema.adapters import check_pipeline
from dyff_dagster.schema.arrow import RESPONSE_INDEX_FIELD
from dyff_dagster.schema.platform import (
    Dataset,
    DataView,
    Evaluation,
    InferenceInterface,
    InferenceServiceSpec,
    Report,
    SchemaAdapter,
)

_Side = Literal["inputPipeline", "outputPipeline", "adapterPipeline"]


class InterfaceChecks:
    """The checks of a catalog's services; what many evaluations embed is looked at once.

    :param known: ids and kinds of all entities of the catalog.
    """

    def __init__(self, known: Mapping[str, str], findings: Findings) -> None:
        self.known = known
        self.findings = findings
        self._checked: dict[int, bool] = {}  # by identity, which the catalog's entities keep alive
        self._flows: dict[tuple[int, str, frozenset[str]], Flow] = {}

    def check_service(self, entry: Entry, location: Location, service: InferenceServiceSpec) -> None:
        """Note what is wrong with a service by itself."""
        interface = service.interface
        if id(interface) in self._checked:
            return
        here = (*location, "interface")
        wrong = describe_bad_endpoint(interface.endpoint)
        if wrong is not None:
            self.findings.error(entry, (*here, "endpoint"), wrong)
        given = self._pipeline(
            entry, (*here, "inputPipeline"), interface.inputPipeline, ANY_OBJECT, "inputPipeline"
        )
        self._checked[id(interface)] = given is not None
        answers = self._pipeline(
            entry, (*here, "outputPipeline"), interface.outputPipeline, ANY_OBJECT, "outputPipeline"
        )
        schema = check_output_schema(entry, (*here, "outputSchema"), interface.outputSchema, self.findings)
        if schema is not None and answers is not None and interface.outputPipeline:
            self._check_answers(entry, (*here, "outputPipeline"), answers, schema)
        rows = ANY_OBJECT if schema is None else shape_of_rows(schema)
        self.check_views(entry, (*location, "outputViews"), service.outputViews, rows)

    def check_views(self, entry: Entry, location: Location, views: Iterable[DataView], rows: Object) -> None:
        """Note what is wrong with views of data whose rows have the shape ``rows``."""
        seen: set[str] = set()
        for index, view in enumerate(views):
            here = (*location, index)
            self._check_view(entry, here, view, rows)
            if view.id in seen:
                self.findings.error(entry, (*here, "id"), f"the view '{view.id}' stands twice; rename one")
            seen.add(view.id)

    def check_report_views(
        self, entry: Entry, report: Report, dataset: Entry | None, evaluation: Entry | None
    ) -> None:
        """Note what is wrong with the views through which a Report's rubric sees rows and answers."""
        if report.datasetView is not None and dataset is not None and isinstance(dataset.entity, Dataset):
            schema = decoded(dataset.entity.schema_.arrowSchema)
            rows = ANY_OBJECT if schema is None else shape_of_rows(schema)
            self._check_view(entry, ("datasetView",), report.datasetView, rows)
        if (
            report.evaluationView is not None
            and evaluation is not None
            and isinstance(evaluation.entity, Evaluation)
        ):
            interface = evaluation.entity.inferenceSession.inferenceService.interface
            schema = decoded(interface.outputSchema.arrowSchema)
            rows = ANY_OBJECT if schema is None else shape_of_rows(schema)
            self._check_view(entry, ("evaluationView",), report.evaluationView, rows)

    def _check_view(self, entry: Entry, here: Location, view: DataView, rows: Object) -> None:
        made = self._pipeline(
            entry, (*here, "adapterPipeline"), view.adapterPipeline, rows, "adapterPipeline"
        )
        schema = check_schema(entry, (*here, "schema"), view.schema_, self.findings)
        misfit = None if schema is None or made is None else find_missing(made, schema)
        if misfit is not None:
            found = "behind its adapterPipeline" if view.adapterPipeline else "in what it is a view of"
            self.findings.error(entry, (*here, "schema"), misfit.describe("in the view's schema", found))
        if view.viewOf not in self.known:
            message = (
                f"there is no entity '{view.viewOf}' in the catalog; {suggestion(view.viewOf, self.known)}"
            )
            self.findings.error(entry, (*here, "viewOf"), message)

    def check_requests(self, entry: Entry, evaluation: Evaluation, dataset: Entry | None) -> None:
        """Note an input pipeline that reads what its data set withholds, or does not have."""
        service = evaluation.inferenceSession.inferenceService
        interface = service.interface
        if dataset is None or not isinstance(dataset.entity, Dataset):
            return
        if not interface.inputPipeline or not self._checked.get(id(interface), False):
            return
        flow = self._flow(interface, dataset.entity, dataset.annotation("withhold") or "")
        if flow is None:
            return
        if flow.fault is not None:
            message = _describe(flow.fault, service.id, dataset.id)
            self.findings.error(entry, ("dataset",), message)
        for doubt in flow.doubts:
            self.findings.warn(entry, ("dataset",), _describe_doubt(doubt, service.id, dataset.id))

    def _flow(self, interface: InferenceInterface, dataset: Dataset, withhold: str) -> Flow | None:
        withheld = frozenset(withheld_fields(withhold))
        key = (id(interface), dataset.schema_.arrowSchema, withheld)
        if key not in self._flows:
            schema = decoded(dataset.schema_.arrowSchema)
            if schema is None or not interface.inputPipeline:
                return None
            self._flows[key] = follow_pipeline(interface.inputPipeline, shape_of_rows(schema, withheld))
        return self._flows[key]

    def _pipeline(
        self,
        entry: Entry,
        location: Location,
        pipeline: list[SchemaAdapter] | None,
        rows: Object,
        side: _Side,
    ) -> Object | None:
        """Note what is wrong with a pipeline; return the shape of what comes out, None where nothing can."""
        if not pipeline:
            return rows
        wrong = check_pipeline(pipeline, side)
        for position, error in wrong:
            self.findings.error(entry, (*location, position), str(error))
        if wrong:
            return None
        flow = follow_pipeline(pipeline, rows)
        if flow.fault is not None:
            self.findings.error(entry, (*location, flow.fault.position), _describe_inside(flow.fault))
            return None
        return flow.shape

    def _check_answers(self, entry: Entry, location: Location, answers: Object, schema: pa.Schema) -> None:
        fields = response_fields(schema) or []
        misfit = find_missing(answers, fields, optional=[RESPONSE_INDEX_FIELD.name])
        if misfit is not None:
            message = misfit.describe("in the outputSchema", "behind the outputPipeline")
            self.findings.error(entry, location, message)
            return
        for item in fields:
            if answers.open or item.name in answers.fields or item.name == RESPONSE_INDEX_FIELD.name:
                continue
            hint = suggestion(item.name, answers.fields)
            message = f"makes no field '{item.name}', which is always null in the answers then; {hint}"
            self.findings.warn(entry, location, message)


def _describe(fault: Fault, service: str, dataset: str) -> str:
    """A fault of an input pipeline, seen from the evaluation that brings it together with a data set."""
    step = f"inputPipeline[{fault.position}] ({fault.adapter}) of service '{service}' reads the field '{fault.field}'"
    if fault.withheld:
        return (
            f"{step}, which data set '{dataset}' withholds from every service; take it out of the pipeline, "
            "or out of 'dyff-dagster/withhold'"
        )
    rows = f"data set '{dataset}'" if fault.position == 0 else f"what is left of data set '{dataset}' there"
    if fault.found is not None:
        return f"{step}, and in {rows} that is within {fault.found}; correct the pipeline"
    return f"{step}, which {rows} does not have; {suggestion(fault.field, fault.known)}"


def _describe_inside(fault: Fault) -> str:
    """A fault of a pipeline that is one with any rows."""
    step = f"{fault.adapter} reads the field '{fault.field}'"
    if fault.found is not None:
        return f"{step}, and at this step that is within {fault.found}; correct the pipeline"
    return f"{step}, which is not there at this step; {suggestion(fault.field, fault.known)}"


def _describe_doubt(doubt: Doubt, service: str, dataset: str) -> str:
    return (
        f"whether inputPipeline[{doubt.position}] ({doubt.adapter}) of service '{service}' wants the field "
        f"'{doubt.field}' cannot be told from its query {doubt.query}, and data set '{dataset}' withholds it; "
        "name what is meant, as in $.field"
    )
