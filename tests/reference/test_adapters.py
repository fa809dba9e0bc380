"""Adapters do what the reference's do, or differ as docs/adapters.md says.

Each difference is a sentence of the page and a predicate. Where both do not agree, one of the predicates must hold;
one that is not listed fails, and so does a listed one whose sentence has gone from the page.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jsonpath_ng
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dyff_dagster.schema.adapters import Multipart, create_adapter
from dyff_dagster.schema.errors import DyffError
from tests.reference.environments import VERSIONS, ReferenceUnavailable, reference_python

ORACLE = Path(__file__).with_name("adapter_oracle.py")
PAGE = Path(__file__).parents[2] / "docs" / "adapters.md"
SETTINGS = settings(
    max_examples=120, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck), database=None
)
Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One adapter and one row; ``version`` is the reference's."""

    version: str
    kind: str
    configuration: Any
    row: Row

    def mentions(self, key: str, value: Any = ...) -> bool:
        """Whether the configuration has ``key`` somewhere, with ``value`` if one is given."""
        return any(
            key in node and (value is ... or node[key] == value)
            for node in walk(self.configuration)
            if isinstance(node, dict)
        )


class Oracle:
    """One version of the reference."""

    def __init__(self, version: str, python: Path) -> None:
        self.version = version
        self._process = subprocess.Popen(
            [str(python), "-I", str(ORACLE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def outcome(self, case: Case) -> Any:
        """The objects that come out, or "error"."""
        assert self._process.stdin is not None and self._process.stdout is not None
        request = {"kind": case.kind, "configuration": case.configuration, "rows": [case.row]}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return answer.get("made", "error")

    def close(self) -> None:
        self._process.communicate(timeout=30)


@pytest.fixture(scope="module", params=VERSIONS)
def oracle(request: pytest.FixtureRequest) -> Iterator[Oracle]:
    try:
        python = reference_python(request.param)
    except ReferenceUnavailable as error:
        pytest.skip(error.reason)
    oracle = Oracle(request.param, python)
    yield oracle
    oracle.close()


def plain(made: Any) -> Any:
    """What we make, as the oracle writes it."""
    if isinstance(made, Multipart):
        content = {"$bytes": base64.b64encode(made.content).decode()}
        upload = {"name": made.name, "filename": made.filename, "contentType": made.content_type}
        return {"$fileUpload": {**upload, "content": content, "formFields": dict(made.fields)}}
    return made


def ours(case: Case) -> Any:
    """The objects that come out, or "error"."""
    try:
        adapter = create_adapter({"kind": case.kind, "configuration": case.configuration})
        return [plain(made) for made in adapter([case.row])]
    except DyffError:
        return "error"


def walk(value: Any) -> Iterator[Any]:
    yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from walk(inner)


# The differences ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """A sentence of docs/adapters.md, the case in which it holds, and what becomes of the row here."""

    sentence: str
    kinds: tuple[str, ...]
    holds: Callable[[Case], bool]
    here: Literal["error", "value", "either"]


def lengths(case: Case) -> set[int]:
    """How many values each index that is a query finds."""
    index = case.configuration.get("index") or {}
    return {len(jsonpath_ng.parse(path).find(case.row)) for path in index.values() if path is not None}


def elements(case: Case) -> list[Any]:
    """The elements of all collections."""
    values = [case.row.get(name) for name in case.configuration["collections"]]
    return [item for value in values if isinstance(value, list) for item in value]


def index_does_not_fit(case: Case) -> bool:
    length = {
        len(case.row[n]) for n in case.configuration["collections"] if isinstance(case.row.get(n), list)
    }
    return bool(lengths(case) - length)


def index_overwrites(case: Case) -> bool:
    index = set(case.configuration.get("index") or {})
    if case.kind == "EmbedIndex":
        return any(isinstance(item, dict) and index & set(item) for item in elements(case))
    return bool(index & (set(case.row) | set(case.configuration["collections"])))


def is_no_array(case: Case) -> bool:
    return any(
        name in case.row and not isinstance(case.row[name], list)
        for name in case.configuration["collections"]
    )


def leaves(case: Case) -> list[tuple[str, Any]]:
    """Names and values of the fields that flattening should make, without looking at our code."""
    config = case.configuration or {}
    fields, depth, prefix = config.get("fields"), config.get("depth"), config.get("addPrefix", True)
    found: list[tuple[str, Any]] = []

    def go(path: tuple[str, ...], value: Any) -> None:
        inside = len(path) == 0 or not fields or path[0] in fields
        deep = len(path) > 0 and depth is not None and len(path) > depth
        if isinstance(value, dict) and value and inside and not deep:
            for key, inner in value.items():
                go((*path, key), inner)
        elif path:
            found.append((".".join(path) if prefix else path[-1], value))

    go((), case.row)
    return found


def leaves_meet(case: Case) -> bool:
    names = [name for name, _ in leaves(case)]
    return len(set(names)) < len(names)


def has_empty_object(case: Case) -> bool:
    return any(value == {} for value in walk(case.row))


def prefix_is_left_out(case: Case) -> bool:
    return case.configuration is not None and "addPrefix" not in case.configuration


def renames_meet(case: Case) -> bool:
    names = {old: new for old, new in case.configuration.items() if old != new}
    return bool(set(names.values()) & set(case.configuration))


def flattened_field_is_missing(case: Case) -> bool:
    return not set((case.configuration or {}).get("fields") or ()) <= set(case.row)


def index_sees_what_changed(case: Case) -> bool:
    index = case.configuration.get("index") or {}
    return len(index) > 1 or "$" in index.values()


def rename_overwrites(case: Case) -> bool:
    names = case.configuration
    taken = (set(names.values()) & set(case.row)) - set(names)
    return bool(taken) or len(set(names.values())) < len(names)


def names_a_field_twice(case: Case) -> bool:
    config = case.configuration or {}
    lists = [config.get(key) or [] for key in ("fields", "collections")]
    return any(len(set(names)) < len(names) for names in lists)


def has_unknown_setting(case: Case) -> bool:
    return "unknown" in (case.configuration or {})


def is_no_base64(case: Case) -> bool:
    for value in walk(case.row):
        if isinstance(value, str):
            try:
                base64.b64decode("".join(value.split()), validate=True)
            except (binascii.Error, ValueError):
                return True
    return False


def is_no_media_type(case: Case) -> bool:
    texts = [value for value in walk([case.row, case.configuration]) if isinstance(value, str)]
    return "contentType" in case.configuration and any("/" not in text for text in texts)


def map_of(holds: Callable[[Case], bool]) -> Callable[[Case], bool]:
    """The predicate of an adapter, for one that is mapped."""

    def mapped(case: Case) -> bool:
        inner = case.configuration["adapter"]
        return any(
            holds(Case(case.version, inner["kind"], inner.get("configuration"), item))
            for item in elements(case)
            if isinstance(item, dict)
        )

    return mapped


EXPLODING, NAMING = ("ExplodeCollections", "EmbedIndex"), ("Drop", "Select")
DIFFERENCES = [
    Difference(
        "It refuses a `$literal` of null", ("TransformJSON",), lambda c: c.mentions("$literal", None), "value"
    ),
    Difference(
        "Version 0.12 knows no `$compute`, and takes keys that begin with `$` as they are",
        ("TransformJSON",),
        lambda c: (
            c.version == "0.12.0"
            and any(
                key.startswith("$")
                for node in walk(c.configuration)
                if isinstance(node, dict)
                for key in node
            )
        ),
        "either",
    ),
    Difference(
        "It knows no filters", ("TransformJSON",), lambda c: "?(" in json.dumps(c.configuration), "value"
    ),
    Difference(
        "What cannot work with any row is refused when the adapter is made",
        ("TransformJSON",),
        lambda c: c.mentions("group", 9) or c.mentions("repl", "\\9") or c.mentions("$compute", []),
        "error",
    ),
    Difference(
        "an index that finds fewer values than there are elements", EXPLODING, index_does_not_fit, "error"
    ),
    Difference("an index under the name of a field that is there", EXPLODING, index_overwrites, "error"),
    Difference(
        "Texts and objects have a length too, and are no arrays", (*EXPLODING, "Map"), is_no_array, "error"
    ),
    Difference(
        "Elements that are no objects",
        ("EmbedIndex", "Map"),
        lambda c: not all(isinstance(item, dict) for item in elements(c)),
        "error",
    ),
    Difference(
        "`addPrefix` is true only where there is no configuration at all",
        ("FlattenHierarchy",),
        prefix_is_left_out,
        "value",
    ),
    Difference("queries look at the row as it came", ("EmbedIndex",), index_sees_what_changed, "either"),
    Difference(
        "all `fields` must be in the row as it came",
        ("FlattenHierarchy",),
        flattened_field_is_missing,
        "error",
    ),
    Difference("names that meet overwrite each other", ("FlattenHierarchy",), leaves_meet, "error"),
    Difference("empty objects vanish", ("FlattenHierarchy",), has_empty_object, "value"),
    Difference("The reference renames one after another", ("Rename",), renames_meet, "either"),
    Difference("a name that is taken is an error", ("Rename",), rename_overwrites, "error"),
    Difference(
        "a list that names a field twice is an error",
        (*NAMING, *EXPLODING, "Map", "FlattenHierarchy"),
        names_a_field_twice,
        "error",
    ),
    Difference("an unknown setting is an error", (*NAMING, *EXPLODING), has_unknown_setting, "error"),
    Difference("It drops what is no base64 in silence", ("FileUpload",), is_no_base64, "error"),
    Difference("It sends any text as a media type", ("FileUpload",), is_no_media_type, "error"),
    Difference("names that meet overwrite each other", ("Map",), map_of(leaves_meet), "error"),
    Difference("empty objects vanish", ("Map",), map_of(has_empty_object), "value"),
]


def agree(oracle: Oracle, kind: str, configuration: Any, row: Row) -> None:
    case = Case(oracle.version, kind, configuration, row)
    here, there = ours(case), oracle.outcome(case)
    if here == there:
        return
    result = "error" if here == "error" else "value"
    listed = [d for d in DIFFERENCES if kind in d.kinds and d.here in (result, "either") and d.holds(case)]
    assert listed, f"no listed difference: {case}\nours:   {here}\ntheirs: {there}"


def test_every_difference_is_on_the_page() -> None:
    page = re.sub(r"\s+", " ", PAGE.read_text("utf-8"))
    assert [d.sentence for d in DIFFERENCES if d.sentence not in page] == []


# Random configurations and rows ------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "c", "d e"])
LEAVES = st.none() | st.booleans() | st.integers(-2, 3) | st.sampled_from(["", "x1y2", "aGk=", "a/b", "1.5"])
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
ROWS = st.dictionaries(NAMES, VALUES, max_size=4)
PATHS = st.lists(
    st.sampled_from([".a", ".b", "['d e']", "[0]", "[1]", "[*]", "..a", "[-1]", "[0:2]"]), max_size=3
).map(lambda steps: "$" + "".join(steps))
FIELDS = st.lists(NAMES, max_size=3)
FUNCTIONS = st.sampled_from(
    [
        {"$func": "findall", "pattern": "[a-z]"},
        {"$func": "join", "separator": "-"},
        {"$func": "join"},
        {"$func": "list"},
        {"$func": "reduce"},
        {"$func": "search", "pattern": "([a-z])([0-9])", "group": 2},
        {"$func": "search", "pattern": "z", "default": "none"},
        {"$func": "search", "pattern": "x", "group": 9},
        {"$func": "split", "pattern": "[0-9]", "maxsplit": 1},
        {"$func": "sub", "pattern": "Y", "repl": "-", "flags": 2},
        {"$func": "sub", "pattern": "x", "repl": "\\9"},
        {"$func": "nothing"},
    ]
)
VALUE_STEPS = st.one_of(
    st.builds(lambda path: {"$scalar": path}, PATHS),
    st.builds(lambda path: {"$list": path}, PATHS),
    st.builds(lambda value: {"$literal": value}, LEAVES | st.just(["x", "y"]) | st.just("$.a")),
    st.builds(lambda paths: {"$list": [{"$scalar": path} for path in paths]}, st.lists(PATHS, max_size=2)),
)
COMPUTATIONS = st.builds(
    lambda first, rest: {"$compute": [first, *rest] if first else rest},
    st.none() | VALUE_STEPS,
    st.lists(FUNCTIONS, max_size=2),
) | st.builds(lambda step: {"$compute": step}, VALUE_STEPS)
TEMPLATES = st.dictionaries(
    NAMES | st.sampled_from(["$$a", "$a"]),
    st.recursive(
        PATHS | LEAVES | st.just("$$a") | COMPUTATIONS | st.just("$.a[?(@.b==1)].c"),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=2),
        max_leaves=4,
    ),
    max_size=3,
)
INDEXES = st.dictionaries(NAMES | st.just("i"), st.none() | PATHS, max_size=2)
COLLECTIONS = st.fixed_dictionaries(
    {"collections": st.lists(NAMES, min_size=1, max_size=2)},
    optional={"index": INDEXES, "unknown": st.just(1)},
)
LISTS = st.lists(VALUES, min_size=2, max_size=2) | st.lists(
    st.dictionaries(NAMES, LEAVES, max_size=2), max_size=3
)
ROWS_OF_LISTS = st.dictionaries(NAMES, LISTS | VALUES, max_size=4)
FLATTEN = st.none() | st.fixed_dictionaries(
    {}, optional={"fields": FIELDS, "depth": st.none() | st.integers(0, 3), "addPrefix": st.booleans()}
)
SELECTING = st.fixed_dictionaries({"fields": FIELDS}, optional={"unknown": st.just(1)})


@SETTINGS
@given(TEMPLATES, ROWS)
def test_transform_agrees(oracle: Oracle, template: Any, row: Row) -> None:
    agree(oracle, "TransformJSON", template, row)


@SETTINGS
@given(COMPUTATIONS, ROWS)
def test_computations_agree(oracle: Oracle, computation: Any, row: Row) -> None:
    agree(oracle, "TransformJSON", {"x": computation}, row)


@SETTINGS
@given(st.sampled_from(EXPLODING), COLLECTIONS, ROWS_OF_LISTS)
def test_explode_and_embed_agree(oracle: Oracle, kind: str, configuration: Any, row: Row) -> None:
    agree(oracle, kind, configuration, row)


@SETTINGS
@given(FLATTEN, ROWS)
def test_flatten_agrees(oracle: Oracle, configuration: Any, row: Row) -> None:
    agree(oracle, "FlattenHierarchy", configuration, row)


@SETTINGS
@given(st.dictionaries(NAMES, NAMES, max_size=3), ROWS)
def test_rename_agrees(oracle: Oracle, configuration: Any, row: Row) -> None:
    agree(oracle, "Rename", configuration, row)


@SETTINGS
@given(st.sampled_from(NAMING), SELECTING, ROWS)
def test_drop_and_select_agree(oracle: Oracle, kind: str, configuration: Any, row: Row) -> None:
    agree(oracle, kind, configuration, row)


MAPPED = st.one_of(
    st.builds(
        lambda f: {"kind": "Select", "configuration": {"fields": f}}, st.lists(NAMES, max_size=2, unique=True)
    ),
    st.builds(
        lambda f: {"kind": "Drop", "configuration": {"fields": f}}, st.lists(NAMES, max_size=2, unique=True)
    ),
    st.builds(lambda path: {"kind": "TransformJSON", "configuration": {"x": path}}, PATHS),
    st.just({"kind": "FlattenHierarchy", "configuration": {"addPrefix": True}}),
    st.just({"kind": "FileUpload", "configuration": {"field": "$.a"}}),
)


@SETTINGS
@given(st.lists(NAMES, min_size=1, max_size=2), MAPPED, ROWS_OF_LISTS)
def test_map_agrees(oracle: Oracle, collections: list[str], adapter: Any, row: Row) -> None:
    agree(oracle, "Map", {"collections": collections, "adapter": adapter}, row)


UPLOADS = st.fixed_dictionaries(
    {"field": PATHS | st.sampled_from(["$.a", "$.b"])},
    optional={
        "encoding": st.sampled_from(["base64", "binary", "utf-8", "json", "none"]),
        "name": st.sampled_from(["file", "x", 1]),
        "filename": PATHS | LEAVES | COMPUTATIONS,
        "contentType": PATHS | LEAVES,
        "formFields": st.dictionaries(NAMES, PATHS | LEAVES | COMPUTATIONS, max_size=2),
    },
)


@SETTINGS
@given(UPLOADS, st.dictionaries(NAMES, LEAVES | VALUES, max_size=4))
def test_file_upload_agrees(oracle: Oracle, configuration: Any, row: Row) -> None:
    if oracle.version == "0.12.0":
        pytest.skip("0.12.0 has no FileUpload")
    agree(oracle, "FileUpload", configuration, row)


@SETTINGS
@given(COLLECTIONS, FLATTEN.filter(bool), SELECTING, ROWS_OF_LISTS)
def test_pipelines_agree_where_their_steps_do(
    oracle: Oracle, explode: Any, flatten: Any, select: Any, row: Row
) -> None:
    specs = [
        {"kind": "ExplodeCollections", "configuration": explode},
        {"kind": "FlattenHierarchy", "configuration": {"addPrefix": True, **flatten}},
        {"kind": "Select", "configuration": select},
    ]
    try:
        for spec in specs:
            create_adapter(spec)
    except DyffError:
        return
    rows: list[Row] = [row]
    for spec in specs:
        made: list[Row] = []
        for one in rows:
            agree(oracle, spec["kind"], spec["configuration"], one)
            here = ours(Case(oracle.version, spec["kind"], spec["configuration"], one))
            if here == "error":
                return
            made += here
        rows = made
    pipeline = {"adapters": specs}
    assert ours(Case(oracle.version, "Pipeline", pipeline, row)) == rows
