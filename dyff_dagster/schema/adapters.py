"""Schema adapters: how rows become requests, and responses answers.

``create_pipeline([...])`` makes a function from a stream of JSON objects to another. What is wrong with a
configuration is said when an adapter is made; what is wrong with a row, when the row comes along, by adapter,
row and field, and without the row's content.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from dyff_dagster.schema.adapter import (
    Adapter,
    AdapterConfigurationError,
    AdapterError,
    Row,
    mapping_of,
    name_of,
    names,
    settings,
)
from dyff_dagster.schema.base import closest
from dyff_dagster.schema.errors import DyffError
from dyff_dagster.schema.jsonpath import JSONPathError, Path
from dyff_dagster.schema.transform import TransformJSON

if TYPE_CHECKING:
    from dyff_dagster.schema.data import SchemaAdapter

__all__ = [
    "ADAPTERS",
    "Adapter",
    "AdapterConfigurationError",
    "AdapterError",
    "Drop",
    "EmbedIndex",
    "ExplodeCollections",
    "FileUploadError",
    "FlattenHierarchy",
    "Map",
    "Pipeline",
    "Rename",
    "Row",
    "Select",
    "TransformJSON",
    "create_adapter",
    "create_pipeline",
]


class FileUploadError(DyffError):
    """The adapter FileUpload, which cannot be had yet."""

    def __init__(self) -> None:
        super().__init__(
            "the adapter FileUpload (requests as multipart/form-data) is not supported yet: "
            "send the file as base64 within JSON, which is what rows of binary data are without an adapter"
        )


class Drop(Adapter):
    """Remove top-level ``fields``; those that are not there are no error."""

    kind = "Drop"

    def __init__(self, configuration: Any) -> None:
        config = settings(self.kind, configuration, ["fields"])
        self._fields = frozenset(names(self.kind, "fields", config["fields"], empty=True))

    def expand(self, row: Row) -> tuple[Row]:
        """Return ``row`` without the fields."""
        fields = self._fields
        return ({name: value for name, value in row.items() if name not in fields},)


class Select(Adapter):
    """Keep only top-level ``fields``, in their order; all of them must be there."""

    kind = "Select"

    def __init__(self, configuration: Any) -> None:
        config = settings(self.kind, configuration, ["fields"])
        self._fields = names(self.kind, "fields", config["fields"], empty=True)

    def expand(self, row: Row) -> tuple[Row]:
        """Return the fields of ``row``."""
        try:
            return ({name: row[name] for name in self._fields},)
        except KeyError as error:
            raise self.error(f"field '{error.args[0]}'", "is missing") from None


class Rename(Adapter):
    """Give top-level fields other names, ``{old: new}``, all at once: a swap is possible."""

    kind = "Rename"

    def __init__(self, configuration: Any) -> None:
        config = settings(
            self.kind, configuration, [], configuration if isinstance(configuration, dict) else []
        )
        for old, new in config.items():
            if not isinstance(new, str):
                raise AdapterConfigurationError(self.kind, old, "the new name must be a string")
        if len(set(config.values())) < len(config):
            raise AdapterConfigurationError(self.kind, "", "two fields get the same new name")
        self._names: dict[str, str] = config

    def expand(self, row: Row) -> tuple[Row]:
        """Return ``row`` with the new names, the fields where they were."""
        new_names = self._names
        for old, new in new_names.items():
            if old not in row:
                raise self.error(f"field '{old}'", "is missing")
            if new in row and new not in new_names:
                raise self.error(f"field '{new}'", f"is there already, and '{old}' would take its name")
        return ({new_names.get(name, name): value for name, value in row.items()},)


class FlattenHierarchy(Adapter):
    """Turn nested objects into fields ``a.b.c``; arrays and empty objects are leaves.

    ``fields`` are the top-level fields to flatten (default: all), ``depth`` how many levels of nesting to
    take away (default: all), and with ``addPrefix: false`` a leaf gets its own name alone.
    """

    kind = "FlattenHierarchy"

    def __init__(self, configuration: Any = None) -> None:
        config = settings(self.kind, configuration, [], ["fields", "depth", "addPrefix"])
        self._fields = names(self.kind, "fields", config.get("fields") or [], empty=True)
        depth, prefix = config.get("depth"), config.get("addPrefix", True)
        if depth is not None and (not isinstance(depth, int) or isinstance(depth, bool) or depth < 0):
            raise AdapterConfigurationError(self.kind, "depth", "it must be a number of levels, 0 or more")
        if not isinstance(prefix, bool):
            raise AdapterConfigurationError(self.kind, "addPrefix", "it must be true or false")
        self._depth: int | None = depth
        self._prefix = prefix

    def expand(self, row: Row) -> tuple[Row]:
        """Return ``row``, flat."""
        chosen = self._fields
        for name in chosen:
            if name not in row:
                raise self.error(f"field '{name}'", "is missing")
        flat: Row = {}
        for name, value in row.items():
            if not chosen or name in chosen:
                self._flatten(name, name, value, 0, flat)
            else:
                self._put(name, value, flat)
        return (flat,)

    def _flatten(self, path: str, name: str, value: Any, level: int, flat: Row) -> None:
        if not isinstance(value, dict) or not value or level == self._depth:
            self._put(path if self._prefix else name, value, flat)
            return
        for key, item in value.items():
            self._flatten(f"{path}.{key}", key, item, level + 1, flat)

    def _put(self, name: str, value: Any, flat: Row) -> None:
        if name in flat:
            raise self.error(f"field '{name}'", "would be there twice")
        flat[name] = value


class _Indexes:
    """Fields that number the elements of collections: by position, or with the values that a path finds."""

    def __init__(self, kind: str, value: Any, reserved: Iterable[str]) -> None:
        self.kind = kind
        if not isinstance(value, dict):
            raise AdapterConfigurationError(kind, "index", "it must be an object of names and paths")
        self._paths: dict[str, Path | None] = {}
        for name, text in value.items():
            if name in reserved:
                raise AdapterConfigurationError(kind, f"index.{name}", "a collection has that name")
            if text is not None and not isinstance(text, str):
                raise AdapterConfigurationError(kind, f"index.{name}", "it must be null or a JSONPath query")
            try:
                self._paths[name] = None if text is None else Path(text)
            except JSONPathError as error:
                raise AdapterConfigurationError(kind, f"index.{name}", str(error)) from None

    def of(self, row: Row, length: int) -> dict[str, list[Any]]:
        """Return the values of each index, ``length`` of them."""
        found = {}
        for name, path in self._paths.items():
            values = list(range(length)) if path is None else path.find(row)
            if len(values) != length:
                problem = f"has {len(values)} values, but the collections have {length} elements"
                raise AdapterError(self.kind, f"index '{name}'", problem)
            found[name] = values
        return found


def _length(adapter: Adapter, row: Row, collections: list[str]) -> int:
    length = None
    for name in collections:
        if name not in row:
            raise adapter.error(f"field '{name}'", "is missing")
        if not isinstance(row[name], list | tuple):
            raise adapter.error(f"field '{name}'", f"is {name_of(row[name])}, not an array")
        if length is not None and len(row[name]) != length:
            problem = f"has {len(row[name])} elements, but '{collections[0]}' has {length}"
            raise adapter.error(f"field '{name}'", problem)
        length = len(row[name])
    return length or 0


class ExplodeCollections(Adapter):
    """Turn arrays side by side into one object per element; an empty array makes no object.

    ``collections`` names the arrays, which must be equally long; ``index`` adds fields ``{name: null}`` with
    the element's position or ``{name: path}`` with the values that a path finds in the row, one for each
    element.
    """

    kind = "ExplodeCollections"

    def __init__(self, configuration: Any) -> None:
        config = settings(self.kind, configuration, ["collections"], ["index"])
        self._collections = names(self.kind, "collections", config["collections"])
        self._indexes = _Indexes(self.kind, config.get("index") or {}, self._collections)

    def expand(self, row: Row) -> list[Row]:
        """Return the objects that ``row`` becomes."""
        collections = self._collections
        length = _length(self, row, collections)
        indexes = self._indexes.of(row, length)
        others = {name: value for name, value in row.items() if name not in collections}
        for name in indexes:
            if name in others:
                raise self.error(f"field '{name}'", "is there already, and an index would take its name")
        columns = {**{name: row[name] for name in collections}, **indexes}
        return [{**others, **{name: column[n] for name, column in columns.items()}} for n in range(length)]


class EmbedIndex(Adapter):
    """Add index fields to the objects in arrays; ``collections`` and ``index`` as in ExplodeCollections."""

    kind = "EmbedIndex"

    def __init__(self, configuration: Any) -> None:
        config = settings(self.kind, configuration, ["collections"], ["index"])
        self._collections = names(self.kind, "collections", config["collections"])
        self._indexes = _Indexes(self.kind, config.get("index") or {}, ())

    def expand(self, row: Row) -> tuple[Row]:
        """Return ``row`` with the indexes in its arrays' elements."""
        indexes = self._indexes.of(row, _length(self, row, self._collections))
        embedded = {name: self._embed(name, row[name], indexes) for name in self._collections}
        return ({**row, **embedded},)

    def _embed(self, field: str, elements: list[Any], indexes: dict[str, list[Any]]) -> list[Row]:
        made = []
        for position, element in enumerate(elements):
            where = f"field '{field}[{position}]'"
            if not isinstance(element, dict):
                raise self.error(where, f"is {name_of(element)}, not an object")
            for name in indexes:
                if name in element:
                    raise self.error(f"field '{field}[{position}].{name}'", "is there already")
            made.append({**element, **{name: values[position] for name, values in indexes.items()}})
        return made


class Map(Adapter):
    """Apply another ``adapter`` to the objects in the arrays ``collections``."""

    kind = "Map"

    def __init__(self, configuration: Any) -> None:
        config = settings(self.kind, configuration, ["collections", "adapter"])
        self._collections = names(self.kind, "collections", config["collections"])
        self._adapter = create_adapter(config["adapter"])

    def expand(self, row: Row) -> tuple[Row]:
        """Return ``row`` with its arrays' elements adapted."""
        mapped = {}
        for name in self._collections:
            _length(self, row, [name])
            mapped[name] = list(self._elements(name, row[name]))
        return ({**row, **mapped},)

    def _elements(self, field: str, elements: list[Any]) -> Iterable[Row]:
        for position, element in enumerate(elements):
            where = f"field '{field}[{position}]'"
            if not isinstance(element, dict):
                raise self.error(where, f"is {name_of(element)}, not an object")
            try:
                yield from self._adapter.expand(element)
            except AdapterError as error:
                adapter = f"{self.kind} of {error.adapter}"
                raise AdapterError(adapter, f"within {where}, {error.field}", error.problem) from None


class Pipeline(Adapter):
    """Apply ``adapters`` one after another; none at all changes nothing."""

    kind = "Pipeline"

    def __init__(self, configuration: Any) -> None:
        config = settings(self.kind, configuration, ["adapters"])
        if not isinstance(config["adapters"], list):
            raise AdapterConfigurationError(self.kind, "adapters", "it must be a list of adapters")
        self._adapters = [create_adapter(spec) for spec in config["adapters"]]

    @classmethod
    def of(cls, adapters: Iterable[Adapter]) -> Pipeline:
        """Return the pipeline of ``adapters``."""
        pipeline = cls({"adapters": []})
        pipeline._adapters = list(adapters)
        return pipeline

    def expand(self, row: Row) -> list[Row]:
        """Return what becomes of ``row`` in the end."""
        rows = [row]
        for step, adapter in enumerate(self._adapters, start=1):
            try:
                rows = [made for one in rows for made in adapter.expand(one)]
            except AdapterError as error:
                name = error.adapter if len(self._adapters) == 1 else f"{error.adapter} (step {step})"
                raise error.within(row, adapter=name) from None
        return rows


ADAPTERS: Mapping[str, Callable[[Any], Adapter]] = {
    adapter.kind: adapter
    for adapter in (
        Drop,
        EmbedIndex,
        ExplodeCollections,
        FlattenHierarchy,
        Map,
        Pipeline,
        Rename,
        Select,
        TransformJSON,
    )
}
"""Every kind that can be had, by name."""


def create_adapter(spec: SchemaAdapter | Mapping[str, Any]) -> Adapter:
    """Return the adapter that ``spec`` says: a SchemaAdapter, or a mapping with kind and configuration.

    Raises:
        AdapterConfigurationError: there is no such kind, or it cannot be configured like this.
        FileUploadError: it is a FileUpload.
    """
    found = mapping_of(spec)
    kind = found["kind"]
    if kind == "FileUpload":
        raise FileUploadError
    if kind not in ADAPTERS:
        near = closest(kind, ADAPTERS)
        hint = f"did you mean '{near}'?" if near else f"there are {', '.join(ADAPTERS)}"
        raise AdapterConfigurationError(kind, "kind", f"there is no such adapter; {hint}")
    return ADAPTERS[kind](found.get("configuration"))


def create_pipeline(specs: Iterable[SchemaAdapter | Mapping[str, Any]]) -> Pipeline:
    """Return the pipeline of the adapters that ``specs`` say, first to last.

    Raises:
        AdapterConfigurationError: one of them cannot be made.
        FileUploadError: one of them is a FileUpload.
    """
    return Pipeline.of(create_adapter(spec) for spec in specs)
