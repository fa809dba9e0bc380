"""Rubrics, the platform's deprecated way of scoring: PythonRubric methods, and Reports, which are made of one.

A rubric is a class with ``name``, ``schema`` (an Arrow schema) and ``apply(task_data, predictions)``, which yields
record batches of that schema: rows per instance, from the data set and from the answers to it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dyff_dagster.analysis.errors import AnalysisError
from dyff_dagster.analysis.records import ScoreRecord, add_score
from dyff_dagster.schema.arrow import encode_schema
from dyff_dagster.schema.ids import replication_id
from dyff_dagster.schema.parquet import open_dataset, write_dataset
from dyff_dagster.schema.platform import (
    AnalysisScope,
    DataView,
    Measurement,
    MethodImplementationKind,
    Report,
)

if TYPE_CHECKING:
    import pyarrow.dataset

TASK_DATA, PREDICTIONS = "task_data", "predictions"
"""Keywords of a rubric's two inputs."""

REFERENCE = "dyff.audit.scoring"
"""Where a short name such as ``classification.TopKAccuracy`` is looked for when it is no module's."""

_INDEX = "_index_"
_NUMBERED = 100
"""Replications that errors count; of later ones they show the id."""


@dataclass(frozen=True)
class ReportViews:
    """Through what a Report's rubric sees its inputs; None: as they are. Wire JSON, for the worker.

    Attributes:
        dataset: Of the rows.
        evaluation: Of the answers.
        evaluation_id: Whose answers; errors count its replications.
    """

    dataset: dict[str, Any] | None
    evaluation: dict[str, Any] | None
    evaluation_id: str

    @classmethod
    def of(cls, report: Report) -> ReportViews:
        """The views of a report."""
        return cls(_wire(report.datasetView), _wire(report.evaluationView), report.evaluation)


def _wire(view: DataView | None) -> dict[str, Any] | None:
    return None if view is None else view.model_dump(mode="json", by_alias=True)


def as_measurement(report: Report) -> Measurement:
    """The instance-level Measurement that says the same as a Report, but for its schema: that is its rubric's."""
    spec = {
        "name": f"{report.rubric} of {report.evaluation}",
        "level": "Instance",
        "schema": {"arrowSchema": encode_schema(pa.schema([]))},
    }
    return Measurement.model_validate(
        {
            "id": report.id,
            "account": report.account,
            **spec,
            "scope": {
                "evaluation": report.evaluation,
                "dataset": report.dataset,
                "inferenceService": report.inferenceService,
                "model": report.model,
            },
            "inputs": [
                {"keyword": TASK_DATA, "entity": report.dataset},
                {"keyword": PREDICTIONS, "entity": report.evaluation},
            ],
            "method": {
                "id": report.id,
                "account": report.account,
                "name": report.rubric,
                "scope": "Evaluation",
                "implementation": {
                    "kind": str(MethodImplementationKind.PythonRubric),
                    "pythonRubric": {"fullyQualifiedName": report.rubric},
                },
                "inputs": [
                    {"keyword": TASK_DATA, "kind": "Dataset"},
                    {"keyword": PREDICTIONS, "kind": "Evaluation"},
                ],
                "output": {"kind": "Measurement", "measurement": spec},
                "modules": report.modules,
            },
        }
    )


def find_rubric(name: str) -> Any:
    """An instance of the rubric that a dotted name means, short names as the platform reads them.

    Raises:
        AnalysisError: There is no such class, or it has no ``apply``.
    """
    from dyff_dagster.analysis.functions import find_symbol

    try:
        found = find_symbol(name)
    except AnalysisError:
        try:
            found = find_symbol(f"{REFERENCE}.{name}")
        except (AnalysisError, ModuleNotFoundError):
            found = None
        if found is None:
            raise
    rubric = found()
    if not callable(getattr(rubric, "apply", None)):
        raise AnalysisError(
            f"{name} is no rubric: it has no method apply(task_data, predictions) that yields record batches"
        )
    return rubric


def schema_of(rubric: Any, name: str) -> pa.Schema:
    """The Arrow schema of what a rubric yields.

    Raises:
        AnalysisError: It has none, or one without ``_index_``.
    """
    schema = getattr(rubric, "schema", None)
    if not isinstance(schema, pa.Schema):
        raise AnalysisError(
            f"rubric {name} has no Arrow schema; give its class an attribute `schema`, a pyarrow.Schema"
        )
    position = schema.get_field_index("_index_")
    if position < 0 or schema.field(position).type != pa.int64():
        raise AnalysisError(
            f"the schema of rubric {name} has no field _index_: int64; a rubric scores instances, and must name them"
        )
    return schema


def view_input(
    dataset: pyarrow.dataset.Dataset, view: Mapping[str, Any] | None, directory: Path, evaluation: str
) -> pyarrow.dataset.Dataset:
    """An input as a view shows it, written below ``directory``; the input itself where there is no view.

    Args:
        dataset: Rows or answers.
        view: The view's wire JSON.
        directory: Of this input alone.
        evaluation: The evaluation's id.

    Raises:
        ViewError: The view's adapters fail on a row, or what they make does not fit its schema.
    """
    if view is None:
        return dataset
    from dyff_dagster.sources.views import seen_through

    numbers = {replication_id(evaluation, number): number for number in range(_NUMBERED)}

    def name(row: dict[str, Any]) -> str:
        if "_replication_" not in row:
            return f"row {row.get('_index_')}"
        replication = numbers.get(row["_replication_"], row["_replication_"])
        return f"row {row.get('_index_')}, replication {replication}"

    found = DataView.model_validate(view)
    schema = found.schema_.decode()
    write_dataset(seen_through(dataset.to_batches(), found, name), schema, directory)
    return open_dataset(directory)


def summarize_columns(directory: Path, report: Report) -> None:
    """Record the mean of each boolean or numeric column of a report, with its interval, as a score.

    Rows of one instance are averaged first: ``n`` counts instances. A column with an empty value, or one that is
    no finite number, has no mean that could be trusted, and no score.
    """
    import numpy as np

    from dyff_dagster.analysis.statistics import mean, rate

    dataset = open_dataset(directory)
    seen: set[str] = set()
    for field in dataset.schema:
        boolean = pa.types.is_boolean(field.type)
        numeric = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
        name = re.sub(r"\W", "_", field.name, flags=re.ASCII)
        if field.name.startswith("_") or not (boolean or numeric) or not name.isidentifier() or name in seen:
            continue
        seen.add(name)
        table = dataset.to_table(columns=[_INDEX, field.name])
        column = table[field.name]
        values = column.cast(pa.float64()).to_numpy()
        if column.null_count or not table.num_rows or not np.isfinite(values).all():
            continue
        clusters = table[_INDEX].to_numpy()
        found = rate(values, clusters=clusters) if boolean else mean(values, clusters=clusters)
        add_score(
            directory,
            ScoreRecord(
                name=name,
                value=found.value,
                low=found.low,
                high=found.high,
                n=found.n,
                title=f"Mean of {field.name}",
            ),
            analysis_id=report.id,
            method=report.rubric,
            scope=AnalysisScope(
                dataset=report.dataset,
                evaluation=report.evaluation,
                inferenceService=report.inferenceService,
                model=report.model,
            ),
            primary=False,
        )
