"""Templates of JSON, each made into functions that fill it from rows.

A template is a tree of objects, arrays and leaves. Two functions come of it: a careful one, made of closures, whose
errors name the leaf; and a quick one of generated code, which is called first and leaves every row that it cannot
take to the careful one. So both give the same answers and the same errors.

Generated code is of this form, for the template ``{"id": "$.id", "first": "$.choices[0]", "n": 3}``::

    def fill(row):
        try:
            return {k0: row[k1], k2: (v[0] if type(v := row[k3]) is list else miss()), k4: k5}
        except misses:
            return careful(row)

A second function has the same expression in a loop over a stream, which saves a call for each row. All that comes
from a configuration (names, literals, functions) is handed over as ``k0``, ``k1``, …: nothing of it is ever part of
the code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

from dyff_dagster.schema.adapter import AdapterError, Row, RowAdapter

__all__ = ["Compute", "Filler", "Leaf", "Template", "compiled", "filled"]

Compute: TypeAlias = Callable[[Any], Any]
"""What makes a value of the row, or of the step before."""


@dataclass(frozen=True)
class Leaf:
    """A value that is computed.

    Attributes:
        compute: Makes it of a row, or raises an AdapterError that says what is wrong.
        steps: Names and positions that lead to it, where that is all there is to it.
        constant: Whether it is the same for every row, and cannot be changed by those who get it.
    """

    compute: Compute
    steps: tuple[str | int, ...] | None = None
    constant: bool = False


Template: TypeAlias = "dict[str, Template] | list[Template] | Leaf"

_DEEP, _LONG, _MANY = 20, 20, 1000
"""Containers within containers, steps of a path and names in all beyond which no code is generated: Python's
compiler has limits of its own."""


class Filler(RowAdapter):
    """An adapter that fills a template."""

    _stream: Callable[[Iterable[Row]], Iterator[Any]] | None = None

    def fill_with(self, template: Template) -> None:
        """Make this the adapter that fills ``template``."""
        careful: Compute = filled(template)
        writer = _Writer()
        expression = writer.value(template, 0)
        if len(writer.names) > _MANY:
            self.convert = careful
            return
        known = {"type": type, "list": list, "dict": dict, "enumerate": enumerate, "miss": _miss}
        known |= {"careful": careful, "converted": self.converted, "misses": _MISSES}
        make = compiled(_FILLER.replace("EXPRESSION", expression), "fill, stream", writer.names, known)
        self.convert, self._stream = make

    def __call__(self, stream: Iterable[Row]) -> Iterator[Any]:
        """Yield the template, filled from each row of ``stream``."""
        return super().__call__(stream) if self._stream is None else self._stream(stream)


_MISSES = (KeyError, IndexError, TypeError, AdapterError)
_FILLER = """
def fill(row):
    try:
        return EXPRESSION
    except misses:
        return careful(row)

def stream(rows):
    for position, row in enumerate(rows):
        try:
            made = EXPRESSION if type(row) is dict else converted(row, position)
        except misses:
            made = converted(row, position)
        yield made
"""


def compiled(code: str, functions: str, names: Mapping[str, Any], known: Mapping[str, Any]) -> Any:
    """Return the ``functions`` that ``code`` defines, in which ``names`` are closed over and ``known`` global.

    Nothing that a user wrote may be in ``code``, ``functions`` or the keys.
    """
    inner = "".join(f"    {line}\n" for line in code.splitlines())
    namespace = {"__builtins__": {}, **known}
    exec(f"def make({', '.join(names)}):\n{inner}    return {functions}\n", namespace)  # noqa: S102  (see above)
    return namespace["make"](**names)


def _miss() -> NoReturn:
    raise KeyError


def filled(template: Template) -> Compute:
    """Return the careful function, whose errors name the leaf that cannot be filled."""
    if isinstance(template, Leaf):
        return template.compute
    if isinstance(template, list):
        items = [filled(item) for item in template]
        return lambda row: [item(row) for item in items]
    fields = {name: filled(item) for name, item in template.items()}
    return lambda row: {name: make(row) for name, make in fields.items()}


class _Writer:
    """Writes expressions, and keeps what their names stand for."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {}

    def name(self, value: Any) -> str:
        name = f"k{len(self.names)}"
        self.names[name] = value
        return name

    def value(self, template: Template, depth: int) -> str:
        if isinstance(template, Leaf):
            return self.leaf(template)
        if depth >= _DEEP:
            return f"{self.name(filled(template))}(row)"
        if isinstance(template, list):
            return f"[{', '.join(self.value(item, depth + 1) for item in template)}]"
        fields = (f"{self.name(name)}: {self.value(item, depth + 1)}" for name, item in template.items())
        return f"{{{', '.join(fields)}}}"

    def leaf(self, leaf: Leaf) -> str:
        if leaf.constant:
            return self.name(leaf.compute(None))
        if leaf.steps is None or len(leaf.steps) > _LONG:
            return f"{self.name(leaf.compute)}(row)"
        path = "row"
        for step in leaf.steps:
            if isinstance(step, str):
                path = f"{path}[{self.name(step)}]"
            else:
                # A text has positions too, and is no array.
                path = f"(v[{step}] if type(v := {path}) is list else miss())"
        return path
