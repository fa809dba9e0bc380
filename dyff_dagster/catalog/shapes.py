"""The shape of JSON values, as far as a catalog can know it: what a pipeline's rows look like, and must.

Everything here errs on the side of "may be anything": what is said not to fit cannot fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

import pyarrow as pa


class Scalar(Enum):
    """A value that is no array and no object; ANYTHING also stands for those, where nothing is known."""

    TEXT = "text"
    NUMBER = "a number"
    BOOLEAN = "true or false"
    ANYTHING = "anything"


@dataclass(frozen=True)
class Array:
    """An array; ``item`` is the shape of each element."""

    item: Shape


@dataclass(frozen=True)
class Object:
    """An object.

    ``open`` is True where it may have other fields besides ``fields``. ``withheld`` names fields that were
    taken away because no service may see them.
    """

    fields: Mapping[str, Shape]
    open: bool = False
    withheld: frozenset[str] = field(default_factory=frozenset)


Shape = Scalar | Array | Object

ANY_OBJECT = Object({}, open=True)


def name_of(shape: Shape) -> str:
    """What people call values of this shape."""
    if isinstance(shape, Array):
        return "an array"
    return "an object" if isinstance(shape, Object) else shape.value


def shape_of_rows(schema: Iterable[pa.Field], withheld: Iterable[str] = ()) -> Object:
    """The shape of the rows of an Arrow schema, as JSON, less the fields that are withheld."""
    gone = frozenset(withheld)
    return Object({item.name: shape_of(item.type) for item in schema if item.name not in gone}, False, gone)


def shape_of(kind: pa.DataType) -> Shape:
    """The shape that values of an Arrow type have on the wire: binary is base64, times are ISO 8601."""
    types = pa.types
    if types.is_dictionary(kind):
        return shape_of(kind.value_type)
    if types.is_struct(kind):
        return Object({item.name: shape_of(item.type) for item in kind})
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return Array(shape_of(kind.value_type))
    if types.is_integer(kind) or types.is_floating(kind):
        return Scalar.NUMBER
    if types.is_boolean(kind):
        return Scalar.BOOLEAN
    if (
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_binary(kind)
        or types.is_temporal(kind)
    ):
        return Scalar.ANYTHING if types.is_duration(kind) else Scalar.TEXT
    return Scalar.ANYTHING


def shape_of_value(value: Any) -> Shape:
    """The shape of one JSON value; null may stand in for anything."""
    if isinstance(value, bool):
        return Scalar.BOOLEAN
    if isinstance(value, int | float):
        return Scalar.NUMBER
    if isinstance(value, str):
        return Scalar.TEXT
    if isinstance(value, list):
        shapes = [shape_of_value(item) for item in value]
        same = bool(shapes) and all(shape == shapes[0] for shape in shapes)
        return Array(shapes[0] if same else Scalar.ANYTHING)
    if isinstance(value, dict):
        return Object({name: shape_of_value(item) for name, item in value.items()})
    return Scalar.ANYTHING


class Misfit(NamedTuple):
    """A field that cannot be what is declared.

    ``wanted`` is its declared Arrow type, ``found`` what people call what is there instead; None: nothing.
    """

    field: str
    wanted: str
    found: str | None

    def describe(self, declared: str, found: str) -> str:
        """One sentence; the arguments say where the field is declared, and where it is found otherwise."""
        if self.found is None:
            return f"'{self.field}' is never null {declared}, and {found} it is missing; correct one of them"
        return (
            f"'{self.field}' is {self.wanted} {declared}, and {found} it is {self.found}; correct one of them"
        )


def find_misfit(shape: Shape, kind: pa.DataType, name: str) -> Misfit | None:
    """Why no value of ``shape`` can be of the Arrow type ``kind``, or None where one may be.

    :param name: what the value is called.
    """
    wanted = shape_of(kind)
    if shape is Scalar.ANYTHING or wanted is Scalar.ANYTHING:
        return None
    if isinstance(shape, Object) and isinstance(wanted, Object):
        return find_missing(shape, kind, f"{name}.")
    if isinstance(shape, Array) and isinstance(wanted, Array):
        return find_misfit(shape.item, kind.value_type, f"{name}[]")
    if shape is wanted or (shape is Scalar.NUMBER and pa.types.is_decimal(kind)):
        return None
    return Misfit(name, str(kind), name_of(shape))


def find_missing(
    shape: Object, fields: Iterable[pa.Field], prefix: str = "", optional: Iterable[str] = ()
) -> Misfit | None:
    """Why no object of ``shape`` can have the Arrow ``fields``, or None where one may.

    A field that may be null, or is ``optional``, need not be there.
    """
    for item in fields:
        name = prefix + item.name
        if item.name in shape.fields:
            misfit = find_misfit(shape.fields[item.name], item.type, name)
            if misfit is not None:
                return misfit
        elif not shape.open and not item.nullable and item.name not in optional:
            return Misfit(name, str(item.type), None)
    return None
