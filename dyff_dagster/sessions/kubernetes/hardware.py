"""From the hardware types of manifests to nodes: profiles, the clouds' presets, and where pods may go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dyff_dagster.schema.platform import AcceleratorGPU
from dyff_dagster.sessions.kubernetes.errors import KubernetesError
from dyff_dagster.sessions.kubernetes.settings import (
    AcceleratorProfile,
    KubernetesSettings,
    SpotNodes,
    Toleration,
)

# What each platform calls a GPU. NVIDIA: the label nvidia.com/gpu.product of its feature discovery, whose values
# begin so. GKE: https://cloud.google.com/kubernetes-engine/docs/how-to/gpus. Karpenter:
# https://karpenter.sh/docs/concepts/scheduling/.
_GPUS: dict[str, tuple[list[str], str, str]] = {
    "t4": (["Tesla-T4"], "nvidia-tesla-t4", "t4"),
    "v100": (["Tesla-V100-SXM2-16GB", "Tesla-V100-SXM2-32GB"], "nvidia-tesla-v100", "v100"),
    "l4": (["NVIDIA-L4"], "nvidia-l4", "l4"),
    "l40s": (["NVIDIA-L40S"], "nvidia-l40s", "l40s"),
    "a10g": (["NVIDIA-A10G"], "nvidia-a10g", "a10g"),
    "a100": (
        ["NVIDIA-A100-SXM4-40GB", "NVIDIA-A100-PCIE-40GB", "NVIDIA-A100-SXM4-80GB", "NVIDIA-A100-80GB-PCIe"],
        "nvidia-tesla-a100",
        "a100",
    ),
    "a100-80gb": (["NVIDIA-A100-SXM4-80GB", "NVIDIA-A100-80GB-PCIe"], "nvidia-a100-80gb", "a100"),
    "h100": (["NVIDIA-H100-80GB-HBM3", "NVIDIA-H100-PCIe"], "nvidia-h100-80gb", "h100"),
    "h200": (["NVIDIA-H200"], "nvidia-h200-141gb", "h200"),
    "b200": (["NVIDIA-B200"], "nvidia-b200", "b200"),
}
_SPOT = {
    "gke": SpotNodes(
        labels={"cloud.google.com/gke-spot": "true"},
        tolerations=[Toleration(key="cloud.google.com/gke-spot", operator="Equal", value="true")],
    ),
    "karpenter": SpotNodes(labels={"karpenter.sh/capacity-type": "spot"}),
    "eks": SpotNodes(labels={"eks.amazonaws.com/capacityType": "SPOT"}),
    "aks": SpotNodes(
        labels={"kubernetes.azure.com/scalesetpriority": "spot"},
        tolerations=[Toleration(key="kubernetes.azure.com/scalesetpriority", operator="Equal", value="spot")],
    ),
}


@dataclass(frozen=True)
class Placement:
    """Where pods may run, and what of a node's hardware they take.

    Attributes:
        resources: Extended resources for each replica, such as ``{"nvidia.com/gpu": "2"}``.
        affinity: Of the pod; empty where any node will do.
        tolerations: Of the pod.
        runtime_class: Of the pod, or None.
        queue: Kueue's LocalQueue, or None.
        wanted: In words, for messages: ``2 × nvidia.com/gpu on nodes with …``.
        gpus: GPUs of each replica.
        spot: Whether its pods may be on nodes that are taken away.
    """

    resources: dict[str, str]
    affinity: dict[str, Any]
    tolerations: list[dict[str, Any]]
    runtime_class: str | None
    queue: str | None
    wanted: str
    gpus: int
    spot: bool


def profile_for(hardware_type: str, settings: KubernetesSettings) -> AcceleratorProfile | None:
    """The profile of a hardware type: one that the administrator wrote, else the preset's, else None."""
    for profile in settings.accelerators:
        if profile.hardwareType == hardware_type:
            return profile
    known = _GPUS.get(short_name(hardware_type))
    if known is None or settings.preset is None:
        return None
    products, gke, karpenter = known
    labels: dict[str, list[str]] = {
        "nvidia": {"nvidia.com/gpu.product": [*products, *(f"{name}-SHARED" for name in products)]},
        "aks": {"nvidia.com/gpu.product": products},  # with NVIDIA's GPU operator on it
        "gke": {"cloud.google.com/gke-accelerator": [gke]},
        "karpenter": {"karpenter.k8s.aws/instance-gpu-name": [karpenter]},
        "eks": {"nvidia.com/gpu.product": products},
    }[settings.preset]
    extra = [Toleration(key="sku", operator="Equal", value="gpu")] if settings.preset == "aks" else []
    return AcceleratorProfile(
        hardwareType=hardware_type,
        nodeLabels=labels,
        tolerations=[Toleration(key="nvidia.com/gpu"), *extra],
    )


def short_name(hardware_type: str) -> str:
    """``l4`` of ``nvidia.com/gpu-l4``, ``NVIDIA-L4``, ``nvidia.com/l4`` or ``l4``."""
    name = hardware_type.rpartition("/")[2].lower()
    for prefix in ("nvidia-", "gpu-", "tesla-"):
        name = name.removeprefix(prefix)
    return name


def place(
    gpu: AcceleratorGPU | None, use_spot: bool, settings: KubernetesSettings, *, owner: str
) -> Placement:
    """Where the replicas of a session may run.

    Args:
        gpu: What each of them needs; its hardware types are alternatives.
        use_spot: Whether nodes will do that may be taken away.
        settings: The administrator's.
        owner: Whose session it is, for messages.

    Raises:
        KubernetesError: No profile knows any of the hardware types, or those that are known cannot be alternatives
            in one pod.
    """
    profiles = _profiles(gpu, settings, owner)
    spot = settings.spot or _SPOT.get(settings.preset or "")
    terms = [_term(profile) for profile in profiles] or [[]]
    preferred: list[dict[str, Any]] = []
    tolerations = [*settings.tolerations, *(item for profile in profiles for item in profile.tolerations)]
    if spot is not None:
        on_spot = [_expression(key, "In", [value]) for key, value in spot.labels.items()]
        if use_spot:
            tolerations += spot.tolerations
            if spot.required:
                terms = [[*term, *on_spot] for term in terms]
            elif on_spot:
                preferred = [{"weight": 100, "preference": {"matchExpressions": on_spot}}]
        else:
            not_on_spot = [_expression(key, "NotIn", [value]) for key, value in spot.labels.items()]
            terms = [[*term, *not_on_spot] for term in terms]
    node: dict[str, Any] = {}
    if all(terms):  # an alternative that any node will do for makes no demands
        node["requiredDuringSchedulingIgnoredDuringExecution"] = {
            "nodeSelectorTerms": [{"matchExpressions": term} for term in terms]
        }
    if preferred:
        node["preferredDuringSchedulingIgnoredDuringExecution"] = preferred
    count = 0 if gpu is None else gpu.count
    resources = {profile.resource: str(count) for profile in profiles[:1]}
    return Placement(
        resources=resources,
        affinity={"nodeAffinity": node} if node else {},
        tolerations=_once([item.model_dump(exclude_none=True) for item in tolerations]),
        runtime_class=profiles[0].runtimeClass if profiles else None,
        queue=(profiles[0].queue if profiles else None) or settings.queue,
        wanted=_words(resources, terms if all(terms) else []),
        gpus=count,
        spot=use_spot and spot is not None,
    )


def _profiles(
    gpu: AcceleratorGPU | None, settings: KubernetesSettings, owner: str
) -> list[AcceleratorProfile]:
    if gpu is None:
        return []
    if gpu.count < 1:
        raise KubernetesError(
            f"{owner}: it asks for {gpu.count} GPUs for each replica; at least 1 is needed, or leave accelerator out",
            session_id=owner,
        )
    found = [profile for name in gpu.hardwareTypes if (profile := profile_for(name, settings)) is not None]
    if not found:
        names = " or ".join(gpu.hardwareTypes)
        known = sorted(profile.hardwareType for profile in settings.accelerators)
        if settings.preset is not None:
            known += [f"nvidia.com/gpu-{name}" for name in sorted(_GPUS)]
        offered = f"; there are profiles for {', '.join(known)}" if known else ""
        raise KubernetesError(
            f"{owner}: no accelerator profile says where {names} is on this cluster{offered}: write one under "
            "accelerators in the file that DYFF_KUBERNETES names, or set its preset",
            session_id=owner,
        )
    for what, values in (
        ("resource", {profile.resource for profile in found}),
        ("runtimeClass", {profile.runtimeClass for profile in found}),
    ):
        if len(values) > 1:
            raise KubernetesError(
                f"{owner}: the hardware types {', '.join(gpu.hardwareTypes)} have profiles of different {what} "
                f"({', '.join(sorted(map(str, values)))}), and a pod can have one alone: leave all but one kind out",
                session_id=owner,
            )
    return found


def _term(profile: AcceleratorProfile) -> list[dict[str, Any]]:
    return [_expression(key, "In", values) for key, values in sorted(profile.nodeLabels.items())]


def _expression(key: str, operator: str, values: Sequence[str]) -> dict[str, Any]:
    return {"key": key, "operator": operator, "values": list(values)}


def _once(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [item for at, item in enumerate(items) if item not in items[:at]]


def _words(resources: dict[str, str], terms: list[list[dict[str, Any]]]) -> str:
    asked = ", ".join(f"{count} × {name}" for name, count in resources.items())
    places = " or ".join(
        " and ".join(
            f"{item['key']}{' not' if item['operator'] == 'NotIn' else ''} in ({', '.join(item['values'])})"
            for item in term
        )
        for term in terms
        if term
    )
    if not places:
        return asked or "any node"
    return f"{asked or 'a node'} where {places}"
