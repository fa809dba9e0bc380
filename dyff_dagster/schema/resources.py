"""What work takes: quantities of named resources, in Kubernetes notation.

One level below ``base``, because an entity states its allocation.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated

import pydantic
from pydantic import ConfigDict, Field, StringConstraints

from dyff_dagster.schema.errors import DyffError

__all__ = [
    "ADMITTED",
    "LABEL_KEY_PATTERN",
    "QUANTITY_PATTERN",
    "HardwareTypeError",
    "LabelKey",
    "Quantity",
    "ResourceAllocation",
    "ServiceClass",
    "cpu_allocation",
    "gpu_allocation",
]

_DNS_LABEL = r"[a-zA-Z0-9]([-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?"
LABEL_KEY_PATTERN = rf"^({_DNS_LABEL}(\.{_DNS_LABEL})*/)?{_DNS_LABEL}$"
"""A DNS label, optionally after a DNS domain and a slash."""

QUANTITY_PATTERN = (
    r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))"
    r"(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$"
)
"""A number with an optional suffix: Kubernetes' resource.Quantity."""

LabelKey = Annotated[str, StringConstraints(max_length=317, pattern=LABEL_KEY_PATTERN)]
"""A label's key, also the name of a resource. It has no underscore."""

Quantity = Annotated[str, StringConstraints(pattern=QUANTITY_PATTERN)]
"""An amount in Kubernetes' notation, such as ``500m``, ``2`` or ``16Gi``."""

ADMITTED = "workflows.dyff.io/admitted"
"""The resource of which every running workflow takes one."""


class ServiceClass(StrEnum):
    """Whether what runs may be interrupted."""

    STANDARD = "standard"
    PREEMPTIBLE = "preemptible"


class ResourceAllocation(pydantic.BaseModel):
    """What a workflow takes while it runs.

    ``quantities`` maps a resource's name (``cpu``, ``memory``, a GPU's hardware type) to an amount.
    """

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    quantities: dict[LabelKey, Quantity] = Field(description="Amounts of resources by name")
    serviceClass: ServiceClass = Field(
        default=ServiceClass.STANDARD, description="Whether what runs may be interrupted"
    )


class HardwareTypeError(DyffError):
    """A GPU hardware type that cannot name a resource.

    ``hardware_type`` is the text that was found.
    """

    def __init__(self, hardware_type: str) -> None:
        self.hardware_type = hardware_type
        super().__init__(
            f"accelerator.gpu.hardwareTypes: '{hardware_type}' cannot name a resource; write a DNS label, "
            "optionally after a domain and a slash, as in 'nvidia.com/gpu'"
        )


def cpu_allocation(
    cpu: str, memory: str, service_class: ServiceClass = ServiceClass.STANDARD
) -> ResourceAllocation:
    """Return the allocation of a workflow that runs on CPUs: ``cpu`` cores, ``memory``, one admission."""
    return ResourceAllocation(
        quantities={"cpu": cpu, "memory": memory, ADMITTED: "1"}, serviceClass=service_class
    )


def gpu_allocation(
    hardware_types: list[str], count: int, replicas: int, service_class: ServiceClass
) -> ResourceAllocation:
    """Return the allocation of a workflow that runs ``replicas`` times ``count`` GPUs.

    The hardware types are alternatives, of which a replica gets one: they are charged once, under the
    first. (The reference charges each of them in full.)

    Raises:
        HardwareTypeError: the first type is no possible name of a resource.
    """
    key = hardware_types[0]
    if len(key) > 317 or not re.fullmatch(LABEL_KEY_PATTERN, key):
        raise HardwareTypeError(key)
    return ResourceAllocation(
        quantities={key: str(count * replicas), ADMITTED: "1"}, serviceClass=service_class
    )
