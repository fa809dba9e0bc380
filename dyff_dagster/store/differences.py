"""What differs between two forms of an entity, and how a person reads it."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dyff_dagster.schema.annotations import PREFIX
from dyff_dagster.schema.arrow import decode_schema
from dyff_dagster.schema.arrow_text import format_schema
from dyff_dagster.schema.errors import DyffError

_FREE = frozenset({"configuration", "labels"})
"""Fields in which an empty value is something else than none."""

_FIRST = ("kind", "id", "account", "name", "description")

_SECRET = re.compile(r"auth|cookie|key|pass|secret|token", re.IGNORECASE)

_ABSENT: Any = object()


@dataclass(frozen=True)
class Change:
    """One field that differs.

    Attributes:
        field: Where, as ``inputs[0].entity``.
        old: What stood there, as it is shown; None also where there was nothing.
        new: What stands there now.
    """

    field: str
    old: Any
    new: Any


def specification(resource: Mapping[str, Any]) -> dict[str, Any]:
    """What an entity's author says: the wire form without what the system assigns.

    Fields that say nothing (null, an empty list or mapping) are left out, so that a field which a later
    release adds makes no revision of every entity; annotations are in the order of their keys.
    """
    said: dict[str, Any] = _said(
        {name: value for name, value in resource.items() if name not in ("status", "reason", "creationTime")}
    )
    if said.get("kind") == "Family":
        said["members"] = {
            name: {field: value for field, value in member.items() if field != "creationTime"}
            for name, member in said.get("members", {}).items()
        }
    if "annotations" in said:
        said["annotations"] = sorted(said["annotations"], key=lambda item: (item["key"], item["value"]))
    return said


def _said(value: Any) -> Any:
    if isinstance(value, dict):
        found = {name: item if name in _FREE else _said(item) for name, item in value.items()}
        return {name: item for name, item in found.items() if item is not None and item not in ([], {})}
    if isinstance(value, list):
        return [_said(item) for item in value]
    return value


def readable(resource: Mapping[str, Any]) -> dict[str, Any]:
    """An entity's specification as a person reads it, in a stable order of fields.

    Arrow schemas are shown as types, annotations as a mapping, and headers and environment variables whose
    value may be a secret that somebody wrote into a manifest are not shown (``${NAME}`` is shown, and never
    resolved).
    """
    said = specification(resource)
    if "annotations" in said:
        said["annotations"] = {
            item["key"]: _annotation(item["key"], item["value"]) for item in said["annotations"]
        }
    shown: dict[str, Any] = _ordered(said)
    first = {name: shown[name] for name in _FIRST if name in shown}
    return {**first, **shown}


def _annotation(key: str, value: str) -> Any:
    if key != PREFIX + "headers":
        return value
    try:
        headers = json.loads(value)
    except ValueError:
        headers = None
    if not isinstance(headers, dict):
        return "(not shown)"
    return {name: _unless_secret(name, text) for name, text in headers.items()}


def _unless_secret(name: str, text: Any) -> Any:
    return text if isinstance(text, str) and ("${" in text or not _SECRET.search(name)) else "(not shown)"


def _ordered(value: Any) -> Any:
    if isinstance(value, list):
        return [_ordered(item) for item in value]
    if not isinstance(value, dict):
        return value
    found: dict[str, Any] = {}
    for name in sorted(value):
        if name == "arrowSchema" and isinstance(value[name], str):
            found.update(_schema(value[name]))
        elif (
            name == "value"
            and _SECRET.search(str(value.get("name", "")))
            and value.keys() == {"name", "value"}
        ):
            # A variable in the environment of a runner (dyff-schema 0.46).
            found[name] = _unless_secret(str(value["name"]), value[name])
        else:
            found[name] = _ordered(value[name])
    return found


def _schema(text: str) -> dict[str, Any]:
    """A base64 Arrow schema as types; its digest tells of what they do not show, such as descriptions."""
    digest = f"SHA-256 {hashlib.sha256(text.encode()).hexdigest()[:16]}"
    try:
        return {"arrow": format_schema(decode_schema(text)), "arrowSchema": digest}
    except DyffError:
        return {"arrowSchema": digest}


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """The fields in which two forms of an entity differ, in the order in which they are shown.

    The digest of an Arrow schema is among them only where its types are the same.
    """
    found = list(_changes(readable(old), readable(new), ""))
    types = {change.field.partition(".arrow.")[0] for change in found if ".arrow." in change.field}
    told = {f"{field}.arrowSchema" for field in types}
    return [change for change in found if change.field not in told]


def _changes(old: Any, new: Any, field: str) -> Iterator[Change]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in [*old, *(name for name in new if name not in old)]:
            below = f"{field}.{name}" if field else str(name)
            yield from _changes(old.get(name, _ABSENT), new.get(name, _ABSENT), below)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from _changes(one, other, f"{field}[{index}]")
    elif type(old) is not type(new) or old != new:
        yield Change(field, None if old is _ABSENT else old, None if new is _ABSENT else new)


def unified_diff(
    old: Mapping[str, Any], new: Mapping[str, Any], old_name: str, new_name: str, context: int = 3
) -> list[str]:
    """The lines of a unified diff of two forms of an entity, each as YAML; none where they say the same."""
    return list(
        difflib.unified_diff(
            to_yaml(readable(old)).splitlines(),
            to_yaml(readable(new)).splitlines(),
            old_name,
            new_name,
            lineterm="",
            n=context,
        )
    )


def to_yaml(value: Mapping[str, Any]) -> str:
    """YAML in the order of the mapping, long texts as blocks."""
    import yaml

    class Dumper(yaml.SafeDumper):
        pass

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        style = "|" if "\n" in value else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    # Nothing is shared here: an alias would hide what stands there.
    Dumper.ignore_aliases = lambda self, data: True  # type: ignore[method-assign]
    dumped: str = yaml.dump(dict(value), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=100_000)
    return dumped
