"""Schema adapters: what they make of rows, and how they fail."""

from __future__ import annotations

import copy
from typing import Any

import jsonpath_ng
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyff_dagster.schema.adapters import (
    AdapterConfigurationError,
    AdapterError,
    create_adapter,
    create_pipeline,
)
from dyff_dagster.schema.jsonpath import JSONPathError, MatchError, Path
from dyff_dagster.schema.platform import SchemaAdapter

SECRET = "patient 4711"


def adapt(kind: str, configuration: Any, *rows: Any) -> list[dict[str, Any]]:
    return list(create_adapter({"kind": kind, "configuration": configuration})(rows))


def failure(kind: str, configuration: Any, row: Any) -> AdapterError:
    adapter = create_adapter({"kind": kind, "configuration": configuration})
    with pytest.raises(AdapterError) as caught:
        list(adapter([row]))
    assert SECRET not in str(caught.value)
    return caught.value


def refusal(kind: str, configuration: Any) -> str:
    with pytest.raises(AdapterConfigurationError) as caught:
        create_adapter({"kind": kind, "configuration": configuration})
    return str(caught.value)


def test_drop_removes_fields_and_minds_no_missing_ones() -> None:
    assert adapt("Drop", {"fields": ["a", "z"]}, {"a": 1, "b": 2}) == [{"b": 2}]


def test_select_keeps_fields_in_its_order() -> None:
    (row,) = adapt("Select", {"fields": ["b", "a"]}, {"a": 1, "b": 2, "c": 3})
    assert list(row.items()) == [("b", 2), ("a", 1)]


def test_select_of_a_missing_field_fails() -> None:
    error = failure("Select", {"fields": ["b"]}, {"a": SECRET, "_index_": 7})
    assert str(error) == "adapter Select failed on the row with _index_ 7: field 'b' is missing"
    assert (error.adapter, error.index, error.field) == ("Select", 7, "field 'b'")


def test_rename_gives_new_names_in_place() -> None:
    (row,) = adapt("Rename", {"a": "x"}, {"a": 1, "b": 2})
    assert list(row.items()) == [("x", 1), ("b", 2)]


def test_rename_can_swap_and_shift() -> None:
    assert adapt("Rename", {"a": "b", "b": "a"}, {"a": 1, "b": 2}) == [{"a": 2, "b": 1}]
    assert adapt("Rename", {"a": "b", "b": "c"}, {"a": 1, "b": 2}) == [{"b": 1, "c": 2}]


def test_rename_onto_another_field_fails() -> None:
    assert "'b' is there already" in str(failure("Rename", {"a": "b"}, {"a": SECRET, "b": SECRET}))


def test_rename_of_a_missing_field_fails() -> None:
    assert "field 'a' is missing" in str(failure("Rename", {"a": "b"}, {"b": SECRET}))


def test_two_fields_cannot_get_one_name() -> None:
    assert "two fields get the same new name" in refusal("Rename", {"a": "c", "b": "c"})


NESTED = {"a": {"b": {"c": 1}, "d": [{"e": 2}]}, "f": 3, "g": {}}


@pytest.mark.parametrize(
    ("configuration", "expected"),
    [
        (None, {"a.b.c": 1, "a.d": [{"e": 2}], "f": 3, "g": {}}),
        ({}, {"a.b.c": 1, "a.d": [{"e": 2}], "f": 3, "g": {}}),
        ({"depth": 0}, NESTED),
        ({"depth": 1}, {"a.b": {"c": 1}, "a.d": [{"e": 2}], "f": 3, "g": {}}),
        ({"fields": ["f"]}, NESTED),
        ({"fields": ["a"], "depth": 1}, {"a.b": {"c": 1}, "a.d": [{"e": 2}], "f": 3, "g": {}}),
        ({"addPrefix": False}, {"c": 1, "d": [{"e": 2}], "f": 3, "g": {}}),
    ],
)
def test_flatten_takes_nesting_away(configuration: Any, expected: dict[str, Any]) -> None:
    assert adapt("FlattenHierarchy", configuration, NESTED) == [expected]


@pytest.mark.parametrize(
    ("configuration", "row"),
    [
        ({"addPrefix": False}, {"a": {"x": SECRET}, "b": {"x": SECRET}}),
        ({"addPrefix": False, "fields": ["a"]}, {"a": {"x": SECRET}, "x": SECRET}),
        ({}, {"a": {"b": SECRET}, "a.b": SECRET}),
    ],
)
def test_flatten_onto_another_field_fails(configuration: dict[str, Any], row: dict[str, Any]) -> None:
    assert "would be there twice" in str(failure("FlattenHierarchy", configuration, row))


def test_flatten_of_a_missing_field_fails() -> None:
    assert "field 'z' is missing" in str(failure("FlattenHierarchy", {"fields": ["z"]}, {"a": SECRET}))


def test_explode_makes_a_record_of_each_element() -> None:
    rows = adapt("ExplodeCollections", {"collections": ["n", "s"]}, {"n": [1, 2], "s": [1, 4], "x": "y"})
    assert rows == [{"x": "y", "n": 1, "s": 1}, {"x": "y", "n": 2, "s": 4}]


def test_explode_numbers_records_by_position_and_by_path() -> None:
    configuration = {"collections": ["c"], "index": {"i": None, "rank": "$.c[*].meta.rank"}}
    rows = adapt("ExplodeCollections", configuration, {"c": [{"meta": {"rank": 9}}, {"meta": {"rank": 8}}]})
    assert [(row["i"], row["rank"]) for row in rows] == [(0, 9), (1, 8)]


def test_explode_of_an_empty_array_makes_nothing() -> None:
    assert adapt("ExplodeCollections", {"collections": ["c"], "index": {"i": None}}, {"c": []}) == []


def test_explode_refuses_an_index_that_is_too_short() -> None:
    configuration = {"collections": ["c"], "index": {"rank": "$.c[*].rank"}}
    error = failure("ExplodeCollections", configuration, {"c": [{"rank": 1}, {"x": SECRET}]})
    assert "index 'rank' has 1 values, but the collections have 2 elements" in str(error)


def test_explode_refuses_arrays_of_different_length() -> None:
    error = failure("ExplodeCollections", {"collections": ["a", "b"]}, {"a": [1], "b": [SECRET, SECRET]})
    assert "field 'b' has 2 elements, but 'a' has 1" in str(error)


@pytest.mark.parametrize("value", [SECRET, {"a": SECRET}, 1, None])
def test_explode_takes_arrays_only(value: Any) -> None:
    assert "not an array" in str(failure("ExplodeCollections", {"collections": ["a"]}, {"a": value}))


def test_explode_index_onto_another_field_fails() -> None:
    configuration = {"collections": ["a"], "index": {"x": None}}
    assert "field 'x' is there already" in str(
        failure("ExplodeCollections", configuration, {"a": [1], "x": SECRET})
    )
    assert "a collection has that name" in refusal(
        "ExplodeCollections", {"collections": ["a"], "index": {"a": None}}
    )


def test_embed_index_adds_fields_to_elements() -> None:
    configuration = {"collections": ["choices"], "index": {"order": None, "rank": "$.ranks[*]"}}
    row = {"choices": [{"l": "a"}, {"l": "b"}], "ranks": [1, 0]}
    before = copy.deepcopy(row)
    (made,) = adapt("EmbedIndex", configuration, row)
    assert made["choices"] == [{"l": "a", "order": 0, "rank": 1}, {"l": "b", "order": 1, "rank": 0}]
    assert made["ranks"] == [1, 0]
    assert row == before


def test_embed_index_fails_rather_than_overwrite_or_fall_short() -> None:
    configuration = {"collections": ["c"], "index": {"i": "$.r[*]"}}
    assert "'c[0].i' is there already" in str(
        failure("EmbedIndex", configuration, {"c": [{"i": SECRET}], "r": [1]})
    )
    assert "has 1 values" in str(failure("EmbedIndex", configuration, {"c": [{}, {}], "r": [SECRET]}))
    assert "'c[0]' is a string, not an object" in str(
        failure("EmbedIndex", configuration, {"c": [SECRET], "r": [1]})
    )


def test_map_applies_an_adapter_to_elements() -> None:
    configuration = {"collections": ["c"], "adapter": {"kind": "Select", "configuration": {"fields": ["a"]}}}
    assert adapt("Map", configuration, {"c": [{"a": 1, "b": 2}, {"a": 3}], "x": 0}) == [
        {"c": [{"a": 1}, {"a": 3}], "x": 0}
    ]


def test_map_may_change_how_many_elements_there_are() -> None:
    explode = {"kind": "ExplodeCollections", "configuration": {"collections": ["n"]}}
    configuration = {"collections": ["c"], "adapter": explode}
    assert adapt("Map", configuration, {"c": [{"n": [1, 2]}, {"n": []}]}) == [{"c": [{"n": 1}, {"n": 2}]}]


def test_map_makes_objects_of_elements_that_are_none() -> None:
    transform = {"kind": "TransformJSON", "configuration": {"text": "$"}}
    drop = {"kind": "Drop", "configuration": {"fields": ["x"]}}
    pipeline = {"kind": "Pipeline", "configuration": {"adapters": [transform, drop]}}
    for adapter in (transform, pipeline):
        assert adapt("Map", {"collections": ["c"], "adapter": adapter}, {"c": ["a", 1]}) == [
            {"c": [{"text": "a"}, {"text": 1}]}
        ]
    error = failure("Map", {"collections": ["c"], "adapter": drop}, {"c": [SECRET]})
    assert "field 'c[0]' is a string, not an object" in str(error)


def test_map_says_which_element_failed() -> None:
    select = {"kind": "Select", "configuration": {"fields": ["a"]}}
    error = failure(
        "Map", {"collections": ["c"], "adapter": select}, {"c": [{"a": 1}, {"b": SECRET}], "_index_": 3}
    )
    assert str(error) == (
        "adapter Map of Select failed on the row with _index_ 3: within field 'c[1]', field 'a' is missing"
    )


def test_pipeline_applies_adapters_in_order() -> None:
    rename = {"kind": "Rename", "configuration": {"a": "b"}}
    select = SchemaAdapter(kind="Select", configuration={"fields": ["b"]})
    assert list(create_pipeline([rename, select])([{"a": 1, "c": 2}])) == [{"b": 1}]
    nested = {"kind": "Pipeline", "configuration": {"adapters": [rename, select.model_dump()]}}
    assert list(create_adapter(nested)([{"a": 1, "c": 2}])) == [{"b": 1}]


def test_empty_pipeline_changes_nothing() -> None:
    assert list(create_pipeline([])([{"a": 1}, {}])) == [{"a": 1}, {}]


def test_pipeline_names_step_and_index_though_the_index_was_dropped() -> None:
    drop = {"kind": "Drop", "configuration": {"fields": ["_index_"]}}
    select = {"kind": "Select", "configuration": {"fields": ["b"]}}
    with pytest.raises(AdapterError) as caught:
        list(create_pipeline([drop, select])([{"_index_": 5, "a": SECRET}]))
    assert (
        str(caught.value) == "adapter Select (step 2) failed on the row with _index_ 5: field 'b' is missing"
    )


def test_row_without_index_is_named_by_its_place() -> None:
    pipeline = create_pipeline([{"kind": "Select", "configuration": {"fields": ["a"]}}])
    stream = pipeline([{"a": 1}, {"b": SECRET}])
    assert next(stream) == {"a": 1}
    with pytest.raises(AdapterError, match=r"on object 1 of the stream \(from 0\)"):
        next(stream)


def test_row_that_is_no_object_fails() -> None:
    assert "is an array, not an object" in str(failure("Drop", {"fields": ["a"]}, [SECRET]))


def test_streams_are_read_as_they_are_used() -> None:
    def endless() -> Any:
        while True:
            yield {"a": 1}

    assert next(iter(create_pipeline([{"kind": "Rename", "configuration": {"a": "b"}}])(endless()))) == {
        "b": 1
    }


EXAMPLE = {"object": {"id": "abc123", "name": "spam"}, "list": [1, 2], "odd key": 5, "null": None}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ({"id": "$.object.id"}, {"id": "abc123"}),
        ({"a": ["$.list[0]", {"b": "$.list[1]"}]}, {"a": [1, {"b": 2}]}),
        ({"a": "literal", "n": 1.5, "t": True, "z": None}, {"a": "literal", "n": 1.5, "t": True, "z": None}),
        ({"a": "$$PATH", "$$k": "$['odd key']"}, {"a": "$PATH", "$k": 5}),
        ({"all": "$"}, {"all": EXAMPLE}),
        ({"n": "$.null"}, {"n": None}),
        ({"deep": "$..name"}, {"deep": "spam"}),
        ({}, {}),
    ],
)
def test_transform_fills_its_template(template: dict[str, Any], expected: dict[str, Any]) -> None:
    assert adapt("TransformJSON", template, EXAMPLE) == [expected]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ({"$literal": None}, None),
        ({"$literal": "$.object"}, "$.object"),
        ({"$literal": [1, {"a": 2}]}, [1, {"a": 2}]),
        ({"$scalar": "$.object.id"}, "abc123"),
        ({"$list": "$.list[*]"}, [1, 2]),
        ({"$list": "$.nothing[*]"}, []),
        ({"$list": "$.object.id"}, ["abc123"]),
        ({"$list": [{"$scalar": "$.list[1]"}, {"$literal": 0}, {"$list": "$.list[*]"}]}, [2, 0, [1, 2]]),
        ([{"$scalar": "$.object"}, {"$scalar": "$.name"}], "spam"),
        ([{"$scalar": "$.object.id"}, {"$func": "list"}], ["a", "b", "c", "1", "2", "3"]),
        ([{"$scalar": "$.object.id"}, {"$func": "sub", "pattern": "[a-z]", "repl": ""}], "123"),
        (
            [{"$scalar": "$.object.id"}, {"$func": "sub", "pattern": "([a-z])", "repl": r"\1-", "count": 2}],
            "a-b-c123",
        ),
        ([{"$scalar": "$.object.id"}, {"$func": "sub", "pattern": "B", "repl": "", "flags": 2}], "ac123"),
        ([{"$scalar": "$.object.id"}, {"$func": "findall", "pattern": r"\d"}], ["1", "2", "3"]),
        ([{"$scalar": "$.object.id"}, {"$func": "search", "pattern": r"([a-z]+)(\d)"}], "abc1"),
        ([{"$scalar": "$.object.id"}, {"$func": "search", "pattern": r"([a-z]+)(\d)", "group": 2}], "1"),
        ([{"$scalar": "$.object.id"}, {"$func": "search", "pattern": r"(?P<x>\d)", "group": "x"}], "1"),
        ([{"$scalar": "$.object.id"}, {"$func": "search", "pattern": "z"}], None),
        ([{"$scalar": "$.object.id"}, {"$func": "search", "pattern": "z", "default": "-"}], "-"),
        (
            [{"$scalar": "$.object.id"}, {"$func": "split", "pattern": "[0-9]", "maxsplit": 2}],
            ["abc", "", "3"],
        ),
        ([{"$literal": ["a", "b"]}, {"$func": "join", "separator": "+"}], "a+b"),
        ([{"$literal": ["a", "b"]}, {"$func": "join"}], "ab"),
        ([{"$literal": [[1], [2, 3]]}, {"$func": "reduce"}], [1, 2, 3]),
        ([{"$list": "$.list[*]"}, {"$func": "reduce"}], 3),
    ],
)
def test_transform_computes(steps: Any, expected: Any) -> None:
    assert adapt("TransformJSON", {"x": {"$compute": steps}}, EXAMPLE) == [{"x": expected}]


@pytest.mark.parametrize(
    ("template", "row", "problem"),
    [
        ({"a": {"b": "$.x"}}, {"y": SECRET}, "$.a.b cannot be filled: the query $.x finds nothing"),
        (
            {"a": "$.x[*]"},
            {"x": [SECRET, SECRET]},
            "the query $.x[*] finds 2 values, and must find exactly one",
        ),
        (
            {"a": {"$compute": [{"$scalar": "$.x"}, {"$func": "findall", "pattern": "a"}]}},
            {"x": [SECRET]},
            "findall cannot be done on an array",
        ),
        (
            {"a": {"$compute": [{"$scalar": "$.x"}, {"$func": "join"}]}},
            {"x": [SECRET, 1]},
            "join cannot be done on an array",
        ),
        (
            {"a": {"$compute": [{"$list": "$.x[*]"}, {"$func": "reduce"}]}},
            {"x": []},
            "reduce cannot be done on an array",
        ),
    ],
)
def test_transform_fails_by_field_and_without_content(
    template: dict[str, Any], row: dict[str, Any], problem: str
) -> None:
    error = failure("TransformJSON", template, row)
    assert problem in str(error)
    assert error.field.startswith("$.a")


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ({"$key": 1}, "write '$$key'"),
        ({"a": {"$compute": {"$literal": 1}, "b": 2}}, "must be the object's only key"),
        ({"a": {"$compute": []}}, "a computation is a step, or a list of steps"),
        ({"a": {"$compute": [{"$literal": 1, "$scalar": "$.a"}]}}, "one key of $literal, $scalar and $list"),
        ({"a": {"$compute": {"$scalar": "literal"}}}, "a query is a string that begins with one '$'"),
        ({"a": {"$compute": {"$list": ["$.a"]}}}, "one key of $literal"),
        ({"a": {"$compute": {"$func": "serach", "pattern": "a"}}}, "did you mean 'search'?"),
        ({"a": {"$compute": {"$func": "search"}}}, "search needs the argument 'pattern'"),
        ({"a": {"$compute": {"$func": "search", "patern": "a"}}}, "did you mean 'pattern'?"),
        ({"a": {"$compute": {"$func": "search", "pattern": "("}}}, "the regular expression is wrong"),
        (
            {"a": {"$compute": {"$func": "search", "pattern": "a", "group": 1}}},
            "the pattern has no such group",
        ),
        (
            {"a": {"$compute": {"$func": "sub", "pattern": "a", "repl": r"\1"}}},
            "the regular expression is wrong",
        ),
        ({"a": {"$compute": {"$func": "sub", "pattern": "a", "repl": 1}}}, "must not be a number"),
        ({"a": "$.["}, "is no JSONPath query"),
        ([1], "the template must be an object"),
        ({"$compute": {"$literal": {}}}, "the template must be an object"),
        ({"a": {1}}, "it cannot be written as JSON"),
        ({1: "a"}, "it cannot be written as JSON"),
    ],
)
def test_transform_that_cannot_work_is_refused_when_made(template: Any, problem: str) -> None:
    assert problem in refusal("TransformJSON", template)


def test_literal_of_one_row_is_not_the_literal_of_the_next() -> None:
    first, second = adapt("TransformJSON", {"a": {"$compute": {"$literal": [1]}}}, {}, {})
    first["a"].append(2)
    assert second == {"a": [1]}


CONFIGURATIONS: list[tuple[str, Any, dict[str, Any]]] = [
    (
        "TransformJSON",
        {"x": {"$compute": [{"$scalar": "$.a"}, {"$func": "sub", "pattern": "b", "repl": "c"}]}},
        {"a": "b"},
    ),
    ("ExplodeCollections", {"collections": ["a"], "index": {"i": None}}, {"a": [1]}),
    ("FlattenHierarchy", {"fields": ["a"], "depth": 1}, {"a": {"b": 1}}),
    (
        "Map",
        {"collections": ["a"], "adapter": {"kind": "Drop", "configuration": {"fields": ["b"]}}},
        {"a": [{"b": 1}]},
    ),
    ("Pipeline", {"adapters": [{"kind": "Drop", "configuration": {"fields": ["b"]}}]}, {"b": 1}),
    ("Rename", {"a": "b"}, {"a": 1}),
]


@pytest.mark.parametrize(("kind", "configuration", "row"), CONFIGURATIONS)
def test_configuration_and_rows_are_left_as_they_were(
    kind: str, configuration: Any, row: dict[str, Any]
) -> None:
    spec = {"kind": kind, "configuration": configuration}
    before = copy.deepcopy((spec, row))
    first = list(create_adapter(spec)([row]))
    assert (spec, row) == before
    assert list(create_adapter(spec)([row])) == first


def test_configuration_that_changes_later_changes_no_adapter() -> None:
    configuration = {"fields": ["a"]}
    adapter = create_adapter({"kind": "Select", "configuration": configuration})
    configuration["fields"].append("b")
    assert list(adapter([{"a": 1}])) == [{"a": 1}]


@pytest.mark.parametrize(
    ("kind", "configuration", "problem"),
    [
        ("Slect", {}, "did you mean 'Select'?"),
        ("Select", None, "the setting is missing"),
        ("Select", {"field": ["a"]}, "did you mean 'fields'?"),
        ("Select", {"fields": "a"}, "it must be a list of field names"),
        ("Select", {"fields": ["a", "a"]}, "it names a field twice"),
        ("Select", [1], "it is an array, not an object"),
        ("Rename", {"a": 1}, "the new name must be a string"),
        ("FlattenHierarchy", {"depth": -1}, "0 or more"),
        ("FlattenHierarchy", {"depth": True}, "0 or more"),
        ("FlattenHierarchy", {"addPrefix": "no"}, "it must be true or false"),
        ("ExplodeCollections", {"collections": []}, "at least one field"),
        (
            "ExplodeCollections",
            {"collections": ["a"], "index": ["i"]},
            "it must be an object of names and paths",
        ),
        ("ExplodeCollections", {"collections": ["a"], "index": {"i": 5}}, "null or a JSONPath query"),
        ("ExplodeCollections", {"collections": ["a"], "index": {"i": "$.["}}, "is no JSONPath query"),
        ("Map", {"collections": ["a"], "adapter": {"kind": "Nope"}}, "there is no such adapter"),
        ("Map", {"collections": ["a"], "adapter": "Drop"}, "an adapter is an object with a 'kind'"),
        ("Pipeline", {"adapters": {}}, "it must be a list of adapters"),
    ],
)
def test_adapter_that_cannot_work_is_refused_when_made(kind: str, configuration: Any, problem: str) -> None:
    assert problem in refusal(kind, configuration)


def test_adapter_has_kind_and_configuration_only() -> None:
    with pytest.raises(AdapterConfigurationError, match="only 'kind' and 'configuration'"):
        create_adapter({"kind": "Drop", "config": {"fields": []}})


def test_path_that_is_none_is_refused() -> None:
    with pytest.raises(JSONPathError):
        Path("$.[")


def test_filter_expressions_are_queries_too() -> None:
    assert Path("$.a[?(@.b > 1)].c").find({"a": [{"b": 1, "c": 1}, {"b": 2, "c": 2}]}) == [2]


NAMES = st.sampled_from(["a", "b", "c d", "parent", "0", "ä"])
DOCUMENTS = st.recursive(
    st.none() | st.integers(0, 3) | st.text(max_size=3) | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
STEPS = st.sampled_from(
    [".a", ".b", "['a']", "['c d']", '["b"]', "[0]", "[1]", "['0']", "['ä']", "['parent']", "[*]"]
)


@given(DOCUMENTS, st.lists(STEPS, max_size=4))
def test_compiled_path_finds_what_the_library_finds(document: Any, steps: list[str]) -> None:
    text = "$" + "".join(steps)
    path = Path(text)
    assert path.steps is not None or "[*]" in steps
    expected = [match.value for match in jsonpath_ng.parse(text).find(document)]
    assert path.find(document) == expected
    if len(expected) == 1:
        assert path.one(document) == expected[0]
    else:
        with pytest.raises(MatchError):
            path.one(document)
