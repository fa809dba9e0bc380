"""Functions for rows of one shape, in place of an explosion and the adapters of whole fields after it.

Such adapters look at names, and at where there are objects, and at nothing else of a row. So what they do to one
row, they do to all that have the same names and objects in the same places. That is found out once, by giving them
a row with marks in the place of values, and then made into code. For ``ExplodeCollections`` of ``b`` with an index
``n``, ``FlattenHierarchy``, ``Select`` of three fields, and a row ``{"a": 1, "b": [2, 3], "c": {"d": 4}}``, it is::

    def make(row):
        v0, a0, v3, = row.values()
        if type(v0) is dict: return
        if type(v3) is not dict or tuple(v3) != k0: return
        v2, = v3.values()
        if type(v2) is dict: return
        if type(a0) is not list: return
        length = len(a0)
        made, at = [], 0
        for v1 in a0:
            v4 = at
            if type(v1) is dict: return
            made.append({k1: v1, k2: v4, k3: v2})
            at += 1
        return made

It returns None for a row that it cannot take: one of another shape, or one with something wrong. All names are handed
over as ``k0``, ``k1``, …: nothing of a row or of a configuration is ever part of the code.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from dyff_dagster.schema.adapter import AdapterError, FieldAdapter, Row
from dyff_dagster.schema.arrays import ExplodeCollections
from dyff_dagster.schema.template import compiled

__all__ = ["Maker", "maker"]

Maker: TypeAlias = "Callable[[Row], list[Row] | None]"
"""Makes all objects that a row becomes; None where it cannot take the row. It is only for rows with the same
top-level names in the same order as the row that it was made for."""

_DEEP, _MANY = 20, 1000
"""Objects within objects and values in all beyond which there is no code: Python's compiler has limits."""


@dataclass(eq=False)
class _Value:
    """A value of a row.

    Attributes:
        variable: Its name in the code.
        inner: What it holds, by name, where it is an object.
        matters: Whether its type and its names make a difference to an adapter.
    """

    variable: str
    inner: dict[str, _Value] | None
    matters: bool

    def __post_init__(self) -> None:
        inner = self.inner
        self.mark: Any = self if inner is None else {name: value.mark for name, value in inner.items()}


def maker(row: Row, explode: ExplodeCollections, then: Sequence[FieldAdapter]) -> Maker | None:
    """Return the function that does as ``explode`` and ``then`` do to rows of the shape that ``row`` has.

    None where there is no such function. The row must be one that they can take, with at least one element.
    """
    shared, columns, _ = explode.parts(row)
    first = shared | {name: values[0] for name, values in columns.items()}
    splits = any(adapter.splits for adapter in then)
    number = itertools.count()
    values = {name: _value(value, number, _DEEP, splits) for name, value in first.items()}
    by_mark = {id(value.mark): value for value in _all(values.values())}
    if len(by_mark) > _MANY:
        return None
    try:
        marks = _through({name: value.mark for name, value in values.items()}, then, by_mark)
    except AdapterError:
        return None
    code = _Code()
    code.explode(row, values, explode)
    code.give({name: by_mark[id(mark)] for name, mark in marks.items()})
    known: dict[str, Any] = {one.__name__: one for one in (type, list, dict, tuple, len)}
    known["indexes"] = lambda row, length: [values for _, values in explode.indexes.of(row, length)]
    make: Maker = compiled("\n".join(code.lines), "make", code.names, known)
    return make


def _value(value: Any, number: Iterator[int], depth: int, splits: bool) -> _Value:
    inner = None
    if splits and type(value) is dict and depth:
        inner = {name: _value(item, number, depth - 1, splits) for name, item in value.items()}
    # An object with something in it matters once it is seen to be taken apart, anything else for not being one.
    return _Value(f"v{next(number)}", inner, splits and not inner)


def _all(values: Iterable[_Value]) -> Iterator[_Value]:
    for value in values:
        yield value
        yield from _all((value.inner or {}).values())


def _through(marks: Row, adapters: Sequence[FieldAdapter], by_mark: Mapping[int, _Value]) -> Row:
    """Return what ``adapters`` make of ``marks``, and note which objects matter: those that are taken apart."""
    for adapter in adapters:
        before, marks = marks, adapter.convert(marks)
        if adapter.splits:
            _note([by_mark[id(mark)] for mark in before.values()], set(map(id, marks.values())))
    return marks


def _note(values: Iterable[_Value], kept: Collection[int]) -> None:
    for value in values:
        if value.inner and id(value.mark) not in kept:
            value.matters = True
            _note(value.inner.values(), kept)


class _Code:
    """Lines of code, and what their names stand for."""

    def __init__(self) -> None:
        self.lines: list[str] = ["def make(row):"]
        self.names: dict[str, Any] = {}

    def add(self, depth: int, line: str) -> None:
        self.lines.append("    " * depth + line)

    def name(self, value: Any) -> str:
        name = f"k{len(self.names)}"
        self.names[name] = value
        return name

    def explode(self, row: Row, values: Mapping[str, _Value], explode: ExplodeCollections) -> None:
        """Write what comes before the objects are made, and the head of the loop that makes them."""
        arrays = {name: f"a{number}" for number, name in enumerate(explode.collections)}
        fields = (arrays.get(name) or values[name].variable for name in row)
        self.add(1, f"{', '.join(fields)}, = row.values()")
        for name in row:
            if name not in arrays:
                self.check(1, values[name])
        for array in arrays.values():
            self.add(1, f"if type({array}) is not list: return")
        self.add(1, "length = len(a0)")
        for array in list(arrays.values())[1:]:
            self.add(1, f"if len({array}) != length: return")
        if explode.indexes.by_path:
            found = {name: f"i{number}" for number, name in enumerate(explode.indexes.names)}
            self.add(1, f"{', '.join(found.values())}, = indexes(row, length)")
            arrays |= found
        self.add(1, "made, at = [], 0")
        # For short arrays this takes less time than zip and range.
        self.add(1, f"for {values[explode.columns[0]].variable} in a0:")
        for name in explode.columns[1:]:
            self.add(2, f"{values[name].variable} = {f'{arrays[name]}[at]' if name in arrays else 'at'}")
        for name in arrays:
            self.check(2, values[name])

    def check(self, depth: int, value: _Value) -> None:
        """Write the return from here if what stands in the place of ``value`` is of another shape."""
        if not value.matters:
            return
        if value.inner is None:
            self.add(depth, f"if type({value.variable}) is dict: return")
            return
        names = self.name(tuple(value.inner))
        self.add(
            depth, f"if type({value.variable}) is not dict or tuple({value.variable}) != {names}: return"
        )
        if value.inner:
            self.add(depth, f"{_listed(value.inner.values())} = {value.variable}.values()")
        for inner in value.inner.values():
            self.check(depth, inner)

    def give(self, fields: Mapping[str, _Value]) -> None:
        """Write how an object with ``fields`` is made, and the end."""
        items = (f"{self.name(name)}: {value.variable}" for name, value in fields.items())
        self.add(2, f"made.append({{{', '.join(items)}}})")
        self.add(2, "at += 1")
        self.add(1, "return made")


def _listed(values: Iterable[_Value]) -> str:
    return "".join(f"{value.variable}, " for value in values)
