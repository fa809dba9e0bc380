"""What a notebook that was written for dyff-audit is told of the system and of the method that it is about."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from dyff_dagster import AnalysisContext
from dyff_dagster.analysis.configuration import CONFIG_FILE, Heading, write_configuration
from dyff_dagster.analysis.context import STORAGE_ROOT
from dyff_dagster.analysis.subjects import Subject, asks_for_subjects, subjects_data, subjects_of
from dyff_dagster.schema.platform import (
    Documentation,
    DocumentationBase,
    InferenceService,
    Method,
    Model,
    SafetyCase,
)
from tests.integration.analysis_support import Bench
from tests.unit.test_analysis_own_code import committed

SERVICE = InferenceService.model_validate(
    {
        "id": "service",
        "account": "acme",
        "name": "The service",
        "runner": {"kind": "mock", "resources": {"storage": "1Mi"}},
        "interface": {"endpoint": "answer", "outputSchema": {"arrowSchema": "/////w=="}},
    }
)
MODEL = Model.model_validate(
    {
        "id": "model",
        "account": "acme",
        "name": "The model",
        "storage": {"medium": "ObjectStorage"},
        "source": {"kind": "Upload"},
        "artifact": {"kind": "HuggingFaceCache", "huggingFaceCache": {"repoID": "a/b", "revision": "0" * 40}},
        "resources": {"storage": "1Gi"},
    }
)
METHOD = Method.model_validate(
    {
        "id": "method",
        "account": "acme",
        "name": "The method",
        "description": "Counts what is right.",
        "scope": "Evaluation",
        "implementation": {"kind": "PythonFunction", "pythonFunction": {"fullyQualifiedName": "a.b"}},
        "output": {"kind": "SafetyCase", "safetyCase": {"name": "Safe"}},
    }
)


@pytest.fixture
def case(tmp_path: Path) -> SafetyCase:
    return Bench(tmp_path / "bench").safety_case()


def told(case: SafetyCase, *entities: Any, **documentation: DocumentationBase) -> dict[str, dict[str, str]]:
    found = subjects_of(case, {entity.id: entity for entity in entities}, documentation)
    return {key: subject.to_json()["documentation"] for key, subject in found.items()}


def test_the_system_is_the_model_or_else_the_service(case: SafetyCase) -> None:
    assert told(case, SERVICE, MODEL, METHOD)["system"]["title"] == "The model"
    assert told(case, SERVICE, METHOD)["system"]["title"] == "The service"
    assert told(case, METHOD).keys() == {"usecase"}
    assert told(case) == {}


def test_titles_are_those_of_the_documentation_or_else_name_and_description(case: SafetyCase) -> None:
    assert told(case, METHOD)["usecase"] == {"title": "The method", "summary": "Counts what is right."}
    documented = told(case, METHOD, method=Documentation(title="Counting", fullPage="# All of it"))
    assert documented["usecase"] == {
        "title": "Counting",
        "summary": "Counts what is right.",
        "fullPage": "# All of it",
    }
    assert told(case, SERVICE)["system"] == {"title": "The service", "summary": ""}


def test_what_only_steers_is_not_told() -> None:
    data = METHOD.model_dump(mode="json")
    labelled = Method.model_validate(
        {**data, "labels": {"a": "b"}, "annotations": [{"key": "dyff-dagster/max-seconds", "value": "9"}]}
    )
    assert Subject(labelled).to_json() == Subject(METHOD).to_json()
    assert subjects_data({"usecase": Subject(METHOD)}) == subjects_data({"usecase": Subject(labelled)})


@pytest.mark.parametrize(
    ("content", "asks"),
    [
        (b"from dyff.audit.analysis import AnalysisContext", True),
        (b"from dyff_dagster import AnalysisContext", False),
        (b"from dyff.schema import ids", False),
    ],
)
def test_only_a_notebook_that_names_dyff_audit_can_ask(
    tmp_path: Path, case: SafetyCase, content: bytes, asks: bool
) -> None:
    module = committed(tmp_path, code=content)
    assert asks_for_subjects(case, [module]) is asks
    assert asks_for_subjects(Bench(tmp_path / "other").measurement(), [module]) is False
    by_function = case.model_copy(update={"method": METHOD})
    assert asks_for_subjects(by_function, [module]) is False


def test_they_are_data_of_the_analysis_and_ours_reads_past_them(
    tmp_path: Path, case: SafetyCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "analysis.yaml"
    write_configuration(path, case, Heading("x"), {"usecase": Subject(METHOD), "system": Subject(SERVICE)})
    data = yaml.safe_load(path.read_text())["spec"]["data"]
    found = {item["key"]: json.loads(base64.b64decode(item["value"])) for item in data}
    assert (
        found["usecase"]["spec"]["id"] == "method" and found["system"]["spec"]["kind"] == "InferenceService"
    )
    monkeypatch.setenv(CONFIG_FILE, str(path))
    monkeypatch.setenv(STORAGE_ROOT, str(tmp_path))
    assert AnalysisContext().args("threshold") == "0.9"


def test_what_the_analysis_says_itself_comes_before_what_it_is_told(tmp_path: Path, case: SafetyCase) -> None:
    own = {"key": "system", "value": base64.b64encode(b"{}").decode()}
    said = SafetyCase.model_validate({**case.model_dump(mode="json"), "data": [own]})
    path = tmp_path / "analysis.yaml"
    write_configuration(path, said, Heading("x"), {"usecase": Subject(METHOD), "system": Subject(SERVICE)})
    data = yaml.safe_load(path.read_text())["spec"]["data"]
    assert [item["key"] for item in data] == ["system", "usecase"] and data[0] == own
