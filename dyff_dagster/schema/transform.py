"""TransformJSON: a template of JSON whose leaves are literals, JSONPath queries and small computations."""

from __future__ import annotations

import copy
import functools
import operator
import re
from collections.abc import Callable
from typing import Any

from dyff_dagster.schema.adapter import (
    AdapterConfigurationError,
    AdapterError,
    json_copy,
    name_of,
)
from dyff_dagster.schema.base import closest
from dyff_dagster.schema.jsonpath import JSONPathError, MatchError, Path, QueryError
from dyff_dagster.schema.template import Compute, Filler, Leaf, Template

__all__ = ["TransformJSON", "scalar_of", "template_of"]


class TransformJSON(Filler):
    """Fill a template from each row.

    Objects and arrays of the template stand as they are. A string that begins with ``$`` is a JSONPath
    query with exactly one answer; ``$$`` at the beginning of a string or key stands for ``$``. An object
    ``{"$compute": STEP or [STEPS]}`` is a computation, in which each step works on the result of the one
    before: ``{"$literal": value}``, ``{"$scalar": path}`` (exactly one answer), ``{"$list": path}`` (all),
    ``{"$list": [steps]}`` (one each) and ``{"$func": name, …}``: findall, join, list, reduce, search, split
    or sub, with the keyword arguments that they have in Python.
    """

    kind = "TransformJSON"
    takes_any = True

    def __init__(self, configuration: Any) -> None:
        template = json_copy(self.kind, configuration)
        if not isinstance(template, dict) or "$compute" in template:
            problem = "the template must be an object: rows are objects"
            raise AdapterConfigurationError(self.kind, "", problem)
        try:
            self.fill_with(template_of(self.kind, template, "$"))
        except RecursionError:
            raise AdapterConfigurationError(self.kind, "", "the template is nested too deep") from None


def template_of(kind: str, node: Any, where: str) -> Template:
    """Return the template that ``node`` of an adapter's configuration says.

    ``kind`` is the adapter's, ``where`` the node's place, for errors.

    Raises:
        AdapterConfigurationError: it says none.
    """
    return _Reader(kind).template(node, where)


def scalar_of(kind: str, query: Any, where: str, field: str) -> Compute:
    """Return the function that finds the one answer to ``query``; ``field`` is what is filled with it.

    Raises:
        AdapterConfigurationError: ``query`` is no JSONPath query.
    """
    return _Reader(kind).scalar(query, where, field).compute


class _Reader:
    """Reads a configuration's template; ``kind`` is the adapter's."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def wrong(self, where: str, problem: str) -> AdapterConfigurationError:
        return AdapterConfigurationError(self.kind, where, problem)

    def template(self, node: Any, where: str) -> Template:
        if isinstance(node, dict):
            if "$compute" in node:
                if len(node) > 1:
                    raise self.wrong(where, "'$compute' must be the object's only key")
                return self.pipeline(node["$compute"], f"{where}.$compute", where)
            return {
                self.key(key, where): self.template(value, f"{where}.{key.removeprefix('$')}")
                for key, value in node.items()
            }
        if isinstance(node, list):
            return [self.template(item, f"{where}[{position}]") for position, item in enumerate(node)]
        if isinstance(node, str) and node.startswith("$"):
            return _literal(node[1:]) if node.startswith("$$") else self.scalar(node, where, where)
        return _literal(node)

    def key(self, key: str, where: str) -> str:
        if key.startswith("$") and not key.startswith("$$"):
            problem = f"the key '{key}' begins with '$', which is reserved; for that field write '${key}'"
            raise self.wrong(where, problem)
        return key.removeprefix("$")

    def path(self, text: Any, where: str) -> Path:
        if not isinstance(text, str) or not text.startswith("$") or text.startswith("$$"):
            raise self.wrong(where, "a query is a string that begins with one '$'")
        try:
            return Path(text)
        except JSONPathError as error:
            raise self.wrong(where, str(error)) from None

    def scalar(self, text: Any, where: str, field: str) -> Leaf:
        kind, path = self.kind, self.path(text, where)
        one = path.one

        def compute(value: Any) -> Any:
            try:
                return one(value)
            except MatchError as error:
                found = "finds nothing" if error.count == 0 else f"finds {error.count} values"
                problem = f"cannot be filled: the query {path.text} {found}, and must find exactly one"
            except QueryError:
                problem = f"cannot be filled: the query {path.text} cannot be answered on this row"
            raise AdapterError(kind, field, problem)

        return Leaf(compute, path.steps)

    def every(self, text: Any, where: str, field: str) -> Leaf:
        kind, path = self.kind, self.path(text, where)

        def compute(value: Any) -> Any:
            try:
                return path.find(value)
            except QueryError:
                problem = f"cannot be filled: the query {path.text} cannot be answered on this row"
                raise AdapterError(kind, field, problem) from None

        return Leaf(compute)

    def pipeline(self, steps: Any, where: str, field: str) -> Leaf:
        if isinstance(steps, dict):
            steps = [steps]
        if not isinstance(steps, list) or not steps:
            raise self.wrong(where, "a computation is a step, or a list of steps")
        leaves = [self.step(step, f"{where}[{position}]", field) for position, step in enumerate(steps)]
        if len(leaves) == 1:
            return leaves[0]
        compiled = [leaf.compute for leaf in leaves]
        return Leaf(lambda row: functools.reduce(lambda value, step: step(value), compiled, row))

    def step(self, step: Any, where: str, field: str) -> Leaf:
        if isinstance(step, dict) and "$func" in step:
            return Leaf(self.function(step, where, field))
        return self.value(step, where, field)

    def value(self, step: Any, where: str, field: str) -> Leaf:
        kinds = [kind for kind in ("$literal", "$scalar", "$list") if isinstance(step, dict) and kind in step]
        if len(kinds) != 1 or len(step) != 1:
            problem = (
                "a step is an object with one key of $literal, $scalar and $list, or with $func and arguments"
            )
            raise self.wrong(where, problem)
        kind, content = kinds[0], step[kinds[0]]
        if kind == "$literal":
            return _literal(content)
        if kind == "$scalar":
            return self.scalar(content, f"{where}.$scalar", field)
        if isinstance(content, list):
            parts = [self.value(part, f"{where}.$list[{n}]", field).compute for n, part in enumerate(content)]
            return Leaf(lambda value: [part(value) for part in parts])
        return self.every(content, f"{where}.$list", field)

    def function(self, step: dict[str, Any], where: str, field: str) -> Compute:
        name = step["$func"]
        arguments = {key: value for key, value in step.items() if key != "$func"}
        if not isinstance(name, str) or name not in _FUNCTIONS:
            near = closest(str(name), _FUNCTIONS)
            hint = f"did you mean '{near}'?" if near else f"there are {', '.join(_FUNCTIONS)}"
            raise self.wrong(where, f"there is no function {name!r}; {hint}")
        make, required, optional = _FUNCTIONS[name]
        for key, value in arguments.items():
            if key not in (*required, *optional):
                near = closest(key, (*required, *optional))
                hint = f"; did you mean '{near}'?" if near else ""
                raise self.wrong(where, f"{name} has no argument '{key}'{hint}")
            if key in _TYPES and (not isinstance(value, _TYPES[key]) or isinstance(value, bool)):
                raise self.wrong(f"{where}.{key}", f"it must not be {name_of(value)}")
        for key in required:
            if key not in arguments:
                raise self.wrong(where, f"{name} needs the argument '{key}'")
        if "pattern" in arguments:
            self.compile_pattern(arguments, where)
        compute, kind = make(**arguments), self.kind

        def guarded(value: Any) -> Any:
            try:
                return compute(value)
            except (TypeError, ValueError, AttributeError, IndexError, KeyError):
                # What Python says may quote the value.
                problem = f"cannot be filled: {name} cannot be done on {name_of(value)}"
                raise AdapterError(kind, field, problem) from None

        return guarded

    def compile_pattern(self, arguments: dict[str, Any], where: str) -> None:
        """Put the compiled pattern in the place of the text, and try out what refers to its groups."""
        try:
            pattern = re.compile(arguments["pattern"], arguments.pop("flags", 0))
            arguments["pattern"] = pattern
            if "repl" in arguments:
                re.compile(f"(?:{pattern.pattern})|", pattern.flags).sub(arguments["repl"], "", count=1)
        except (re.error, ValueError, IndexError, OverflowError) as error:
            raise self.wrong(where, f"the regular expression is wrong: {error}") from None
        group = arguments.get("group", 0)
        known = group in pattern.groupindex if isinstance(group, str) else 0 <= group <= pattern.groups
        if not known:
            raise self.wrong(f"{where}.group", "the pattern has no such group")


def _literal(value: Any) -> Leaf:
    if isinstance(value, dict | list):
        # A copy each time: what one row's reader changes must not be in the next row.
        return Leaf(lambda _: copy.deepcopy(value))
    return Leaf(lambda _: value, constant=True)


def _findall(pattern: re.Pattern[str]) -> Compute:
    return pattern.findall


def _search(pattern: re.Pattern[str], group: int | str = 0, default: Any = None) -> Compute:
    def search(text: str) -> Any:
        match = pattern.search(text)
        return default if match is None else match.group(group)

    return search


def _split(pattern: re.Pattern[str], maxsplit: int = 0) -> Compute:
    return lambda text: pattern.split(text, maxsplit)


def _sub(pattern: re.Pattern[str], repl: str, count: int = 0) -> Compute:
    return lambda text: pattern.sub(repl, text, count)


# Each with the arguments that it must have, and those that it can have.
_FUNCTIONS: dict[str, tuple[Callable[..., Compute], tuple[str, ...], tuple[str, ...]]] = {
    "findall": (_findall, ("pattern",), ("flags",)),
    "join": (lambda separator="": separator.join, (), ("separator",)),
    "list": (lambda: list, (), ()),
    "reduce": (lambda: lambda value: functools.reduce(operator.add, value), (), ()),
    "search": (_search, ("pattern",), ("flags", "group", "default")),
    "split": (_split, ("pattern",), ("maxsplit", "flags")),
    "sub": (_sub, ("pattern", "repl"), ("count", "flags")),
}
_TYPES: dict[str, tuple[type, ...]] = {
    "pattern": (str,),
    "repl": (str,),
    "separator": (str,),
    "flags": (int,),
    "count": (int,),
    "maxsplit": (int,),
    "group": (int, str),
}
