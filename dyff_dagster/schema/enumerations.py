"""The closed lists of the platform's vocabulary. A member's value is what stands on the wire."""

from __future__ import annotations

from enum import StrEnum

__all__ = [
    "APIFunctions",
    "DataSources",
    "Entities",
    "FamilyMemberKind",
    "Frameworks",
    "InferenceServiceRunnerKind",
    "InferenceServiceSources",
    "MeasurementLevel",
    "MethodImplementationKind",
    "MethodInputKind",
    "MethodOutputKind",
    "MethodScope",
    "ModelArtifactKind",
    "ModelSourceKinds",
    "ModelStorageMedium",
    "Resources",
]


class Entities(StrEnum):
    """The kinds of things that the platform knows."""

    Account = "Account"
    Analysis = "Analysis"
    Audit = "Audit"
    AuditProcedure = "AuditProcedure"
    DataSource = "DataSource"
    Dataset = "Dataset"
    Documentation = "Documentation"
    Evaluation = "Evaluation"
    Family = "Family"
    History = "History"
    InferenceService = "InferenceService"
    InferenceSession = "InferenceSession"
    Measurement = "Measurement"
    Method = "Method"
    Model = "Model"
    Module = "Module"
    Report = "Report"
    Revision = "Revision"
    SafetyCase = "SafetyCase"


class Resources(StrEnum):
    """The plural names under which kinds are addressed, in URLs, grants and asset keys."""

    Analysis = "analyses"
    Audit = "audits"
    AuditProcedure = "auditprocedures"
    Dataset = "datasets"
    DataSource = "datasources"
    Documentation = "documentation"
    Evaluation = "evaluations"
    Family = "families"
    History = "histories"
    InferenceService = "inferenceservices"
    InferenceSession = "inferencesessions"
    Measurement = "measurements"
    Method = "methods"
    Model = "models"
    Module = "modules"
    Report = "reports"
    Revision = "revisions"
    SafetyCase = "safetycases"
    Task = "tasks"
    """Kept for API keys that were issued when there was such a kind."""
    ALL = "*"

    @classmethod
    def for_kind(cls, kind: Entities | str) -> Resources:
        """Return the plural of ``kind``.

        Raises:
            KeyError: the kind has no resource (an Account has none).
        """
        return cls[str(kind)]


class APIFunctions(StrEnum):
    """What a grant permits. ``consume`` is use as a dependency, ``data`` is download of the raw data.

    ``download``, ``upload`` and ``strata`` are deprecated since 0.5.0.
    """

    consume = "consume"
    create = "create"
    get = "get"
    query = "query"
    edit = "edit"
    download = "download"
    upload = "upload"
    data = "data"
    strata = "strata"
    terminate = "terminate"
    delete = "delete"
    all = "*"


class DataSources(StrEnum):
    """Where a DataSource's bytes come from."""

    huggingface = "huggingface"
    upload = "upload"
    zenodo = "zenodo"


class Frameworks(StrEnum):
    """Machine-learning frameworks that the platform names."""

    transformers = "transformers"


class InferenceServiceSources(StrEnum):
    """How an inference service comes to be."""

    upload = "upload"
    build = "build"


class InferenceServiceRunnerKind(StrEnum):
    """What runs an inference service. ``CONTAINER`` came after the page, with 0.46."""

    BENTOML_SERVICE_OPENLLM = "bentoml_service_openllm"
    CONTAINER = "container"
    HUGGINGFACE = "huggingface"
    MOCK = "mock"
    STANDALONE = "standalone"
    VLLM = "vllm"


class FamilyMemberKind(StrEnum):
    """Kinds of which there are families."""

    Dataset = "Dataset"
    InferenceService = "InferenceService"
    Method = "Method"
    Model = "Model"
    Module = "Module"


class ModelSourceKinds(StrEnum):
    """Where a model is fetched from."""

    GitLFS = "GitLFS"
    HuggingFaceHub = "HuggingFaceHub"
    Mock = "Mock"
    OpenLLM = "OpenLLM"
    Upload = "Upload"


class ModelStorageMedium(StrEnum):
    """What a model is stored on."""

    Mock = "Mock"
    ObjectStorage = "ObjectStorage"
    PersistentVolume = "PersistentVolume"


class ModelArtifactKind(StrEnum):
    """In which form a model is stored."""

    HuggingFaceCache = "HuggingFaceCache"
    Mock = "Mock"


class MeasurementLevel(StrEnum):
    """Whether a measurement has one row per score of a whole data set, or rows per instance."""

    Dataset = "Dataset"
    Instance = "Instance"


class MethodScope(StrEnum):
    """What the results of a method are about."""

    InferenceService = "InferenceService"
    Evaluation = "Evaluation"


class MethodInputKind(StrEnum):
    """What a method reads. ``Report`` is deprecated."""

    Dataset = "Dataset"
    Evaluation = "Evaluation"
    Measurement = "Measurement"
    Report = "Report"


class MethodOutputKind(StrEnum):
    """What a method makes."""

    Measurement = "Measurement"
    SafetyCase = "SafetyCase"


class MethodImplementationKind(StrEnum):
    """What a method is written as. ``PythonRubric`` is deprecated since 0.8.0."""

    JupyterNotebook = "JupyterNotebook"
    PythonFunction = "PythonFunction"
    PythonRubric = "PythonRubric"
