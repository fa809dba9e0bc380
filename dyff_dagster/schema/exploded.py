"""ExplodeCollections and the adapters of whole fields after it, as one adapter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dyff_dagster.schema.adapter import Adapter, FieldAdapter, Row
from dyff_dagster.schema.arrays import ExplodeCollections, spread
from dyff_dagster.schema.shapes import Maker, maker

__all__ = ["ExplodedFields"]

_SHAPES, _ALIKE = 64, 8
"""Shapes of rows for which there are functions, and how many of them with the same top-level names."""


class ExplodedFields(Adapter):
    """ExplodeCollections and the adapters of whole fields that come after it, as one.

    It makes the same objects as they do one after another. What the objects share goes through the adapters
    once, not once for each; and for rows of a shape that came before there is a function
    (:func:`dyff_dagster.schema.shapes.maker`). Of the rows before it knows the names of their fields alone.
    """

    kind = ExplodeCollections.kind

    def __init__(self, explode: ExplodeCollections, then: Sequence[FieldAdapter]) -> None:
        self._explode, self._then = explode, then
        self._splits = any(adapter.splits for adapter in then)
        self._makers: dict[tuple[str, ...], list[Maker]] = {}
        self._to_learn = _SHAPES

    def expand(self, row: Row) -> Sequence[Row]:
        """Return the objects that ``row`` becomes."""
        for make in self._makers.get(tuple(row), ()):
            made = make(row)
            if made is not None:
                return made
        return self._carefully(row)

    def _carefully(self, row: Row) -> Sequence[Row]:
        """Do as :meth:`expand` does, without the functions, and make one for the next row like this."""
        shared, columns, length = self._explode.parts(row)
        if self._splits and _holds_objects(columns):
            rows: Sequence[Row] = spread(shared, columns, length)
            for adapter in self._then:
                rows = adapter.expand_all(rows)
        elif length:
            rows = self._shared(shared, columns, length)
        else:
            return ()
        if self._to_learn and type(row) is dict:
            self._learn(row)
        return rows

    def _shared(self, shared: Row, columns: Mapping[str, Sequence[Any]], length: int) -> list[Row]:
        for adapter in self._then:
            shared = adapter.convert(shared)
            if adapter.new_names:
                columns = {adapter.new_names.get(name, name): values for name, values in columns.items()}
            if not columns.keys() <= shared.keys():
                # A column that was dropped must not come back under a name that is given later.
                columns = {name: values for name, values in columns.items() if name in shared}
        return spread(shared, columns, length)

    def _learn(self, row: Row) -> None:
        makers = self._makers.setdefault(tuple(row), [])
        if len(makers) >= _ALIKE:
            return
        self._to_learn -= 1
        make = maker(row, self._explode, self._then)
        if make is not None and make(row) is not None:
            makers.append(make)


def _holds_objects(columns: Mapping[str, Sequence[Any]]) -> bool:
    for values in columns.values():  # noqa: SIM110  (any() takes twice the time)
        if dict in map(type, values):
            return True
    return False
