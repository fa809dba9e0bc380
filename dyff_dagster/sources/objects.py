"""An object is an object: pyarrow takes an empty list for one whose values are all missing."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

__all__ = ["check_objects", "holds_objects"]


def holds_objects(kind: pa.DataType) -> bool:
    """Whether values of a type are, or hold, structs."""
    return pa.types.is_struct(kind) or any(holds_objects(part) for part in _parts(kind))


def check_objects(value: Any, kind: pa.DataType) -> None:
    """See that no list stands in a JSON value where a struct belongs, at any depth.

    Raises:
        pyarrow.ArrowTypeError: One does.
    """
    if pa.types.is_struct(kind):
        if isinstance(value, list):
            raise pa.ArrowTypeError(f"a list is no {kind}")
        if isinstance(value, dict):
            for field in kind:
                check_objects(value.get(field.name), field.type)
    elif pa.types.is_map(kind):
        if isinstance(value, dict):
            for item in value.values():
                check_objects(item, kind.item_type)
    elif isinstance(value, list):
        for part in _parts(kind):
            for item in value:
                check_objects(item, part)


def _parts(kind: pa.DataType) -> list[pa.DataType]:
    if pa.types.is_map(kind):
        return [kind.key_type, kind.item_type]
    return [kind.field(number).type for number in range(kind.num_fields)]
