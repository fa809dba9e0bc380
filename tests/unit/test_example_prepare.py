"""prepare.py makes what is committed beside it."""

from __future__ import annotations

import csv
import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("sklearn")

EXAMPLE = Path(__file__).parents[2] / "examples" / "breast_cancer"


@pytest.fixture(scope="module")
def prepare() -> ModuleType:
    spec = importlib.util.spec_from_file_location("example_prepare", EXAMPLE / "prepare.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def made(prepare: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("prepared")
    prepare.prepare(directory)
    return directory


def read_rows(directory: Path) -> list[dict[str, str]]:
    with (directory / "data" / "held-out.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def read_model(directory: Path, file: str = "model/coefficients.json") -> dict[str, Any]:
    model: dict[str, Any] = json.loads((directory / file).read_text("utf-8"))
    return model


BASELINE = "baseline/parameters.json"


def test_committed_patients_are_those_that_the_script_makes(made: Path) -> None:
    committed, again = read_rows(EXAMPLE), read_rows(made)
    assert list(committed[0]) == list(again[0])
    assert len(committed) == len(again)
    for old, new in zip(committed, again, strict=True):
        assert (old["patient"], old["diagnosis"]) == (new["patient"], new["diagnosis"])
        features = [name for name in old if name not in ("patient", "diagnosis")]
        assert [float(old[name]) for name in features] == pytest.approx(
            [float(new[name]) for name in features]
        )


def test_committed_model_is_the_one_that_the_script_fits(made: Path) -> None:
    committed, again = read_model(EXAMPLE), read_model(made)
    assert list(committed) == list(again)
    for name in ("means", "scales", "coefficients", "intercept"):
        assert committed.pop(name) == pytest.approx(again.pop(name), rel=1e-6, abs=1e-6)
    assert committed == again


def test_committed_baseline_is_the_one_that_the_script_fits(made: Path) -> None:
    committed, again = read_model(EXAMPLE, BASELINE), read_model(made, BASELINE)
    assert list(committed) == list(again)
    for name in ("prior", "positive_means", "positive_variances", "negative_means", "negative_variances"):
        assert committed.pop(name) == pytest.approx(again.pop(name), rel=1e-6)
    assert committed == again


def test_baseline_is_the_mean_and_variance_of_each_feature_in_each_class(prepare: ModuleType) -> None:
    names, values, malignant = prepare.load_patients()
    train, _ = prepare.split(malignant, prepare.SEED)
    model = read_model(EXAMPLE, BASELINE)
    assert model["features"] == names
    assert model["prior"] == pytest.approx(malignant[train].mean())
    for which, members in (("positive", malignant[train]), ("negative", ~malignant[train])):
        rows = values[train][members]
        assert model[f"{which}_means"] == pytest.approx(list(rows.mean(axis=0)))
        assert model[f"{which}_variances"] == pytest.approx(list(rows.var(axis=0)))


def test_held_out_patients_are_a_third_of_each_diagnosis_and_none_was_trained_on(prepare: ModuleType) -> None:
    _, _, malignant = prepare.load_patients()
    train, held_out = prepare.split(malignant, prepare.SEED)
    assert sorted([*train, *held_out]) == list(range(569))
    assert malignant[held_out].sum() == 71
    assert len(held_out) == 190
    assert [int(row["patient"]) for row in read_rows(EXAMPLE)] == list(held_out)
    assert (
        read_model(EXAMPLE)["training_rows"] == read_model(EXAMPLE, BASELINE)["training_rows"] == len(train)
    )


def test_malignant_is_what_the_published_data_call_malignant(prepare: ModuleType) -> None:
    assert int(prepare.load_patients()[2].sum()) == 212  # of 569, as UCI has it


def test_another_operating_point_changes_the_threshold_and_nothing_else(
    prepare: ModuleType, made: Path, tmp_path: Path
) -> None:
    prepare.prepare(tmp_path, threshold=0.2)
    assert read_model(tmp_path) == {**read_model(made), "threshold": 0.2}
    assert read_model(tmp_path, BASELINE) == {**read_model(made, BASELINE), "threshold": 0.2}
