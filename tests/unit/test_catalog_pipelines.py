"""What is worked out of a pipeline without rows is what happens with rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from dyff_dagster.catalog import Catalog
from dyff_dagster.catalog.pipelines import Doubt, Fault, follow_pipeline
from dyff_dagster.catalog.shapes import ANY_OBJECT, Array, Object, Scalar, Shape
from dyff_dagster.schema.adapters import AdapterConfigurationError, AdapterError, create_pipeline
from dyff_dagster.schema.platform import SchemaAdapter
from tests.unit.test_catalog_manifests import DATASET, EVALUATION, MODEL, SERVICE, problems, warnings, write

NAMES = ["a", "b", "c", "label"]
QUERIES = st.sampled_from(
    [
        "$",
        "$.a",
        "$.b",
        "$.c",
        "$.label",
        "$.a.b",
        "$.b.c",
        "$.a[0]",
        "$.b[0].c",
        "$['a']",
        "$..label",
        "$.a[*].b",
    ]
)


def shapes(depth: int = 2) -> st.SearchStrategy[Shape]:
    scalars = st.sampled_from([Scalar.TEXT, Scalar.NUMBER, Scalar.BOOLEAN])
    if depth == 0:
        return scalars
    return scalars | shapes(depth - 1).map(Array) | objects(depth - 1)


def objects(depth: int) -> st.SearchStrategy[Object]:
    fields = st.dictionaries(st.sampled_from(NAMES), shapes(depth), min_size=1, max_size=3)
    return fields.map(Object)


def value_of(shape: Shape) -> Any:
    """A value of a shape, never null or empty: then what is certain to fail does fail."""
    if isinstance(shape, Object):
        return {name: value_of(item) for name, item in shape.fields.items()}
    if isinstance(shape, Array):
        return [value_of(shape.item), value_of(shape.item)]
    return {Scalar.TEXT: "x", Scalar.NUMBER: 1, Scalar.BOOLEAN: True}[shape]


_fields = st.lists(st.sampled_from(NAMES), min_size=1, max_size=2, unique=True)
_index = st.dictionaries(st.sampled_from(["i", "j"]), st.none() | QUERIES, max_size=1)
_leaves = (
    QUERIES
    | st.sampled_from(["text", "$$x", 1, True, None])
    | st.builds(
        lambda kind, query: {"$compute": {kind: query}}, st.sampled_from(["$scalar", "$list"]), QUERIES
    )
)
_templates = st.dictionaries(
    st.sampled_from([*NAMES, "$$d"]),
    st.recursive(_leaves, lambda inner: st.lists(inner, max_size=2), max_leaves=3),
    max_size=3,
)


def adapters(depth: int = 1) -> st.SearchStrategy[dict[str, Any]]:
    kinds = {
        "Drop": st.fixed_dictionaries({"fields": _fields}),
        "Select": st.fixed_dictionaries({"fields": _fields}),
        "Rename": st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["x", "y", *NAMES]), max_size=2),
        "FlattenHierarchy": st.fixed_dictionaries(
            {}, optional={"fields": _fields, "depth": st.integers(0, 2), "addPrefix": st.booleans()}
        ),
        "ExplodeCollections": st.fixed_dictionaries({"collections": _fields}, optional={"index": _index}),
        "EmbedIndex": st.fixed_dictionaries({"collections": _fields}, optional={"index": _index}),
        "TransformJSON": _templates,
    }
    if depth:
        kinds["Map"] = st.fixed_dictionaries({"collections": _fields, "adapter": adapters(depth - 1)})
        kinds["Pipeline"] = st.fixed_dictionaries({"adapters": st.lists(adapters(depth - 1), max_size=2)})
    return st.one_of(
        [
            config.map(lambda c, kind=kind: {"kind": kind, "configuration": c})
            for kind, config in kinds.items()
        ]
    )


def agrees(value: Any, shape: Shape) -> bool:
    """Whether a value that came out can be of the shape that was foretold."""
    if shape is Scalar.ANYTHING:
        return True
    if isinstance(shape, Object):
        return isinstance(value, dict) and all(
            shape.open if name not in shape.fields else agrees(item, shape.fields[name])
            for name, item in value.items()
        )
    if isinstance(shape, Array):
        return isinstance(value, list) and all(agrees(item, shape.item) for item in value)
    wanted = {Scalar.TEXT: str, Scalar.NUMBER: int, Scalar.BOOLEAN: bool}[shape]
    return type(value) is wanted


@settings(max_examples=600, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    rows=objects(2),
    specs=st.lists(adapters(), min_size=1, max_size=3),
    withheld=st.sampled_from([(), ("label",)]),
)
def test_what_is_foretold_is_what_happens(
    rows: Object, specs: list[dict[str, Any]], withheld: tuple[str, ...]
) -> None:
    try:
        pipeline = create_pipeline(specs)
    except AdapterConfigurationError:
        assume(False)
    rows = Object({n: s for n, s in rows.fields.items() if n not in withheld}, False, frozenset(withheld))
    flow = follow_pipeline([SchemaAdapter(**spec) for spec in specs], rows)
    try:
        made = list(pipeline([value_of(rows)]))
    except AdapterError:
        return  # a fault that was not foretold depends on the values
    if flow.fault is not None:
        # What only looks a withheld field up finds nothing; that it asks is told all the same.
        assert flow.fault.withheld, flow.fault
        return
    assert all(agrees(row, flow.shape) for row in made), (made, flow.shape)


def follow(rows: Object, *specs: dict[str, Any]) -> Fault | tuple[Doubt, ...] | Object:
    flow = follow_pipeline([SchemaAdapter(**spec) for spec in specs], rows)
    return flow.fault or flow.doubts or flow.shape


ROWS = Object({"question": Scalar.TEXT, "meta": Object({"id": Scalar.NUMBER})}, False, frozenset({"label"}))


@pytest.mark.parametrize(
    ("kind", "configuration"),
    [
        ("Select", {"fields": ["question", "label"]}),
        ("Rename", {"label": "answer"}),
        ("ExplodeCollections", {"collections": ["label"]}),
        ("EmbedIndex", {"collections": ["label"], "index": {"i": None}}),
        ("Map", {"collections": ["label"], "adapter": {"kind": "Drop", "configuration": {"fields": []}}}),
        ("FlattenHierarchy", {"fields": ["label"]}),
        ("TransformJSON", {"prompt": "$.label"}),
        ("TransformJSON", {"messages": [{"content": {"$compute": [{"$scalar": "$['label']"}]}}]}),
        ("TransformJSON", {"all": {"$compute": {"$list": "$.label[*]"}}}),
        ("TransformJSON", {"all": {"$compute": {"$list": [{"$scalar": "$.label"}]}}}),
        ("Pipeline", {"adapters": [{"kind": "Select", "configuration": {"fields": ["label"]}}]}),
        ("FileUpload", {"field": "$.question", "filename": "$.label"}),
    ],
)
def test_every_way_to_read_a_withheld_field_is_found(kind: str, configuration: dict[str, Any]) -> None:
    found = follow(ROWS, {"kind": kind, "configuration": configuration})
    assert isinstance(found, Fault)
    assert (found.position, found.adapter, found.field, found.withheld) == (0, kind, "label", True)


@pytest.mark.parametrize(
    ("kind", "configuration"),
    [
        ("Drop", {"fields": ["label"]}),
        ("TransformJSON", {"label": "$.question", "row": "$"}),
        ("TransformJSON", {"price": "$$.label"}),
        ("Rename", {"question": "label"}),
    ],
)
def test_what_reads_no_withheld_field_is_left_alone(kind: str, configuration: dict[str, Any]) -> None:
    assert isinstance(follow(ROWS, {"kind": kind, "configuration": configuration}), Object)


def test_a_field_may_be_made_under_the_name_of_a_withheld_one_and_read_then() -> None:
    rename = {"kind": "Rename", "configuration": {"question": "label"}}
    select = {"kind": "Select", "configuration": {"fields": ["label"]}}
    assert follow(ROWS, rename, select) == Object({"label": Scalar.TEXT})


def test_a_query_that_looks_everywhere_is_a_doubt() -> None:
    spec = {"kind": "TransformJSON", "configuration": {"prompt": {"$compute": {"$list": "$..label"}}}}
    assert follow(ROWS, spec) == (Doubt(0, "TransformJSON", "$..label", "label"),)


def test_of_rows_that_are_unknown_only_what_the_pipeline_itself_makes_is_known() -> None:
    transform = {"kind": "TransformJSON", "configuration": {"text": "$.choices[0].text", "n": 1}}
    select = {"kind": "Select", "configuration": {"fields": ["txt"]}}
    assert follow(ANY_OBJECT, transform) == Object({"text": Scalar.ANYTHING, "n": Scalar.NUMBER})
    assert follow(ANY_OBJECT, transform, select) == Fault(1, "Select", "txt", ("text", "n"))


def with_pipeline(*adapters: str, side: str = "inputPipeline") -> str:
    return SERVICE.replace("  endpoint", f"  {side}: [{', '.join(adapters)}]\n  endpoint")


AT = "audit.yaml:34: dataset: "


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        (
            "{kind: TransformJSON, configuration: {prompt: $.label}}",
            "inputPipeline[0] (TransformJSON) of service 'service' reads the field 'label', which data set 'rows' "
            "withholds from every service; take it out of the pipeline, or out of 'dyff-dagster/withhold'",
        ),
        (
            "{kind: TransformJSON, configuration: {prompt: $.quesion}}",
            "inputPipeline[0] (TransformJSON) of service 'service' reads the field 'quesion', which data set 'rows' "
            "does not have; did you mean 'question'?",
        ),
        (
            "{kind: Drop, configuration: {fields: [question]}}, {kind: Select, configuration: {fields: [question]}}",
            "inputPipeline[1] (Select) of service 'service' reads the field 'question', which what is left of "
            "data set 'rows' there does not have; known: _index_",
        ),
        (
            "{kind: TransformJSON, configuration: {prompt: $.question.text}}",
            "inputPipeline[0] (TransformJSON) of service 'service' reads the field 'question.text', and in "
            "data set 'rows' that is within text; correct the pipeline",
        ),
    ],
)
def test_a_pipeline_that_does_not_fit_its_data_set_is_a_problem(
    tmp_path: Path, adapter: str, message: str
) -> None:
    assert problems(write(tmp_path, MODEL, with_pipeline(adapter), DATASET, EVALUATION)) == [AT + message]


def test_of_two_evaluations_each_is_told(tmp_path: Path) -> None:
    service = with_pipeline("{kind: Select, configuration: {fields: [label]}}")
    again = EVALUATION.replace("id: run", "id: again")
    found = problems(write(tmp_path, MODEL, service, DATASET, EVALUATION, again))
    assert [problem.partition(": input")[0] for problem in found] == [AT[:-2], "audit.yaml:40: dataset"]


def test_a_pipeline_of_which_it_cannot_be_told_is_a_warning(tmp_path: Path) -> None:
    adapter = '{kind: TransformJSON, configuration: {prompt: {$compute: {$list: "$..label"}}}}'
    assert warnings(write(tmp_path, MODEL, with_pipeline(adapter), DATASET, EVALUATION)) == [
        AT
        + "whether inputPipeline[0] (TransformJSON) of service 'service' wants the field 'label' cannot be told "
        "from its query $..label, and data set 'rows' withholds it; name what is meant, as in $.field"
    ]


def test_a_wire_data_set_that_withholds_nothing_may_be_read(tmp_path: Path) -> None:
    service = with_pipeline("{kind: Select, configuration: {fields: [label]}}")
    dataset = DATASET.replace("withhold: label", "withhold: ''")
    assert "run" in Catalog.load(write(tmp_path, MODEL, service, dataset, EVALUATION))


def test_a_pipeline_that_cannot_work_on_any_rows_is_a_problem_of_the_service(tmp_path: Path) -> None:
    service = with_pipeline(
        "{kind: TransformJSON, configuration: {text: $.a}}", "{kind: Rename, configuration: {txt: answer}}"
    )
    assert problems(write(tmp_path, MODEL, service)) == [
        "audit.yaml:16: interface.inputPipeline[1]: Rename reads the field 'txt', "
        "which is not there at this step; did you mean 'text'?"
    ]


@pytest.mark.parametrize(
    ("side", "adapters", "message"),
    [
        (
            "inputPipeline",
            ["{kind: FileUpload, configuration: {field: $.a}}", "{kind: Drop, configuration: {fields: [a]}}"],
            "inputPipeline[0]: the configuration of adapter FileUpload is wrong: FileUpload makes a request, "
            "which no adapter can take further; it must be the last one",
        ),
        (
            "outputPipeline",
            ["{kind: FileUpload, configuration: {field: $.a}}"],
            "outputPipeline[0]: the configuration of adapter FileUpload is wrong: it makes requests, and can only "
            "be the last adapter of an inputPipeline, not in outputPipeline",
        ),
    ],
)
def test_a_file_upload_ends_an_input_pipeline(
    tmp_path: Path, side: str, adapters: list[str], message: str
) -> None:
    service = with_pipeline(*adapters, side=side)
    assert problems(write(tmp_path, MODEL, service)) == [f"audit.yaml:16: interface.{message}"]
