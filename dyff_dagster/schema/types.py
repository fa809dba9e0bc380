"""Numbers of fixed width and lists of fixed length, for pydantic models that become Arrow schemas.

Arrow needs a width for every number. ``x: Annotated[int, ...]`` as returned by ``int32()`` checks the range
and says the width; the constants (``Int32``) are the same without further constraints, for annotations::

    class Detection(DyffSchemaBaseModel):
        box: list_(Float32, 4)
        count: Int32
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Annotated, Any, cast

from pydantic import AfterValidator, Field, GetCoreSchemaHandler
from pydantic_core import PydanticKnownError, core_schema

from dyff_dagster.schema.errors import DyffError

__all__ = [
    "BEYOND_FLOAT32",
    "FixedWidth",
    "Float32",
    "Float64",
    "Int8",
    "Int16",
    "Int32",
    "Int64",
    "ListSizeError",
    "UInt8",
    "UInt16",
    "UInt32",
    "UInt64",
    "float32",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "list_",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
]


@dataclass(frozen=True)
class FixedWidth:
    """Marks a number with the name of the Arrow type that it becomes, and keeps integers to its range.

    ``low`` and ``high`` are the range. Whatever else is said of a field (``x: Int8 = Field(ge=0)``) narrows it:
    pydantic by itself would take the one bound for the other.
    """

    name: str
    low: int | None = None
    high: int | None = None

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        """Return pydantic's schema of the number."""
        schema = handler(source)
        low, high = self.low, self.high
        if low is None or high is None:
            return schema
        if schema["type"] == "int":
            narrowed = {"ge": max(schema.get("ge", low), low), "le": min(schema.get("le", high), high)}
            schema = cast("core_schema.CoreSchema", {**schema, **narrowed})

        def check(value: int) -> int:
            # A bound that is said later replaces those of the schema.
            if value < low:
                raise PydanticKnownError("greater_than_equal", {"ge": low})
            if value > high:
                raise PydanticKnownError("less_than_equal", {"le": high})
            return value

        return core_schema.no_info_after_validator_function(check, schema)


class ListSizeError(DyffError):
    """A fixed length that no list can have; ``size`` is it."""

    def __init__(self, size: int) -> None:
        self.size = size
        super().__init__(
            f"a list of fixed length has at least one item, and not {size}: leave the length out"
        )


BEYOND_FLOAT32 = "is beyond the range of a 32-bit float"
_FLOAT32_MAX = struct.unpack("<f", b"\xff\xff\x7f\x7f")[0]


def _fits_float32(value: float) -> float:
    if math.isfinite(value) and abs(value) > _FLOAT32_MAX:
        raise ValueError(f"the number {BEYOND_FLOAT32}")
    return value


def _integer(name: str, low: int, high: int, constraints: dict[str, Any]) -> Any:
    lower = [bound for bound in (constraints.pop("ge", None), low) if bound is not None]
    upper = [bound for bound in (constraints.pop("le", None), high) if bound is not None]
    return Annotated[int, FixedWidth(name, low, high), Field(ge=max(lower), le=min(upper), **constraints)]


def int8(**constraints: Any) -> Any:
    """Return a signed 8-bit integer type; ``constraints`` are those of pydantic.Field (gt, ge, lt, le, …)."""
    return _integer("int8", -(2**7), 2**7 - 1, constraints)


def int16(**constraints: Any) -> Any:
    """Return a signed 16-bit integer type; ``constraints`` as in :func:`int8`."""
    return _integer("int16", -(2**15), 2**15 - 1, constraints)


def int32(**constraints: Any) -> Any:
    """Return a signed 32-bit integer type; ``constraints`` as in :func:`int8`."""
    return _integer("int32", -(2**31), 2**31 - 1, constraints)


def int64(**constraints: Any) -> Any:
    """Return a signed 64-bit integer type; ``constraints`` as in :func:`int8`."""
    return _integer("int64", -(2**63), 2**63 - 1, constraints)


def uint8(**constraints: Any) -> Any:
    """Return an unsigned 8-bit integer type; ``constraints`` as in :func:`int8`."""
    return _integer("uint8", 0, 2**8 - 1, constraints)


def uint16(**constraints: Any) -> Any:
    """Return an unsigned 16-bit integer type; ``constraints`` as in :func:`int8`."""
    return _integer("uint16", 0, 2**16 - 1, constraints)


def uint32(**constraints: Any) -> Any:
    """Return an unsigned 32-bit integer type; ``constraints`` as in :func:`int8`."""
    return _integer("uint32", 0, 2**32 - 1, constraints)


def uint64(**constraints: Any) -> Any:
    """Return an unsigned 64-bit integer type; ``constraints`` as in :func:`int8`."""
    return _integer("uint64", 0, 2**64 - 1, constraints)


def float32(**constraints: Any) -> Any:
    """Return a 32-bit float type, infinities and NaN included; ``constraints`` as in :func:`int8`."""
    return Annotated[float, FixedWidth("float32"), AfterValidator(_fits_float32), Field(**constraints)]


def float64(**constraints: Any) -> Any:
    """Return a 64-bit float type, for any float; ``constraints`` as in :func:`int8`."""
    return Annotated[float, FixedWidth("float64"), Field(**constraints)]


def list_(item: Any, list_size: int | None = None) -> Any:
    """Return a list type of ``item``; with ``list_size``, one of exactly that many items.

    Raises:
        ListSizeError: ``list_size`` is less than one.
    """
    if list_size is None:
        return list[item]
    if list_size < 1:
        raise ListSizeError(list_size)
    return Annotated[list[item], Field(min_length=list_size, max_length=list_size)]


Int8 = Annotated[int, FixedWidth("int8", -(2**7), 2**7 - 1)]
Int16 = Annotated[int, FixedWidth("int16", -(2**15), 2**15 - 1)]
Int32 = Annotated[int, FixedWidth("int32", -(2**31), 2**31 - 1)]
Int64 = Annotated[int, FixedWidth("int64", -(2**63), 2**63 - 1)]
UInt8 = Annotated[int, FixedWidth("uint8", 0, 2**8 - 1)]
UInt16 = Annotated[int, FixedWidth("uint16", 0, 2**16 - 1)]
UInt32 = Annotated[int, FixedWidth("uint32", 0, 2**32 - 1)]
UInt64 = Annotated[int, FixedWidth("uint64", 0, 2**64 - 1)]
Float32 = Annotated[float, FixedWidth("float32"), AfterValidator(_fits_float32)]
Float64 = Annotated[float, FixedWidth("float64")]
