"""What every schema adapter is: something that makes JSON objects out of JSON objects, one at a time."""

from __future__ import annotations

import abc
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

from dyff_dagster.schema.base import closest
from dyff_dagster.schema.errors import DyffError

__all__ = [
    "Adapter",
    "AdapterConfigurationError",
    "AdapterError",
    "FieldAdapter",
    "Row",
    "RowAdapter",
    "settings",
]

Row = dict[str, Any]
"""A JSON object."""


class AdapterConfigurationError(DyffError):
    """An adapter that cannot be made as it is configured.

    ``adapter`` is its kind, ``where`` the place in its configuration, ``problem`` what is wrong there.
    """

    def __init__(self, adapter: str, where: str, problem: str) -> None:
        self.adapter, self.where, self.problem = adapter, where, problem
        place = f", at {where}" if where else ""
        super().__init__(f"the configuration of adapter {adapter} is wrong{place}: {problem}")


class AdapterError(DyffError):
    """A row that an adapter cannot take. It says where and why, and holds nothing of the row.

    ``adapter`` is the adapter's kind (and step, in a pipeline), ``field`` the field or path, ``problem``
    what is wrong with it, ``index`` the row's ``_index_`` where that is known, and ``position`` its place
    in the stream, from 0, where the index is not.
    """

    def __init__(
        self,
        adapter: str,
        field: str,
        problem: str,
        index: int | None = None,
        position: int | None = None,
    ) -> None:
        self.adapter, self.field, self.problem = adapter, field, problem
        self.index, self.position = index, position
        row = ""
        if index is not None:
            row = f" on the row with _index_ {index}"
        elif position is not None:
            row = f" on object {position} of the stream (from 0)"
        super().__init__(f"adapter {adapter} failed{row}: {field} {problem}")

    def within(self, row: Row, position: int | None = None, adapter: str | None = None) -> AdapterError:
        """Return this error with what an enclosing adapter knows besides: the row's index, its own name."""
        index = row.get("_index_") if isinstance(row, dict) else None
        if not isinstance(index, int):
            index = None
        return AdapterError(
            adapter or self.adapter,
            self.field,
            self.problem,
            self.index if index is None else index,
            self.position if position is None else position,
        )


class Adapter(abc.ABC):
    """Makes JSON objects out of JSON objects. Call it with a stream; the stream is read as it is used.

    An adapter keeps nothing between rows, changes no row that it is given, and never touches its
    configuration: made twice from the same one, it is twice the same.
    """

    kind: ClassVar[str]

    uploads: bool = False
    """Whether it makes a Multipart of each row, which no adapter can take further."""
    takes_any: bool = False
    """Whether it can make something of any JSON value, and not of objects alone."""

    @abc.abstractmethod
    def expand(self, row: Row) -> Sequence[Any]:
        """Return what becomes of one row: one object, several, or none.

        They are JSON objects; where ``uploads`` is set, they are ``Multipart``.

        Raises:
            AdapterError: the row has not what the adapter needs.
        """

    def expand_all(self, rows: Sequence[Row]) -> Sequence[Any]:
        """Return what becomes of all ``rows``, in order.

        Raises:
            AdapterError: a row has not what the adapter needs.
        """
        return [made for row in rows for made in self.expand(row)]

    def __call__(self, stream: Iterable[Row]) -> Iterator[Any]:
        """Return an iterator over what becomes of each row of ``stream``, in order.

        Raises:
            AdapterError: a row has not what the adapter needs; the iterator raises it and ends.
        """
        # Not a generator: that would take its turn for each object, and not for each row.
        return itertools.chain.from_iterable(map(self._expanded, stream, itertools.count()))

    def _expanded(self, row: Row, position: int) -> Sequence[Any]:
        try:
            if not isinstance(row, dict):
                raise self.error("the row", f"is {name_of(row)}, not an object")
            return self.expand(row)
        except AdapterError as error:
            raise error.within(row, position) from None

    def error(self, field: str, problem: str) -> AdapterError:
        """Return the error that says what is wrong with ``field``."""
        return AdapterError(self.kind, field, problem)


class RowAdapter(Adapter):
    """An adapter that makes exactly one thing of each row; ``convert`` is the function that does."""

    def __init__(self, convert: Callable[[Row], Any]) -> None:
        self.convert = convert

    def expand(self, row: Row) -> tuple[Any]:
        """Return what becomes of one row, alone."""
        return (self.convert(row),)

    def expand_all(self, rows: Sequence[Row]) -> Sequence[Any]:
        """Return what becomes of each of ``rows``, in order."""
        return list(map(self.convert, rows))

    def __call__(self, stream: Iterable[Row]) -> Iterator[Any]:
        """Yield what becomes of each row of ``stream``, in order."""
        for position, row in enumerate(stream):
            yield self.converted(row, position)

    def converted(self, row: Row, position: int) -> Any:
        """Return what becomes of ``row``, which is at ``position`` of a stream, from 0.

        Raises:
            AdapterError: the row is no object, or has not what the adapter needs.
        """
        try:
            if not isinstance(row, dict):
                raise self.error("the row", f"is {name_of(row)}, not an object")
            return self.convert(row)
        except AdapterError as error:
            raise error.within(row, position) from None


class FieldAdapter(RowAdapter):
    """A RowAdapter that keeps, drops or renames whole top-level fields, and does not look at what is in them.

    (``splits``: except that it takes objects apart.) So what it does to rows that have most fields in common
    can be done once for all of them.
    """

    new_names: Mapping[str, str] = MappingProxyType({})
    """The names that fields have afterwards, where they have other ones."""
    fields: Sequence[str] | None = None
    """All fields that there are afterwards, in order, where that is certain."""
    splits: bool = False
    """Whether a field that holds an object becomes several."""


def name_of(value: Any) -> str:
    """Return what JSON calls the type of ``value``."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, list | tuple):
        return "an array"
    return "an object" if isinstance(value, dict) else type(value).__name__


def settings(kind: str, configuration: Any, required: Iterable[str], optional: Iterable[str] = ()) -> Row:
    """Return a copy of ``configuration`` that has all ``required`` keys, and no others than ``optional``.

    Raises:
        AdapterConfigurationError: it has not, or is no JSON object.
    """
    required, known = list(required), [*required, *optional]
    copy = json_copy(kind, {} if configuration is None else configuration)
    if not isinstance(copy, dict):
        raise AdapterConfigurationError(kind, "", f"it is {name_of(copy)}, not an object")
    for key in copy:
        if key not in known:
            near = closest(key, known)
            hint = f"did you mean '{near}'?" if near else f"there are {', '.join(known) or 'none'}"
            raise AdapterConfigurationError(kind, key, f"there is no such setting; {hint}")
    for key in required:
        if key not in copy:
            raise AdapterConfigurationError(kind, key, "the setting is missing")
    return copy


def names(kind: str, where: str, value: Any, *, empty: bool = False) -> list[str]:
    """Return ``value`` when it is a list of different names.

    Raises:
        AdapterConfigurationError: it is not, or is empty though it must not be.
    """
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise AdapterConfigurationError(kind, where, "it must be a list of field names")
    if not value and not empty:
        raise AdapterConfigurationError(kind, where, "it must name at least one field")
    if len(set(value)) < len(value):
        raise AdapterConfigurationError(kind, where, "it names a field twice")
    return value


def json_copy(kind: str, value: Any) -> Any:
    """Return a deep copy of ``value``, which must be JSON.

    Raises:
        AdapterConfigurationError: it is not.
    """
    try:
        copy = json.loads(json.dumps(value))
    except (TypeError, ValueError, RecursionError):
        copy = None
        same = False
    else:
        same = copy == value
    if not same:
        raise AdapterConfigurationError(kind, "", "it cannot be written as JSON")
    return copy


def mapping_of(spec: Any) -> Mapping[str, Any]:
    """Return an adapter's specification as a mapping, whether it is a SchemaAdapter or a mapping already.

    Raises:
        AdapterConfigurationError: it is neither, or has no kind, or has more than kind and configuration.
    """
    if hasattr(spec, "kind") and hasattr(spec, "configuration"):
        return {"kind": spec.kind, "configuration": spec.configuration}
    if not isinstance(spec, Mapping) or not isinstance(spec.get("kind"), str):
        raise AdapterConfigurationError("(unknown)", "", "an adapter is an object with a 'kind'")
    for key in spec:
        if key not in ("kind", "configuration"):
            problem = "an adapter has only 'kind' and 'configuration'"
            raise AdapterConfigurationError(spec["kind"], str(key), problem)
    return spec
