"""What work takes: quantities of named resources, in Kubernetes notation.

One level below ``base``, because an entity states its allocation.
"""

from __future__ import annotations

import re
from decimal import Decimal
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
    "QuantityError",
    "ResourceAllocation",
    "ServiceClass",
    "cpu_allocation",
    "gpu_allocation",
    "quantity_value",
    "shown_bytes",
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

_POWERS_OF_1024 = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_POWERS_OF_10 = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_PARTS = re.compile(
    r"(?P<number>[+-]?([0-9]{1,30}(\.[0-9]{0,30})?|\.[0-9]{1,30}))"
    r"(?:(?P<suffix>[KMGTPE]i|[numkMGTPE])|[eE](?P<exponent>[+-]?[0-9]{1,3}))?"
)

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


class QuantityError(DyffError):
    """A text that is no quantity. It is not repeated: it may be anything."""

    def __init__(self) -> None:
        super().__init__(
            "is no quantity; write a number and, if wanted, a suffix of Kubernetes, as 500M, 2Gi or 1e9"
        )


def quantity_value(text: str) -> Decimal:
    """Return the number that a quantity means: 2147483648 for ``2Gi``, 0.5 for ``500m``.

    The notation is that of Kubernetes (``k8s.io/apimachinery``, resource.Quantity): ``Ki`` to ``Ei`` are
    powers of 1024, ``n`` to ``E`` powers of ten, ``1e3`` and ``1E3`` are thousand.

    Raises:
        QuantityError: ``text`` is none, or it is too long to be meant.
    """
    found = _PARTS.fullmatch(text)
    if found is None:
        raise QuantityError
    number, suffix = Decimal(found["number"]), found["suffix"]
    if suffix in _POWERS_OF_1024:
        return number * Decimal(1024) ** _POWERS_OF_1024[suffix]
    power = _POWERS_OF_10[suffix] if suffix else int(found["exponent"] or 0)
    return number.scaleb(power)


def shown_bytes(number: int) -> str:
    """A number of bytes as a quantity for people, rounded: ``2Gi``, ``310Mi``, ``1.25Gi``."""
    for power, unit in ((4, "Ti"), (3, "Gi"), (2, "Mi"), (1, "Ki")):
        if number >= 1024**power:
            return f"{number / 1024**power:.2f}".rstrip("0").rstrip(".") + unit
    return str(number)


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
