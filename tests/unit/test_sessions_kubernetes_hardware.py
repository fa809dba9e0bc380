"""From hardware types to nodes: profiles, presets, alternatives, and nodes that may be taken away."""

from __future__ import annotations

from typing import Any

import pytest

from dyff_dagster.schema.platform import AcceleratorGPU
from dyff_dagster.sessions.kubernetes import KubernetesError, KubernetesSettings
from dyff_dagster.sessions.kubernetes.hardware import Placement, place, short_name


def placed(*types: str, count: int = 1, spot: bool = True, **settings: Any) -> Placement:
    gpu = AcceleratorGPU(hardwareTypes=list(types), count=count) if types else None
    return place(gpu, spot, KubernetesSettings.model_validate(settings), owner="asked")


def terms(placement: Placement) -> list[list[tuple[str, str, list[str]]]]:
    """Required node selector terms, each as its expressions."""
    required = placement.affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    return [
        [(item["key"], item["operator"], item["values"]) for item in term["matchExpressions"]]
        for term in required["nodeSelectorTerms"]
    ]


@pytest.mark.parametrize(
    "name",
    [
        "l4",
        "L4",
        "nvidia.com/gpu-l4",
        "nvidia.com/l4",
        "NVIDIA-L4",
        "nvidia-l4",
        "gpu-l4",
        "a.b/c/nvidia-gpu-l4",
    ],
)
def test_a_gpu_has_one_name_however_it_is_written(name: str) -> None:
    assert short_name(name) == "l4"


@pytest.mark.parametrize(
    ("preset", "key", "values"),
    [
        ("nvidia", "nvidia.com/gpu.product", ["NVIDIA-L4", "NVIDIA-L4-SHARED"]),
        ("aks", "nvidia.com/gpu.product", ["NVIDIA-L4"]),
        ("eks", "nvidia.com/gpu.product", ["NVIDIA-L4"]),
        ("gke", "cloud.google.com/gke-accelerator", ["nvidia-l4"]),
        ("karpenter", "karpenter.k8s.aws/instance-gpu-name", ["l4"]),
    ],
)
def test_a_preset_knows_what_nodes_are_labelled_with(preset: str, key: str, values: list[str]) -> None:
    found = placed("nvidia.com/gpu-l4", count=2, spot=True, preset=preset)
    assert terms(found) == [[(key, "In", values)]]
    assert found.resources == {"nvidia.com/gpu": "2"}
    assert found.gpus == 2
    assert {"key": "nvidia.com/gpu", "operator": "Exists"} in found.tolerations
    assert f"2 × nvidia.com/gpu where {key} in ({', '.join(values)})" in found.wanted


def test_hardware_types_are_alternatives() -> None:
    found = placed("nvidia.com/gpu-l4", "nvidia.com/gpu-t4", preset="gke")
    key = "cloud.google.com/gke-accelerator"
    assert terms(found) == [[(key, "In", ["nvidia-l4"])], [(key, "In", ["nvidia-tesla-t4"])]]
    assert found.resources == {"nvidia.com/gpu": "1"}
    assert " or " in found.wanted


def test_a_profile_of_the_administrators_goes_before_the_presets() -> None:
    profile = {
        "hardwareType": "nvidia.com/gpu-l4",
        "resource": "example.com/gpu",
        "nodeLabels": {"pool": ["l4"], "area": ["a", "b"]},
        "tolerations": [{"key": "pool", "operator": "Equal", "value": "l4", "effect": "NoSchedule"}],
        "runtimeClass": "nvidia",
        "queue": "gpus",
    }
    found = placed("nvidia.com/gpu-l4", preset="gke", accelerators=[profile], queue="all")
    assert terms(found) == [[("area", "In", ["a", "b"]), ("pool", "In", ["l4"])]]
    assert found.resources == {"example.com/gpu": "1"}
    assert (found.runtime_class, found.queue) == ("nvidia", "gpus")
    assert found.tolerations[0] == {"key": "pool", "operator": "Equal", "value": "l4", "effect": "NoSchedule"}


def test_an_alternative_that_any_node_will_do_for_makes_no_demands() -> None:
    anywhere = {"hardwareType": "any"}
    found = placed("nvidia.com/gpu-l4", "any", preset="nvidia", accelerators=[anywhere])
    assert found.affinity == {}
    assert found.wanted == "1 × nvidia.com/gpu"


def test_types_that_nothing_knows_are_left_out_if_one_is_known() -> None:
    assert len(terms(placed("abacus", "nvidia.com/gpu-l4", preset="nvidia"))) == 1


def test_a_type_that_nothing_knows_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(KubernetesError) as raised:
        placed("abacus", "quipu", preset="nvidia", accelerators=[{"hardwareType": "slide-rule"}])
    said = str(raised.value)
    assert said.startswith(
        "asked: no accelerator profile says where abacus or quipu is on this cluster; there are profiles for "
        "slide-rule, nvidia.com/gpu-a100, "
    )
    assert said.endswith(
        "write one under accelerators in the file that DYFF_KUBERNETES names, or set its preset"
    )
    with pytest.raises(KubernetesError, match=r"says where nvidia\.com/gpu-l4 is on this cluster: write one"):
        placed("nvidia.com/gpu-l4")


@pytest.mark.parametrize(
    ("what", "values"),
    [("resource", ("a.example/gpu", "b.example/gpu")), ("runtimeClass", ("nvidia", "gvisor"))],
)
def test_alternatives_that_one_pod_cannot_have_are_refused(what: str, values: tuple[str, str]) -> None:
    profiles = [{"hardwareType": name, what: value} for name, value in zip("ab", values, strict=True)]
    with pytest.raises(KubernetesError) as raised:
        placed("a", "b", accelerators=profiles)
    assert str(raised.value) == (
        f"asked: the hardware types a, b have profiles of different {what} ({', '.join(sorted(values))}), "
        "and a pod can have one alone: leave all but one kind out"
    )


@pytest.mark.parametrize("count", [0, -1])
def test_no_gpus_are_none(count: int) -> None:
    with pytest.raises(
        KubernetesError, match=f"asks for {count} GPUs for each replica; at least 1 is needed"
    ):
        placed("l4", count=count, preset="nvidia")


# Nodes that may be taken away

SPOT = {
    "gke": ("cloud.google.com/gke-spot", "true"),
    "karpenter": ("karpenter.sh/capacity-type", "spot"),
    "eks": ("eks.amazonaws.com/capacityType", "SPOT"),
    "aks": ("kubernetes.azure.com/scalesetpriority", "spot"),
}


@pytest.mark.parametrize("preset", SPOT)
def test_spot_nodes_are_preferred_where_they_will_do(preset: str) -> None:
    key, value = SPOT[preset]
    found = placed("l4", preset=preset, spot=True)
    (preferred,) = found.affinity["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert preferred["preference"]["matchExpressions"] == [{"key": key, "operator": "In", "values": [value]}]
    assert all(expression[0] != key for term in terms(found) for expression in term)
    assert found.spot
    tainted = preset in ("gke", "aks")
    assert any(item.get("key") == key for item in found.tolerations) == tainted


@pytest.mark.parametrize("preset", SPOT)
def test_spot_nodes_are_kept_from_where_they_will_not_do(preset: str) -> None:
    key, value = SPOT[preset]
    found = placed("l4", "t4", preset=preset, spot=False)
    assert all((key, "NotIn", [value]) in term for term in terms(found)) and len(terms(found)) == 2
    assert "preferredDuringSchedulingIgnoredDuringExecution" not in found.affinity["nodeAffinity"]
    assert not any(item.get("key") == key for item in found.tolerations)
    assert not found.spot


def test_spot_nodes_can_be_required() -> None:
    required = {"labels": {"pool": "spot"}, "tolerations": [{"key": "spot"}], "required": True}
    settings = KubernetesSettings.model_validate({"preset": "gke", "spot": required})
    given = place(AcceleratorGPU(hardwareTypes=["l4"]), True, settings, owner="asked")
    accelerator = ("cloud.google.com/gke-accelerator", "In", ["nvidia-l4"])
    assert terms(given) == [[accelerator, ("pool", "In", ["spot"])]]
    assert {"key": "spot", "operator": "Exists"} in given.tolerations


@pytest.mark.parametrize("spot", [True, False])
def test_a_session_without_gpus_goes_anywhere(spot: bool) -> None:
    found = placed(spot=spot)
    assert (found.resources, found.affinity, found.tolerations, found.gpus) == ({}, {}, [], 0)
    assert found.wanted == "any node"


def test_a_session_without_gpus_is_kept_from_spot_nodes_too() -> None:
    assert terms(placed(spot=False, preset="eks")) == [
        [("eks.amazonaws.com/capacityType", "NotIn", ["SPOT"])]
    ]


def test_tolerations_come_once() -> None:
    found = placed("l4", "t4", preset="nvidia", tolerations=[{"key": "nvidia.com/gpu"}])
    assert found.tolerations == [{"key": "nvidia.com/gpu", "operator": "Exists"}]
