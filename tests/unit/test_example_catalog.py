"""The examples' manifests are a valid catalog, and say the same thing everywhere."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from dyff_dagster.catalog import Catalog
from dyff_dagster.catalog.thresholds import parse_checks
from dyff_dagster.schema.arrow import decode_schema
from dyff_dagster.schema.platform import (
    Dataset,
    Evaluation,
    InferenceService,
    Measurement,
    Method,
    SafetyCase,
)

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog.load(EXAMPLES / "breast_cancer")


@pytest.mark.parametrize("example", ["breast_cancer", "judge", "own_endpoint"])
def test_example_loads_without_a_warning(example: str) -> None:
    assert Catalog.load(EXAMPLES / example).warnings == []


def everything_upstream(catalog: Catalog, *ids: str) -> set[str]:
    seen: set[str] = set()
    waiting = list(ids)
    while waiting:
        current = waiting.pop()
        if current not in seen:
            seen.add(current)
            waiting.extend(catalog.upstream(current))
    return seen


def test_safety_case_rests_on_the_model_and_nothing_of_the_baseline(catalog: Catalog) -> None:
    seen = everything_upstream(catalog, "wdbc-safety-case")
    assert {"wdbc-source", "wdbc-logreg", "wdbc-notebook"} <= seen
    assert not any("bayes" in entity for entity in seen)


def test_every_entity_is_upstream_of_a_page_or_a_score(catalog: Catalog) -> None:
    ends = ("wdbc-safety-case", "wdbc-comparison", "wdbc-audit", "wdbc-bayes-accuracy")
    assert everything_upstream(catalog, *ends) == set(catalog.entities)


def test_audit_waits_for_a_measurement_of_each_requirement_on_the_audited_service(catalog: Catalog) -> None:
    met_by = {str(found.requirement.rubric): found.results for found in catalog.candidates("wdbc-audit")}
    # The baseline's accuracy has the same rubric, and is another service's.
    assert met_by == {
        "diagnostic-accuracy": ("wdbc-accuracy",),
        "comparison-with-a-baseline": ("wdbc-effect",),
    }


def test_baseline_is_another_model_behind_the_same_code_asked_and_judged_the_same_way(
    catalog: Catalog,
) -> None:
    def settings(model: str) -> list[object]:
        service = catalog.get_as(f"wdbc-{model}-service", InferenceService)
        evaluation = catalog.get_as(f"wdbc-{model}-eval", Evaluation)
        instances = "wdbc-instances" if model == "logreg" else f"wdbc-{model}-instances"
        return [
            service.runner,
            service.interface,
            evaluation.dataset,
            evaluation.replications,
            catalog.get_as(instances, Measurement).method,
        ]

    assert settings("bayes") == settings("logreg")


@pytest.mark.parametrize("file", ["model/coefficients.json", "baseline/parameters.json"])
def test_service_is_sent_the_features_of_the_model_and_nothing_else(catalog: Catalog, file: str) -> None:
    model = json.loads((EXAMPLES / "breast_cancer" / file).read_text("utf-8"))
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


def test_thresholds_of_the_audit_are_those_of_its_results(catalog: Catalog) -> None:
    def demanded(entity: str, prefix: str = "") -> set[tuple[str, str, str, float]]:
        checks = parse_checks(catalog.annotation(entity, "checks") or "")
        return {(f"{prefix}{check.score}", check.bound, check.op, check.number) for check in checks}

    assert demanded("wdbc-audit") == demanded("wdbc-accuracy", "wdbc-accuracy/") | demanded(
        "wdbc-effect", "wdbc-effect/"
    )
    assert demanded("wdbc-comparison") == demanded("wdbc-effect")


def test_editing_the_page_touches_no_module_that_computes_scores(catalog: Catalog) -> None:
    assert catalog.get_as("wdbc-argue-safety", Method).modules == ["wdbc-notebook"]
    assert "wdbc-notebook" not in catalog.get_as("wdbc-summarize-accuracy", Method).modules


def test_own_endpoint_is_called_where_it_is_and_never_sees_the_answers() -> None:
    own = Catalog.load(EXAMPLES / "own_endpoint")
    service = own.get_as("own-service", InferenceService)
    assert service.runner is None
    assert service.interface.endpoint.startswith("http://127.0.0.1:8000/")
    assert own.withheld(own.get_as("own-evaluation", Evaluation).dataset) == {"answer"}
