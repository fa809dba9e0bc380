"""Requests: what a person states to have an entity made, shorter than the entity itself.

Where an entity holds another one (an Evaluation the whole service that answers), its request holds the id.
Moments need a time zone here; an entity would read one without as UTC.
"""

from __future__ import annotations

from pydantic import AwareDatetime, Field

from dyff_dagster.schema.analyses import AnalysisBase
from dyff_dagster.schema.audits import AuditRequirement
from dyff_dagster.schema.base import Labeled, SchemaVersion, TagName
from dyff_dagster.schema.data import DatasetBase, DataView
from dyff_dagster.schema.evaluations import EvaluationBase
from dyff_dagster.schema.families import DocumentationBase, FamilyBase, FamilyMember, FamilyMembers
from dyff_dagster.schema.methods import MethodBase
from dyff_dagster.schema.models import ModelSpec
from dyff_dagster.schema.reports import ModuleBase, ReportBase
from dyff_dagster.schema.services import InferenceServiceBase, InferenceSessionBase

__all__ = [
    "AccountCreateRequest",
    "AnalysisCreateRequest",
    "AuditCreateRequest",
    "AuditProcedureCreateRequest",
    "DataSourceCreateRequest",
    "DatasetCreateRequest",
    "DocumentationEditRequest",
    "DyffEntityCreateRequest",
    "DyffRequestBase",
    "EvaluationCreateRequest",
    "EvaluationInferenceSessionRequest",
    "FamilyCreateRequest",
    "FamilyMembersEditRequest",
    "InferenceServiceCreateRequest",
    "InferenceSessionCreateRequest",
    "InferenceSessionTokenCreateRequest",
    "LabelUpdateRequest",
    "MethodCreateRequest",
    "ModelCreateRequest",
    "ModuleCreateRequest",
    "ReportCreateRequest",
]


class DyffRequestBase(SchemaVersion):
    """Base of all requests."""


class DyffEntityCreateRequest(DyffRequestBase):
    """Base of requests that make an entity."""

    account: str = Field(description="Account that will own the entity")


class AccountCreateRequest(DyffRequestBase):
    """Make an Account."""

    name: str = Field(description="The name of the Account")


class AnalysisCreateRequest(DyffEntityCreateRequest, AnalysisBase):
    """Make a Measurement or a SafetyCase, whichever the method makes."""

    method: str = Field(description="ID of the Method that is run")


class AuditCreateRequest(DyffEntityCreateRequest):
    """Make an Audit."""

    auditProcedure: str = Field(description="ID of the AuditProcedure that is applied")
    inferenceService: str = Field(description="ID of the InferenceService that is audited")


class AuditProcedureCreateRequest(DyffEntityCreateRequest):
    """Make an AuditProcedure."""

    name: str = Field(description="The name of the AuditProcedure")
    requirements: list[AuditRequirement] = Field(default_factory=list, description="What must be there")


class DatasetCreateRequest(DyffEntityCreateRequest, DatasetBase):
    """Make a Dataset."""


class DataSourceCreateRequest(DyffEntityCreateRequest):
    """Make a DataSource."""

    name: str = Field(description="The name of the DataSource")
    sourceKind: str = Field(description="huggingface, upload or zenodo")
    source: str | None = Field(default=None, description="Where it is, in the notation of the kind")


class InferenceServiceCreateRequest(DyffEntityCreateRequest, InferenceServiceBase):
    """Make an InferenceService."""

    model: str | None = Field(default=None, description="ID of the Model behind it, where there is one")


class _SessionRequest(InferenceSessionBase):
    expires: AwareDatetime | None = Field(
        default=None, description="When the session ends by itself, with a time zone"
    )
    inferenceService: str = Field(description="ID of the InferenceService that runs")


class InferenceSessionCreateRequest(DyffEntityCreateRequest, _SessionRequest):
    """Make an InferenceSession."""


class InferenceSessionTokenCreateRequest(DyffRequestBase):
    """Make a token that opens a session."""

    expires: AwareDatetime | None = Field(
        default=None, description="When the token ends, with a time zone; not after the session"
    )


class EvaluationInferenceSessionRequest(_SessionRequest):
    """The session that an evaluation starts."""


class EvaluationCreateRequest(DyffEntityCreateRequest, EvaluationBase):
    """Make an Evaluation, on a new session, a running one, or a running one of a stated service."""

    inferenceSession: EvaluationInferenceSessionRequest | None = Field(
        default=None, description="The session that is started"
    )
    inferenceSessionReference: str | None = Field(
        default=None, description="ID of a running session that answers"
    )

    def model_post_init(self, _context: object) -> None:
        """Check that the request says who answers.

        Raises:
            ValueError: it has neither a session nor a reference to one.
        """
        if self.inferenceSession is None and self.inferenceSessionReference is None:
            raise ValueError("state who answers: inferenceSession or inferenceSessionReference")


class MethodCreateRequest(DyffEntityCreateRequest, MethodBase):
    """Make a Method."""


class ModelCreateRequest(DyffEntityCreateRequest, ModelSpec):
    """Make a Model."""


class ModuleCreateRequest(DyffEntityCreateRequest, ModuleBase):
    """Make a Module."""


class ReportCreateRequest(DyffEntityCreateRequest, ReportBase):
    """Make a Report. Deprecated since 0.8.0."""

    datasetView: str | DataView | None = Field(default=None, description="View of the data set, or its id")
    evaluationView: str | DataView | None = Field(default=None, description="View of the answers, or its id")


class FamilyCreateRequest(DyffEntityCreateRequest, FamilyBase):
    """Make a Family."""


class _FamilyMemberRequest(FamilyMember):
    creationTime: AwareDatetime | None = Field(default=None, description="When the name was given")


class FamilyMembersEditRequest(DyffRequestBase, FamilyMembers):
    """Replace a Family's members."""

    members: dict[TagName, _FamilyMemberRequest] = Field(  # type: ignore[assignment]
        default_factory=dict, description="Members by name"
    )


class DocumentationEditRequest(DyffRequestBase, DocumentationBase):
    """Replace an entity's documentation."""


class LabelUpdateRequest(DyffRequestBase, Labeled):
    """Replace an entity's labels."""
