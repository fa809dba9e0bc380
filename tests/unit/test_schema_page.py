"""The platform types against the page that defines them.

``test_schema_page.txt`` holds the lines of the page that state structure: types, bases, fields, constraints
and methods, as they stand there. Its prose is left out. The page lost the backslashes of its patterns.
"""

from __future__ import annotations

import enum
import re
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path

import annotated_types
import pydantic
import pytest
from pydantic_core import PydanticUndefined

from dyff_dagster.schema import platform

PAGE = Path(__file__).with_suffix(".txt")

# What reference-facts.md adds to the page: fields that are on the wire, and not on it.
DROPPED_BY_THE_PAGE = {
    ("Artifact", "digest"): "Digest",
    ("ArtifactURL", "artifact"): "Artifact",
    ("DatasetBase", "views"): "list[DataView]",
    ("InferenceServiceBase", "outputViews"): "list[DataView]",
    ("Account", "identity"): "Identity",
    ("Account", "apiKeys"): "list[APIKey]",
}
# Where ours is meant to differ, and why.
DIFFERENT_ON_PURPOSE = {
    ("RevisionMetadata", "creationTime"): "the page shows the description as the default: it is required",
    ("Revision", "creationTime"): "stated again, or DyffEntity's optional one would hide the required one",
}
# Constraints of a type of pydantic's own, which does not show them as the page does.
URL_CONSTRAINTS = {("ModelSourceGitLFS", "url"): {"minLength": "1", "maxLength": "2083", "format": "uri"}}


@dataclass
class PageField:
    type: str
    default: str
    alias: str | None
    constraints: dict[str, str] = field(default_factory=dict)


@dataclass
class PageType:
    bases: list[str] = field(default_factory=list)
    fields: dict[str, PageField] = field(default_factory=dict)
    methods: dict[str, str] = field(default_factory=dict)


def read_page() -> tuple[dict[str, PageType], dict[str, str]]:
    models: dict[str, PageType] = {}
    others: dict[str, str] = {}
    current = PageType()
    last: PageField | None = None
    in_bases = False
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        text = line.removesuffix("¶").strip()
        if match := re.fullmatch(r"- pydantic model dyff\.schema\.platform\.(\w+)", text):
            current = models[match[1]] = PageType()
        elif match := re.fullmatch(r"- platform\.(\w+) = <(\w+) .*>", text):
            others[match[1]] = match[2]
        elif match := re.fullmatch(
            r"- field (\w+): (.*?)(?: = (.*?))?(?: \[(Required|Optional)\])?(?: \(alias '(\w+)'\))?", text
        ):
            default = match[4] or match[3]
            last = current.fields[match[1]] = PageField(match[2], default, match[5])
        elif match := re.fullmatch(r"(minItems|minLength|maxLength|pattern|format) = (.*)", text):
            assert last is not None
            last.constraints[match[1]] = match[2]
        elif match := re.fullmatch(r"- (?:(abstract|static) )?(\w+)\(.*", text):
            current.methods[match[2]] = match[1] or ""
        elif text == "Bases:":
            in_bases = True
            continue
        elif in_bases and (match := re.fullmatch(r",?\s*(\w+)", text)):
            current.bases.append(match[1])
            continue
        else:
            assert text == "- Constraints:" or text.startswith("- validator"), text
        in_bases = False
    return models, others


MODELS, OTHERS = read_page()
FIELDS = [(name, own) for name, model in MODELS.items() for own in model.fields]


def written(annotation: object) -> str:
    """Write an annotation as the page does, with constrained strings as plain ones."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return written(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return " | ".join(written(argument) for argument in arguments)
    if origin is typing.Literal:
        return f"Literal[{', '.join(repr(argument) for argument in arguments)}]"
    if origin in (list, dict):
        return f"{origin.__name__}[{', '.join(written(argument) for argument in arguments)}]"
    if annotation is type(None):
        return "None"
    return getattr(annotation, "__name__", str(annotation))


def constraints_of(info: pydantic.fields.FieldInfo) -> dict[str, str]:
    metadata = list(info.metadata)
    if typing.get_origin(info.annotation) in (typing.Union, types.UnionType):
        for argument in typing.get_args(info.annotation):
            if typing.get_origin(argument) is typing.Annotated:
                metadata += typing.get_args(argument)[1:]
    found: dict[str, str] = {}
    for item in metadata:
        if isinstance(item, annotated_types.MinLen):
            found["minItems"] = str(item.min_length)
        if isinstance(item, annotated_types.MaxLen):
            found["maxLength"] = str(item.max_length)
        if getattr(item, "max_length", None) is not None:
            found["maxLength"] = str(item.max_length)
        if getattr(item, "pattern", None) is not None:
            found["pattern"] = item.pattern.replace("\\", "")
    return found


def test_page_has_all_its_types() -> None:
    assert len(MODELS) + len(OTHERS) == 109
    assert sum(len(model.fields) for model in MODELS.values()) == 219


@pytest.mark.parametrize("name", MODELS)
def test_type_has_the_bases_of_the_page(name: str) -> None:
    assert [base.__name__ for base in getattr(platform, name).__bases__] == MODELS[name].bases


@pytest.mark.parametrize("name", MODELS)
def test_type_has_exactly_the_fields_of_the_page(name: str) -> None:
    own = set(vars(getattr(platform, name)).get("__annotations__", {})) - {"model_config"}
    own = {attribute for attribute in own if attribute in getattr(platform, name).model_fields}
    dropped = {added for owner, added in DROPPED_BY_THE_PAGE if owner == name}
    on_purpose = {f for owner, f in DIFFERENT_ON_PURPOSE if owner == name}
    assert own - on_purpose == (set(MODELS[name].fields) | dropped) - on_purpose


@pytest.mark.parametrize(("name", "own"), FIELDS)
def test_field_has_the_type_of_the_page(name: str, own: str) -> None:
    stated = MODELS[name].fields[own]
    expected = stated.type.replace("ConstrainedStrValue", "str")
    if stated.default == "None" and not expected.endswith("| None"):
        expected += " | None"  # what pydantic 1 took for granted
    assert written(getattr(platform, name).model_fields[own].annotation) == expected


@pytest.mark.parametrize(("name", "own"), [pair for pair in FIELDS if pair not in DIFFERENT_ON_PURPOSE])
def test_field_has_the_default_of_the_page(name: str, own: str) -> None:
    stated = MODELS[name].fields[own]
    info = getattr(platform, name).model_fields[own]
    if stated.default == "Required":
        assert info.is_required()
    elif stated.default == "Optional":
        assert info.default_factory is not None
    else:
        assert info.default is not PydanticUndefined
        assert repr(info.default) == stated.default


@pytest.mark.parametrize(("name", "own"), FIELDS)
def test_field_has_the_alias_and_constraints_of_the_page(name: str, own: str) -> None:
    stated = MODELS[name].fields[own]
    info = getattr(platform, name).model_fields[own]
    assert info.alias == stated.alias
    if (name, own) in URL_CONSTRAINTS:
        assert stated.constraints == URL_CONSTRAINTS[name, own]
        return
    found = constraints_of(info)
    if (name, own) in {("AccessGrant", "functions"), ("AccessGrant", "resources")}:
        assert found.pop("minItems") == "1"  # the page forgets it; the reference has it
    assert found == stated.constraints


@pytest.mark.parametrize(("name", "own"), DROPPED_BY_THE_PAGE)
def test_field_that_the_page_drops_is_there(name: str, own: str) -> None:
    info = getattr(platform, name).model_fields[own]
    assert written(info.annotation) == DROPPED_BY_THE_PAGE[name, own]
    assert info.is_required() == ((name, own) == ("ArtifactURL", "artifact"))


def test_a_revisions_time_is_required() -> None:
    assert platform.RevisionMetadata.model_fields["creationTime"].is_required()
    assert platform.Revision.model_fields["creationTime"].is_required()


@pytest.mark.parametrize("name", MODELS)
def test_type_has_the_methods_of_the_page(name: str) -> None:
    cls = getattr(platform, name)
    for method, how in MODELS[name].methods.items():
        assert callable(getattr(cls, method))
        assert (method in getattr(cls, "__abstractmethods__", ())) == (how == "abstract")
        static = isinstance(cls.__dict__.get(method), staticmethod)
        assert static == (how == "static")


@pytest.mark.parametrize("name", OTHERS)
def test_name_that_is_no_model_is_what_the_page_says(name: str) -> None:
    found = getattr(platform, name)
    if OTHERS[name] == "enum":
        assert issubclass(found, enum.Enum)
    else:
        assert typing.get_origin(found) is typing.Annotated


def test_index_exports_every_name_of_the_page() -> None:
    assert {*MODELS, *OTHERS} <= set(platform.__all__)
    assert all(hasattr(platform, name) for name in platform.__all__)
