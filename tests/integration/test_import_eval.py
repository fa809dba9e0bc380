"""Agents run elsewhere and judged here: logs of Inspect and samples of lm-eval become Evaluations."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dyff_dagster import Catalog
from dyff_dagster.evaluation import EvaluationIncomplete
from dyff_dagster.orchestration.planning import plan
from dyff_dagster.orchestration.steps import Step
from dyff_dagster.schema.annotations import annotation
from dyff_dagster.schema.ids import replication_id
from dyff_dagster.sources import import_eval
from dyff_dagster.sources.import_data import ImportRefused
from dyff_dagster.store import Commit, Store, local_path, no_progress
from tests import servers
from tests.integration import inspect_run

LOGS = Path(__file__).parent / "logs"
LM_EVAL = Path(__file__).parents[1] / "data" / "lm_eval"
"""What lm-eval itself wrote; its README.md says how."""

JUDGE = """
import pyarrow as pa

def judge(arguments, rows, answers):
    targets = {row["_index_"]: row["target"] for row in rows.to_table().to_pylist()}
    for row in answers.to_table().to_pylist():
        target = targets[row["_index_"]]
        wanted = target if isinstance(target, list) else [target]
        correct = any(word in row["responses"][0]["text"] for word in wanted)
        yield pa.RecordBatch.from_pylist(
            [{"_index_": row["_index_"], "_replication_": row["_replication_"], "correct": correct}],
            schema=pa.schema([
                pa.field("_index_", pa.int64(), nullable=False),
                pa.field("_replication_", pa.string(), nullable=False),
                pa.field("correct", pa.bool_(), nullable=False),
            ]),
        )
"""
METHOD = """
kind: Module
id: code
account: me
name: Code
annotations: {dyff-dagster/files: code}
artifacts: [{path: judging.py}]
---
kind: Method
id: judge
account: me
name: Judge
scope: Evaluation
implementation: {kind: PythonFunction, pythonFunction: {fullyQualifiedName: judging.judge}}
modules: [code]
inputs: [{keyword: rows, kind: Dataset}, {keyword: answers, kind: Evaluation}]
output:
  kind: Measurement
  measurement:
    name: Judged
    level: Instance
    schema: {arrow: {_index_: int64!, _replication_: string!, correct: bool!}}
---
kind: Measurement
id: judged
account: me
method: judge
scope: {evaluation: sums, dataset: sums-rows, inferenceService: mockllm-model}
inputs: [{keyword: rows, entity: sums-rows}, {keyword: answers, entity: sums}]
"""


@pytest.fixture(scope="module")
def inspect_logs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same task, run twice by Inspect with its mock model, in either format."""
    directory = tmp_path_factory.mktemp("inspect")
    found = {}
    for form in ("eval", "json"):
        line = [sys.executable, "-m", "tests.integration.inspect_run", str(directory), form]
        done = subprocess.run(line, cwd=servers.REPOSITORY, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr[-4000:]
        found[form] = Path(done.stdout.split()[-1])
    return found


def compute(catalog: Path, store: Store, *names: str) -> list[Commit]:
    loaded = Catalog.load(catalog)
    return [Step(loaded, store, loaded.get(name), no_progress).compute()[0] for name in names]


def answers_of(commit: Commit) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(local_path(commit.path) / "answers.parquet").to_pylist()
    return rows


@pytest.mark.parametrize("form", ["eval", "json"])
def test_agents_that_ran_in_inspect_are_judged_here(
    inspect_logs: dict[str, Path], tmp_path: Path, form: str
) -> None:
    catalog, store = tmp_path / "catalog", Store(tmp_path / "store")
    line = servers.command(
        "dyff-dagster", "import-eval", inspect_logs[form], "--id", "sums", "--account", "me",
        "--out", catalog, "--max-failed-rows", "1",
    )  # fmt: skip
    said = servers.run(line, tmp_path, servers.environment(tmp_path / "home")).stdout
    assert "5 answers: 3 rows, each asked 2 times\nmissing: 1 (error)\n" in said
    (catalog / "code").mkdir()
    (catalog / "code" / "judging.py").write_text(JUDGE)
    (catalog / "method.yaml").write_text(METHOD)
    _, answered, _, judged = compute(catalog, store, "sums-rows", "sums", "code", "judged")
    # The sample that raised an error is missing: it is neither an answer nor wrong.
    assert answered.facts.completeness is not None
    assert (answered.facts.completeness.expected, answered.facts.completeness.missing) == (6, 1)
    assert answered.facts.completeness.examples == ("row 1, replication 1",)
    assert answered.facts.notes["errors"] == {"error": 1}
    rows = {(row["_replication_"], row["_index_"]): row for row in answers_of(answered)}
    first, second = (replication_id("sums", number) for number in (0, 1))
    assert set(rows) == {(first, 0), (first, 1), (first, 2), (second, 0), (second, 2)}
    (response,) = rows[first, 1]["responses"]
    assert response["text"] == "ANSWER: 2"
    assert (response["input_tokens"], response["output_tokens"], response["stop_reason"]) == (3, 4, "stop")
    assert [message["role"] for message in json.loads(response["messages"])] == [
        "system",
        "user",
        "assistant",
    ]
    assert "match" in json.loads(response["scores"])
    asked = pq.read_table(tmp_path / "store" / "sums-rows" / "data.parquet").to_pylist()
    assert [row["sample_id"] for row in asked] == ["two", "four", "six"]
    assert asked[1]["input"] == "[system]\nBe short.\n\n[user]\n2+2?"
    assert asked[1]["target"] == ["4", "four"]
    correct = pq.read_table(local_path(judged.path)).to_pylist()
    assert sorted((row["_index_"], row["correct"]) for row in correct) == [
        (0, True), (0, True), (1, False), (2, False), (2, False),
    ]  # fmt: skip
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert inspect_run.SECRET.encode() not in everything


def test_a_missing_answer_fails_the_evaluation_unless_its_author_allows_it(
    inspect_logs: dict[str, Path], tmp_path: Path
) -> None:
    import_eval(inspect_logs["eval"], id="sums", account="me", out=tmp_path / "catalog")
    store = Store(tmp_path / "store")
    compute(tmp_path / "catalog", store, "sums-rows")
    with pytest.raises(EvaluationIncomplete, match="1 of 6 answers are not in the log that was imported"):
        compute(tmp_path / "catalog", store, "sums")
    assert store.current("sums") is None


def test_what_a_log_that_was_cut_short_does_not_hold_is_missing(tmp_path: Path) -> None:
    made = import_eval(LOGS / "cancelled.json", account="me", out=tmp_path / "catalog", max_failed_rows=2)
    assert (made.rows, made.answered, made.missing) == (3, 1, 2)
    assert made.errors == {"error": 1, "not-in-log": 1}
    store = Store(tmp_path / "store")
    _, commit = compute(tmp_path / "catalog", store, "cancelled-rows", "cancelled")
    assert [(row["_index_"], row["responses"][0]["text"]) for row in answers_of(commit)] == [(1, "Lima")]
    asked = pq.read_table(tmp_path / "store" / "cancelled-rows" / "data.parquet").to_pylist()
    assert [row["input"] for row in asked] == ["Capital of France?", "Capital of Peru?", None]


def test_an_imported_evaluation_is_never_asked_and_is_taken_over(
    inspect_logs: dict[str, Path], tmp_path: Path
) -> None:
    catalog = tmp_path / "catalog"
    import_eval(inspect_logs["eval"], id="sums", account="me", out=catalog, max_failed_rows=1)
    store = Store(tmp_path / "store")
    compute(catalog, store, "sums-rows")
    (planned,) = (one for one in plan(Catalog.load(catalog), store) if one.id == "sums")
    assert planned.requests == 0
    compute(catalog, store, "sums")
    loaded = Catalog.load(catalog)
    assert Step(loaded, store, loaded.get("sums"), no_progress).compute()[1]
    # Another log under the same id is another result.
    import_eval(inspect_logs["json"], id="sums", account="me", out=catalog, max_failed_rows=1, overwrite=True)
    loaded = Catalog.load(catalog)
    assert not Step(loaded, store, loaded.get("sums"), no_progress).compute()[1]


def test_two_logs_of_one_task_share_their_rows(inspect_logs: dict[str, Path], tmp_path: Path) -> None:
    first = import_eval(inspect_logs["eval"], id="a", dataset="sums", account="me", out=tmp_path)
    second = import_eval(inspect_logs["json"], id="b", dataset="sums", account="me", out=tmp_path)
    assert first.manifests[:2] == second.manifests[:2]
    assert set(Catalog.load(tmp_path).entities) == {"sums", "mockllm-model", "a", "b"}
    with pytest.raises(ImportRefused, match=r"the rows in .* are not those that this log asks"):
        import_eval(LOGS / "cancelled.json", id="c", dataset="sums", account="me", out=tmp_path)
    assert set(Catalog.load(tmp_path).entities) == {"sums", "mockllm-model", "a", "b"}


def sample(doc_id: int, resps: list[Any], **more: Any) -> dict[str, Any]:
    """A line as lm-eval 0.4 writes it."""
    return {
        "doc_id": doc_id,
        "doc": {"question": f"{doc_id}?", "answer": "4"},
        "target": "4",
        "arguments": {"gen_args_0": {"arg_0": f"Q: {doc_id}?", "arg_1": {"until": ["\n"]}}},
        "resps": resps,
        "filtered_resps": [resps[0][0]],
        "filter": "strict",
        "metrics": ["exact_match"],
        "doc_hash": "d", "prompt_hash": "p", "target_hash": "t",
        "exact_match": 1.0,
        **more,
    }  # fmt: skip


def written(path: Path, *samples: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in samples))
    return path


def test_samples_of_lm_eval_become_answers_their_repeats_replications(tmp_path: Path) -> None:
    path = written(
        tmp_path / "samples_sums.jsonl",
        sample(1, [["four", "4"]]),
        sample(0, [["4", "five"]]),
        sample(0, [["4", "five"]], filter="loose", filtered_resps=["4!"], exact_match=0.0),
        sample(1, [["four", "4"]], filter="loose"),
    )
    made = import_eval(path, id="sums", account="me", out=tmp_path / "catalog")
    assert (made.rows, made.replications, made.missing) == (2, 2, 0)
    (commit,) = compute(tmp_path / "catalog", Store(tmp_path / "store"), "sums-rows", "sums")[1:]
    texts = {(r["_replication_"], r["_index_"]): r["responses"][0]["text"] for r in answers_of(commit)}
    first, second = (replication_id("sums", number) for number in (0, 1))
    assert texts == {(first, 0): "4", (first, 1): "four", (second, 0): "five", (second, 1): "4"}
    response = next(r["responses"][0] for r in answers_of(commit) if r["_index_"] == 0)
    assert json.loads(response["filtered"]) == {"strict": "4", "loose": "4!"}
    assert json.loads(response["metrics"])["loose"] == {"exact_match": 0.0}


def test_the_choices_of_lm_eval_are_responses_with_their_likelihoods(tmp_path: Path) -> None:
    arguments = {f"gen_args_{i}": {"arg_0": "2+2?", "arg_1": f" {i}"} for i in (3, 4)}
    path = written(
        tmp_path / "samples.jsonl",
        sample(7, [[["-3.5", "False"]], [["-0.1", "True"]]], arguments=arguments, filtered_resps=["x", "y"]),
    )
    import_eval(path, id="sums", account="me", out=tmp_path / "catalog")
    (commit,) = compute(tmp_path / "catalog", Store(tmp_path / "store"), "sums-rows", "sums")[1:]
    (row,) = answers_of(commit)
    assert [(r["text"], r["loglikelihood"], r["greedy"]) for r in row["responses"]] == [
        (None, -3.5, False), (None, -0.1, True),
    ]  # fmt: skip
    asked = pq.read_table(tmp_path / "store" / "sums-rows" / "data.parquet").to_pylist()
    assert asked[0]["choices"] == [" 3", " 4"]


def genuine(name: str) -> Path:
    (path,) = LM_EVAL.glob(f"{name}_*")
    return path


def test_what_lm_eval_wrote_of_a_task_that_repeats_is_answers(tmp_path: Path) -> None:
    made = import_eval(genuine("samples_sums_generate"), id="sums", account="me", out=tmp_path / "catalog")
    assert (made.rows, made.replications, made.answered, made.missing) == (3, 2, 6, 0)
    # The results beside it say who answered.
    assert made.manifests[1] == tmp_path / "catalog" / "acme-small-model" / "service.yaml"
    (commit,) = compute(tmp_path / "catalog", Store(tmp_path / "store"), "sums-rows", "sums")[1:]
    found = answers_of(commit)
    assert [row["responses"][0]["text"] for row in found] == ["lol"] * 6
    assert json.loads(found[0]["responses"][0]["filtered"]) == {"first": "lol", "number": "[invalid]"}
    asked = pq.read_table(tmp_path / "store" / "sums-rows" / "data.parquet").to_pylist()
    assert asked[2]["input"] == "Q: Was ist 3 + 3, schön gesagt?\nA:"
    assert [row["target"] for row in asked] == ["2", "4", "6"]


def test_what_lm_eval_wrote_of_likelihoods_is_numbers(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in genuine("samples_sums_choose").read_text().splitlines()]
    import_eval(genuine("samples_sums_choose"), id="choose", account="me", out=tmp_path / "catalog")
    import_eval(genuine("samples_sums_text"), id="text", account="me", out=tmp_path / "catalog")
    store = Store(tmp_path / "store")
    _, chosen, _, text = compute(tmp_path / "catalog", store, "choose-rows", "choose", "text-rows", "text")
    for line, row in zip(lines, answers_of(chosen), strict=True):
        likelihoods = [float(each[0][0]) for each in line["resps"]]
        assert [response["loglikelihood"] for response in row["responses"]] == likelihoods
        assert [response["greedy"] for response in row["responses"]] == [False] * 3
    assert all(row["responses"][0]["loglikelihood"] < 0 for row in answers_of(text))
    asked = pq.read_table(tmp_path / "store" / "choose-rows" / "data.parquet").to_pylist()
    assert [row["choices"] for row in asked] == [[" 1", " 2", " 3"], [" 3", " 4", " 5"], [" 6", " 7", " 8"]]
    loaded = Catalog.load(tmp_path / "catalog")
    assert [annotation(loaded.get(f"{name}-rows"), "withhold") for name in ("choose", "text")] == [
        "target, doc", "target, doc, choices",
    ]  # fmt: skip


def test_samples_that_were_cut_off_are_not_taken_for_the_whole(tmp_path: Path) -> None:
    path, results = genuine("samples_sums_choose"), genuine("results")
    (tmp_path / path.name).write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    (tmp_path / results.name).write_bytes(results.read_bytes())
    with pytest.raises(ImportRefused, match="has 2 documents, and the results beside it say that 3 were"):
        import_eval(tmp_path / path.name, account="me", out=tmp_path / "catalog")
    (tmp_path / results.name).write_text("{secret")
    with pytest.raises(ImportRefused, match=r"results_.* is no JSON, as lm-eval's results are") as told:
        import_eval(tmp_path / path.name, account="me", out=tmp_path / "catalog")
    assert "secret" not in str(told.value)
    (tmp_path / results.name).unlink()
    assert import_eval(tmp_path / path.name, account="me", out=tmp_path / "catalog").rows == 2


def test_the_results_of_lm_eval_are_no_samples(tmp_path: Path) -> None:
    with pytest.raises(ImportRefused, match=r"hold no answers: import the samples_\*\.jsonl beside it"):
        import_eval(genuine("results"), account="me", out=tmp_path / "catalog")


def test_a_repeat_that_is_not_there_is_missing(tmp_path: Path) -> None:
    path = written(tmp_path / "s.jsonl", sample(0, [["a", "b"]]), sample(1, [["a"]]))
    made = import_eval(path, account="me", out=tmp_path / "catalog")
    assert made.errors == {"no-response": 1}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.eval", "no zip", "cannot be read as a log of Inspect"),
        ("a.json", '{"secret": 1}', "cannot be read as a log of Inspect"),
        ("a.jsonl", '{"doc_id": 1}\n', "line 1 has no resps"),
        ("a.jsonl", "\n\nsecret\n", "line 3 is no JSON"),
        ("a.jsonl", "", "has no samples"),
        ("a.csv", "a,b\n", "logs of Inspect end in .eval or .json, samples of lm-eval in .jsonl"),
        ("a.jsonl", json.dumps(sample(0, [["x"]])) * 2 + "\n", "line 1 is no JSON"),
        (
            "a.jsonl",
            (json.dumps(sample(0, [["x"]])) + "\n") * 2,
            "line 2 has the doc_id and filter of an earlier",
        ),
    ],
)
def test_a_file_that_is_no_log_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ImportRefused, match=message) as told:
        import_eval(tmp_path / name, account="me", out=tmp_path / "catalog")
    assert "secret" not in str(told.value)
    assert list((tmp_path / "catalog").rglob("*")) == []


def test_an_import_that_is_there_is_not_replaced_unasked(tmp_path: Path) -> None:
    path = written(tmp_path / "s.jsonl", sample(0, [["a"]]))
    made = import_eval(path, account="me", out=tmp_path / "catalog")
    before = made.manifests[2].read_bytes()
    with pytest.raises(ImportRefused, match="is there already; import under another id, or say --overwrite"):
        import_eval(path, account="you", out=tmp_path / "catalog")
    assert made.manifests[2].read_bytes() == before


def test_an_imported_file_may_not_lie_outside_the_manifests_directory(tmp_path: Path) -> None:
    path = written(tmp_path / "s.jsonl", sample(0, [["a"]]))
    made = import_eval(path, account="me", out=tmp_path / "catalog")
    manifest = made.manifests[2]
    manifest.write_text(manifest.read_text().replace("imported: answers", "imported: ../../answers"))
    with pytest.raises(Exception, match=r"imported: the path .* has '..' in it"):
        Catalog.load(tmp_path / "catalog")


def test_answers_that_were_changed_by_hand_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "s.jsonl", sample(0, [["a"]]), sample(1, [["b"]]))
    import_eval(path, id="s", account="me", out=tmp_path / "catalog")
    store = Store(tmp_path / "store")
    compute(tmp_path / "catalog", store, "s-rows")
    answers = tmp_path / "catalog" / "s" / "answers.parquet"
    whole = pq.read_table(answers)
    for changed, message in [
        (whole.take([1, 0]), "not in the order of _index_"),
        (whole.take([0, 0, 1]), "have more than one imported answer"),
        (whole.take([0]), "1 of 2 answers are not in the log"),
        (whole.drop_columns("_class_"), "the field _class_ of .* is not there"),
        (
            whole.set_column(0, whole.schema.field(0), pa.array([0, 3], pa.int32())),
            "of no replication that is asked for",
        ),
    ]:
        pq.write_table(changed, answers)
        with pytest.raises(Exception, match=message):
            compute(tmp_path / "catalog", store, "s")
