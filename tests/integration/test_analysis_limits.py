"""Analyses that take too much time or memory, or that are broken off: their whole family of processes goes."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
from pathlib import Path

import pytest

from dyff_dagster.analysis import (
    AnalysisError,
    AnalysisTimeout,
    FunctionFailed,
    Limits,
    NotebookFailed,
    OutOfMemory,
)
from dyff_dagster.processes.process_table import LINUX
from tests.integration.analysis_support import Bench, is_gone, until

linux = pytest.mark.skipif(not LINUX, reason="memory is watched on Linux")

MIB = 1 << 20
STATED = Limits(seconds=120, memory=600 * MIB, more_memory="raise dyff-dagster/max-memory of method")

GOOD = """
def judge(arguments, rows, answers):
    yield answers.to_table().drop(["responses"]).append_column("correct", [[True] * 8])
"""
NOTEBOOK = "from dyff_dagster import AnalysisContext\nAnalysisContext().score('count', 8)"


NOTE = """
import os, pathlib
def note(**pids):
    with open(pathlib.Path(os.environ["XDG_CACHE_HOME"], "notes"), "a") as file:
        print(*(f"{name}={pid}" for name, pid in pids.items()), file=file)
"""


@pytest.fixture(autouse=True)
def notebook_of_pids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A place that a method may write and that stays when it is killed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def notes(bench: Bench) -> dict[str, int]:
    """What a method noted as ``NAME=PID``."""
    file = bench.root / "cache" / "notes"
    found = re.findall(r"(\w+)=(\d+)", file.read_text()) if file.exists() else []
    return {name: int(pid) for name, pid in found}


@linux
def test_a_function_that_holds_too_much_is_killed_and_told_what_to_raise(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.function(GOOD)
    before = bench.run(bench.measurement(), limits=STATED)
    bench.function(
        "def judge(a, rows, answers):\n"
        "    kept = []\n"
        "    while True:\n"
        "        kept.append(bytearray(b'x') * (1 << 20))\n"
    )
    with pytest.raises(OutOfMemory) as raised:
        bench.run(bench.measurement(), limits=STATED)
    assert raised.value.held > raised.value.limit == 600 * MIB
    assert re.fullmatch(
        r"measured: killed when it held [0-9.]+[MG]i of memory, and it may hold 600Mi: "
        r"raise dyff-dagster/max-memory of method, or let it hold less at once; the log is .*logs\.txt",
        str(raised.value),
    )
    assert bench.store.current("measured") == before
    assert bench.leftovers("measured") == []


@linux
def test_the_processes_that_a_method_starts_count_with_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.function(
        NOTE + "import subprocess, sys, time\n"
        "def judge(a, rows, answers):\n"
        "    for number in range(4):\n"
        "        code = 'import time; x = bytearray(b\"x\") * (200 << 20); time.sleep(600)'\n"
        "        note(**{f'child{number}': subprocess.Popen([sys.executable, '-c', code]).pid})\n"
        "    time.sleep(600)\n"
    )
    with pytest.raises(OutOfMemory):
        bench.run(bench.measurement(), limits=STATED)
    children = notes(bench)
    assert len(children) == 4 and all(is_gone(pid) for pid in children.values())


@linux
def test_a_notebook_that_holds_too_much_is_killed_with_its_kernel(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.notebook(NOTEBOOK)
    before = bench.run(bench.safety_case(), limits=STATED)
    bench.notebook(
        NOTE + "note(kernel=os.getpid())",
        "kept = []\nwhile True:\n    kept.append(bytearray(b'x') * (1 << 20))",
    )
    with pytest.raises(OutOfMemory, match="case: killed when it held"):
        bench.run(bench.safety_case(), limits=STATED)
    assert bench.store.current("case") == before
    assert is_gone(notes(bench)["kernel"])
    assert bench.leftovers("case") == []


@linux
def test_one_huge_array_is_refused_at_its_line(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.function("import numpy\ndef judge(a, rows, answers):\n    numpy.ones(1 << 40)\n    yield\n")
    with pytest.raises(FunctionFailed) as raised:
        bench.run(bench.measurement(), limits=STATED)
    assert (
        "MemoryError at scoring_under_test.py:3 (it may hold 600Mi of memory: raise dyff-dagster/max-memory of "
        "method, or let it hold less at once); the traceback is in"
    ) in str(raised.value)
    assert bench.store.current("measured") is None


@linux
def test_one_huge_array_is_refused_in_its_cell(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.notebook("import numpy", "numpy.ones(1 << 40)")
    with pytest.raises(NotebookFailed, match=r"\(cell 2\): it raised \w*MemoryError \(it may hold 600Mi of"):
        bench.run(bench.safety_case(), limits=STATED)
    assert bench.store.current("case") is None


def test_memory_that_the_machine_has_not_is_said_without_a_limit_too(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.function("def judge(a, rows, answers):\n    raise MemoryError\n    yield\n")
    with pytest.raises(FunctionFailed, match=r"MemoryError at .*:2 \(the machine has no more memory: let it"):
        bench.run(bench.measurement())


def test_a_kernel_that_the_system_kills_is_told_from_one_that_dies(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.notebook("x = 1", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(
        NotebookFailed,
        match=r"\(cell 2\): its kernel died \(killed by SIGKILL, as the operating system does where memory runs out",
    ):
        bench.run(bench.safety_case())
    bench.notebook("import os; os._exit(3)")
    with pytest.raises(NotebookFailed, match=r"\(cell 1\): its kernel died; see"):
        bench.run(bench.safety_case())


def test_a_function_that_the_system_kills_is_told_so(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.function(
        "import os, signal\ndef judge(a, rows, answers):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    with pytest.raises(
        AnalysisError,
        match=r"^measured: its process was killed by SIGKILL, as the operating system does where",
    ):
        bench.run(bench.measurement())


@linux
def test_whoever_keeps_within_the_limits_is_left_alone(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.function(GOOD)
    assert bench.run(bench.measurement(), limits=STATED).facts.rows == 8
    bench.notebook(
        "import matplotlib.pyplot as plt\nimport scipy.stats\nfrom dyff_dagster import AnalysisContext\n"
        "ctx = AnalysisContext()\nfig, ax = plt.subplots()\nax.plot([1, 2])\nctx.figure(fig)\nctx.score('a', 1)"
    )
    assert bench.run(bench.safety_case(), limits=STATED).facts.scores[0].value == 1


@linux
def test_where_memory_runs_out_the_analysis_goes_before_dagster_does(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.notebook(
        "import pathlib\nprint('score', pathlib.Path('/proc/self/oom_score_adj').read_text())\n" + NOTEBOOK
    )
    commit = bench.run(bench.safety_case())
    assert "score 1000" in (commit.path / "notebook.ipynb").read_text()
    assert Path("/proc/self/oom_score_adj").read_text().strip() != "1000"


def test_time_that_is_over_ends_the_kernel_and_names_the_annotation(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.notebook(
        NOTE + "import subprocess, time\n"
        "child = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
        "note(kernel=os.getpid(), child=child.pid)\n"
        "time.sleep(600)"
    )
    limits = Limits(seconds=15, more_seconds="raise dyff-dagster/max-seconds of case")
    with pytest.raises(
        AnalysisTimeout,
        match=r"^case: ended after 15 seconds, the time it was given: raise dyff-dagster/max-seconds of case, or see",
    ):
        bench.run(bench.safety_case(), limits=limits)
    started = notes(bench)
    assert set(started) == {"kernel", "child"} and all(is_gone(pid) for pid in started.values())
    assert bench.store.current("case") is None
    assert bench.leftovers("case") == []


HANGING = f"""{NOTE}
import subprocess, time
def judge(arguments, rows, answers):
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    note(worker=os.getpid(), guard=os.getppid(), child=child.pid)
    time.sleep(600)
"""


def run_in_a_process(directory: Path) -> None:
    bench = Bench(directory, fresh=False)
    bench.run(bench.measurement())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_whoever_is_killed_takes_its_analysis_along(tmp_path: Path, number: signal.Signals) -> None:
    bench = Bench(tmp_path)
    bench.function(GOOD)
    before = bench.run(bench.measurement())
    bench.function(HANGING)
    step = multiprocessing.get_context("spawn").Process(target=run_in_a_process, args=(tmp_path,))
    step.start()
    try:
        started = until(lambda: notes(bench))
        assert step.pid is not None
        os.kill(step.pid, number)
        step.join(30)
        for pid in started.values():
            until(lambda pid=pid: is_gone(pid))
    finally:
        step.kill()
        step.join()
    assert set(started) == {"worker", "guard", "child"}
    assert bench.store.current("measured") == before
    # What a killed process left is cleared by the next one.
    bench.function(GOOD)
    bench.store.clear_drafts("measured")
    assert bench.run(bench.measurement()).data_version == before.data_version
    assert bench.leftovers("measured") == []
