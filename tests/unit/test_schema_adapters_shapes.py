"""Functions made for rows of one shape do what the adapters do one after another, errors included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyff_dagster.schema.adapter import FieldAdapter
from dyff_dagster.schema.adapters import AdapterError, Pipeline, create_adapter, create_pipeline
from dyff_dagster.schema.arrays import ExplodeCollections
from dyff_dagster.schema.exploded import ExplodedFields
from dyff_dagster.schema.shapes import maker

Row = dict[str, Any]
SECRET = "patient 4711"
NAMES = st.sampled_from(["a", "b", "b.c", "c", "n"])
# Few values, so that rows often have the same shape, and often nearly the same.
LEAVES = st.sampled_from([None, 1, SECRET, [], [{"a": 1}], {}])
VALUES = st.recursive(LEAVES, lambda inner: st.dictionaries(NAMES, inner, max_size=2), max_leaves=3)
ARRAYS = st.one_of(
    st.lists(LEAVES, max_size=3),
    st.lists(st.fixed_dictionaries({"a": VALUES}, optional={"c": LEAVES}), max_size=3),
    st.lists(VALUES, max_size=3),
)
ROWS = st.fixed_dictionaries(
    {"_index_": st.integers(0, 9), "xs": ARRAYS | st.sampled_from([None, (1, 2)])},
    optional={"ys": st.lists(st.integers(0, 2), max_size=2), "b": VALUES, "b.c": VALUES, "c": VALUES},
)
FIELDS = st.sampled_from(["xs", "xs.a", "ys", "b", "b.c", "c", "n", "_index_"])
LISTED = st.lists(FIELDS, unique=True, max_size=3)
EXPLODE = st.sampled_from(
    [
        {"collections": ["xs"]},
        {"collections": ["xs"], "index": {"n": None}},
        {"collections": ["xs", "ys"], "index": {"n": None}},
        {"collections": ["xs"], "index": {"n": "$.xs[*].a", "m": None}},
    ]
).map(lambda configuration: {"kind": "ExplodeCollections", "configuration": configuration})
THEN = st.one_of(
    st.just({"kind": "FlattenHierarchy"}),
    st.fixed_dictionaries(
        {}, optional={"depth": st.integers(0, 2), "addPrefix": st.booleans(), "fields": LISTED}
    ).map(lambda configuration: {"kind": "FlattenHierarchy", "configuration": configuration}),
    st.tuples(st.sampled_from(["Select", "Drop"]), LISTED).map(
        lambda of: {"kind": of[0], "configuration": {"fields": of[1]}}
    ),
    st.dictionaries(FIELDS, FIELDS, max_size=2)
    .filter(lambda names: len(set(names.values())) == len(names))
    .map(lambda names: {"kind": "Rename", "configuration": names}),
)


def outcome(work: Callable[[], Any]) -> str:
    """What comes out, with the order of fields; or the error's text, which never shows the row."""
    try:
        return repr(work())
    except AdapterError as error:
        assert SECRET not in str(error)
        return str(error)


def one_after_another(specs: list[Any]) -> Pipeline:
    """The pipeline in which nothing is joined, and no function made."""
    with patch("dyff_dagster.schema.adapters._joined", list):
        return create_pipeline(specs)


@given(EXPLODE, st.lists(THEN, min_size=1, max_size=3), st.lists(ROWS, min_size=2, max_size=5))
@settings(max_examples=400, derandomize=True, deadline=None)
def test_rows_of_shapes_that_came_before_become_and_fail_as_they_would_alone(
    explode: Any, then: list[Any], rows: list[Row]
) -> None:
    joined, apart = create_pipeline([explode, *then]), one_after_another([explode, *then])
    for row in [*rows, *rows]:
        before = repr(row)
        assert outcome(lambda row=row: list(joined([row]))) == outcome(lambda row=row: list(apart([row])))
        assert repr(row) == before
    assert outcome(lambda: list(joined(rows))) == outcome(lambda: list(apart(rows)))


@given(EXPLODE, st.lists(THEN, min_size=1, max_size=3), ROWS, st.lists(ROWS, max_size=4))
@settings(max_examples=400, derandomize=True, deadline=None)
def test_a_function_takes_no_row_that_it_would_get_wrong(
    spec: Any, then: list[Any], row: Row, others: list[Row]
) -> None:
    apart = one_after_another([spec, *then])
    explode = create_adapter(spec)
    adapters = [create_adapter(one) for one in then]
    assert isinstance(explode, ExplodeCollections)
    try:
        if not list(apart([row])):
            return
    except AdapterError:
        return
    make = maker(row, explode, [one for one in adapters if isinstance(one, FieldAdapter)])
    assert make is not None
    for other in (row, *(other for other in others if [*other] == [*row])):
        try:
            made = make(other)
        except AdapterError:
            made = None
        assert made is None or repr(made) == outcome(lambda other=other: list(apart([other])))


USUAL = [
    {"kind": "ExplodeCollections", "configuration": {"collections": ["xs", "ys"], "index": {"rank": None}}},
    {"kind": "FlattenHierarchy"},
    {"kind": "Select", "configuration": {"fields": ["rank", "xs", "meta.a"]}},
]
KNOWN = {"_index_": 5, "xs": [1, 2], "ys": [3, 4], "meta": {"a": 1, "b": {"c": 2}}}


def test_what_two_rows_of_one_shape_become_is_found_out_once() -> None:
    pipeline = create_pipeline(USUAL)
    list(pipeline([KNOWN]))
    with patch.object(ExplodedFields, "_carefully", side_effect=AssertionError):
        other = {"_index_": 6, "xs": [7], "ys": [8], "meta": {"a": None, "b": {"c": [9]}}}
        assert list(pipeline([other])) == [{"rank": 0, "xs": 7, "meta.a": None}]
        assert list(pipeline([{**KNOWN, "xs": [], "ys": []}])) == []


def test_elements_that_are_objects_of_one_shape_are_found_out_once_too() -> None:
    fields = {"fields": ["xs.t.u", "id"]}
    pipeline = create_pipeline(
        [
            {"kind": "ExplodeCollections", "configuration": {"collections": ["xs"]}},
            {"kind": "FlattenHierarchy"},
            {"kind": "Select", "configuration": fields},
        ]
    )
    row = {"id": 1, "xs": [{"t": {"u": 1}, "n": 1}, {"t": {"u": 2}, "n": 1}]}
    expected = [{"xs.t.u": 1, "id": 1}, {"xs.t.u": 2, "id": 1}]
    assert list(pipeline([row])) == expected
    with patch.object(ExplodedFields, "_carefully", side_effect=AssertionError):
        assert list(pipeline([row])) == expected


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"xs": [1]}, "ExplodeCollections (step 1) failed on the row with _index_ 5: "
         "field 'ys' has 2 elements, but 'xs' has 1"),
        ({"xs": "12"}, "ExplodeCollections (step 1) failed on the row with _index_ 5: "
         "field 'xs' is a string, not an array"),
        ({"meta": {"b": 1}}, "Select (step 3) failed on the row with _index_ 5: field 'meta.a' is missing"),
        ({"meta": {"a": {"x": 1}, "b": {"c": 2}}}, "Select (step 3) failed on the row with _index_ 5: "
         "field 'meta.a' is missing"),
        ({"xs": [1, {"y": 2}]}, "Select (step 3) failed on the row with _index_ 5: field 'xs' is missing"),
        ({"meta": {"a": 1, "b": {"c": 2}, "b.c": 3}}, "FlattenHierarchy (step 2) failed on the row with "
         "_index_ 5: field 'meta.b.c' would be there twice"),
        ({"meta.a": 3}, "FlattenHierarchy (step 2) failed on the row with _index_ 5: "
         "field 'meta.a' would be there twice"),
        ({"rank": 3}, "ExplodeCollections (step 1) failed on the row with _index_ 5: "
         "field 'rank' is there already, and an index would take its name"),
    ],
)  # fmt: skip
def test_a_wrong_row_after_a_right_one_is_told_as_it_would_be_alone(row: Row, text: str) -> None:
    pipeline = create_pipeline(USUAL)
    stream = pipeline([KNOWN, {**KNOWN, **row}, KNOWN])
    assert [next(stream)["xs"], next(stream)["xs"]] == [1, 2]
    with pytest.raises(AdapterError) as raised:
        next(stream)
    assert str(raised.value) == f"adapter {text}"
    assert list(stream) == []


def test_names_of_a_rows_fields_are_never_code() -> None:
    evil = "'] or print('here') or row['"
    specs = [
        {"kind": "ExplodeCollections", "configuration": {"collections": ["xs"]}},
        {"kind": "FlattenHierarchy"},
    ]
    row = {evil: {evil: 1, "k0": {'"""': 2}}, "xs": [{evil: 3}], "v0": 4}
    expected = [{f"{evil}.{evil}": 1, f'{evil}.k0."""': 2, f"xs.{evil}": 3, "v0": 4}]
    pipeline = create_pipeline(specs)
    assert list(pipeline([row, row])) == expected * 2


def test_rows_of_ever_new_shapes_are_taken_and_not_remembered_without_end() -> None:
    pipeline = create_pipeline(USUAL)
    compile_ = "dyff_dagster.schema.shapes.compiled"
    with patch(compile_, side_effect=lambda *of: lambda row: None) as made:
        for number in range(200):
            (one, _) = pipeline([{**KNOWN, f"extra {number}": {str(number): 1}}])
            assert one == {"rank": 0, "xs": 1, "meta.a": 1}
    assert 0 < made.call_count <= 64


@pytest.mark.parametrize("depth", [19, 25, 200])
def test_rows_that_are_deep_or_wide_are_taken_too(depth: int) -> None:
    deep: Any = 1
    for _ in range(depth):
        deep = {"d": deep}
    row = {**KNOWN, "deep": deep, "wide": {str(number): number for number in range(depth * 60)}}
    joined, apart = create_pipeline(USUAL[:2]), one_after_another(USUAL[:2])
    expected = repr(list(apart([row])))
    assert [repr(list(joined([row]))) for _ in range(2)] == [expected, expected]
