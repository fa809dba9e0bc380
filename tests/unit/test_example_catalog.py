"""The examples' manifests are a valid catalog, and say the same thing everywhere."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from dyff_dagster.catalog import Catalog
from dyff_dagster.catalog.thresholds import parse_checks
from dyff_dagster.schema.arrow import decode_schema
from dyff_dagster.schema.platform import Dataset, Evaluation, InferenceService, Method, SafetyCase

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog.load(EXAMPLES / "breast_cancer")


@pytest.mark.parametrize("example", ["breast_cancer", "judge", "own_endpoint"])
def test_example_loads_without_a_warning(example: str) -> None:
    assert Catalog.load(EXAMPLES / example).warnings == []


def test_safety_case_rests_on_the_source_the_model_and_the_notebook(catalog: Catalog) -> None:
    seen, waiting = set(), ["wdbc-safety-case"]
    while waiting:
        current = waiting.pop()
        seen.add(current)
        waiting.extend(catalog.upstream(current))
    assert seen == set(catalog.entities)


def test_service_is_sent_the_features_of_the_model_and_nothing_else(catalog: Catalog) -> None:
    model = json.loads((EXAMPLES / "breast_cancer" / "model" / "coefficients.json").read_text("utf-8"))
    schema = decode_schema(catalog.get_as("wdbc-held-out", Dataset).schema_.arrowSchema)
    assert catalog.withheld("wdbc-held-out") == {"diagnosis", "patient"}
    assert set(schema.names) - {"_index_", "diagnosis", "patient"} == set(model["features"])


def test_declared_fields_are_the_columns_of_the_csv(catalog: Catalog) -> None:
    with (EXAMPLES / "breast_cancer" / "data" / "held-out.csv").open(encoding="utf-8", newline="") as file:
        columns = next(csv.reader(file))
    schema = decode_schema(catalog.get_as("wdbc-held-out", Dataset).schema_.arrowSchema)
    assert [name for name in schema.names if name != "_index_"] == columns


def test_thresholds_of_checks_and_of_the_page_are_the_same(catalog: Catalog) -> None:
    checks = parse_checks(catalog.annotation("wdbc-safety-case", "checks") or "")
    assert checks == parse_checks(catalog.annotation("wdbc-accuracy", "checks") or "")
    arguments = {
        item.keyword: float(item.value) for item in catalog.get_as("wdbc-safety-case", SafetyCase).arguments
    }
    assert {(check.score, check.bound, check.op): check.number for check in checks} == {
        ("sensitivity", "value", ">="): arguments["min_sensitivity"],
        ("auc", "low", ">="): arguments["min_auc"],
    }


def test_editing_the_page_touches_no_module_that_computes_scores(catalog: Catalog) -> None:
    assert catalog.get_as("wdbc-argue-safety", Method).modules == ["wdbc-notebook"]
    assert "wdbc-notebook" not in catalog.get_as("wdbc-summarize-accuracy", Method).modules


def test_own_endpoint_is_called_where_it_is_and_never_sees_the_answers() -> None:
    own = Catalog.load(EXAMPLES / "own_endpoint")
    service = own.get_as("own-service", InferenceService)
    assert service.runner is None
    assert service.interface.endpoint.startswith("http://127.0.0.1:8000/")
    assert own.withheld(own.get_as("own-evaluation", Evaluation).dataset) == {"answer"}
