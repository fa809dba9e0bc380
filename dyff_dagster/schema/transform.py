"""TransformJSON: a template of JSON whose leaves are literals, JSONPath queries and small computations."""

from __future__ import annotations

import copy
import functools
import operator
import re
from collections.abc import Callable
from typing import Any

from dyff_dagster.schema.adapter import (
    Adapter,
    AdapterConfigurationError,
    AdapterError,
    Row,
    json_copy,
    name_of,
)
from dyff_dagster.schema.base import closest
from dyff_dagster.schema.jsonpath import JSONPathError, MatchError, Path

__all__ = ["TransformJSON"]

_KIND = "TransformJSON"
Compute = Callable[[Any], Any]
"""What makes a value of the row, or of the step before."""


class TransformJSON(Adapter):
    """Fill a template from each row.

    Objects and arrays of the template stand as they are. A string that begins with ``$`` is a JSONPath
    query with exactly one answer; ``$$`` at the beginning of a string or key stands for ``$``. An object
    ``{"$compute": STEP or [STEPS]}`` is a computation, in which each step works on the result of the one
    before: ``{"$literal": value}``, ``{"$scalar": path}`` (exactly one answer), ``{"$list": path}`` (all),
    ``{"$list": [steps]}`` (one each) and ``{"$func": name, …}``: findall, join, list, reduce, search, split
    or sub, with the keyword arguments that they have in Python.
    """

    kind = _KIND

    def __init__(self, configuration: Any) -> None:
        template = json_copy(_KIND, configuration)
        if not isinstance(template, dict) or "$compute" in template:
            raise AdapterConfigurationError(_KIND, "", "the template must be an object: rows are objects")
        self._make = _template(template, "$")

    def expand(self, row: Row) -> tuple[Row]:
        """Return the template, filled from ``row``."""
        return (self._make(row),)


def _template(node: Any, where: str) -> Compute:
    if isinstance(node, dict):
        if "$compute" in node:
            if len(node) > 1:
                raise AdapterConfigurationError(_KIND, where, "'$compute' must be the object's only key")
            return _pipeline(node["$compute"], f"{where}.$compute", where)
        return _object(node, where)
    if isinstance(node, list):
        items = [_template(item, f"{where}[{position}]") for position, item in enumerate(node)]
        return lambda row: [item(row) for item in items]
    if isinstance(node, str) and node.startswith("$"):
        return _literal(node[1:]) if node.startswith("$$") else _scalar(node, where, where)
    return _literal(node)


def _object(node: dict[str, Any], where: str) -> Compute:
    fields: dict[str, Compute] = {}
    for key, value in node.items():
        name = key
        if key.startswith("$"):
            if not key.startswith("$$"):
                problem = f"the key '{key}' begins with '$', which is reserved; for that field write '${key}'"
                raise AdapterConfigurationError(_KIND, where, problem)
            name = key[1:]
        fields[name] = _template(value, f"{where}.{name}")
    return lambda row: {name: make(row) for name, make in fields.items()}


def _literal(value: Any) -> Compute:
    if isinstance(value, dict | list):
        # A copy each time: what one row's reader changes must not be in the next row.
        return lambda _: copy.deepcopy(value)
    return lambda _: value


def _path(text: Any, where: str) -> Path:
    if not isinstance(text, str) or not text.startswith("$") or text.startswith("$$"):
        raise AdapterConfigurationError(_KIND, where, "a query is a string that begins with one '$'")
    try:
        return Path(text)
    except JSONPathError as error:
        raise AdapterConfigurationError(_KIND, where, str(error)) from None


def _scalar(text: Any, where: str, field: str) -> Compute:
    path = _path(text, where)
    one = path.one

    def compute(value: Any) -> Any:
        try:
            return one(value)
        except MatchError as error:
            found = "finds nothing" if error.count == 0 else f"finds {error.count} values"
            problem = f"cannot be filled: the query {path.text} {found}, and must find exactly one"
            raise AdapterError(_KIND, field, problem) from None

    return compute


def _pipeline(steps: Any, where: str, field: str) -> Compute:
    if isinstance(steps, dict):
        steps = [steps]
    if not isinstance(steps, list) or not steps:
        raise AdapterConfigurationError(_KIND, where, "a computation is a step, or a list of steps")
    compiled = [_step(step, f"{where}[{position}]", field) for position, step in enumerate(steps)]
    if len(compiled) == 1:
        return compiled[0]
    return lambda row: functools.reduce(lambda value, step: step(value), compiled, row)


def _step(step: Any, where: str, field: str) -> Compute:
    if isinstance(step, dict) and "$func" in step:
        return _function(step, where, field)
    return _value(step, where, field)


def _value(step: Any, where: str, field: str) -> Compute:
    kinds = [kind for kind in ("$literal", "$scalar", "$list") if isinstance(step, dict) and kind in step]
    if len(kinds) != 1 or len(step) != 1:
        problem = (
            "a step is an object with one key of $literal, $scalar and $list, or with $func and arguments"
        )
        raise AdapterConfigurationError(_KIND, where, problem)
    kind, content = kinds[0], step[kinds[0]]
    if kind == "$literal":
        return _literal(content)
    if kind == "$scalar":
        return _scalar(content, f"{where}.$scalar", field)
    if isinstance(content, list):
        parts = [_value(part, f"{where}.$list[{n}]", field) for n, part in enumerate(content)]
        return lambda value: [part(value) for part in parts]
    return _path(content, f"{where}.$list").find


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


def _function(step: dict[str, Any], where: str, field: str) -> Compute:
    name = step["$func"]
    arguments = {key: value for key, value in step.items() if key != "$func"}
    if name not in _FUNCTIONS:
        near = closest(str(name), _FUNCTIONS)
        hint = f"did you mean '{near}'?" if near else f"there are {', '.join(_FUNCTIONS)}"
        raise AdapterConfigurationError(_KIND, where, f"there is no function {name!r}; {hint}")
    make, required, optional = _FUNCTIONS[name]
    for key, value in arguments.items():
        if key not in (*required, *optional):
            near = closest(key, (*required, *optional))
            hint = f"; did you mean '{near}'?" if near else ""
            raise AdapterConfigurationError(_KIND, where, f"{name} has no argument '{key}'{hint}")
        if key in _TYPES and (not isinstance(value, _TYPES[key]) or isinstance(value, bool)):
            raise AdapterConfigurationError(_KIND, f"{where}.{key}", f"it must not be {name_of(value)}")
    for key in required:
        if key not in arguments:
            raise AdapterConfigurationError(_KIND, where, f"{name} needs the argument '{key}'")
    if "pattern" in arguments:
        _compile_pattern(arguments, where)
    compute = make(**arguments)

    def guarded(value: Any) -> Any:
        try:
            return compute(value)
        except (TypeError, ValueError, AttributeError, IndexError, KeyError):
            # What Python says may quote the value.
            raise AdapterError(
                _KIND, field, f"cannot be filled: {name} cannot be done on {name_of(value)}"
            ) from None

    return guarded


def _compile_pattern(arguments: dict[str, Any], where: str) -> None:
    """Put the compiled pattern in the place of the text, and try out what refers to its groups."""
    try:
        pattern = re.compile(arguments["pattern"], arguments.pop("flags", 0))
        arguments["pattern"] = pattern
        if "repl" in arguments:
            re.compile(f"(?:{pattern.pattern})|", pattern.flags).sub(arguments["repl"], "", count=1)
    except (re.error, ValueError, IndexError, OverflowError) as error:
        raise AdapterConfigurationError(_KIND, where, f"the regular expression is wrong: {error}") from None
    group = arguments.get("group", 0)
    known = group in pattern.groupindex if isinstance(group, str) else 0 <= group <= pattern.groups
    if not known:
        raise AdapterConfigurationError(_KIND, f"{where}.group", "the pattern has no such group")
