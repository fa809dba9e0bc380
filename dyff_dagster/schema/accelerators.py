"""Hardware that makes inference fast."""

from __future__ import annotations

from pydantic import Field

from dyff_dagster.schema.base import DyffSchemaBaseModel, Quantity

__all__ = ["Accelerator", "AcceleratorGPU"]


class AcceleratorGPU(DyffSchemaBaseModel):
    """GPUs that a workload needs."""

    hardwareTypes: list[str] = Field(
        min_length=1, description="Acceptable hardware types: alternatives, the preferred one first"
    )
    count: int = Field(default=1, description="Number of GPUs each replica needs")
    memory: Quantity | None = Field(
        default=None, description="[DEPRECATED] GPU memory, in Kubernetes' quantity notation"
    )


class Accelerator(DyffSchemaBaseModel):
    """An accelerator; the field named like ``kind`` says more."""

    kind: str = Field(description="The kind of accelerator: GPU")
    gpu: AcceleratorGPU | None = Field(default=None, description="What kind of GPUs, and how many")
