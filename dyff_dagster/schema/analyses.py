"""Analyses: a method run on data, with a measurement or a safety case as its result."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from dyff_dagster.schema.base import DyffEntity, DyffSchemaBaseModel, QueryableDyffEntity
from dyff_dagster.schema.methods import ForeignMethod, MeasurementSpec, SafetyCaseSpec
from dyff_dagster.schema.resources import ResourceAllocation, cpu_allocation

__all__ = [
    "Analysis",
    "AnalysisArgument",
    "AnalysisBase",
    "AnalysisInput",
    "AnalysisOutputQueryFields",
    "AnalysisScope",
    "Measurement",
    "SafetyCase",
]


class AnalysisScope(DyffSchemaBaseModel):
    """The entities that a result is about.

    A method whose scope is InferenceService needs at least ``inferenceService``; one whose scope is
    Evaluation needs ``evaluation``, ``inferenceService`` and ``dataset``.
    """

    dataset: str | None = Field(default=None, description="The Dataset that the result is about")
    inferenceService: str | None = Field(default=None, description="The InferenceService that it is about")
    evaluation: str | None = Field(default=None, description="The Evaluation that it is about")
    model: str | None = Field(default=None, description="The Model that it is about")


class AnalysisArgument(DyffSchemaBaseModel):
    """The value of one of the method's parameters."""

    keyword: str = Field(description="The parameter's keyword")
    value: str = Field(description="The value, always a string: the implementation parses it")


class AnalysisInput(DyffSchemaBaseModel):
    """The entity behind one of the method's inputs."""

    keyword: str = Field(description="The input's keyword")
    entity: str = Field(description="ID of the entity whose data are read")


class AnalysisBase(DyffSchemaBaseModel):
    """What a method is run on."""

    scope: AnalysisScope = Field(
        default_factory=AnalysisScope,
        description="The entities that the result is about, at least the one that the method's scope names",
    )
    arguments: list[AnalysisArgument] = Field(
        default_factory=list, description="Values of the method's parameters"
    )
    inputs: list[AnalysisInput] = Field(
        default_factory=list, description="Entities behind the method's inputs"
    )


class Analysis(AnalysisBase):
    """A method, and what it is run on."""

    method: ForeignMethod = Field(description="The method that is run")

    def _dependencies(self) -> list[str]:
        return [self.method.id, *(item.entity for item in self.inputs)]


class AnalysisOutputQueryFields(DyffSchemaBaseModel):
    """By what the results of analyses are looked for."""

    analysis: str | None = Field(default=None, description="ID of the analysis")
    method: QueryableDyffEntity = Field(description="The method that was run")
    inputs: list[str] | None = Field(default=None, description="IDs of the entities that were read")


class Measurement(DyffEntity, MeasurementSpec, Analysis):
    """Rows that a method computed: scores of a whole data set, or of each instance."""

    kind: Literal["Measurement"] = "Measurement"

    def dependencies(self) -> list[str]:
        """Return the id of the method, then those of the inputs."""
        return self._dependencies()

    def resource_allocation(self) -> ResourceAllocation | None:
        """Return the allocation of running the method."""
        return cpu_allocation("2", "2Gi")


class SafetyCase(DyffEntity, SafetyCaseSpec, Analysis):
    """An argument about a system's safety, written by a method for people to read."""

    kind: Literal["SafetyCase"] = "SafetyCase"

    def dependencies(self) -> list[str]:
        """Return the id of the method, then those of the inputs."""
        return self._dependencies()

    def resource_allocation(self) -> ResourceAllocation | None:
        """Return the allocation of running the method."""
        return cpu_allocation("1", "1Gi")
