"""Every platform type, in one place. The types themselves are in files by subject."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dyff_dagster.schema.accelerators import Accelerator, AcceleratorGPU
from dyff_dagster.schema.accounts import AccessGrant, Account, APIKey, Identity
from dyff_dagster.schema.analyses import (
    Analysis,
    AnalysisArgument,
    AnalysisBase,
    AnalysisInput,
    AnalysisOutputQueryFields,
    AnalysisScope,
    Measurement,
    SafetyCase,
)
from dyff_dagster.schema.artifacts import (
    ArchiveFormat,
    Artifact,
    ArtifactURL,
    ContainerImageSource,
    Digest,
    ExtractorStep,
    StorageSignedURL,
)
from dyff_dagster.schema.audits import Audit, AuditProcedure, AuditRequirement
from dyff_dagster.schema.base import (
    SYSTEM_ATTRIBUTES,
    Annotation,
    DyffEntity,
    DyffModelWithID,
    DyffSchemaBaseModel,
    EntityKind,
    Label,
    Labeled,
    LabelKey,
    LabelValue,
    Quantity,
    QueryableDyffEntity,
    SchemaVersion,
    Status,
    TagName,
    closest,
)
from dyff_dagster.schema.data import (
    DataSchema,
    Dataset,
    DatasetBase,
    DatasetFilter,
    DataSource,
    DataView,
    DyffDataSchema,
    SchemaAdapter,
    TaskSchema,
)
from dyff_dagster.schema.enumerations import (
    APIFunctions,
    DataSources,
    Entities,
    FamilyMemberKind,
    Frameworks,
    InferenceServiceRunnerKind,
    InferenceServiceSources,
    MeasurementLevel,
    MethodImplementationKind,
    MethodInputKind,
    MethodOutputKind,
    MethodScope,
    ModelArtifactKind,
    ModelSourceKinds,
    ModelStorageMedium,
    Resources,
)
from dyff_dagster.schema.errors import DyffError
from dyff_dagster.schema.evaluations import Evaluation, EvaluationBase
from dyff_dagster.schema.families import (
    Documentation,
    DocumentationBase,
    Family,
    FamilyBase,
    FamilyMember,
    FamilyMemberBase,
    FamilyMembers,
)
from dyff_dagster.schema.methods import (
    ForeignMethod,
    MeasurementSpec,
    Method,
    MethodBase,
    MethodImplementation,
    MethodImplementationJupyterNotebook,
    MethodImplementationPythonFunction,
    MethodImplementationPythonRubric,
    MethodInput,
    MethodOutput,
    MethodParameter,
    SafetyCaseSpec,
)
from dyff_dagster.schema.models import (
    ForeignModel,
    Model,
    ModelArtifact,
    ModelArtifactHuggingFaceCache,
    ModelBase,
    ModelResources,
    ModelSource,
    ModelSourceGitLFS,
    ModelSourceHuggingFaceHub,
    ModelSourceOpenLLM,
    ModelSpec,
    ModelStorage,
)
from dyff_dagster.schema.reports import Module, ModuleBase, Report, ReportBase
from dyff_dagster.schema.resources import ResourceAllocation, ServiceClass
from dyff_dagster.schema.revisions import History, Revision, RevisionMetadata
from dyff_dagster.schema.services import (
    ForeignInferenceService,
    InferenceInterface,
    InferenceService,
    InferenceServiceBase,
    InferenceServiceBuilder,
    InferenceServiceRunner,
    InferenceServiceSpec,
    InferenceSession,
    InferenceSessionAndToken,
    InferenceSessionBase,
    InferenceSessionReference,
    InferenceSessionSpec,
)
from dyff_dagster.schema.statuses import (
    AuditStatus,
    DatasetStatus,
    DatasetStatusReason,
    DataSourceStatus,
    DataSourceStatusReason,
    EntityStatus,
    EntityStatusReason,
    EvaluationStatus,
    EvaluationStatusReason,
    InferenceServiceStatus,
    InferenceServiceStatusReason,
    InferenceSessionStatus,
    JobStatus,
    MeasurementStatus,
    MethodStatus,
    ModelStatus,
    ModelStatusReason,
    ModuleStatus,
    ReportStatus,
    ReportStatusReason,
    ResourceStatus,
    SafetyCaseStatus,
    is_status_failure,
    is_status_success,
    is_status_terminal,
)

__all__ = [
    "SYSTEM_ATTRIBUTES",
    "APIFunctions",
    "APIKey",
    "Accelerator",
    "AcceleratorGPU",
    "AccessGrant",
    "Account",
    "Analysis",
    "AnalysisArgument",
    "AnalysisBase",
    "AnalysisInput",
    "AnalysisOutputQueryFields",
    "AnalysisScope",
    "Annotation",
    "ArchiveFormat",
    "Artifact",
    "ArtifactURL",
    "Audit",
    "AuditProcedure",
    "AuditRequirement",
    "AuditStatus",
    "ContainerImageSource",
    "DataSchema",
    "DataSource",
    "DataSourceStatus",
    "DataSourceStatusReason",
    "DataSources",
    "DataView",
    "Dataset",
    "DatasetBase",
    "DatasetFilter",
    "DatasetStatus",
    "DatasetStatusReason",
    "Digest",
    "Documentation",
    "DocumentationBase",
    "DyffDataSchema",
    "DyffEntity",
    "DyffEntityType",
    "DyffModelWithID",
    "DyffSchemaBaseModel",
    "Entities",
    "EntityKind",
    "EntityStatus",
    "EntityStatusReason",
    "Evaluation",
    "EvaluationBase",
    "EvaluationStatus",
    "EvaluationStatusReason",
    "ExtractorStep",
    "Family",
    "FamilyBase",
    "FamilyMember",
    "FamilyMemberBase",
    "FamilyMemberKind",
    "FamilyMembers",
    "ForeignInferenceService",
    "ForeignMethod",
    "ForeignModel",
    "Frameworks",
    "History",
    "Identity",
    "InferenceInterface",
    "InferenceService",
    "InferenceServiceBase",
    "InferenceServiceBuilder",
    "InferenceServiceRunner",
    "InferenceServiceRunnerKind",
    "InferenceServiceSources",
    "InferenceServiceSpec",
    "InferenceServiceStatus",
    "InferenceServiceStatusReason",
    "InferenceSession",
    "InferenceSessionAndToken",
    "InferenceSessionBase",
    "InferenceSessionReference",
    "InferenceSessionSpec",
    "InferenceSessionStatus",
    "JobStatus",
    "Label",
    "LabelKey",
    "LabelValue",
    "Labeled",
    "Measurement",
    "MeasurementLevel",
    "MeasurementSpec",
    "MeasurementStatus",
    "Method",
    "MethodBase",
    "MethodImplementation",
    "MethodImplementationJupyterNotebook",
    "MethodImplementationKind",
    "MethodImplementationPythonFunction",
    "MethodImplementationPythonRubric",
    "MethodInput",
    "MethodInputKind",
    "MethodOutput",
    "MethodOutputKind",
    "MethodParameter",
    "MethodScope",
    "MethodStatus",
    "Model",
    "ModelArtifact",
    "ModelArtifactHuggingFaceCache",
    "ModelArtifactKind",
    "ModelBase",
    "ModelResources",
    "ModelSource",
    "ModelSourceGitLFS",
    "ModelSourceHuggingFaceHub",
    "ModelSourceKinds",
    "ModelSourceOpenLLM",
    "ModelSpec",
    "ModelStatus",
    "ModelStatusReason",
    "ModelStorage",
    "ModelStorageMedium",
    "Module",
    "ModuleBase",
    "ModuleStatus",
    "Quantity",
    "QueryableDyffEntity",
    "Report",
    "ReportBase",
    "ReportStatus",
    "ReportStatusReason",
    "ResourceAllocation",
    "ResourceStatus",
    "Resources",
    "Revision",
    "RevisionMetadata",
    "SafetyCase",
    "SafetyCaseSpec",
    "SafetyCaseStatus",
    "SchemaAdapter",
    "SchemaVersion",
    "ServiceClass",
    "Status",
    "StorageSignedURL",
    "TagName",
    "TaskSchema",
    "UnknownKindError",
    "entity_class",
    "is_status_failure",
    "is_status_success",
    "is_status_terminal",
]

DyffEntityType = Annotated[
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
    | Revision
    | SafetyCase,
    Field(discriminator="kind"),
]
"""Any entity. ``pydantic.TypeAdapter(DyffEntityType)`` reads one from the wire by its ``kind``."""

_ENTITY_CLASSES: dict[str, type[DyffEntity]] = {
    cls.__name__: cls
    for cls in (
        Audit,
        AuditProcedure,
        DataSource,
        Dataset,
        Evaluation,
        Family,
        History,
        InferenceService,
        InferenceSession,
        Measurement,
        Method,
        Model,
        Module,
        Report,
        Revision,
        SafetyCase,
    )
}


class UnknownKindError(DyffError):
    """A kind of which there are no entities; ``kind`` is what was found."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        near = closest(kind, _ENTITY_CLASSES)
        hint = f"did you mean '{near}'?" if near else "there are " + ", ".join(sorted(_ENTITY_CLASSES))
        super().__init__(f"'{kind}' is no kind of entity; {hint}")


def entity_class(kind: Entities | str) -> type[DyffEntity]:
    """Return the class of entities of ``kind``.

    Raises:
        UnknownKindError: there are no entities of that kind (Account and Documentation are none).
    """
    found = _ENTITY_CLASSES.get(str(kind))
    if found is None:
        raise UnknownKindError(str(kind))
    return found
