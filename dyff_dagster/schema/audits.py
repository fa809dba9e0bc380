"""Audits: whether a service meets the requirements of a procedure."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from dyff_dagster.schema.base import DyffEntity, DyffSchemaBaseModel
from dyff_dagster.schema.resources import ResourceAllocation, cpu_allocation

__all__ = ["Audit", "AuditProcedure", "AuditRequirement"]


class AuditRequirement(DyffSchemaBaseModel):
    """A report that must exist before a procedure can be applied."""

    dataset: str
    rubric: str


class AuditProcedure(DyffEntity):
    """What must have been measured before a service counts as audited."""

    kind: Literal["AuditProcedure"] = "AuditProcedure"
    name: str
    requirements: list[AuditRequirement] = Field(default_factory=list)

    def dependencies(self) -> list[str]:
        """Return no ids: requirements name no specific entity."""
        return []

    def resource_allocation(self) -> ResourceAllocation | None:
        """Return None: a procedure takes something only when an audit applies it."""
        return None


class Audit(DyffEntity):
    """A procedure applied to a service."""

    kind: Literal["Audit"] = "Audit"
    auditProcedure: str = Field(description="The procedure that is applied")
    inferenceService: str = Field(description="The service that is audited")

    def dependencies(self) -> list[str]:
        """Return the ids of the procedure and of the service."""
        return [self.auditProcedure, self.inferenceService]

    def resource_allocation(self) -> ResourceAllocation | None:
        """Return the allocation of the audit."""
        return cpu_allocation("2", "2Gi")
