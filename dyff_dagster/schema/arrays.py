"""Adapters of arrays within rows: ExplodeCollections and EmbedIndex."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dyff_dagster.schema.adapter import (
    Adapter,
    AdapterConfigurationError,
    AdapterError,
    Row,
    RowAdapter,
    name_of,
    names,
    settings,
)
from dyff_dagster.schema.jsonpath import JSONPathError, Path, QueryError

__all__ = ["EmbedIndex", "ExplodeCollections", "length_of", "spread"]


class _Indexes:
    """Fields that number the elements of collections: by position, or with the values that a path finds."""

    def __init__(self, kind: str, value: Any, reserved: Iterable[str]) -> None:
        self.kind = kind
        if not isinstance(value, dict):
            raise AdapterConfigurationError(kind, "index", "it must be an object of names and paths")
        self._paths: dict[str, Path | None] = {}
        self.by_path = False
        for name, text in value.items():
            if name in reserved:
                raise AdapterConfigurationError(kind, f"index.{name}", "a collection has that name")
            if text is not None and not isinstance(text, str):
                raise AdapterConfigurationError(kind, f"index.{name}", "it must be null or a JSONPath query")
            self.by_path = self.by_path or text is not None
            try:
                self._paths[name] = None if text is None else Path(text)
            except JSONPathError as error:
                raise AdapterConfigurationError(kind, f"index.{name}", str(error)) from None

    @property
    def names(self) -> tuple[str, ...]:
        """The indexes' names."""
        return tuple(self._paths)

    def of(self, row: Row, length: int) -> list[tuple[str, Sequence[Any]]]:
        """Return the name and the values of each index, ``length`` of them."""
        if not self.by_path:
            return [(name, range(length)) for name in self._paths]
        found: list[tuple[str, Sequence[Any]]] = []
        for name, path in self._paths.items():
            values: Sequence[Any] = range(length) if path is None else self._values(name, path, row)
            if len(values) != length:
                problem = f"has {len(values)} values, but the collections have {length} elements"
                raise AdapterError(self.kind, f"index '{name}'", problem)
            found.append((name, values))
        return found

    def _values(self, name: str, path: Path, row: Row) -> list[Any]:
        try:
            return path.find(row)
        except QueryError:
            problem = f"cannot be made: the query {path.text} cannot be answered on this row"
            raise AdapterError(self.kind, f"index '{name}'", problem) from None


def length_of(adapter: Adapter, row: Row, collections: list[str]) -> int:
    """Return how many elements the arrays ``collections`` of ``row`` have.

    Raises:
        AdapterError: one is missing, is no array, or they differ in length.
    """
    length = -1
    for name in collections:
        if name not in row:
            raise adapter.error(f"field '{name}'", "is missing")
        elements = row[name]
        if type(elements) is not list and not isinstance(elements, (list, tuple)):
            raise adapter.error(f"field '{name}'", f"is {name_of(elements)}, not an array")
        if length != len(elements):
            if length >= 0:
                problem = f"has {len(elements)} elements, but '{collections[0]}' has {length}"
                raise adapter.error(f"field '{name}'", problem)
            length = len(elements)
    return length


class ExplodeCollections(Adapter):
    """Turn arrays side by side into one object per element; an empty array makes no object.

    ``collections`` names the arrays, which must be equally long; ``index`` adds fields ``{name: null}`` with
    the element's position or ``{name: path}`` with the values that a path finds in the row, one for each
    element.
    """

    kind = "ExplodeCollections"

    def __init__(self, configuration: Any) -> None:
        config = settings(self.kind, configuration, ["collections"], ["index"])
        self.collections = names(self.kind, "collections", config["collections"])
        self.indexes = _Indexes(self.kind, config.get("index") or {}, self.collections)
        self.columns = (*self.collections, *self.indexes.names)

    def expand(self, row: Row) -> list[Row]:
        """Return the objects that ``row`` becomes."""
        return spread(*self.parts(row))

    def parts(self, row: Row) -> tuple[Row, dict[str, Sequence[Any]], int]:
        """Return what :func:`spread` makes the objects of that ``row`` becomes.

        Raises:
            AdapterError: the row has not the arrays, or an index does not fit them.
        """
        length = length_of(self, row, self.collections)
        shared = row.copy()
        columns: dict[str, Sequence[Any]] = {name: row[name] for name in self.collections}
        for name in columns:
            shared[name] = None
        for name, values in self.indexes.of(row, length):
            if name in shared:
                raise self.error(f"field '{name}'", "is there already, and an index would take its name")
            shared[name] = None
            columns[name] = values
        return shared, columns, length


def spread(shared: Row, columns: Mapping[str, Sequence[Any]], length: int) -> list[Row]:
    """Return ``length`` copies of ``shared``, in which fields of ``columns`` have each its own value.

    What ``columns`` has beyond the fields of ``shared`` is left out.
    """
    copy = shared.copy
    rows = [copy() for _ in range(length)]
    for name, values in columns.items():
        if name in shared:
            for row, value in zip(rows, values):  # noqa: B905  (of one length, and looking takes time)
                row[name] = value
    return rows


class EmbedIndex(RowAdapter):
    """Add index fields to the objects in arrays; ``collections`` and ``index`` as in ExplodeCollections."""

    kind = "EmbedIndex"

    def __init__(self, configuration: Any) -> None:
        config = settings(self.kind, configuration, ["collections"], ["index"])
        self._collections = names(self.kind, "collections", config["collections"])
        self._indexes = _Indexes(self.kind, config.get("index") or {}, ())
        super().__init__(self._numbered)

    def _numbered(self, row: Row) -> Row:
        indexes = self._indexes.of(row, length_of(self, row, self._collections))
        embedded = {name: self._embed(name, row[name], indexes) for name in self._collections}
        return {**row, **embedded}

    def _embed(self, field: str, elements: list[Any], indexes: list[tuple[str, Sequence[Any]]]) -> list[Row]:
        made = []
        for position, element in enumerate(elements):
            where = f"field '{field}[{position}]'"
            if not isinstance(element, dict):
                raise self.error(where, f"is {name_of(element)}, not an object")
            for name, _ in indexes:
                if name in element:
                    raise self.error(f"field '{field}[{position}].{name}'", "is there already")
            made.append({**element, **{name: values[position] for name, values in indexes}})
        return made
