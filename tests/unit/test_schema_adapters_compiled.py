"""Adapters that are compiled do what they do without that, errors included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyff_dagster.schema.adapters import (
    AdapterConfigurationError,
    AdapterError,
    create_adapter,
    create_pipeline,
)
from dyff_dagster.schema.template import filled
from dyff_dagster.schema.transform import template_of

SECRET = "patient 4711"
NAMES = st.sampled_from(["a", "b", "c d", "x.y"])
VALUES = st.recursive(
    st.none() | st.integers(0, 3) | st.sampled_from(["", SECRET]) | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=10,
)
ROWS = st.dictionaries(NAMES, VALUES, max_size=4)
PATHS = st.lists(st.sampled_from([".a", ".b", "['c d']", "['x.y']", "[0]", "[1]", "[*]"]), max_size=3).map(
    lambda steps: "$" + "".join(steps)
)
STEPS = st.one_of(
    PATHS.map(lambda path: {"$scalar": path}),
    PATHS.map(lambda path: {"$list": path}),
    st.just({"$literal": [1]}),
    st.sampled_from([{"$func": "join"}, {"$func": "list"}, {"$func": "findall", "pattern": "p"}]),
)
TEMPLATES = st.dictionaries(
    NAMES,
    st.recursive(
        PATHS | st.integers(0, 2) | st.lists(STEPS, min_size=1, max_size=2).map(lambda s: {"$compute": s}),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=2),
        max_leaves=5,
    ),
    max_size=4,
)


def outcome(work: Callable[[], Any]) -> Any:
    """What comes out, with the order of fields; or the error's text, which never shows the row."""
    try:
        made = work()
    except AdapterError as error:
        assert SECRET not in str(error)
        return str(error)
    return repr(made)


@given(TEMPLATES, ROWS)
@settings(max_examples=100, derandomize=True)
def test_generated_code_fills_as_the_careful_function_does(template: Any, row: dict[str, Any]) -> None:
    adapter = create_adapter({"kind": "TransformJSON", "configuration": template})
    careful = filled(template_of("TransformJSON", template, "$"))
    expected = outcome(lambda: [careful(row)])
    assert outcome(lambda: list(adapter.expand(row))) == expected
    if not expected.startswith("adapter"):
        assert outcome(lambda: list(adapter([row]))) == expected


@given(TEMPLATES, ROWS)
@settings(max_examples=40, derandomize=True)
def test_compiled_paths_answer_and_fail_as_the_librarys_do(template: Any, row: dict[str, Any]) -> None:
    spec = {"kind": "TransformJSON", "configuration": template}
    compiled = create_adapter(spec)
    with patch("dyff_dagster.schema.jsonpath._steps", return_value=None):
        by_library = create_adapter(spec)
    assert outcome(lambda: list(compiled([row]))) == outcome(lambda: list(by_library([row])))


@given(st.lists(VALUES, max_size=3), st.lists(VALUES, max_size=3), PATHS)
@settings(max_examples=40, derandomize=True)
def test_compiled_indexes_answer_and_fail_as_the_librarys_do(a: Any, b: Any, path: str) -> None:
    spec = {"kind": "ExplodeCollections", "configuration": {"collections": ["a"], "index": {"i": path}}}
    compiled = create_adapter(spec)
    with patch("dyff_dagster.schema.jsonpath._steps", return_value=None):
        by_library = create_adapter(spec)
    row = {"a": a, "b": b, "_index_": 1}
    assert outcome(lambda: list(compiled([row]))) == outcome(lambda: list(by_library([row])))


FIELDS = st.sampled_from(["a", "b", "a.a", "n", "x.y"])
FIELD_ADAPTERS = st.one_of(
    st.fixed_dictionaries(
        {},
        optional={
            "depth": st.integers(0, 2),
            "addPrefix": st.booleans(),
            "fields": st.lists(FIELDS, unique=True, max_size=2),
        },
    ).map(lambda c: {"kind": "FlattenHierarchy", "configuration": c}),
    st.sampled_from(["Select", "Drop"]).flatmap(
        lambda kind: st.lists(FIELDS, unique=True, max_size=3).map(
            lambda fields: {"kind": kind, "configuration": {"fields": fields}}
        )
    ),
    st.dictionaries(FIELDS, FIELDS, max_size=2)
    .filter(lambda names: len(set(names.values())) == len(names))
    .map(lambda names: {"kind": "Rename", "configuration": names}),
)
EXPLODED_ROWS = st.fixed_dictionaries(
    {"a": st.lists(VALUES, max_size=3)}, optional={"b": VALUES, "n": VALUES, "x.y": VALUES}
)


@given(st.lists(FIELD_ADAPTERS, min_size=1, max_size=3), EXPLODED_ROWS, st.booleans())
@settings(max_examples=500, derandomize=True)
def test_adapters_joined_to_an_explosion_do_what_they_do_one_by_one(
    then: list[Any], row: dict[str, Any], numbered: bool
) -> None:
    index = {"n": None} if numbered else {}
    explode = {"kind": "ExplodeCollections", "configuration": {"collections": ["a"], "index": index}}
    pipeline = create_pipeline([explode, *then])

    def one_by_one() -> Any:
        rows: Any = [row]
        for spec in [explode, *then]:
            rows = list(create_adapter(spec)(rows))
        return rows

    together = outcome(lambda: list(pipeline([row])))
    apart = outcome(one_by_one)
    if together.startswith("adapter"):
        # Steps and places in the stream are told by the pipeline alone.
        assert apart.startswith("adapter")
        assert apart.rpartition(": ")[2] == together.rpartition(": ")[2]
    else:
        assert together == apart


def test_nothing_of_a_configuration_is_ever_code() -> None:
    evil = "'] or print('here') or row['"
    template = {evil: "$['a']", "b": {"$compute": {"$literal": evil}}, "c": evil}
    rows = list(create_adapter({"kind": "TransformJSON", "configuration": template})([{"a": 1}]))
    assert rows == [{evil: 1, "b": evil, "c": evil}]
    select = create_pipeline(
        [
            {"kind": "ExplodeCollections", "configuration": {"collections": [evil]}},
            {"kind": "Select", "configuration": {"fields": [evil, "k0"]}},
        ]
    )
    assert list(select([{evil: [1, 2], "k0": 3}])) == [{evil: 1, "k0": 3}, {evil: 2, "k0": 3}]


@pytest.mark.parametrize("size", [1200, 5])
def test_large_and_deep_templates_are_filled_too(size: int) -> None:
    wide: Any = {f"f{n}": "$.a" for n in range(size)}
    deep: Any = "$.a"
    for _ in range(60):
        deep = {"d": [deep]}
    template = {"wide": wide, "deep": deep}
    (made,) = create_adapter({"kind": "TransformJSON", "configuration": template})([{"a": 1}])
    assert made["wide"] == dict.fromkeys(wide, 1)
    assert repr(made["deep"]).count("d") == 60


@pytest.mark.parametrize("depth", [900, 5000])
def test_template_that_is_nested_without_end_is_refused(depth: int) -> None:
    deep: Any = 1
    for _ in range(depth):
        deep = [deep]
    with pytest.raises(AdapterConfigurationError, match=r"cannot be written as JSON|nested too deep"):
        create_adapter({"kind": "TransformJSON", "configuration": {"a": deep}})


def test_row_that_is_nested_without_end_fails_as_a_row() -> None:
    deep: Any = {"a": 1}
    for _ in range(5000):
        deep = {"a": deep}
    flatten = create_adapter({"kind": "FlattenHierarchy"})
    with pytest.raises(AdapterError, match="on the row with _index_ 3: the row is nested too deep"):
        list(flatten([{"_index_": 3, "a": deep}]))


def test_query_that_cannot_be_answered_fails_without_the_rows_content() -> None:
    query = "$.a.`sub(/x/, y)`"
    for configuration in ({"b": query}, {"b": {"$compute": {"$list": query}}}):
        adapter = create_adapter({"kind": "TransformJSON", "configuration": configuration})
        text = outcome(lambda adapter=adapter: list(adapter([{"a": 4711, "_index_": 2}])))
        assert text == (
            "adapter TransformJSON failed on the row with _index_ 2: "
            f"$.b cannot be filled: the query {query} cannot be answered on this row"
        )
    index = {"collections": ["c"], "index": {"i": query}}
    explode = create_adapter({"kind": "ExplodeCollections", "configuration": index})
    with pytest.raises(AdapterError, match=r"index 'i' cannot be made: the query .* cannot be answered"):
        list(explode([{"a": 4711, "c": [1]}]))
