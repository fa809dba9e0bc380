"""Methods: how scores are computed, and safety cases written."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from dyff_dagster.schema.base import DyffEntity, DyffModelWithID, DyffSchemaBaseModel
from dyff_dagster.schema.data import DataSchema
from dyff_dagster.schema.enumerations import MeasurementLevel, MethodInputKind, MethodOutputKind, MethodScope
from dyff_dagster.schema.resources import ResourceAllocation

__all__ = [
    "ForeignMethod",
    "MeasurementSpec",
    "Method",
    "MethodBase",
    "MethodImplementation",
    "MethodImplementationJupyterNotebook",
    "MethodImplementationPythonFunction",
    "MethodImplementationPythonRubric",
    "MethodInput",
    "MethodOutput",
    "MethodParameter",
    "SafetyCaseSpec",
]

_MARKDOWN = "Long-form description, read as Markdown"


class MethodParameter(DyffSchemaBaseModel):
    """A setting of a method."""

    keyword: str = Field(description="The name by which the implementation asks for it")
    description: str | None = Field(default=None, description=_MARKDOWN)


class MethodInput(DyffSchemaBaseModel):
    """Data that a method reads."""

    kind: MethodInputKind = Field(description="The kind of entity whose data are read")
    keyword: str = Field(description="The name by which the implementation asks for it")
    description: str | None = Field(default=None, description=_MARKDOWN)


class MeasurementSpec(DyffSchemaBaseModel):
    """What a measurement contains."""

    name: str = Field(description="Descriptive name of the Measurement")
    description: str | None = Field(default=None, description=_MARKDOWN)
    level: MeasurementLevel = Field(description="One row per score, or rows per instance")
    schema_: DataSchema = Field(
        alias="schema", description="Schema of the rows. Those per instance must have a field _index_."
    )


class SafetyCaseSpec(DyffSchemaBaseModel):
    """What a safety case is about."""

    name: str = Field(description="Descriptive name of the SafetyCase")
    description: str | None = Field(default=None, description=_MARKDOWN)


class MethodOutput(DyffSchemaBaseModel):
    """What a method makes; the field named like ``kind`` says more."""

    kind: MethodOutputKind = Field(description="The kind of entity that is made")
    measurement: MeasurementSpec | None = Field(default=None, description="What the Measurement contains")
    safetyCase: SafetyCaseSpec | None = Field(default=None, description="What the SafetyCase is about")


class MethodImplementationJupyterNotebook(DyffSchemaBaseModel):
    """A notebook in a module."""

    notebookModule: str = Field(
        description="ID of the Module that holds the notebook. To depend on it, list it in modules as well."
    )
    notebookPath: str = Field(description="Path of the notebook, relative to the module's root")


class MethodImplementationPythonFunction(DyffSchemaBaseModel):
    """A Python function."""

    fullyQualifiedName: str = Field(description="Dotted name of the function")


class MethodImplementationPythonRubric(DyffSchemaBaseModel):
    """A Python class that scores rows. Deprecated since 0.8.0 in favour of functions and notebooks."""

    fullyQualifiedName: str = Field(description="Dotted name of the class")


class MethodImplementation(DyffSchemaBaseModel):
    """What a method is written as; the field named like ``kind`` says more."""

    kind: str = Field(description="JupyterNotebook, PythonFunction or PythonRubric")
    pythonFunction: MethodImplementationPythonFunction | None = Field(
        default=None, description="The function that is called"
    )
    pythonRubric: MethodImplementationPythonRubric | None = Field(
        default=None, description="@deprecated The rubric that is applied"
    )
    jupyterNotebook: MethodImplementationJupyterNotebook | None = Field(
        default=None, description="The notebook that is run"
    )


class MethodBase(DyffSchemaBaseModel):
    """A method: what it reads, what it makes, and how."""

    name: str = Field(description="Descriptive name of the Method")
    scope: MethodScope = Field(description="The kind of entity that the results are about, one each")
    description: str | None = Field(default=None, description=_MARKDOWN)
    implementation: MethodImplementation = Field(description="What the method is written as")
    parameters: list[MethodParameter] = Field(
        default_factory=list, description="Settings, whose values the implementation gets by keyword"
    )
    inputs: list[MethodInput] = Field(
        default_factory=list, description="Data, which the implementation gets by keyword"
    )
    output: MethodOutput = Field(description="What the method makes")
    modules: list[str] = Field(default_factory=list, description="Modules that the implementation imports")


class ForeignMethod(DyffModelWithID, MethodBase):
    """A method as an analysis that runs it holds it."""


class Method(DyffEntity, MethodBase):
    """A way of getting scores or a safety case out of data."""

    kind: Literal["Method"] = "Method"

    def dependencies(self) -> list[str]:
        """Return the ids of the modules."""
        return list(self.modules)

    def resource_allocation(self) -> ResourceAllocation | None:
        """Return None: a method takes something only when an analysis runs it."""
        return None
