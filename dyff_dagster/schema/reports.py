"""Reports and the modules of code that methods and reports import. Reports are deprecated since 0.8.0."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from dyff_dagster.schema.artifacts import Artifact
from dyff_dagster.schema.base import DyffEntity, DyffSchemaBaseModel
from dyff_dagster.schema.data import DataView
from dyff_dagster.schema.resources import ResourceAllocation, cpu_allocation

__all__ = ["Module", "ModuleBase", "Report", "ReportBase"]


class ModuleBase(DyffSchemaBaseModel):
    """A module's name and files."""

    name: str = Field(description="The name of the Module")
    artifacts: list[Artifact] = Field(min_length=1, description="Files that the module consists of")


class Module(DyffEntity, ModuleBase):
    """Code and notebooks: a directory that is put on the path of analyses and reports."""

    kind: Literal["Module"] = "Module"

    def dependencies(self) -> list[str]:
        """Return no ids: modules depend on nothing."""
        return []

    def resource_allocation(self) -> ResourceAllocation | None:
        """Return None: nothing is run to have a module."""
        return None


class ReportBase(DyffSchemaBaseModel):
    """A rubric, and the evaluation that it is applied to."""

    rubric: str = Field(description="The rubric, such as 'classification.TopKAccuracy'")
    evaluation: str = Field(description="The evaluation whose answers are scored")
    modules: list[str] = Field(default_factory=list, description="Modules that the rubric imports")


class Report(DyffEntity, ReportBase):
    """Scores of an evaluation's answers. Deprecated since 0.8.0: use a Method and a Measurement."""

    kind: Literal["Report"] = "Report"
    dataset: str = Field(description="The data set that was asked")
    inferenceService: str = Field(description="The service that answered")
    model: str | None = Field(default=None, description="The model behind the service, where there is one")
    datasetView: DataView | None = Field(
        default=None, description="The view of the data set that the rubric reads, labels for example"
    )
    evaluationView: DataView | None = Field(
        default=None, description="The view of the answers that the rubric reads"
    )

    def dependencies(self) -> list[str]:
        """Return the id of the evaluation, then those of the modules."""
        return [self.evaluation, *self.modules]

    def resource_allocation(self) -> ResourceAllocation | None:
        """Return the allocation of applying the rubric."""
        return cpu_allocation("2", "2Gi")
