"""The example's Web service, run as it is run in an audit: a process of its own, over HTTP."""

from __future__ import annotations

import contextlib
import csv
import http.client
import json
import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "breast_cancer"


class Service:
    """A running service and one kept-open connection to it."""

    def __init__(self, port: int, log: Path) -> None:
        self.log = log
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)

    def post(self, body: Any, path: str = "/predict") -> tuple[int, dict[str, Any]]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.connection.request("POST", path, data, {"Content-Type": "application/json"})
        response = self.connection.getresponse()
        return response.status, json.loads(response.read())


@contextlib.contextmanager
def serving(model: Path, log: Path) -> Iterator[Service]:
    """The service over a model, once it is ready."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "DYFF_PORT": str(port), "DYFF_HOST": "127.0.0.1", "DYFF_MODEL": str(model)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "service/serve.py"], cwd=EXAMPLE, env=environment, stdout=output, stderr=output
        )
    try:
        found = Service(port, log)
        deadline = time.monotonic() + 20
        while True:
            assert process.poll() is None, log.read_text()
            try:
                found.connection.request("GET", "/health")
                assert found.connection.getresponse().read() == b'{"status": "ready"}'
                break
            except OSError:
                found.connection.close()
                assert time.monotonic() < deadline, "the service did not get ready"
                time.sleep(0.02)
        yield found
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(EXAMPLE / "model", tmp_path_factory.mktemp("service") / "log") as found:
        yield found


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(EXAMPLE / "baseline", tmp_path_factory.mktemp("baseline") / "log") as found:
        yield found


@pytest.fixture(scope="module")
def patients() -> list[tuple[dict[str, float], str]]:
    with (EXAMPLE / "data" / "held-out.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        (
            {name: float(value) for name, value in row.items() if name not in ("patient", "diagnosis")},
            row["diagnosis"],
        )
        for row in rows
    ]


@pytest.fixture
def patient(patients: list[tuple[dict[str, float], str]]) -> dict[str, float]:
    return dict(patients[0][0])


def expected_probability(patient: dict[str, float]) -> float:
    model = json.loads((EXAMPLE / "model" / "coefficients.json").read_text("utf-8"))
    z = model["intercept"] + sum(
        weight * (patient[name] - mean) / scale
        for name, mean, scale, weight in zip(
            model["features"], model["means"], model["scales"], model["coefficients"], strict=True
        )
    )
    return 1 / (1 + math.exp(-z))


def test_probability_is_that_of_the_formula_in_the_model_file(
    service: Service, patient: dict[str, float]
) -> None:
    status, answer = service.post(patient)
    assert status == 200
    assert answer["malignant_probability"] == pytest.approx(expected_probability(patient), rel=1e-9)


def test_diagnoses_of_the_held_out_patients_miss_six_cancers_and_raise_two_false_alarms(
    service: Service, patients: list[tuple[dict[str, float], str]]
) -> None:
    pairs = [(truth, service.post(features)[1]["diagnosis"]) for features, truth in patients]
    assert pairs.count(("malignant", "benign")) == 6
    assert pairs.count(("malignant", "malignant")) == 65
    assert pairs.count(("benign", "malignant")) == 2
    assert pairs.count(("benign", "benign")) == 117


def test_baselines_probability_is_that_of_the_formula_in_its_file(
    baseline: Service, patients: list[tuple[dict[str, float], str]]
) -> None:
    stats = pytest.importorskip("scipy.stats")
    model = json.loads((EXAMPLE / "baseline" / "parameters.json").read_text("utf-8"))
    for patient, _ in patients[:20]:
        x = [patient[name] for name in model["features"]]
        positive, negative = (
            sum(
                stats.norm.logpdf(value, mean, math.sqrt(variance))
                for value, mean, variance in zip(
                    x, model[f"{which}_means"], model[f"{which}_variances"], strict=True
                )
            )
            for which in ("positive", "negative")
        )
        z = math.log(model["prior"] / (1 - model["prior"])) + positive - negative
        status, answer = baseline.post(patient)
        assert status == 200
        assert answer["malignant_probability"] == pytest.approx(1 / (1 + math.exp(-z)), rel=1e-9)


def test_baseline_misses_seven_cancers_and_raises_ten_false_alarms(
    baseline: Service, patients: list[tuple[dict[str, float], str]]
) -> None:
    pairs = [(truth, baseline.post(features)[1]["diagnosis"]) for features, truth in patients]
    assert pairs.count(("malignant", "benign")) == 7
    assert pairs.count(("benign", "malignant")) == 10


@pytest.mark.parametrize("value", [1e200, -1e300, 1.7e308])
def test_feature_that_no_patient_can_have_is_named_and_not_answered_with_nan(
    baseline: Service, patient: dict[str, float], value: float
) -> None:
    patient["mean_smoothness"] = value
    assert baseline.post(patient) == (
        422,
        {"error": "so large that nothing follows from it", "field": "mean_smoothness"},
    )


def test_same_patient_gets_the_same_answer_over_one_connection(
    service: Service, patient: dict[str, float]
) -> None:
    first = service.post(patient)
    held = service.connection.sock
    assert service.post(dict(reversed(patient.items()))) == first
    assert service.connection.sock is held


@pytest.mark.parametrize("value", [None, "12.3", True, [1], float("nan"), float("inf"), 10**400])
def test_feature_that_is_no_finite_number_is_named(
    service: Service, patient: dict[str, Any], value: Any
) -> None:
    patient["worst_area"] = value
    assert service.post(patient) == (422, {"error": "not a finite number", "field": "worst_area"})


def test_missing_feature_is_named(service: Service, patient: dict[str, float]) -> None:
    del patient["mean_texture"]
    assert service.post(patient) == (422, {"error": "missing field", "field": "mean_texture"})


def test_field_that_the_model_does_not_know_is_named(service: Service, patient: dict[str, Any]) -> None:
    patient["diagnosis"] = "malignant"
    assert service.post(patient) == (422, {"error": "unknown field", "field": "diagnosis"})


@pytest.mark.parametrize(("body", "status"), [(b"{", 400), (b"", 400), (b"[]", 422), (b'"x"', 422)])
def test_body_that_is_no_object_is_refused(service: Service, body: bytes, status: int) -> None:
    assert service.post(body)[0] == status


def test_body_that_is_too_large_is_refused_unread(service: Service) -> None:
    assert service.post(b" " * 70_000)[0] == 413


def test_unknown_path_is_not_found(service: Service, patient: dict[str, float]) -> None:
    assert service.post(patient, "/elsewhere")[0] == 404


def test_nothing_is_logged(service: Service, patient: dict[str, Any]) -> None:
    service.post(patient)
    service.post({**patient, "mean_area": "secret"})
    assert service.log.read_bytes() == b""


def test_directory_without_a_model_ends_the_service_in_one_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLE / "service" / "serve.py"), "--model", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"serve.py: no model in {tmp_path}: ")
    assert done.stderr.count("\n") == 1
