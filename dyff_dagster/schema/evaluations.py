"""Evaluations: a data set put to a service."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from dyff_dagster.schema.base import DyffEntity, DyffSchemaBaseModel
from dyff_dagster.schema.resources import ResourceAllocation, cpu_allocation
from dyff_dagster.schema.services import InferenceSessionSpec

__all__ = ["Evaluation", "EvaluationBase"]


class EvaluationBase(DyffSchemaBaseModel):
    """Which rows are asked, how often, and how many at once."""

    dataset: str = Field(description="The Dataset whose rows are asked")
    replications: int = Field(default=1, description="How often each row is asked")
    workersPerReplica: int | None = Field(
        default=None, description="Number of requests in flight for each replica of the service"
    )


class Evaluation(DyffEntity, EvaluationBase):
    """Every row of a data set, asked of an inference service."""

    kind: Literal["Evaluation"] = "Evaluation"
    inferenceSession: InferenceSessionSpec = Field(description="The session that is started to answer")
    inferenceSessionReference: str | None = Field(
        default=None, description="ID of a running session that answers instead of a new one"
    )

    def dependencies(self) -> list[str]:
        """Return the ids of the data set and of the service."""
        return [self.dataset, self.inferenceSession.inferenceService.id]

    def resource_allocation(self) -> ResourceAllocation | None:
        """Return what the session takes, or what asking takes where the session runs already.

        Raises:
            HardwareTypeError: a GPU's hardware type cannot name a resource.
        """
        if self.inferenceSessionReference is not None:
            return cpu_allocation("2", "2Gi")
        return self.inferenceSession.allocation("2", "2Gi")
