"""Numbers that can be made again: recorded with what they were made of, and made of nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from dyff_dagster.analysis.errors import AnalysisError
from dyff_dagster.analysis.recipes import (
    Derivation,
    Rows,
    TracedEstimate,
    as_text,
    estimate,
    find_estimator,
    read_derivations,
    replay,
)
from dyff_dagster.analysis.rows import record_scores
from dyff_dagster.analysis.statistics import mean, rate
from dyff_dagster.schema.platform import AnalysisScope

TABLE = pa.table(
    {
        "_index_": [0, 0, 1, 1, 2, 2],
        "_replication_": ["b", "a", "b", "a", "b", "a"],
        "right": [True, False, True, True, True, True],
        "group": ["x", "x", "y", "y", "x", "x"],
        "answer": [{"seconds": float(i)} for i in range(6)],
        "maybe": [1.0, None, 2.0, 3.0, 4.0, 5.0],
    }
)
RIGHT = {"outcomes": "right", "clusters": "_index_"}


def made(name: str = "rate", columns: Any = RIGHT, **options: Any) -> TracedEstimate:
    return estimate(name, TABLE, columns, input="judged", **options)


def test_it_is_what_the_estimator_makes_of_these_columns() -> None:
    direct = rate([True, False, True, True, True, True], clusters=[0, 0, 1, 1, 2, 2])
    traced = made()
    assert (traced.value, traced.low, traced.high, traced.n) == pytest.approx(
        (direct.value, direct.low, direct.high, direct.n)
    )
    assert made("mean", {"values": "answer.seconds"}).value == 2.5
    assert made("rate", {"outcomes": {"column": "group", "equals": "x"}}).value == pytest.approx(2 / 3)
    assert made(where={"group": "y"}).value == 1.0
    assert made("mean", {"values": "answer.seconds"}, level=0.5).level == 0.5


@pytest.mark.parametrize(
    "traced",
    [
        made(),
        made(where={"group": "x", "right": True}),
        made("mean", {"values": "answer.seconds"}, level=0.5),
        made("dyff_dagster.analysis.statistics.mean", {"values": "_index_"}, where={"_index_": 1}),
    ],
)
def test_it_is_made_again_of_what_is_recorded_however_rows_lie(
    traced: TracedEstimate, tmp_path: Path
) -> None:
    assert traced.derivation is not None
    derivation = Derivation.from_json(json.loads(as_text(traced.derivation)))
    assert derivation == traced.derivation
    pq.write_table(TABLE.take([5, 3, 0, 1, 4, 2]), tmp_path / "a.parquet")
    for rows in (TABLE, ds.dataset(tmp_path)):
        assert replay(derivation, rows) == replay(traced.derivation, TABLE)


def test_settings_that_were_not_given_are_recorded_with_the_values_in_force() -> None:
    derivation = made("mean", {"values": "_index_"}).derivation
    assert derivation is not None
    assert derivation.name == "dyff_dagster.analysis.statistics.mean"
    assert derivation.parameters["level"] == 0.95


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "builtins.eval",
        "dyff_dagster.analysis.statistics.os",
        "dyff_dagster.analysis.statistics.Estimate",
        "dyff_dagster.analysis.recipes.find_estimator",
        "dyff_dagster.analysis.recipes.importlib",
        "dyff_dagster.analysis.statistics.__builtins__",
        "dyff_dagster.analysis.statistics.estimate.estimator",
        "dyff_dagster.analysis.run",
        "nothing",
        "",
        "rate",
    ],
)
def test_nothing_but_estimators_of_this_package_is_called(name: str) -> None:
    with pytest.raises(AnalysisError, match="is no estimator of this release"):
        find_estimator(name)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": "nonsense"}, "'nonsense' is no estimator"),
        ({"columns": {"outcomes": "wrong"}}, "has no field 'wrong'"),
        ({"columns": {"outcomes": "answer.wrong"}}, "no field 'answer.wrong'"),
        ({"columns": {"things": "right"}}, "has no argument 'things'"),
        ({"columns": {}}, "are given as"),
        ({"columns": {"outcomes": 1}}, "are given as"),
        ({"columns": {"outcomes": {"column": "right"}}}, "are given as"),
        ({"where": {"group": None}}, "are given as"),
        ({"where": {"group": 1}}, "is of another type"),
        ({"where": {"nothing": 1}}, "has no field 'nothing'"),
        ({"sides": 2}, "has no argument 'sides'"),
        ({"outcomes": "right"}, "given both as a column and as a setting"),
        ({"level": [0.95]}, "is no number, word"),
        ({"columns": {"outcomes": "group"}}, "rate"),
        ({"name": "mean", "columns": {"values": "maybe"}}, "is null in 1 rows"),
        ({"level": "high"}, "cannot be made of these columns and settings"),
    ],
)
def test_what_cannot_be_made_says_why(options: dict[str, Any], said: str) -> None:
    with pytest.raises(AnalysisError, match=said):
        made(**options)


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"name": 1, "parameters": {}, "rows": None},
        {"name": "x", "parameters": {"a": []}, "rows": None},
        {"name": "x", "parameters": {}, "rows": {"input": "a"}},
        {"name": "x", "parameters": {}, "rows": {"input": 1, "columns": {"a": "b"}, "where": {}}},
        {"name": "x", "parameters": {}, "rows": None, "more": 1},
    ],
)
def test_a_record_of_another_form_is_refused(data: Any) -> None:
    with pytest.raises(AnalysisError):
        Derivation.from_json(data)


def scores(tmp_path: Path, *rows: dict[str, Any]) -> Path:
    """The records of a data-set-level measurement of these rows."""
    numbers = [(name, pa.float64()) for name in ("value", "low", "high")]
    schema = pa.schema([("score", pa.string()), *numbers, ("n", pa.int64()), ("recipe", pa.string())])
    pq.write_table(pa.Table.from_pylist(list(rows), schema), tmp_path / "a.parquet")
    scope = AnalysisScope()
    record_scores(tmp_path, schema, analysis_id="scores", method="m", scope=scope)
    return tmp_path


def test_a_measurement_records_how_its_scores_were_made(tmp_path: Path) -> None:
    traced = made()
    other = {"score": "other", "value": 1.0, "recipe": None}
    assert read_derivations(scores(tmp_path, traced.row("right"), other)) == {"right": traced.derivation}


@pytest.mark.parametrize("text", ["", "nonsense", "{}", "[" * 100_000, '{"name": "x"}'])
def test_a_recipe_that_is_none_fails_the_measurement(tmp_path: Path, text: str) -> None:
    with pytest.raises(AnalysisError, match="the recipe of score 'right' is none"):
        scores(tmp_path, {"score": "right", "value": 1.0, "recipe": text})


def test_an_estimate_of_arrays_knows_its_estimator_and_not_its_rows(tmp_path: Path) -> None:
    from dyff_dagster.analysis.recipes import derivation_of

    derivation = derivation_of(mean([1.0, 2.0], level=0.9))
    assert derivation is not None
    assert (derivation.name.rpartition(".")[2], derivation.parameters["level"]) == ("mean", 0.9)
    assert derivation.rows is None
    with pytest.raises(AnalysisError, match="not said of which rows"):
        replay(derivation, TABLE)


def test_fields_are_those_that_are_read() -> None:
    rows = Rows("judged", {"a": "x", "b": {"column": "y.z", "equals": 1}}, {"w": "v"})
    assert rows.fields == {"x", "y.z", "w"}
