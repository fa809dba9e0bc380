"""Random valid instances of this project's types, made from what the types say of themselves.

``instances(SomeType)`` walks the fields of a pydantic model. A type that gains a field is covered by itself;
one that needs a value of a special form (a host, a URL, an Arrow schema) has a line in ``SPECIAL``.
"""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any

import annotated_types
import pyarrow as pa
import pydantic
from hypothesis import strategies as st

from dyff_dagster.schema.arrow import encode_schema
from dyff_dagster.schema.base import LABEL_KEY_PATTERN, UtcDatetime
from dyff_dagster.schema.named import NAMED_SCHEMAS
from dyff_dagster.schema.resources import QUANTITY_PATTERN

MOMENTS = st.datetimes(
    datetime(1971, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC), allow_imaginary=False
)
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)
WORDS = st.text("abcXYZ019", min_size=1, max_size=6)

ARROW_TYPES = st.recursive(
    st.sampled_from(
        [
            pa.int64(), pa.int8(), pa.uint32(), pa.float32(), pa.float64(), pa.bool_(), pa.string(),
            pa.binary(), pa.binary(16), pa.date32(), pa.timestamp("us", "UTC"), pa.large_string(),
        ]
    ),
    lambda inner: st.one_of(
        inner.map(pa.list_),
        st.tuples(inner, st.integers(1, 4)).map(lambda pair: pa.list_(*pair)),
        st.dictionaries(WORDS, inner, min_size=1, max_size=3).map(
            lambda fields: pa.struct([pa.field(name, kind) for name, kind in fields.items()])
        ),
    ),
    max_leaves=5,
)  # fmt: skip
ARROW_SCHEMAS = st.dictionaries(
    WORDS, st.tuples(ARROW_TYPES, st.booleans(), st.none() | TEXT), max_size=4
).map(
    lambda fields: pa.schema(
        [
            pa.field(name, kind, nullable, metadata=None if doc is None else {"__doc__": doc})
            for name, (kind, nullable, doc) in fields.items()
        ]
    )
)

# No null inside: 0.46 leaves it out when it writes (docs/reference.md).
JSON = st.recursive(
    st.booleans() | st.integers(-(2**31), 2**31) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
LABEL_KEYS = st.sampled_from(["tier", "team.example/tier", "a", "A1-b", "x.y-z.org/Q"])
QUANTITIES = st.sampled_from(["1", "500m", "2.5", "16Gi", ".5", "1e3", "+4", "3.", "7k"])

PATTERNS: dict[str, st.SearchStrategy[str]] = {
    LABEL_KEY_PATTERN: LABEL_KEYS,
    QUANTITY_PATTERN: QUANTITIES,
    r"^sha256:[0-9a-f]{64}$": st.text("0123456789abcdef", min_size=64, max_size=64).map("sha256:{}".format),
    r"^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$": st.from_regex(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,20}", fullmatch=True),
    r"^([a-z0-9A-Z]([-_.a-z0-9A-Z]{0,61}[a-z0-9A-Z])?)?$": st.sampled_from(["", "a", "a-b_c.d", "X" * 63]),
    r"^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$": st.sampled_from(
        ["a", "org/image", "a.b_c__d--e/f"]
    ),
}  # fmt: skip

SPECIAL: dict[tuple[str, str], st.SearchStrategy[Any]] = {
    ("ContainerImageSource", "host"): st.sampled_from(["host", "registry.example:5000", "a-b.c"]),
    ("DataSchema", "arrowSchema"): ARROW_SCHEMAS.map(encode_schema),
    ("DyffDataSchema", "components"): st.lists(
        st.sampled_from(sorted(set(NAMED_SCHEMAS) - {"binary.Media"})), min_size=1, max_size=2, unique=True
    ),
    ("ModelSourceGitLFS", "url"): st.sampled_from(
        ["https://host.example/org/repo", "http://h.example", "https://h.example:8443/a?b=c#d"]
    ),
    ("AcceleratorGPU", "hardwareTypes"): st.lists(
        st.sampled_from(["nvidia.com/gpu-a100", "nvidia.com/gpu-l4"]), min_size=1, max_size=2
    ),
    ("AcceleratorGPU", "count"): st.integers(1, 8),
    ("InferenceSessionBase", "replicas"): st.integers(1, 5),
}


def instances(
    model: type[pydantic.BaseModel], only: Mapping[str, st.SearchStrategy[Any]] | None = None
) -> st.SearchStrategy[Any]:
    """Valid instances of ``model``; ``only`` replaces what is drawn for some of its fields (wire names)."""
    return _data(model, tuple(sorted((only or {}).items(), key=lambda item: item[0]))).map(
        model.model_validate
    )


def _data(
    model: type[pydantic.BaseModel], only: tuple[tuple[str, st.SearchStrategy[Any]], ...] = ()
) -> st.SearchStrategy[dict[str, Any]]:
    replaced = dict(only)
    required: dict[str, st.SearchStrategy[Any]] = {}
    optional: dict[str, st.SearchStrategy[Any]] = {}
    for name, field in model.model_fields.items():
        wire = field.alias or name
        strategy = replaced[wire] if wire in replaced else _special(model, name)
        if strategy is None:
            strategy = _value(field.annotation, tuple(field.metadata))
        literal = typing.get_origin(field.annotation) is typing.Literal
        (required if field.is_required() or literal or wire in replaced else optional)[wire] = strategy
    return st.fixed_dictionaries(required, optional=optional)


def _special(model: type[pydantic.BaseModel], name: str) -> st.SearchStrategy[Any] | None:
    for base in model.__mro__:
        if (base.__name__, name) in SPECIAL:
            return SPECIAL[base.__name__, name]
    return None


@cache
def _model(model: type[pydantic.BaseModel]) -> st.SearchStrategy[Any]:
    return st.deferred(lambda: _data(model))


def _value(annotation: Any, metadata: tuple[Any, ...] = ()) -> st.SearchStrategy[Any]:
    if annotation == UtcDatetime:
        return MOMENTS.map(datetime.isoformat)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _value(arguments[0], (*metadata, *arguments[1:]))
    if origin in (typing.Union, types.UnionType):
        return st.one_of([_value(argument) for argument in arguments])
    if annotation is type(None):
        return st.none()
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    least = _bound(metadata, annotated_types.MinLen, "min_length", "min_length") or 0
    if origin is list:
        return st.lists(_value(arguments[0]), min_size=least, max_size=max(least, 2))
    if origin is dict:
        if arguments == (str, Any):
            return st.dictionaries(WORDS, JSON, max_size=3)
        return st.dictionaries(_value(arguments[0]), _value(arguments[1]), max_size=2)
    if annotation is Any:
        return JSON
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return st.sampled_from(list(annotation)).map(lambda member: member.value)
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return _model(annotation)
    if annotation is str:
        pattern = next((item.pattern for item in metadata if getattr(item, "pattern", None)), None)
        return PATTERNS[pattern] if pattern else TEXT
    if annotation is bool:
        return st.booleans()
    if annotation is int:
        return st.integers(1, 1000)
    if annotation is float:
        return st.floats(-1e6, 1e6)
    if annotation is datetime or annotation is pydantic.AwareDatetime:
        return MOMENTS.map(datetime.isoformat)
    raise NotImplementedError(f"no strategy for {annotation}")


def _bound(metadata: tuple[Any, ...], kind: type, attribute: str, other: str) -> Any:
    for item in metadata:
        if isinstance(item, kind):
            return getattr(item, attribute)
        if getattr(item, other, None) is not None:
            return getattr(item, other)
    return None
