"""Revisions: what an entity was at some time, and the history that they make up."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dyff_dagster.schema.analyses import Measurement, SafetyCase
from dyff_dagster.schema.audits import Audit, AuditProcedure
from dyff_dagster.schema.base import DyffEntity, DyffSchemaBaseModel, UtcDatetime
from dyff_dagster.schema.data import Dataset, DataSource
from dyff_dagster.schema.evaluations import Evaluation
from dyff_dagster.schema.families import Family
from dyff_dagster.schema.methods import Method
from dyff_dagster.schema.models import Model
from dyff_dagster.schema.reports import Module, Report
from dyff_dagster.schema.resources import ResourceAllocation
from dyff_dagster.schema.services import InferenceService, InferenceSession

__all__ = ["History", "Revision", "RevisionMetadata"]


class RevisionMetadata(DyffSchemaBaseModel):
    """What a history says of a revision."""

    creationTime: UtcDatetime = Field(description="When the revision was made")


class History(DyffEntity):
    """All revisions of an entity."""

    kind: Literal["History"] = "History"
    latest: str = Field(description="ID of the latest Revision")
    revisions: dict[str, RevisionMetadata] = Field(description="The known Revisions by id")

    def dependencies(self) -> list[str]:
        """Return no ids: histories depend on nothing."""
        return []

    def resource_allocation(self) -> ResourceAllocation | None:
        """Return None: nothing is run."""
        return None


class Revision(DyffEntity, RevisionMetadata):
    """An entity as it was at some time."""

    kind: Literal["Revision"] = "Revision"
    # Stated again, or the entity's optional time would hide the revision's required one.
    creationTime: UtcDatetime = Field(description="When the revision was made")
    entity: Annotated[
        Audit
        | AuditProcedure
        | DataSource
        | Dataset
        | Evaluation
        | Family
        | History
        | InferenceService
        | InferenceSession
        | Measurement
        | Method
        | Model
        | Module
        | Report
        | SafetyCase,
        Field(discriminator="kind"),
    ] = Field(description="The entity as it was")

    def dependencies(self) -> list[str]:
        """Return no ids: revisions depend on nothing."""
        return []

    def resource_allocation(self) -> ResourceAllocation | None:
        """Return None: nothing is run."""
        return None
