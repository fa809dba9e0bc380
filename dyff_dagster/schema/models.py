"""Models: where they come from, how they are stored, what they need."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, HttpUrl

from dyff_dagster.schema.accelerators import Accelerator
from dyff_dagster.schema.base import DyffEntity, DyffModelWithID, DyffSchemaBaseModel, Quantity
from dyff_dagster.schema.enumerations import ModelArtifactKind, ModelSourceKinds, ModelStorageMedium
from dyff_dagster.schema.resources import ResourceAllocation, cpu_allocation

__all__ = [
    "ForeignModel",
    "Model",
    "ModelArtifact",
    "ModelArtifactHuggingFaceCache",
    "ModelBase",
    "ModelResources",
    "ModelSource",
    "ModelSourceGitLFS",
    "ModelSourceHuggingFaceHub",
    "ModelSourceOpenLLM",
    "ModelSpec",
    "ModelStorage",
]


class ModelSourceGitLFS(DyffSchemaBaseModel):
    """A git repository that keeps its large files with Git LFS."""

    url: HttpUrl = Field(description="URL of the repository")


class ModelSourceHuggingFaceHub(DyffSchemaBaseModel):
    """A repository on the Hugging Face Hub: arguments of huggingface_hub.snapshot_download()."""

    repoID: str
    revision: str
    allowPatterns: list[str] | None = None
    ignorePatterns: list[str] | None = None


class ModelSourceOpenLLM(DyffSchemaBaseModel):
    """A model that OpenLLM knows."""

    modelKind: str = Field(description="The kind of model, first argument of 'openllm build'")
    modelID: str = Field(description="Which model, the --model-id of 'openllm build'")
    modelVersion: str = Field(description="The model's version, for example a git commit")


class ModelSource(DyffSchemaBaseModel):
    """Where a model comes from; the field named like ``kind`` says more."""

    kind: ModelSourceKinds = Field(description="The kind of source")
    gitLFS: ModelSourceGitLFS | None = Field(default=None, description="A Git LFS source")
    huggingFaceHub: ModelSourceHuggingFaceHub | None = Field(
        default=None, description="A Hugging Face Hub source"
    )
    openLLM: ModelSourceOpenLLM | None = Field(default=None, description="An OpenLLM source")


class ModelArtifactHuggingFaceCache(DyffSchemaBaseModel):
    """A model inside a directory laid out as the Hugging Face cache."""

    repoID: str = Field(description="Name of the model's repository, as ORG/NAME")
    revision: str = Field(description="Revision of the model")

    def snapshot_path(self) -> str:
        """Return where the revision's files lie under the cache: ``models--ORG--NAME/snapshots/REVISION``."""
        return f"models--{self.repoID.replace('/', '--')}/snapshots/{self.revision}"


class ModelArtifact(DyffSchemaBaseModel):
    """In which form a model is stored; the field named like ``kind`` says more."""

    kind: ModelArtifactKind = Field(description="The form")
    huggingFaceCache: ModelArtifactHuggingFaceCache | None = Field(
        default=None, description="A model in a Hugging Face cache"
    )


class ModelStorage(DyffSchemaBaseModel):
    """What a model is stored on."""

    medium: ModelStorageMedium = Field(description="The storage medium")


class ModelBase(DyffSchemaBaseModel):
    """A model's name, form and storage."""

    name: str = Field(description="The name of the Model")
    artifact: ModelArtifact = Field(description="In which form the model is stored")
    storage: ModelStorage = Field(description="What the model is stored on")


class ModelResources(DyffSchemaBaseModel):
    """What storing and running a model takes, in Kubernetes' quantity notation."""

    storage: Quantity = Field(description="Storage for the packaged model")
    memory: Quantity | None = Field(default=None, description="Memory to run the model on CPU")


class ModelSpec(ModelBase):
    """A model with its source and what it needs."""

    source: ModelSource = Field(description="Where the model comes from")
    resources: ModelResources = Field(description="What storing and running the model takes")
    accelerators: list[Accelerator] | None = Field(
        default=None, description="Accelerators that the model can run on"
    )


class ForeignModel(DyffModelWithID, ModelBase):
    """A model as another entity that uses it holds it."""


class Model(DyffEntity, ModelSpec):
    """A model before it is packaged; inference services are made from it."""

    kind: Literal["Model"] = "Model"

    def dependencies(self) -> list[str]:
        """Return no ids: models depend on nothing."""
        return []

    def resource_allocation(self) -> ResourceAllocation | None:
        """Return the allocation of fetching the model."""
        return cpu_allocation("1", "1Gi")
