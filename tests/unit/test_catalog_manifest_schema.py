"""The JSON Schema of manifests: takes what the catalog takes, and refuses nothing else than the catalog does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from dyff_dagster.catalog import Catalog, CatalogError
from dyff_dagster.catalog.annotations import names_on
from dyff_dagster.catalog.manifest_schema import manifest_schema
from dyff_dagster.catalog.manifest_values import ARROW_TYPE
from dyff_dagster.catalog.new_manifest import MANIFEST_KINDS, new_manifest
from dyff_dagster.catalog.reading import read_documents
from dyff_dagster.schema.annotations import ANNOTATIONS, PREFIX
from dyff_dagster.schema.arrow_text import ArrowTextError, parse_type
from dyff_dagster.store.revisions import RECORDED
from tests.unit.filled_templates import COMPANIONS, fill, leaves, uncommented, write_files
from tests.unit.test_docs import CATALOGS as ON_THE_PAGES
from tests.unit.test_docs import ROOT

EXAMPLES = ("examples/breast_cancer", "examples/own_endpoint")


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return manifest_schema()


@pytest.fixture(scope="module")
def validator(schema: dict[str, Any]) -> Draft202012Validator:
    return Draft202012Validator(schema)


def complaints(validator: Draft202012Validator, document: Any) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]


def documents(text: str, directory: Path) -> list[Any]:
    """The documents of a YAML text, as the catalog reads them."""
    path = directory / "manifest.yaml"
    path.write_text(text)
    return [document.value for document in read_documents(path, [])]


def test_it_is_a_json_schema_of_its_draft_that_stands_by_itself(schema: dict[str, Any]) -> None:
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(schema)
    references = set()
    waiting: list[Any] = [schema]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            references |= {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
    assert {reference for reference in references if reference != "#"} == {
        f"#/$defs/{name}" for name in schema["$defs"]
    }


@pytest.mark.parametrize("directory", EXAMPLES)
def test_the_manifests_of_the_examples_are_valid_in_both_forms(
    directory: str, validator: Draft202012Validator
) -> None:
    paths = [path for path in (ROOT / directory).rglob("*.yaml") if read_documents(path, [])]
    assert paths
    for path in paths:
        for document in read_documents(path, []):
            assert complaints(validator, document.value) == []
    for entity in Catalog.load(ROOT / directory).entities.values():
        assert complaints(validator, entity.model_dump(mode="json")) == []


@pytest.mark.parametrize("place", ON_THE_PAGES)
def test_the_manifests_on_the_pages_are_valid(
    place: str, validator: Draft202012Validator, tmp_path: Path
) -> None:
    found = [document for block in ON_THE_PAGES[place] for document in documents(block.text, tmp_path)]
    assert found
    for document in found:
        assert complaints(validator, document) == []


@pytest.mark.parametrize("kind", MANIFEST_KINDS)
def test_new_manifests_are_valid_once_filled_and_not_before(
    kind: str, validator: Draft202012Validator, tmp_path: Path
) -> None:
    template = new_manifest(kind)
    for chosen in ([], None, *([line] for line in leaves(template))):
        (document,) = documents(fill(kind, uncommented(template, chosen)), tmp_path)
        assert complaints(validator, document) == []
    (blank,) = documents(template, tmp_path)
    assert not validator.is_valid(blank)


def filled(kind: str, directory: Path) -> dict[str, Any]:
    (document,) = documents(fill(kind, uncommented(new_manifest(kind))), directory)
    assert isinstance(document, dict)
    return document


@pytest.mark.parametrize("kind", MANIFEST_KINDS)
def test_mutated_manifests_are_not_valid(kind: str, validator: Draft202012Validator, tmp_path: Path) -> None:
    document = filled(kind, tmp_path)
    key = "entity" if kind == "Documentation" else "id"
    other = "Module" if kind != "Module" else "Evaluation"
    for mutation in (
        {"kind": "Nonsense"},
        {"kind": kind.lower()},
        {"kind": other},
        {"kind": None},
        {"nmae": "x"},
        {key: 3},
        {key: "two words"},
        {"schemaVersion": "0.2"},
    ):
        assert not validator.is_valid({**document, **mutation}), mutation
    for required in ("kind", key):
        assert not validator.is_valid({name: value for name, value in document.items() if name != required})
    assert not validator.is_valid([document, [document]])
    assert not validator.is_valid(kind)
    assert validator.is_valid([document, document])


REFUSED = [
    ("Dataset", ("schema", "arrow", "answer"), "strin"),
    ("Dataset", ("schema", "arrow", "answer"), "list<string"),
    ("Dataset", ("schema", "arrow", "answer"), 3),
    ("Dataset", ("schema", "arrow"), {}),
    ("Dataset", ("schema",), {"arrow": {"x": "string"}, "dyffSchema": {"components": ["text.Text"]}}),
    ("Dataset", ("schema",), {"dyffSchema": {"components": ["text.Txt"]}}),
    ("Dataset", ("schema",), {}),
    ("Dataset", ("artifacts",), []),
    ("Dataset", ("artifacts", 0, "pth"), "x"),
    ("Dataset", ("annotations", "dyff-dagster/witholds"), "x"),
    ("Dataset", ("annotations", "dyff-dagster/checks"), "x >= 1"),
    ("Dataset", ("annotations", "dyff.io/x"), "x"),
    ("Dataset", ("labels", "a_b"), "x"),
    ("Dataset", ("labels", "dyff.io/x"), "x"),
    ("Dataset", ("labels",), [{"key": "stage", "valeu": "draft"}]),
    ("Dataset", ("$schema",), 3),
    ("Dataset", ("schema", "$schema"), "../schema.json"),
    ("Dataset", ("schema_",), {"arrow": {"x": "string"}}),
    ("DataSource", ("name",), True),
    ("InferenceSession", ("replicas",), True),
    ("InferenceSession", ("expires",), 7),
    ("Evaluation", ("inferenceSession", "useSpotPods"), 0),
    ("DataSource", ("sourceKind",), "ftp"),
    ("Model", ("source",), {"kind": "HuggingFaceHub"}),
    ("Model", ("artifact",), {"kind": "HuggingFaceCache"}),
    ("Model", ("resources", "storage"), "much"),
    ("InferenceService", ("model",), 3),
    ("InferenceService", ("runner", "kind"), "docker"),
    ("InferenceService", ("interface", "endpoint"), "two words"),
    ("InferenceService", ("interface", "inputPipeline"), [{"kind": "Selct"}]),
    ("InferenceSession", ("inferenceService",), {"id": "service"}),
    ("InferenceSession", ("replicas",), "many"),
    ("Evaluation", ("replications",), 0),
    ("Evaluation", ("replications",), "three"),
    ("Evaluation", ("dataset",), "fam@"),
    ("Evaluation", ("inferenceSession",), "service"),
    ("Evaluation", ("inferenceSession", "useSpotPods"), "perhaps"),
    ("Evaluation", ("annotations", "dyff-dagster/max-failed-rows"), "many"),
    ("Method", ("scope",), "Dataset"),
    ("Method", ("implementation",), {"kind": "PythonFunction"}),
    ("Method", ("implementation", "kind"), "PythonFunktion"),
    ("Method", ("output",), {"kind": "SafetyCase"}),
    ("Method", ("inputs", 0, "kind"), "Modul"),
    ("Measurement", ("method",), {"id": "method"}),
    ("Measurement", ("arguments", 0, "value"), 0.5),
    ("Measurement", ("scope", "datset"), "dataset"),
    ("Measurement", ("annotations", "dyff-dagster/blocking"), "maybe"),
    ("Measurement", ("annotations", "dyff-dagster/max-memory"), "2GB"),
    ("SafetyCase", ("annotations", "dyff-dagster/max-memory"), 2),
    ("Method", ("annotations", "dyff-dagster/max-seconds"), "an hour"),
    ("Family", ("memberKind",), "Evaluation"),
    ("Family", ("members", "a b"), "dataset"),
    ("Revision", ("creationTime",), None),
    ("Revision", ("entity", "kind"), "Datset"),
    ("Revision", ("entity", "sorce"), "x"),
    ("InferenceService", ("runner", "accelerator"), {"kind": "GPU"}),
    ("InferenceSession", ("accelerator", "kind"), "CPU"),
    ("Model", ("accelerators", 0, "kind"), "CPU"),
]


@pytest.mark.parametrize(("kind", "place", "value"), REFUSED)
def test_what_a_table_says_is_wrong_is_refused_here_and_by_the_catalog(
    kind: str, place: tuple[str | int, ...], value: Any, validator: Draft202012Validator, tmp_path: Path
) -> None:
    document = filled(kind, tmp_path)
    (tmp_path / "manifest.yaml").unlink()
    parent: Any = document
    for step in place[:-1]:
        parent = parent[step]
    parent[place[-1]] = value
    assert not validator.is_valid(document)
    assert not taken(document, tmp_path)


TAKEN = [
    ("Dataset", ("schema",), {"dyffSchema": {"components": ["text.Text", "classification.Label"]}}),
    ("Dataset", ("labels",), [{"key": "stage", "value": "draft"}]),
    ("Dataset", ("labels", "team.example/tier"), 3),
    ("Dataset", ("$schema",), "../schema.json"),
    ("Dataset", ("annotations",), [{"key": "dyff-dagster/withhold", "value": ""}]),
    ("Dataset", ("annotations", "team.example/note"), True),
    ("Dataset", ("status",), "Ready"),
    ("Evaluation", ("replications",), "3"),
    ("Evaluation", ("inferenceSession", "useSpotPods"), "no"),
    ("Evaluation", ("inferenceSession",), None),
    ("Module", ("artifacts",), None),
    ("Family", ("members", "v1"), {"name": "v1", "resource": "dataset", "family": "new"}),
    ("Measurement", ("annotations", "dyff-dagster/blocking"), True),
    ("Measurement", ("name",), "Its own name"),
]


@pytest.mark.parametrize(("kind", "place", "value"), TAKEN)
def test_every_way_to_write_a_value_that_the_catalog_takes_is_valid(
    kind: str, place: tuple[str | int, ...], value: Any, validator: Draft202012Validator, tmp_path: Path
) -> None:
    document = filled(kind, tmp_path)
    (tmp_path / "manifest.yaml").unlink()
    parent: Any = document
    for step in place[:-1]:
        parent = parent[step]
    parent[place[-1]] = value
    assert complaints(validator, document) == []
    assert taken(document, tmp_path)


def taken(document: Any, directory: Path) -> bool:
    """Whether the catalog takes a document, among companions that it may refer to."""
    write_files(directory)
    (directory / "companions.yaml").write_text(COMPANIONS)
    (directory / "new.json").write_text(json.dumps(document))
    try:
        Catalog.load(directory)
    except CatalogError as error:
        return not any(problem.path and problem.path.name == "new.json" for problem in error.problems)
    return True


def places(value: Any, here: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if here:
        yield here
    for step, item in (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    ):
        yield from places(item, (*here, step))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """A filled manifest of every kind, and its wire form."""
    found = []
    for kind in MANIFEST_KINDS:
        directory = tmp_path_factory.mktemp(kind)
        document = filled(kind, directory)
        found.append(document)
        write_files(directory)
        (directory / "companions.yaml").write_text(COMPANIONS)
        catalog = Catalog.load(directory)
        if "new" in catalog:
            found.append(catalog.get("new").model_dump(mode="json"))
    return found


_VALUES: list[Any] = [None, "text", "", 3, -1, 0, True, 0.5, [], {}, ["x"], {"x": 1}, "a b", "3", "x@y"]


@settings(
    max_examples=150,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_what_it_refuses_the_catalog_refuses_too(
    data: st.DataObject,
    whole: list[dict[str, Any]],
    validator: Draft202012Validator,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    document = deepcopy(data.draw(st.sampled_from(whole), label="manifest"))
    place = data.draw(st.sampled_from(list(places(document))), label="place")
    parent: Any = document
    for step in place[:-1]:
        parent = parent[step]
    change = data.draw(st.sampled_from(["set", "remove", "add"]), label="change")
    if change == "set":
        parent[place[-1]] = data.draw(st.sampled_from(_VALUES), label="value")
    elif change == "remove":
        del parent[place[-1]]
        if place == ("kind",):  # then it is no manifest, and the catalog passes it over
            return
    else:
        (parent[place[-1]] if isinstance(parent[place[-1]], dict) else document)["zzz"] = 1
    if not validator.is_valid(document):
        assert not taken(document, tmp_path_factory.mktemp("catalog"))


ARROW_NAMES = [
    *(
        "null",
        "bool",
        "boolean",
        "i1",
        "i2",
        "i4",
        "i8",
        "u1",
        "u2",
        "u4",
        "u8",
        "f2",
        "f4",
        "f8",
        "halffloat",
    ),
    *(
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "float16",
        "float32",
        "float64",
    ),
    *("float", "double", "string", "str", "utf8", "binary", "large_string", "large_str", "large_utf8"),
    *(
        "large_binary",
        "string_view",
        "binary_view",
        "date32",
        "date64",
        "date32[day]",
        "date64[ms]",
        "time32[s]",
    ),
    *("time32[ms]", "time64[us]", "time64[ns]", "timestamp[s]", "duration[ns]", "month_day_nano_interval"),
]
ARROW_TEXTS = [
    *(f"{name}!" for name in ARROW_NAMES if name != "null"),
    *(
        " timestamp[us, tz=Europe/Berlin] !",
        "fixed_size_binary[16]",
        "decimal128(10, 2)",
        "decimal256( 40 , -2 )!",
    ),
    *(
        "list<string!>",
        "fixed_size_list<float32!>[768]!",
        'struct<a: int64, "b c": list<bool>>',
        "map<string, int8>",
    ),
    *(
        "strin",
        "list",
        "list<string",
        "int64 int64",
        "timestamp",
        "timestamp[h]",
        "time32[us]",
        "decimal128",
        "!",
        "",
    ),
    *("fixed_size_list<int8>", "string!!", "object", "int", "date64[s]", "struct<a: int64>[3]"),
]


@pytest.mark.parametrize("text", [*ARROW_NAMES, *ARROW_TEXTS])
def test_arrow_types_are_told_from_other_texts(text: str) -> None:
    try:
        parse_type(text)
    except (ArrowTextError, pa.ArrowException):
        good = False
    else:
        good = True
    assert Draft202012Validator({"pattern": ARROW_TYPE}).is_valid(text) == good


def test_every_annotation_is_listed_with_its_description_on_its_kinds(schema: dict[str, Any]) -> None:
    seen = set()
    for kind in MANIFEST_KINDS:
        if kind == "Documentation":
            continue
        mapping = schema["$defs"][f"{kind}Manifest"]["properties"]["annotations"]["anyOf"][0]
        assert sorted(mapping["properties"]) == [PREFIX + name for name in names_on(kind)]
        assert all(described["description"] for described in mapping["properties"].values())
        seen.update(names_on(kind))
    assert seen - set(RECORDED) == set(ANNOTATIONS)


def test_every_field_of_a_manifest_has_a_description(schema: dict[str, Any]) -> None:
    without = [
        f"{name}.{field}"
        for name, definition in schema["$defs"].items()
        if name.endswith("Manifest")
        for field, described in definition.get("properties", {}).items()
        if "description" not in described
    ]
    assert [place for place in without if not place.endswith((".kind", ".entity"))] == []
