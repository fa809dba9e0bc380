"""Measurements from real Python functions, run in a process of their own."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from dyff_dagster.analysis import AnalysisError, AnalysisTimeout, FunctionFailed, IncompleteRows, Limits
from dyff_dagster.store import StoreError
from tests.integration.analysis_support import SCORES, Bench

JUDGE = """
import pyarrow as pa
def judge(arguments, rows, answers):
    assert arguments == {"threshold": "0.9"}
    for row in answers.to_table().to_pylist():
        KEEP
        yield pa.RecordBatch.from_pylist([{
            "_index_": row["_index_"], "_replication_": row["_replication_"], "correct": CORRECT,
        }])
"""


def judge(keep: str = "pass", correct: str = "True") -> str:
    return JUDGE.replace("KEEP", keep).replace("CORRECT", correct)


def test_an_instance_level_measurement_is_counted_and_committed(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.function(judge())
    commit = bench.run(bench.measurement(), run_id="run-1")
    assert commit.facts.rows == 8
    assert [column.name for column in commit.facts.columns] == ["_index_", "_replication_", "correct"]
    assert commit.facts.completeness is not None and commit.facts.completeness.complete
    assert commit.facts.completeness.expected == 8
    assert commit.facts.scores == ()
    assert commit.run_id == "run-1"
    (parquet,) = [name for name in commit.files if name.endswith(".parquet")]
    assert pq.read_table(Path(commit.path / parquet)).num_rows == 8


def test_the_data_version_is_that_of_the_rows(tmp_path: Path) -> None:
    versions = []
    for name, correct in (("first", "True"), ("second", "True"), ("other", "row['_index_'] > 0")):
        bench = Bench(tmp_path / name)
        bench.function(judge(correct=correct))
        versions.append(bench.run(bench.measurement()).data_version)
    assert versions[0] == versions[1] != versions[2]


def test_a_wrong_row_is_named_and_its_content_is_not(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(tmp_path)
    bench.function(judge(correct="None if row['_index_'] == 2 else True"))
    with pytest.raises(
        AnalysisError, match=r"measured: field 'correct' is null .* first in the row with _index_ 2"
    ):
        bench.run(bench.measurement())
    assert bench.store.current("measured") is None


def test_a_wrong_type_is_refused_without_its_content(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.function(judge(correct="'the patient is 41'"))
    with pytest.raises(AnalysisError) as caught:
        bench.run(bench.measurement())
    assert "field 'correct'" in str(caught.value)
    assert "41" not in str(caught.value).replace(str(tmp_path), "")


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.function(
        "import pyarrow as pa\ndef judge(a, rows, answers):\n    yield rows.to_table().to_batches()[0]\n"
    )
    with pytest.raises(AnalysisError, match=r"field 'label' is not in the schema"):
        bench.run(bench.measurement())


def test_a_missing_row_is_named(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.function(judge(keep="if row['_index_'] == 3: continue"))
    with pytest.raises(
        IncompleteRows, match=r"2 missing \(row 3, replication [01], row 3, replication [01]\)"
    ) as caught:
        bench.run(bench.measurement())
    assert caught.value.completeness.missing == 2
    assert bench.store.current("measured") is None


def test_a_row_that_the_input_does_not_have_is_named(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.function(judge(keep="row['_index_'] += 10 * (row['_index_'] == 1)"))
    with pytest.raises(IncompleteRows, match=r"2 missing, 2 that the input does not have"):
        bench.run(bench.measurement())


def test_a_doubled_row_is_named(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.function(judge(keep="row['_index_'] = min(row['_index_'], 2)"))
    with pytest.raises(IncompleteRows) as caught:
        bench.run(bench.measurement())
    count = caught.value.completeness
    assert (count.missing, count.duplicated, count.unexpected) == (2, 2, 0)


def test_rows_of_a_dataset_level_measurement_become_scores(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.function(
        "import pyarrow as pa\n"
        "def judge(arguments, rows, answers):\n"
        "    yield pa.RecordBatch.from_pylist([\n"
        "        {'score': 'auc', 'value': 0.9, 'low': 0.8, 'high': 0.95, 'n': 4},\n"
        "        {'score': 'undefined', 'value': None, 'low': None, 'high': None, 'n': 0},\n"
        "    ], schema=pa.schema([('score', pa.string()), ('value', pa.float64()), ('low', pa.float64()),\n"
        "                         ('high', pa.float64()), ('n', pa.int32())]))\n"
    )
    commit = bench.run(bench.measurement(schema=SCORES, level="Dataset"))
    auc, undefined = commit.facts.scores
    assert str(auc) == "auc 0.900 [0.800, 0.950] n=4"
    assert undefined.value != undefined.value and undefined.n == 0
    assert not undefined.value >= 0
    scores = json.loads((commit.path / ".dyff/scores.json").read_text())["scores"]
    assert [(score["quantity"], score["priority"]) for score in scores] == [
        (0.9, "primary"),
        (None, "secondary"),
    ]
    assert commit.facts.completeness is None


def test_an_exception_is_named_with_its_place_and_without_its_message(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(tmp_path)
    bench.function(
        "def judge(arguments, rows, answers):\n    raise ValueError('the patient is 41')\n    yield\n"
    )
    with pytest.raises(FunctionFailed) as caught:
        bench.run(bench.measurement())
    log = Path(bench.store.working("measured") / "logs.txt")
    assert "raised ValueError at scoring_under_test.py:2" in str(caught.value)
    assert str(log) in str(caught.value)
    assert "41" not in str(caught.value).replace(str(tmp_path), "")
    assert "the patient is 41" in log.read_text()
    assert "the patient is 41" in capfd.readouterr().err


def test_a_process_that_dies_is_told_by_its_exit_status(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.function("import os\ndef judge(arguments, rows, answers):\n    os._exit(7)\n")
    with pytest.raises(
        AnalysisError, match=r"measured: its process ended with exit status 7 before it was done"
    ):
        bench.run(bench.measurement())


def test_a_function_that_is_not_there_is_named(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.function("def other(arguments): pass\n")
    with pytest.raises(AnalysisError, match=r"'scoring_under_test' has no 'judge'"):
        bench.run(bench.measurement())


def test_a_secret_of_the_parent_is_not_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_TOKEN", "hunter2")
    bench = Bench(tmp_path)
    bench.function(
        "import os\n"
        "def judge(a, rows, answers):\n"
        "    raise KeyError if 'MY_API_TOKEN' in os.environ else OSError\n"
    )
    with pytest.raises(FunctionFailed, match="raised OSError"):
        bench.run(bench.measurement())


def test_everything_that_a_function_started_is_gone_after_a_timeout(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.function(
        "import subprocess, time\n"
        "def judge(a, rows, answers):\n"
        "    print('child', subprocess.Popen(['sleep', '600']).pid)\n"
        "    time.sleep(600)\n"
    )
    with pytest.raises(AnalysisTimeout):
        bench.run(bench.measurement(), limits=Limits(seconds=4))
    with pytest.raises(ProcessLookupError):
        os.kill(int(Path(bench.store.working("measured") / "logs.txt").read_text().split()[-1]), 0)


def test_a_rubric_is_applied(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.function(
        "class Rubric:\n"
        "    def apply(self, task_data, predictions):\n"
        "        yield predictions.to_table().drop(['responses']).append_column('correct', [[True] * 8])\n"
    )
    entity = bench.measurement(
        by={"kind": "PythonRubric", "pythonRubric": {"fullyQualifiedName": "scoring_under_test.Rubric"}}
    )
    for items in (entity.inputs, entity.method.inputs):
        items[0].keyword, items[1].keyword = "task_data", "predictions"
    assert bench.run(entity).facts.rows == 8


def test_a_symbolic_link_in_the_output_is_refused(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    outside = tmp_path / "outside.txt"
    outside.write_text("somebody else's")
    outside.chmod(0o640)
    bench.function(
        judge(
            "import os; os.path.lexists('root/measured/link') or "
            f"os.symlink({str(outside)!r}, 'root/measured/link')"
        )
    )
    with pytest.raises(StoreError, match="measured: link is a symbolic link; write the file itself"):
        bench.run(bench.measurement())
    assert outside.stat().st_mode & 0o777 == 0o640
    assert bench.store.current("measured") is None


def test_scores_are_not_written_through_a_link(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    outside = tmp_path / "outside.json"
    bench.function(
        "import os, pyarrow as pa\n"
        "def judge(arguments, rows, answers):\n"
        f"    os.symlink({str(outside)!r}, 'root/measured/.dyff/scores.json')\n"
        "    yield pa.RecordBatch.from_pylist(\n"
        "        [{'score': 'auc', 'value': 0.9, 'low': 0.8, 'high': 0.95, 'n': 4}])\n"
    )
    with pytest.raises(StoreError, match=r"\.dyff/scores\.json is a symbolic link"):
        bench.run(bench.measurement(schema=SCORES, level="Dataset"))
    assert not outside.exists()


@pytest.fixture
def old_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose kernel cannot keep a method from writing elsewhere: what it changed is found out."""
    monkeypatch.setattr("dyff_dagster.analysis.child.can_confine", lambda: False)


TOUCHING = """
import os, pathlib
import pyarrow as pa
def judge(arguments, rows, answers):
    CHANGE
    for row in answers.to_table().to_pylist():
        yield pa.RecordBatch.from_pylist([{
            "_index_": row["_index_"], "_replication_": row["_replication_"], "correct": True,
        }])
"""


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("f = pathlib.Path('root/rows/data.parquet'); b = f.read_bytes(); f.write_bytes(b)", "input rows"),
        (
            "f = pathlib.Path('root/answers/answers.parquet'); b = f.read_bytes(); f.unlink(); f.write_bytes(b)",
            "input answers",
        ),
        ("os.unlink('root/rows/data.parquet')", "input rows"),
        ("pathlib.Path('root/rows/more.txt').write_text('x')", "input rows"),
        ("pathlib.Path('root/module/scoring_under_test.py').write_text('x')", "module module"),
    ],
)
def test_a_method_that_changes_what_it_reads_is_refused(
    old_kernel: None, tmp_path: Path, change: str, named: str
) -> None:
    bench = Bench(tmp_path)
    bench.function(TOUCHING.replace("CHANGE", change))
    with pytest.raises(
        AnalysisError,
        match=f"^measured: its method changed files of its {named}; they must only be read: materialize",
    ):
        bench.run(bench.measurement())
    assert bench.store.current("measured") is None


def test_times_of_files_that_a_method_changes_are_found_out(tmp_path: Path) -> None:
    """No kernel keeps it from that."""
    bench = Bench(tmp_path)
    bench.function(TOUCHING.replace("CHANGE", "os.utime('root/rows/data.parquet'); raise KeyError"))
    with pytest.raises(AnalysisError, match="changed files of its input rows"):
        bench.run(bench.measurement())


def test_a_method_that_changes_its_input_and_then_hangs_is_told_of_the_input(
    old_kernel: None, tmp_path: Path
) -> None:
    bench = Bench(tmp_path)
    change = "os.unlink('root/rows/data.parquet'); __import__('time').sleep(600)"
    bench.function(TOUCHING.replace("CHANGE", change))
    with pytest.raises(AnalysisError, match="changed files of its input rows"):
        bench.run(bench.measurement(), limits=Limits(seconds=20))


def test_compiled_files_beside_a_module_are_no_change_of_it(old_kernel: None, tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.function(
        TOUCHING.replace(
            "CHANGE", "import py_compile; py_compile.compile('root/module/scoring_under_test.py')"
        )
    )
    assert bench.run(bench.measurement()).facts.rows == 8


@pytest.mark.parametrize("name", ["DyffError", "AnalysisError"])
def test_an_exception_of_ours_that_the_method_raises_is_the_methods(tmp_path: Path, name: str) -> None:
    bench = Bench(tmp_path)
    bench.function(
        "from dyff_dagster.analysis.errors import AnalysisError\n"
        "from dyff_dagster.schema.errors import DyffError\n"
        "def judge(arguments, rows, answers):\n"
        f"    raise {name}('the patient is 41')\n"
        "    yield\n"
    )
    with pytest.raises(FunctionFailed) as caught:
        bench.run(bench.measurement())
    assert f"raised {name} at scoring_under_test.py:4" in str(caught.value)
    assert "patient" not in str(caught.value)


def test_what_the_package_complains_of_is_said_though_the_method_called_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.function(
        "from dyff_dagster import AnalysisContext\n"
        "def judge(arguments, rows, answers):\n"
        "    AnalysisContext().args('treshold')\n"
        "    yield\n"
    )
    with pytest.raises(AnalysisError, match="no argument 'treshold'; it has: threshold"):
        bench.run(bench.measurement())


@pytest.mark.parametrize(
    "line", ["5", "null", "[1]", "[1, 2, 3, 4]", '["x", "y", "z"]', "[" * 100_000, '{"a": 1}', "{", '"abc"']
)
def test_a_line_of_progress_that_is_none_is_passed_over(tmp_path: Path, line: str) -> None:
    bench = Bench(tmp_path)
    bench.function(judge(keep=f"open('progress.jsonl', 'a').write({line!r} + chr(10))"))
    assert bench.run(bench.measurement()).facts.rows == 8
    assert {message for message, _, _ in bench.seen} == {"rows"}


def test_surplus_and_missing_arguments_are_named(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.function(judge())
    entity = bench.measurement(arguments=[{"keyword": "treshold", "value": "1"}])
    with pytest.raises(
        AnalysisError, match=r"which takes threshold: it misses threshold; it has unasked treshold"
    ):
        bench.run(entity)


def test_an_input_without_a_committed_version_is_named(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.function(judge())
    del bench.inputs["rows"]
    with pytest.raises(AnalysisError, match=r"input rows is rows, which has no committed version"):
        bench.run(bench.measurement())


def test_isolation_in_a_pod_needs_kubernetes(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    entity = bench.measurement(annotations=[{"key": "dyff-dagster/isolation", "value": "pod"}])
    with pytest.raises(AnalysisError, match="needs Kubernetes"):
        bench.run(entity)


def test_a_notebook_outside_of_its_module_is_refused(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    entity = bench.safety_case()
    assert entity.method.implementation.jupyterNotebook is not None
    entity.method.implementation.jupyterNotebook.notebookPath = "../case.ipynb"
    with pytest.raises(AnalysisError, match=r"notebookPath: the path '\.\./case\.ipynb' has '\.\.' in it"):
        bench.run(entity)
