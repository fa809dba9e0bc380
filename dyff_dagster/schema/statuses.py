"""Statuses and the reasons for them. Members carry the reference's names, values stand on the wire."""

from __future__ import annotations

from enum import StrEnum

__all__ = [
    "AuditStatus",
    "DataSourceStatus",
    "DataSourceStatusReason",
    "DatasetStatus",
    "DatasetStatusReason",
    "EntityStatus",
    "EntityStatusReason",
    "EvaluationStatus",
    "EvaluationStatusReason",
    "InferenceServiceStatus",
    "InferenceServiceStatusReason",
    "InferenceSessionStatus",
    "JobStatus",
    "MeasurementStatus",
    "MethodStatus",
    "ModelStatus",
    "ModelStatusReason",
    "ModuleStatus",
    "ReportStatus",
    "ReportStatusReason",
    "ResourceStatus",
    "SafetyCaseStatus",
    "is_status_failure",
    "is_status_success",
    "is_status_terminal",
]


class EntityStatus(StrEnum):
    """Every status that an entity can have."""

    created = "Created"
    schedulable = "Schedulable"
    admitted = "Admitted"
    ready = "Ready"
    complete = "Complete"
    error = "Error"
    failed = "Failed"
    terminated = "Terminated"
    deleted = "Deleted"


class EntityStatusReason(StrEnum):
    """Reasons that any kind can have."""

    quota_limit = "QuotaLimit"
    unsatisfied_dependency = "UnsatisfiedDependency"
    failed_dependency = "FailedDependency"
    terminate_command = "TerminateCommand"
    delete_command = "DeleteCommand"
    expired = "Expired"
    interrupted = "Interrupted"


class JobStatus(StrEnum):
    """How things that run come to an end."""

    complete = "Complete"
    failed = "Failed"


class ResourceStatus(StrEnum):
    """How the making of things that exist comes to an end."""

    ready = "Ready"
    error = "Error"


class _JobLifecycle(StrEnum):
    created = "Created"
    admitted = "Admitted"
    complete = "Complete"
    failed = "Failed"


class _ResourceLifecycle(StrEnum):
    created = "Created"
    admitted = "Admitted"
    ready = "Ready"
    error = "Error"


# Kinds that run share one life, kinds that exist another: the names differ, the values do not.
AuditStatus = EvaluationStatus = MeasurementStatus = ReportStatus = SafetyCaseStatus = _JobLifecycle
DataSourceStatus = DatasetStatus = InferenceServiceStatus = _ResourceLifecycle
MethodStatus = ModelStatus = ModuleStatus = _ResourceLifecycle


class InferenceSessionStatus(StrEnum):
    """The life of a session. A running one is admitted; whether it is ready to answer is asked of it."""

    created = "Created"
    admitted = "Admitted"
    terminated = "Terminated"
    error = "Error"


class EvaluationStatusReason(StrEnum):
    """Reasons of an Evaluation."""

    quota_limit = "QuotaLimit"
    incomplete = "Incomplete"
    unverified = "Unverified"
    restarted = "Restarted"


class ReportStatusReason(StrEnum):
    """Reasons of a Report."""

    quota_limit = "QuotaLimit"
    no_such_evaluation = "NoSuchEvaluation"
    waiting_for_evaluation = "WaitingForEvaluation"


class DataSourceStatusReason(StrEnum):
    """Reasons of a DataSource."""

    quota_limit = "QuotaLimit"
    fetch_failed = "FetchFailed"
    upload_failed = "UploadFailed"


class DatasetStatusReason(StrEnum):
    """Reasons of a Dataset."""

    quota_limit = "QuotaLimit"
    data_source_missing = "DataSourceMissing"
    ingest_failed = "IngestFailed"
    waiting_for_data_source = "WaitingForDataSource"


class ModelStatusReason(StrEnum):
    """Reasons of a Model."""

    quota_limit = "QuotaLimit"
    fetch_failed = "FetchFailed"


class InferenceServiceStatusReason(StrEnum):
    """Reasons of an InferenceService."""

    quota_limit = "QuotaLimit"
    build_failed = "BuildFailed"
    no_such_model = "NoSuchModel"
    waiting_for_model = "WaitingForModel"


_SUCCESS = frozenset({"Complete", "Ready"})
_FAILURE = frozenset({"Failed", "Error"})
_TERMINAL = _SUCCESS | _FAILURE | {"Terminated", "Deleted"}


def is_status_terminal(status: str | None) -> bool:
    """Tell whether nothing more will happen: success, failure, terminated or deleted."""
    return status in _TERMINAL


def is_status_success(status: str | None) -> bool:
    """Tell whether the work was done (Complete) or the thing exists (Ready)."""
    return status in _SUCCESS


def is_status_failure(status: str | None) -> bool:
    """Tell whether the work failed (Failed) or the thing could not be made (Error)."""
    return status in _FAILURE


_JOBS = frozenset({"Audit", "Evaluation", "Report", "Measurement", "SafetyCase"})


def success_status(kind: str) -> str:
    """The status that an entity of this kind ends with when all went well: Complete, Ready or Admitted."""
    if kind == "InferenceSession":
        return InferenceSessionStatus.admitted.value
    return JobStatus.complete.value if kind in _JOBS else ResourceStatus.ready.value


def failure_status(kind: str) -> str:
    """The status that an entity of this kind ends with when it failed: Failed for a job, else Error."""
    return JobStatus.failed.value if kind in _JOBS else ResourceStatus.error.value
