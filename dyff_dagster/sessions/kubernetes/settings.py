"""What an administrator says about a cluster: where sessions run there, on what, and for how long.

A YAML file, named by DYFF_KUBERNETES. Every field has a default, so that a cluster without GPUs needs no file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from dyff_dagster.schema.platform import Entities, Quantity
from dyff_dagster.sessions.kubernetes.errors import KubernetesError

Seconds = Annotated[int, Field(gt=0)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Toleration(_Strict):
    """A taint that pods bear, in Kubernetes' own words."""

    key: str | None = None
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None


class AcceleratorProfile(_Strict):
    """Where pods go that ask for one hardware type, and how they ask for it."""

    hardwareType: str = Field(description="What manifests call it, such as nvidia.com/gpu-l4")
    resource: str = Field(default="nvidia.com/gpu", description="Extended resource that pods ask for")
    nodeLabels: dict[str, list[str]] = Field(
        default_factory=dict,
        description="Labels of the nodes that have it, each with the values that will do",
    )
    tolerations: list[Toleration] = Field(
        default_factory=lambda: [Toleration(key="nvidia.com/gpu")], description="Taints that its pods bear"
    )
    runtimeClass: str | None = Field(default=None, description="Of its pods")
    queue: str | None = Field(default=None, description="Kueue's LocalQueue for it")


class SpotNodes(_Strict):
    """How nodes are told that may be taken away at any time."""

    labels: dict[str, str] = Field(default_factory=dict, description="Of such nodes")
    tolerations: list[Toleration] = Field(default_factory=list, description="Taints of such nodes")
    required: bool = Field(default=False, description="Run there alone, and wait where there is none")


class StorageVolume(_Strict):
    """The volume that DYFF_STORAGE_ROOT lies on, as pods see it."""

    claim: str = Field(description="A PersistentVolumeClaim in the sessions' namespace")
    path: str = Field(default="", description="Of the storage root within the volume")


class Timeouts(_Strict):
    """Seconds that each phase of a start may take."""

    admission: Seconds = Field(default=600, description="Seconds until its pods exist: quotas and queues")
    scheduling: Seconds = Field(
        default=900, description="Seconds until a node has room for them, or was made"
    )
    pull: Seconds = Field(
        default=1200, description="Seconds until its image is there, and its volumes are mounted"
    )
    ready: Seconds = Field(default=1500, description="Seconds until the service answers, its model loaded")


class StepResources(_Strict):
    """What the pod of a step asks for."""

    cpu: Quantity | None = None
    memory: Quantity | None = None


class StepPods(_Strict):
    """The pods that steps run in, where Dagster's ``k8s_job_executor`` makes them."""

    serviceAccount: str | None = Field(
        default=None, description="Of steps that ask nothing of the cluster; default the run launcher's"
    )
    sessionsServiceAccount: str | None = Field(
        default=None,
        description="Of steps that make Jobs: sessions, and analyses in pods; default `serviceAccount`",
    )
    resources: dict[str, StepResources] = Field(
        default_factory=dict,
        description="By kind of entity, such as Evaluation; default what the platform reckons with",
    )
    grace: Annotated[int, Field(ge=0)] = Field(
        default=60,
        description="Seconds between SIGTERM and SIGKILL: in them a step ends its session and keeps its logs",
    )

    @field_validator("resources")
    @classmethod
    def _are_kinds(cls, resources: dict[str, StepResources]) -> dict[str, StepResources]:
        for kind in resources:
            if kind not in {entity.value for entity in Entities}:
                raise ValueError(f"{kind} is no kind of entity; write one as in Evaluation: {{cpu: 500m}}")
        return resources


class ImageBuilds(_Strict):
    """Images of services that have a builder."""

    repository: str | None = Field(
        default=None,
        description="Where they are pushed to, and nodes pull them from, as in registry.example.org/audits",
    )


class KubernetesSettings(_Strict):
    """How sessions run on a cluster."""

    namespace: str | None = Field(default=None, description="Default the pod's own or the kubeconfig's")
    context: str | None = Field(default=None, description="Of the kubeconfig; default the current one")
    images: dict[str, str] = Field(
        default_factory=dict,
        description="By runner kind, the image of services that name none; `project` is this project's own",
    )
    storage: StorageVolume | None = Field(
        default=None,
        description="Where models are mounted from; without it small ones travel with the session",
    )
    preset: Literal["nvidia", "gke", "karpenter", "eks", "aks"] | None = Field(
        default=None,
        description="Whose labels nodes have: accelerators and spot nodes as they are told there",
    )
    accelerators: list[AcceleratorProfile] = Field(
        default_factory=list, description="Go before those of the preset"
    )
    spot: SpotNodes | None = Field(default=None, description="Goes before the preset's")
    nodeSelector: dict[str, str] = Field(default_factory=dict, description="Of all sessions' pods")
    tolerations: list[Toleration] = Field(default_factory=list, description="Of all sessions' pods")
    queue: str | None = Field(default=None, description="Kueue's LocalQueue, where a profile names none")
    priorityClass: str | None = Field(default=None, description="Of sessions' pods")
    imagePullSecrets: list[str] = Field(
        default_factory=list, description="Names of Secrets in the sessions' namespace"
    )
    imagePullPolicy: Literal["IfNotPresent", "Always", "Never"] = Field(
        default="IfNotPresent", description="When nodes ask the registry"
    )
    user: Annotated[int, Field(gt=0)] = Field(default=65532, description="Numeric user and group of pods")
    cpu: Quantity = Field(default="250m", description="Requested for each replica")
    memory: Quantity = Field(default="512Mi", description="Of a replica whose service does not say")
    analysisMemory: Quantity = Field(
        default="2Gi", description="Of an analysis in a pod that states no dyff-dagster/max-memory"
    )
    sharedMemory: Quantity = Field(default="2Gi", description="Shared memory of runners that want it")
    egress: Literal["none", "open"] = Field(
        default="none", description="What pods may reach: name service alone, or everything"
    )
    clientNamespace: str | None = Field(
        default=None, description="Where the steps run that ask; default the sessions' own namespace"
    )
    tokenCheck: bool = Field(default=True, description="Give services a token that clients must send")
    lease: Seconds = Field(default=1800, description="Seconds after which a session ends that nobody renews")
    requestTimeout: Seconds = Field(default=600, description="Seconds that one request may take")
    maxLifetime: Seconds = Field(default=86_400, description="Seconds that any session may live")
    grace: Annotated[int, Field(ge=0)] = Field(default=15, description="Seconds between SIGTERM and SIGKILL")
    keepFinished: Seconds = Field(
        default=3600, description="Seconds after which what is left of a session goes"
    )
    crashes: Annotated[int, Field(ge=1)] = Field(
        default=3, description="Of containers that were never ready, after which a start is given up"
    )
    timeouts: Timeouts = Field(default=Timeouts(), description="Of the phases of a start")
    steps: StepPods = Field(default=StepPods(), description="Pods of steps")
    build: ImageBuilds = Field(default=ImageBuilds(), description="Images that are built for services")

    @model_validator(mode="after")
    def _lease_outlasts(self) -> Self:
        longest = max(
            ("requestTimeout", self.requestTimeout), *_named(self.timeouts), key=lambda item: item[1]
        )
        if self.lease <= longest[1]:
            raise ValueError(
                f"lease is {self.lease} and {longest[0]} is {longest[1]}: a session must not end while it is waited "
                "for; make lease the longer"
            )
        if self.maxLifetime < self.lease:
            raise ValueError(
                f"maxLifetime is {self.maxLifetime}, and lease {self.lease} is longer: swap them"
            )
        return self

    @classmethod
    def load(cls, path: Path | None) -> Self:
        """Read a file of settings; the defaults where there is none.

        Raises:
            KubernetesError: It cannot be read, or says something that cannot be.
        """
        if path is None:
            return cls()
        try:
            said = yaml.safe_load(path.read_text("utf-8"))
        except OSError as error:
            raise KubernetesError(
                f"DYFF_KUBERNETES names {path}, which cannot be read ({error.strerror}): name a YAML file of settings"
            ) from None
        except (yaml.YAMLError, ValueError) as error:
            mark = getattr(error, "problem_mark", None)
            line = f", line {mark.line + 1}" if mark is not None else ""
            raise KubernetesError(f"{path}{line}: is no YAML ({getattr(error, 'problem', error)})") from None
        if said is None:
            said = {}
        if not isinstance(said, dict):
            raise KubernetesError(f"{path}: must be a mapping of settings, such as namespace: NAME")
        try:
            return cls.model_validate(said)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "settings"
            what = first["msg"].removeprefix("Value error, ")
            if first["type"] == "extra_forbidden":
                what = f"there is no such setting; there are: {', '.join(sorted(_fields_at(first['loc'])))}"
            raise KubernetesError(f"{path}: {where}: {what}") from None


def _named(timeouts: Timeouts) -> list[tuple[str, int]]:
    return [(f"timeouts.{name}", seconds) for name, seconds in timeouts.model_dump().items()]


def _fields_at(location: tuple[str | int, ...]) -> list[str]:
    of: dict[str, type[BaseModel]] = {
        "timeouts": Timeouts,
        "storage": StorageVolume,
        "spot": SpotNodes,
        "accelerators": AcceleratorProfile,
        "tolerations": Toleration,
        "steps": StepPods,
        "build": ImageBuilds,
        "resources": StepResources,
    }
    named = [of[str(part)] for part in location[:-1] if part in of]
    return list((named or [KubernetesSettings])[-1].model_fields)
