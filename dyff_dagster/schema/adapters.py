"""Schema adapters: how rows become requests, and responses answers.

``create_pipeline([...])`` makes a function from a stream of JSON objects to another. What is wrong with a
configuration is said when an adapter is made; what is wrong with a row, when the row comes along, by adapter,
row and field, and without the row's content.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

from dyff_dagster.schema.adapter import (
    Adapter,
    AdapterConfigurationError,
    AdapterError,
    FieldAdapter,
    Row,
    RowAdapter,
    mapping_of,
    name_of,
    names,
    settings,
)
from dyff_dagster.schema.arrays import EmbedIndex, ExplodeCollections, length_of
from dyff_dagster.schema.base import closest
from dyff_dagster.schema.exploded import ExplodedFields
from dyff_dagster.schema.multipart import FileUpload, Multipart
from dyff_dagster.schema.template import Compute, Filler, Leaf
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
    "FileUpload",
    "FlattenHierarchy",
    "Map",
    "Multipart",
    "Pipeline",
    "Rename",
    "Row",
    "Select",
    "TransformJSON",
    "check_pipeline",
    "create_adapter",
    "create_pipeline",
]


_NOT_LAST = "FileUpload makes a request, which no adapter can take further; it must be the last one"


class Drop(FieldAdapter):
    """Remove top-level ``fields``; those that are not there are no error."""

    kind = "Drop"

    def __init__(self, configuration: Any) -> None:
        config = settings(self.kind, configuration, ["fields"])
        fields = frozenset(names(self.kind, "fields", config["fields"], empty=True))
        super().__init__(lambda row: {name: value for name, value in row.items() if name not in fields})


class Select(Filler, FieldAdapter):
    """Keep only top-level ``fields``, in their order; all of them must be there."""

    kind = "Select"

    def __init__(self, configuration: Any) -> None:
        config = settings(self.kind, configuration, ["fields"])
        self.fields = names(self.kind, "fields", config["fields"], empty=True)
        self.fill_with({name: Leaf(self._field(name), (name,)) for name in self.fields})

    def _field(self, name: str) -> Compute:
        def get(row: Row) -> Any:
            if name not in row:
                raise self.error(f"field '{name}'", "is missing")
            return row[name]

        return get


class Rename(FieldAdapter):
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
        self.new_names: dict[str, str] = config
        super().__init__(self._renamed)

    def _renamed(self, row: Row) -> Row:
        new_names = self.new_names
        for old, new in new_names.items():
            if old not in row:
                raise self.error(f"field '{old}'", "is missing")
            if new in row and new not in new_names:
                raise self.error(f"field '{new}'", f"is there already, and '{old}' would take its name")
        return {new_names.get(name, name): value for name, value in row.items()}


class FlattenHierarchy(FieldAdapter):
    """Turn nested objects into fields ``a.b.c``; arrays and empty objects are leaves.

    ``fields`` are the top-level fields to flatten (default: all), ``depth`` how many levels of nesting to
    take away (default: all), and with ``addPrefix: false`` a leaf gets its own name alone.
    """

    kind = "FlattenHierarchy"
    splits = True

    def __init__(self, configuration: Any = None) -> None:
        config = settings(self.kind, configuration, [], ["fields", "depth", "addPrefix"])
        self._fields = frozenset(names(self.kind, "fields", config.get("fields") or [], empty=True))
        depth, prefix = config.get("depth"), config.get("addPrefix", True)
        if depth is not None and (not isinstance(depth, int) or isinstance(depth, bool) or depth < 0):
            raise AdapterConfigurationError(self.kind, "depth", "it must be a number of levels, 0 or more")
        if not isinstance(prefix, bool):
            raise AdapterConfigurationError(self.kind, "addPrefix", "it must be true or false")
        self._depth: int | None = depth
        self._prefix = prefix
        super().__init__(self._flat)

    def _flat(self, row: Row) -> Row:
        chosen, nested = self._fields, self._depth != 0
        for name in chosen:
            if name not in row:
                raise self.error(f"field '{name}'", "is missing")
        flat: Row = {}
        leaves = len(row)
        try:
            for name, value in row.items():
                if type(value) is dict and value and nested and (not chosen or name in chosen):
                    leaves += self._flatten(f"{name}.", value, 1, flat) - 1
                else:
                    flat[name] = value
        except RecursionError:
            raise self.error("the row", "is nested too deep") from None
        if len(flat) < leaves:
            raise self._twice(row)
        return flat

    def _flatten(self, prefix: str, value: Row, level: int, flat: Row) -> int:
        """Put the leaves of ``value`` into ``flat``, and return how many they are."""
        nested, with_prefix = level != self._depth, self._prefix
        leaves = len(value)
        for key, item in value.items():
            if type(item) is dict and item and nested:
                leaves += self._flatten(f"{prefix}{key}.", item, level + 1, flat) - 1
            elif with_prefix:
                flat[prefix + key] = item
            else:
                flat[key] = item
        return leaves

    def _twice(self, row: Row) -> AdapterError:
        """Return the error that names the first field which two leaves want to be."""
        seen: set[str] = set()
        for name in self._names(row, "", 0):
            if name in seen:
                return self.error(f"field '{name}'", "would be there twice")
            seen.add(name)
        raise AssertionError

    def _names(self, value: Row, prefix: str, level: int) -> Iterator[str]:
        for key, item in value.items():
            chosen = level > 0 or not self._fields or key in self._fields
            if chosen and level != self._depth and type(item) is dict and item:
                yield from self._names(item, f"{prefix}{key}.", level + 1)
            else:
                yield prefix + key if self._prefix else key


class Map(RowAdapter):
    """Apply another ``adapter`` to the objects in the arrays ``collections``.

    A TransformJSON takes elements of any type: ``{"text": "$"}`` makes objects of texts.
    """

    kind = "Map"

    def __init__(self, configuration: Any) -> None:
        config = settings(self.kind, configuration, ["collections", "adapter"])
        self._collections = names(self.kind, "collections", config["collections"])
        self._adapter = create_adapter(config["adapter"])
        if self._adapter.uploads:
            problem = "FileUpload makes requests of rows; it cannot be applied to the elements of arrays"
            raise AdapterConfigurationError(self.kind, "adapter", problem)
        super().__init__(self._mapped)

    def _mapped(self, row: Row) -> Row:
        mapped = {}
        for name in self._collections:
            length_of(self, row, [name])
            mapped[name] = list(self._elements(name, row[name]))
        return {**row, **mapped}

    def _elements(self, field: str, elements: list[Any]) -> Iterable[Row]:
        for position, element in enumerate(elements):
            where = f"field '{field}[{position}]'"
            if not isinstance(element, dict) and not self._adapter.takes_any:
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
        self._take([create_adapter(spec) for spec in config["adapters"]])

    @classmethod
    def of(cls, adapters: Iterable[Adapter]) -> Pipeline:
        """Return the pipeline of ``adapters``.

        Raises:
            AdapterConfigurationError: a FileUpload is not the last of them.
        """
        pipeline = cls({"adapters": []})
        pipeline._take(list(adapters))
        return pipeline

    def _take(self, adapters: list[Adapter]) -> None:
        for position, adapter in enumerate(adapters[:-1]):
            if adapter.uploads:
                raise AdapterConfigurationError(self.kind, f"adapters[{position}]", _NOT_LAST)
        self._adapters = adapters
        joined = _joined(adapters)
        self._first = joined[0].expand if joined else _alone
        self._rest = [adapter.expand_all for adapter in joined[1:]]
        self.uploads = bool(adapters) and adapters[-1].uploads
        self.takes_any = bool(adapters) and adapters[0].takes_any

    def expand(self, row: Row) -> Sequence[Any]:
        """Return what becomes of ``row`` in the end."""
        try:
            rows = self._first(row)
            for expand_all in self._rest:
                rows = expand_all(rows)
        except AdapterError:
            return self._step_by_step(row)
        return rows

    def _step_by_step(self, row: Row) -> Sequence[Any]:
        """Do as :meth:`expand` does, and say in errors which step it was."""
        rows: Sequence[Any] = (row,)
        for step, adapter in enumerate(self._adapters, start=1):
            try:
                rows = adapter.expand_all(rows)
            except AdapterError as error:
                name = error.adapter if len(self._adapters) == 1 else f"{error.adapter} (step {step})"
                raise error.within(row, adapter=name) from None
        return rows

    def __call__(self, stream: Iterable[Row]) -> Iterator[Any]:
        """Yield what becomes of each row of ``stream``, in order."""
        if len(self._adapters) == 1:
            return self._adapters[0](stream)
        return super().__call__(stream)


def _alone(row: Row) -> Sequence[Any]:
    return (row,)


def _joined(adapters: Sequence[Adapter]) -> list[Adapter]:
    """Return ``adapters`` with every ExplodeCollections joined to the adapters of whole fields after it."""
    joined: list[Adapter] = []
    at = 0
    while at < len(adapters):
        adapter, at = adapters[at], at + 1
        if isinstance(adapter, ExplodeCollections):
            then = list(itertools.takewhile(lambda one: isinstance(one, FieldAdapter), adapters[at:]))
            if then:
                adapter, at = ExplodedFields(adapter, cast("list[FieldAdapter]", then)), at + len(then)
        joined.append(adapter)
    return joined


ADAPTERS: Mapping[str, Callable[[Any], Adapter]] = {
    adapter.kind: adapter
    for adapter in (
        Drop,
        EmbedIndex,
        ExplodeCollections,
        FileUpload,
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
    """
    found = mapping_of(spec)
    kind = found["kind"]
    if kind not in ADAPTERS:
        near = closest(kind, ADAPTERS)
        hint = f"did you mean '{near}'?" if near else f"there are {', '.join(ADAPTERS)}"
        raise AdapterConfigurationError(kind, "kind", f"there is no such adapter; {hint}")
    return ADAPTERS[kind](found.get("configuration"))


def create_pipeline(specs: Iterable[SchemaAdapter | Mapping[str, Any]]) -> Pipeline:
    """Return the pipeline of the adapters that ``specs`` say, first to last.

    Raises:
        AdapterConfigurationError: one of them cannot be made, or a FileUpload is not the last.
    """
    return Pipeline.of(create_adapter(spec) for spec in specs)


def check_pipeline(
    specs: Iterable[SchemaAdapter | Mapping[str, Any]],
    side: Literal["inputPipeline", "outputPipeline", "adapterPipeline"],
) -> list[tuple[int, AdapterConfigurationError]]:
    """Return everything that is wrong with a pipeline, each with the position of the adapter, from 0.

    ``side`` is the field that holds it: a FileUpload can only be the last adapter of an ``inputPipeline``;
    replies and views (``adapterPipeline``) are not sent anywhere.
    """
    wrong: list[tuple[int, AdapterConfigurationError]] = []
    uploads: list[int] = []
    last = -1
    for last, spec in enumerate(specs):
        try:
            if create_adapter(spec).uploads:
                uploads.append(last)
        except AdapterConfigurationError as error:
            wrong.append((last, error))
    for position in uploads:
        if side != "inputPipeline":
            problem = (
                f"it makes requests, and can only be the last adapter of an inputPipeline, not in {side}"
            )
        elif position < last:
            problem = _NOT_LAST
        else:
            continue
        wrong.append((position, AdapterConfigurationError("FileUpload", "", problem)))
    return sorted(wrong, key=lambda found: found[0])
