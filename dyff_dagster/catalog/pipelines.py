"""What a pipeline of adapters does to the shape of its rows, worked out without any rows.

It finds fields that an adapter reads and that its rows cannot have. What it cannot know it takes for
possible: a fault is certain, a doubt is told apart.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dyff_dagster.catalog.shapes import ANY_OBJECT, Array, Object, Scalar, Shape, name_of, shape_of_value
from dyff_dagster.schema.platform import SchemaAdapter

_STEP = re.compile(
    r"""\.(?!(?:parent|where|wherenot)\b)([A-Za-z_][A-Za-z0-9_]*)
      | \[(0|[1-9][0-9]*)\]
      | \[['"]([^'"\\*\[\]{}()$.,`]+)['"]\]""",
    re.VERBOSE,
)
_ELSEWHERE = re.compile(r"[|` ]|\.(?:\.|parent)")
"""In what follows the plain steps, these mean that the query may be about something else."""


@dataclass(frozen=True)
class Fault:
    """A field that an adapter reads and that its rows do not have, or not like this.

    ``position`` is the adapter's place in the pipeline, from 0, and ``adapter`` its kind; ``field`` is the
    path of the field, and ``known`` the fields that there are instead. ``withheld`` says that the field was
    taken away because no service may see it. ``found`` is what stands there where that is the trouble.
    """

    position: int
    adapter: str
    field: str
    known: tuple[str, ...] = ()
    withheld: bool = False
    found: str | None = None


@dataclass(frozen=True)
class Doubt:
    """A query of which it cannot be told whether it reads the withheld field ``field``."""

    position: int
    adapter: str
    query: str
    field: str


@dataclass(frozen=True)
class Flow:
    """What becomes of rows: their shape behind the pipeline, or what goes wrong in it, and the doubts."""

    shape: Object
    fault: Fault | None = None
    doubts: tuple[Doubt, ...] = ()


class _Broken(Exception):
    def __init__(self, fault: Fault) -> None:
        self.fault = fault


def follow_pipeline(pipeline: Sequence[SchemaAdapter], rows: Object) -> Flow:
    """Send rows of the shape ``rows`` through a pipeline whose adapters can all be made."""
    doubts: list[Doubt] = []
    shape = rows
    try:
        for position, adapter in enumerate(pipeline):
            walk = _Walk(position, adapter.kind, rows.withheld, doubts)
            shape = walk.adapt(adapter.kind, adapter.configuration or {}, shape)
    except _Broken as broken:
        return Flow(ANY_OBJECT, broken.fault, tuple(doubts))
    return Flow(shape, None, tuple(doubts))


@dataclass
class _Walk:
    """One adapter of the pipeline, with what it may hold inside."""

    position: int
    kind: str
    withheld: frozenset[str]
    doubts: list[Doubt] = field(default_factory=list)

    def fault(self, path: str, row: Shape, name: str | int, found: Shape | None = None) -> _Broken:
        withheld = isinstance(row, Object) and name in row.withheld
        known = tuple(row.fields) if isinstance(row, Object) else ()
        what = None if found is None else name_of(found)
        return _Broken(Fault(self.position, self.kind, path, known, withheld, what))

    def adapt(self, kind: str, config: Mapping[str, Any], row: Object) -> Object:
        """The shape of the objects that the adapter makes of objects of the shape ``row``."""
        adapt = _ADAPTERS.get(kind)
        return ANY_OBJECT if adapt is None else adapt(self, config, row)

    def of_field(self, row: Object, name: str) -> Shape:
        if name in row.fields:
            return row.fields[name]
        if row.open and name not in row.withheld:
            return Scalar.ANYTHING
        raise self.fault(name, row, name)

    def items(self, row: Object, name: str) -> Shape:
        """The shape of the elements of an array."""
        shape = self.of_field(row, name)
        if isinstance(shape, Array):
            return shape.item
        if shape is Scalar.ANYTHING:
            return shape
        raise self.fault(name, row, name, shape)

    def drop(self, config: Mapping[str, Any], row: Object) -> Object:
        gone = set(config["fields"])
        return Object({n: s for n, s in row.fields.items() if n not in gone}, row.open, row.withheld)

    def select(self, config: Mapping[str, Any], row: Object) -> Object:
        return Object({name: self.of_field(row, name) for name in config["fields"]}, False, row.withheld)

    def rename(self, config: Mapping[str, Any], row: Object) -> Object:
        shapes = {new: self.of_field(row, old) for old, new in config.items()}
        kept = {name: shape for name, shape in row.fields.items() if name not in config}
        return Object({**kept, **shapes}, row.open, row.withheld - shapes.keys())

    def flatten(self, config: Mapping[str, Any], row: Object) -> Object:
        chosen = config.get("fields") or list(row.fields)
        for name in chosen:
            self.of_field(row, name)
        flat: dict[str, Shape] = {name: shape for name, shape in row.fields.items() if name not in chosen}
        depth = config.get("depth")
        unknown = [
            _flatten(
                name, name, row.fields.get(name, Scalar.ANYTHING), depth, config.get("addPrefix", True), flat
            )
            for name in chosen
        ]
        return Object(flat, row.open or any(unknown), row.withheld - flat.keys())

    def explode(self, config: Mapping[str, Any], row: Object) -> Object:
        items = {name: self.items(row, name) for name in config["collections"]}
        fields = {**row.fields, **items, **self.indexes(config, row)}
        return Object(fields, row.open, row.withheld - fields.keys())

    def embed(self, config: Mapping[str, Any], row: Object) -> Object:
        indexes = self.indexes(config, row)
        made: dict[str, Shape] = {}
        for name in config["collections"]:
            item = self.items(row, name)
            if isinstance(item, Object):
                item = Object({**item.fields, **indexes}, item.open)
            made[name] = Array(item)
        return Object({**row.fields, **made}, row.open, row.withheld)

    def indexes(self, config: Mapping[str, Any], row: Object) -> dict[str, Shape]:
        found: dict[str, Shape] = {}
        for name, query in (config.get("index") or {}).items():
            if query is not None:
                self.query(query, row, required=False)
            found[name] = Scalar.NUMBER if query is None else Scalar.ANYTHING
        return found

    def map(self, config: Mapping[str, Any], row: Object) -> Object:
        made: dict[str, Shape] = {}
        inner = config["adapter"]
        for name in config["collections"]:
            item = self.items(row, name)
            if isinstance(item, Object):
                item = self.adapt(inner["kind"], inner.get("configuration") or {}, item)
            elif item is not Scalar.ANYTHING:
                raise self.fault(f"{name}[]", row, name, item)
            made[name] = Array(item)
        return Object({**row.fields, **made}, row.open, row.withheld)

    def pipeline(self, config: Mapping[str, Any], row: Object) -> Object:
        for adapter in config["adapters"]:
            row = self.adapt(adapter["kind"], adapter.get("configuration") or {}, row)
        return row

    def transform(self, config: Mapping[str, Any], row: Object) -> Object:
        made = self.template(dict(config), row)
        return (
            Object(made.fields, made.open, row.withheld - made.fields.keys())
            if isinstance(made, Object)
            else ANY_OBJECT
        )

    def upload(self, config: Mapping[str, Any], row: Object) -> Object:
        self.query(config["field"], row, required=True)
        for part in ("filename", "contentType", "formFields"):
            if part in config:
                self.template(config[part], row)
        return ANY_OBJECT

    def template(self, node: Any, row: Shape) -> Shape:
        """The shape that a template of TransformJSON is filled to."""
        if isinstance(node, dict):
            if "$compute" in node:
                return self.compute(node["$compute"], row)
            return Object({_unescaped(name): self.template(item, row) for name, item in node.items()})
        if isinstance(node, list):
            items = [self.template(item, row) for item in node]
            same = bool(items) and all(item == items[0] for item in items)
            return Array(items[0] if same else Scalar.ANYTHING)
        if isinstance(node, str) and node.startswith("$"):
            return Scalar.TEXT if node.startswith("$$") else self.query(node, row, required=True)
        return shape_of_value(node)

    def compute(self, steps: Any, value: Shape) -> Shape:
        for step in steps if isinstance(steps, list) else [steps]:
            value = self.step(step, value)
        return value

    def step(self, step: Mapping[str, Any], value: Shape) -> Shape:
        if "$literal" in step:
            return shape_of_value(step["$literal"])
        if "$scalar" in step:
            return self.query(step["$scalar"], value, required=True)
        if "$list" in step:
            content = step["$list"]
            if isinstance(content, list):
                for part in content:
                    self.step(part, value)
                return Array(Scalar.ANYTHING)
            self.query(content, value, required=False)
            return Array(Scalar.ANYTHING)
        return Scalar.ANYTHING

    def query(self, text: str, shape: Shape, *, required: bool) -> Shape:
        """The shape of what a query finds.

        What only may find something (not ``required``) reads a withheld field all the same.
        """
        steps, whole = _steps_of(text)
        path = ""
        here: Shape = shape
        for step in steps:
            path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
            below = _below(here, step)
            if below is None:
                missing = self.fault(path, here, step, None if isinstance(here, Object) else here)
                if required or missing.fault.withheld:
                    raise missing
                return Scalar.ANYTHING
            here = below
        if whole:
            return here
        for name in sorted(self.withheld):
            if not steps and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text):
                self.doubts.append(Doubt(self.position, self.kind, text, name))
        return Scalar.ANYTHING


def _below(shape: Shape, step: str | int) -> Shape | None:
    """What stands one step further; None where there cannot be anything."""
    if shape is Scalar.ANYTHING:
        return shape
    if isinstance(shape, Array):
        return shape.item if isinstance(step, int) else None
    if isinstance(shape, Object) and isinstance(step, str):
        if step in shape.fields:
            return shape.fields[step]
        return Scalar.ANYTHING if shape.open and step not in shape.withheld else None
    return None


def _steps_of(text: str) -> tuple[list[str | int], bool]:
    """The plain steps with which a query begins, and whether that is all of it."""
    steps: list[str | int] = []
    if not text.startswith("$"):
        return steps, False
    at = 1
    while (match := _STEP.match(text, at)) is not None:
        name, number, quoted = match.groups()
        steps.append(int(number) if number is not None else name or quoted)
        at = match.end()
    if at == len(text):
        return steps, True
    return ([] if _ELSEWHERE.search(text, at) else steps), False


def _flatten(
    path: str,
    name: str,
    shape: Shape,
    depth: int | None,
    prefix: bool,
    flat: dict[str, Shape],
    level: int = 0,
) -> bool:
    """Put the leaves of a value into ``flat``; return whether there may be others."""
    at = path if prefix else name
    if (
        level == depth
        or isinstance(shape, Array)
        or (isinstance(shape, Scalar) and shape is not Scalar.ANYTHING)
    ):
        flat[at] = shape
        return False
    flat[at] = Scalar.ANYTHING  # where the object is null, or empty, it is a leaf itself
    if not isinstance(shape, Object):
        return True
    unknown = [
        _flatten(f"{path}.{key}", key, item, depth, prefix, flat, level + 1)
        for key, item in shape.fields.items()
    ]
    return shape.open or any(unknown)


def _unescaped(key: str) -> str:
    return key[1:] if key.startswith("$$") else key


_ADAPTERS: Mapping[str, Callable[[_Walk, Mapping[str, Any], Object], Object]] = {
    "Drop": _Walk.drop,
    "EmbedIndex": _Walk.embed,
    "ExplodeCollections": _Walk.explode,
    "FileUpload": _Walk.upload,
    "FlattenHierarchy": _Walk.flatten,
    "Map": _Walk.map,
    "Pipeline": _Walk.pipeline,
    "Rename": _Walk.rename,
    "Select": _Walk.select,
    "TransformJSON": _Walk.transform,
}
