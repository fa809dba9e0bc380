"""Inference services, and sessions in which they run and answer."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from dyff_dagster.schema.accelerators import Accelerator, AcceleratorGPU
from dyff_dagster.schema.artifacts import ContainerImageSource
from dyff_dagster.schema.base import DyffEntity, DyffModelWithID, DyffSchemaBaseModel, UtcDatetime
from dyff_dagster.schema.data import DataSchema, DataView, SchemaAdapter
from dyff_dagster.schema.enumerations import InferenceServiceRunnerKind
from dyff_dagster.schema.models import ForeignModel, ModelResources
from dyff_dagster.schema.resources import ResourceAllocation, ServiceClass, cpu_allocation, gpu_allocation

__all__ = [
    "ForeignInferenceService",
    "InferenceInterface",
    "InferenceService",
    "InferenceServiceBase",
    "InferenceServiceBuilder",
    "InferenceServiceRunner",
    "InferenceServiceSpec",
    "InferenceSession",
    "InferenceSessionAndToken",
    "InferenceSessionBase",
    "InferenceSessionReference",
    "InferenceSessionSpec",
]


class InferenceServiceBuilder(DyffSchemaBaseModel):
    """What packages a model as a service."""

    kind: str
    args: list[str] | None = None


class InferenceServiceRunner(DyffSchemaBaseModel):
    """What runs a service."""

    kind: InferenceServiceRunnerKind
    image: ContainerImageSource | None = Field(
        default=None,
        description="The container image that is run. Optional, so that old services can be read; new ones "
        "need it on the platform.",
    )
    args: list[str] | None = Field(default=None, description="Command line of the runner")
    accelerator: Accelerator | None = Field(default=None, description="Accelerator to run on, if any")
    resources: ModelResources = Field(description="What running the service takes")


class InferenceInterface(DyffSchemaBaseModel):
    """How rows get into a service, and answers out."""

    endpoint: str = Field(description="HTTP endpoint that answers")
    outputSchema: DataSchema = Field(description="Schema of the answers")
    inputPipeline: list[SchemaAdapter] | None = Field(
        default=None, description="Adapters from a row to a request"
    )
    outputPipeline: list[SchemaAdapter] | None = Field(
        default=None, description="Adapters from a response to answers"
    )


class InferenceServiceBase(DyffSchemaBaseModel):
    """A service: how it is made, run and spoken to."""

    name: str = Field(description="The name of the service")
    builder: InferenceServiceBuilder | None = Field(default=None, description="What builds the service")
    runner: InferenceServiceRunner | None = Field(default=None, description="What runs the service")
    interface: InferenceInterface = Field(description="How rows get in and answers out")
    outputViews: list[DataView] = Field(
        default_factory=list, description="Views that are offered of the service's answers"
    )


class InferenceServiceSpec(InferenceServiceBase):
    """A service and the model behind it."""

    model: ForeignModel | None = Field(
        default=None, description="The Model behind the service, where there is one"
    )


class ForeignInferenceService(DyffModelWithID, InferenceServiceSpec):
    """A service as another entity that uses it holds it."""


class InferenceService(DyffEntity, InferenceServiceSpec):
    """A model that answers over HTTP."""

    kind: Literal["InferenceService"] = "InferenceService"

    def dependencies(self) -> list[str]:
        """Return the id of the model, where there is one."""
        return [] if self.model is None else [self.model.id]

    def resource_allocation(self) -> ResourceAllocation | None:
        """Return None: a service takes something only when a session runs it."""
        return None


class InferenceSessionBase(DyffSchemaBaseModel):
    """How a service is run: how often, on what, until when."""

    expires: UtcDatetime | None = Field(
        default=None, description="When the session ends by itself; set it, against accidental costs"
    )
    replicas: int = Field(default=1, description="Number of replicas of the model")
    accelerator: Accelerator | None = Field(
        default=None, description="Accelerator to run on instead of the one that the service asks for"
    )
    useSpotPods: bool = Field(default=True, description="Run where it is cheaper, and may be interrupted")


class InferenceSessionSpec(InferenceSessionBase):
    """A session of one service."""

    inferenceService: ForeignInferenceService = Field(description="The service that runs")

    def effective_accelerator(self) -> Accelerator | None:
        """Return what the session runs on: its own accelerator, else its service's runner's, else None."""
        if self.accelerator is not None:
            return self.accelerator
        runner = self.inferenceService.runner
        return None if runner is None else runner.accelerator

    def effective_gpu(self) -> AcceleratorGPU | None:
        """Return the GPUs that each replica runs on, or None when it runs on CPUs."""
        accelerator = self.effective_accelerator()
        return None if accelerator is None else accelerator.gpu

    def allocation(self, cpu: str, memory: str) -> ResourceAllocation:
        """Return what running the session takes: its GPUs, or ``cpu`` and ``memory`` where it has none.

        Raises:
            HardwareTypeError: a GPU's hardware type cannot name a resource.
        """
        service_class = ServiceClass.PREEMPTIBLE if self.useSpotPods else ServiceClass.STANDARD
        gpu = self.effective_gpu()
        if gpu is None:
            return cpu_allocation(cpu, memory, service_class)
        return gpu_allocation(gpu.hardwareTypes, gpu.count, self.replicas, service_class)


class InferenceSession(DyffEntity, InferenceSessionSpec):
    """A running service that can be asked."""

    kind: Literal["InferenceSession"] = "InferenceSession"

    def dependencies(self) -> list[str]:
        """Return the id of the service."""
        return [self.inferenceService.id]

    def resource_allocation(self) -> ResourceAllocation | None:
        """Return what the replicas take.

        Raises:
            HardwareTypeError: a GPU's hardware type cannot name a resource.
        """
        return self.allocation("1", "1Gi")


class InferenceSessionAndToken(DyffSchemaBaseModel):
    """A new session, and the token that opens it."""

    inferencesession: InferenceSession
    token: str


class InferenceSessionReference(DyffSchemaBaseModel):
    """A session that runs already, and how to speak to it."""

    session: str = Field(description="ID of the running session")
    interface: InferenceInterface = Field(description="How rows get in and answers out")
