"""The example's scores and its page, computed on what its model says of the held-out patients."""

from __future__ import annotations

import csv
import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from dyff_dagster.analysis.comparison import compare, compare_rows

EXAMPLES = Path(__file__).parents[2] / "examples"
EXAMPLE = EXAMPLES / "breast_cancer"
NOTEBOOK = EXAMPLES.parent / "notebooks" / "wdbc_safety_case.ipynb"


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def scoring() -> ModuleType:
    return load(EXAMPLE / "analysis" / "wdbc_scoring.py")


@pytest.fixture(scope="module")
def patients() -> list[dict[str, Any]]:
    with (EXAMPLE / "data" / "held-out.csv").open(encoding="utf-8", newline="") as file:
        return [
            {"_index_": index, **row, "patient": int(row["patient"])}
            for index, row in enumerate(csv.DictReader(file))
        ]


@pytest.fixture(scope="module")
def answers(patients: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return answers_by("model", patients)


def answers_by(model: str, patients: list[dict[str, Any]]) -> list[dict[str, Any]]:
    classifier = load(EXAMPLE / "service" / "serve.py").Classifier(EXAMPLE / model)
    return [
        {
            "_replication_": replication,
            "_index_": row["_index_"],
            "responses": [
                {
                    "_response_index_": 0,
                    **classifier.predict({name: float(row[name]) for name in classifier.features}),
                }
            ],
        }
        for replication in ("0" * 32, "f" * 32)
        for row in patients
    ]


def dataset(rows: list[dict[str, Any]]) -> pyarrow.dataset.Dataset:
    return pyarrow.dataset.dataset(pa.Table.from_pylist(rows))


Judge = Callable[[list[dict[str, Any]]], pa.Table]


@pytest.fixture(scope="module")
def judge(scoring: ModuleType, patients: list[dict[str, Any]]) -> Judge:
    def judged(answers: list[dict[str, Any]]) -> pa.Table:
        batches = scoring.judge_instances({}, dataset=dataset(patients), evaluation=dataset(answers))
        return pa.Table.from_batches(batches)

    return judged


@pytest.fixture(scope="module")
def summarize(scoring: ModuleType) -> Callable[[pa.Table], dict[str, dict[str, Any]]]:
    def summarized(instances: pa.Table) -> dict[str, dict[str, Any]]:
        table = pa.Table.from_batches(
            scoring.summarize_accuracy({}, instances=pyarrow.dataset.dataset(instances))
        )
        return {row["score"]: row for row in table.to_pylist()}

    return summarized


Summarize = Callable[[pa.Table], dict[str, dict[str, Any]]]


def with_response(answers: list[dict[str, Any]], position: int, responses: list[Any]) -> list[dict[str, Any]]:
    return [{**row, "responses": responses} if at == position else row for at, row in enumerate(answers)]


# Judging each answer


def test_each_answer_is_judged_once_against_its_own_patient(
    judge: Judge, answers: list[dict[str, Any]], patients: list[dict[str, Any]]
) -> None:
    judged = judge(answers).to_pylist()
    assert [(row["_replication_"], row["_index_"]) for row in judged] == [
        (row["_replication_"], row["_index_"]) for row in answers
    ]
    truth = {row["_index_"]: row["diagnosis"] for row in patients}
    assert all(row["label"] == truth[row["_index_"]] for row in judged)
    assert all(row["correct"] == (row["label"] == row["predicted"]) for row in judged)


@pytest.mark.parametrize("how_many", [0, 2])
def test_answer_without_exactly_one_response_is_an_error(
    judge: Judge, answers: list[dict[str, Any]], how_many: int
) -> None:
    responses = answers[3]["responses"] * how_many
    with pytest.raises(ValueError, match=r"^row 3 has not exactly one response"):
        judge(with_response(answers, 3, responses))


def test_answer_that_is_no_diagnosis_is_an_error_that_does_not_show_it(
    judge: Judge, answers: list[dict[str, Any]]
) -> None:
    wrong = [{**answers[7]["responses"][0], "diagnosis": "Mrs Smith"}]
    with pytest.raises(ValueError, match=r"^row 7 was answered neither malignant nor benign") as caught:
        judge(with_response(answers, 7, wrong))
    assert "Smith" not in str(caught.value)


def test_answer_to_nobody_in_the_data_set_is_an_error(judge: Judge, answers: list[dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match=r"^row 999 is not in the data set"):
        judge([*answers, {**answers[0], "_index_": 999}])


# Scores


def test_scores_count_patients_and_not_answers(
    judge: Judge, summarize: Summarize, answers: list[dict[str, Any]]
) -> None:
    twice, once = summarize(judge(answers)), summarize(judge(answers[:190]))
    assert twice == once
    assert {name: row["n"] for name, row in twice.items()} == {
        "sensitivity": 71,
        "specificity": 119,
        "auc": 190,
        "brier": 190,
        "accuracy": 190,
    }


def test_scores_are_those_of_scikit_learn(
    judge: Judge, summarize: Summarize, answers: list[dict[str, Any]]
) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    judged = judge(answers[:190]).to_pylist()
    truth = [row["label"] == "malignant" for row in judged]
    said = [row["predicted"] == "malignant" for row in judged]
    probability = [row["malignant_probability"] for row in judged]
    found = {name: row["value"] for name, row in summarize(judge(answers)).items()}
    assert found == pytest.approx(
        {
            "sensitivity": metrics.recall_score(truth, said),
            "specificity": metrics.recall_score(truth, said, pos_label=False),
            "auc": metrics.roc_auc_score(truth, probability),
            "brier": metrics.brier_score_loss(truth, probability),
            "accuracy": metrics.accuracy_score(truth, said),
        }
    )


def test_table_in_the_readme_is_what_comes_out(
    judge: Judge, summarize: Summarize, answers: list[dict[str, Any]]
) -> None:
    readme = (EXAMPLE / "README.md").read_text("utf-8")
    table = re.findall(
        r"^\| ([a-zA-Z ]+) \| ([0-9.]+)[^|]* \| ([0-9.]+) to ([0-9.]+) \| (\d+) \|", readme, re.M
    )
    shown = {name.lower().removesuffix(" score"): tuple(numbers) for name, *numbers in table}
    assert shown == {
        name: (f"{row['value']:.3f}", f"{row['low']:.3f}", f"{row['high']:.3f}", str(row["n"]))
        for name, row in summarize(judge(answers)).items()
    }


def test_comparison_in_the_readme_is_what_comes_out(
    judge: Judge, answers: list[dict[str, Any]], patients: list[dict[str, Any]]
) -> None:
    first, second = (pyarrow.dataset.dataset(judge(a)) for a in (answers_by("baseline", patients), answers))
    (batch,) = compare({"field": "correct", "same": "label"}, first=first, second=second)
    found = {row["score"]: row for row in batch.to_pylist()}
    readme = " ".join((EXAMPLE / "README.md").read_text("utf-8").split())
    effect, p, one, other = (found[name] for name in ("effect", "p_value", "first", "second"))
    for said in (
        f"{found['gained']['value']:.0f} are right with the logistic regression alone, "
        f"{found['lost']['value']:.0f} with naive Bayes alone",
        f"an effect of {effect['value']:+.3f} in accuracy, with a 95 % interval of {effect['low']:+.3f} to "
        f"{effect['high']:+.3f}",
        f"p = {p['value']:.3f}",
        f"{one['low']:.3f} to {one['high']:.3f} and {other['low']:.3f} to {other['high']:.3f}",
    ):
        assert said in readme
    flips = [
        row
        for batch in compare_rows({"field": "correct"}, first=first, second=second)
        for row in batch.to_pylist()
    ]
    assert [row["_index_"] for row in flips if row["flip"] == "lost"] == [72, 78, 176]
    assert sum(row["flip"] == "gained" for row in flips) == 12
    assert len(flips) == 190


def test_patient_who_is_missed_in_one_of_two_replications_counts_as_half(
    judge: Judge, summarize: Summarize, answers: list[dict[str, Any]], patients: list[dict[str, Any]]
) -> None:
    base = summarize(judge(answers))["sensitivity"]["value"]
    at = next(
        row["_index_"]
        for row in patients
        if row["diagnosis"] == "malignant"
        and answers[row["_index_"]]["responses"][0]["diagnosis"] == "malignant"
    )
    missed = [{**answers[at]["responses"][0], "diagnosis": "benign"}]
    score = summarize(judge(with_response(answers, at, missed)))["sensitivity"]
    assert score["value"] == pytest.approx(base - 0.5 / 71)
    assert score["n"] == 71


def test_score_of_no_cancers_is_an_error_and_no_number(
    judge: Judge, summarize: Summarize, answers: list[dict[str, Any]]
) -> None:
    judged = judge(answers)
    with pytest.raises(ValueError, match="both malignant and benign"):
        summarize(judged.filter(pa.compute.equal(judged["label"], "benign")))


# The page


def run_notebook(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    instances: pa.Table,
    scores: dict[str, dict[str, Any]],
    patients: list[dict[str, Any]],
    answers: list[dict[str, Any]],
    **arguments: str,
) -> dict[str, Any]:
    """Run the code cells with a real context over ``root``; returns what was recorded, and what was shown."""
    from dyff_dagster.analysis.display import collected
    from dyff_dagster.catalog import Catalog
    from dyff_dagster.schema.platform import SafetyCase

    spec = Catalog.load(EXAMPLE).get_as("wdbc-safety-case", SafetyCase).model_dump(mode="json")
    for argument in spec["arguments"]:
        argument["value"] = arguments.get(argument["keyword"], argument["value"])
    tables = {
        "wdbc-instances": instances,
        "wdbc-accuracy": pa.Table.from_pylist(list(scores.values())),
        "wdbc-held-out": pa.Table.from_pylist(patients),
        "wdbc-logreg-eval": pa.Table.from_pylist(answers),
    }
    for entity, table in tables.items():
        (root / entity).mkdir()
        pq.write_table(table, root / entity / "data.parquet")
    (root / spec["id"]).mkdir()
    config = root / "config.yaml"
    config.write_text(json.dumps({"spec": spec}), encoding="utf-8")
    monkeypatch.setenv("DYFF_AUDIT_LOCAL_STORAGE_ROOT", str(root))
    monkeypatch.setenv("DYFF_AUDIT_ANALYSIS_CONFIG_FILE", str(config))
    monkeypatch.setenv("MPLBACKEND", "Agg")
    cells = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    space: dict[str, Any] = {}
    import matplotlib

    with matplotlib.rc_context(), collected() as shown:
        for cell in cells:
            exec(compile(cell.source, cell["id"], "exec"), space)
    recorded = root / spec["id"] / ".dyff"
    return {
        "scores": json.loads((recorded / "scores.json").read_text("utf-8"))["scores"],
        "intervals": json.loads((recorded / "intervals.json").read_text("utf-8")),
        "conclusion": json.loads((recorded / "conclusion.json").read_text("utf-8")),
        "shown": "".join(shown),
        "figure": (recorded / "figure.png").read_bytes(),
        "missed": [(int(space["rows"][i]), space["number"][int(space["rows"][i])]) for i in space["missed"]],
        "roc_area": float(space["np"].trapezoid(space["tpr"], space["fpr"])),
    }


@pytest.fixture(scope="module")
def page(
    judge: Judge,
    summarize: Summarize,
    answers: list[dict[str, Any]],
    patients: list[dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    instances = judge(answers)
    with pytest.MonkeyPatch.context() as monkeypatch:
        return run_notebook(
            tmp_path_factory.mktemp("page"), monkeypatch, instances, summarize(instances), patients, answers
        )


def test_page_reports_the_scores_again_with_sensitivity_first(
    page: dict[str, Any], judge: Judge, summarize: Summarize, answers: list[dict[str, Any]]
) -> None:
    scores = summarize(judge(answers))
    assert {score["name"]: score["quantity"] for score in page["scores"]} == {
        name: row["value"] for name, row in scores.items()
    }
    assert page["intervals"]["auc"]["low"] == scores["auc"]["low"]
    assert [score["name"] for score in page["scores"] if score["priority"] == "primary"] == ["sensitivity"]


def test_page_holds_and_says_that_only_the_point_estimate_meets_the_first_threshold(
    page: dict[str, Any],
) -> None:
    assert page["conclusion"]["holds"] is True
    assert "65 of 71 cancers" in page["conclusion"]["text"]
    assert "met by the point estimate only" in page["conclusion"]["text"]


def test_page_names_the_missed_patients_with_the_most_confident_miss_first(page: dict[str, Any]) -> None:
    assert page["missed"] == [(15, 40), (78, 213), (51, 135), (98, 263), (6, 13), (72, 197)]


def test_page_leads_from_each_score_to_the_wrong_answers_and_to_what_was_asked(
    page: dict[str, Any], answers: list[dict[str, Any]]
) -> None:
    shown = page["shown"]
    assert "rests on 71 rows with label malignant. In 6 of them correct is not always true." in shown
    assert "rests on 119 rows with label benign. In 2 of them correct is not always true." in shown
    traced = re.findall(r'<th scope="row"><span class="dyff-label">Row</span> (\d+)</th>', shown)
    assert sorted(map(int, traced)) == sorted([15, 78, 51, 98, 6, 72, 28, 176])
    (said,) = answers[15]["responses"]
    assert f"<i>malignant_probability</i> {said['malignant_probability']:.6g}" in shown
    assert "<i>patient</i> 40; <i>mean_radius</i> 13.44; <i>mean_texture</i> 21.58" in shown


def test_every_figure_says_in_words_what_is_seen_on_it(page: dict[str, Any]) -> None:
    figures = re.findall(r'<img alt="([^"]*)".*?<figcaption>(.*?)</figcaption>', page["shown"])
    assert len(figures) == 5
    assert all(len(alt) > 60 and alt != caption for alt, caption in figures)


def test_area_under_the_drawn_curve_is_the_auc(page: dict[str, Any]) -> None:
    auc = next(score["quantity"] for score in page["scores"] if score["name"] == "auc")
    assert page["roc_area"] == pytest.approx(auc)


def test_page_keeps_a_headline_figure(page: dict[str, Any]) -> None:
    assert page["figure"].startswith(b"\x89PNG")


def test_page_of_an_unstable_service_that_fails_is_published_all_the_same(
    judge: Judge,
    summarize: Summarize,
    answers: list[dict[str, Any]],
    patients: list[dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flipped = {"malignant": "benign", "benign": "malignant"}
    unstable = [
        {**row, "responses": [{**response, "diagnosis": flipped[response["diagnosis"]]}]}
        if row["_replication_"] == "f" * 32 and row["_index_"] % 4 == 0
        else row
        for row in answers
        for response in row["responses"]
    ]
    instances = judge(unstable)
    found = run_notebook(
        tmp_path, monkeypatch, instances, summarize(instances), patients, unstable, min_auc="0.999"
    )
    assert found["conclusion"]["holds"] is False
    assert found["conclusion"]["text"].startswith("Neither threshold that was fixed beforehand is met")


def test_notebook_has_no_outputs_and_plain_cell_ids() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert [cell["id"] for cell in notebook.cells] == [
        f"cell-{at:02d}" for at in range(1, len(notebook.cells) + 1)
    ]
    for cell in notebook.cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None


# The other example


def test_own_endpoint_counts_four_of_six_with_a_wide_interval() -> None:
    questions = [
        {"_index_": at, **json.loads(line)}
        for at, line in enumerate(
            (EXAMPLES / "own_endpoint" / "questions.jsonl").read_text("utf-8").splitlines()
        )
    ]
    known = load(EXAMPLES / "own_endpoint" / "stand_in.py").KNOWN
    answers = [
        {
            "_replication_": "0" * 32,
            "_index_": row["_index_"],
            "responses": [
                {
                    "_response_index_": 0,
                    "answer": known.get(row["question"].rstrip("?").split()[-1], "I do not know."),
                }
            ],
        }
        for row in questions
    ]
    function = load(EXAMPLES / "own_endpoint" / "exact_match.py").exact_match
    (batch,) = function({}, dataset=dataset(questions), evaluation=dataset(answers))
    (row,) = batch.to_pylist()
    readme = " ".join((EXAMPLES / "own_endpoint" / "README.md").read_text("utf-8").split())
    assert (
        f"`exact_match` {row['value']:.3f} with a 95 % interval from {row['low']:.3f} to {row['high']:.3f}"
        in readme
    )
    assert (row["score"], row["n"]) == ("exact_match", 6)
