"""An analysis whose run is killed, at whatever step of its way from a draft to a published version."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.analysis_support import Bench, is_gone, until

STEPS = frozenset(
    {"os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "shutil.rmtree", "os.symlink"}
)

CODE = """
import os, pyarrow as pa
print("pid", os.getpid(), os.getppid())
def judge(arguments, rows, answers):
    yield answers.to_table().drop(["responses"]).append_column("correct", [[RIGHT] * 8])
"""
CASE = """
import os
from dyff_dagster import AnalysisContext
print("pid", os.getpid(), os.getppid())
ctx = AnalysisContext()
ctx.score("auc", VALUE, 0.1, 0.9, 8)
ctx.conclusion("It is VALUE.", True)
"""


def run_and_die(root: Path, kind: str, step: int) -> None:
    """Run, and kill this process at the n-th step on the file system below the store; 0 if it comes to its end."""
    left = step

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        is_step = event in STEPS or (event == "open" and arguments[1] in ("wb", "xb"))
        if is_step and str(root) in str(arguments[0]) + str(arguments[1:2]):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    bench = Bench(root, fresh=False)
    entity = bench.measurement() if kind == "measurement" else bench.safety_case()
    sys.addaudithook(hook)
    with bench.store.lock(entity.id, wait=30):
        bench.store.clear_drafts(entity.id)
        bench.run(entity)


@pytest.mark.parametrize("kind", ["measurement", "safety case"])
def test_a_run_that_is_killed_at_any_step_publishes_all_or_nothing_and_the_next_one_comes_through(
    tmp_path: Path, kind: str
) -> None:
    bench = Bench(tmp_path)
    store = bench.store
    entity = bench.measurement() if kind == "measurement" else bench.safety_case()

    def write(value: int) -> None:
        bench.function(CODE.replace("RIGHT", str(bool(value % 2))))
        bench.notebook(CASE.replace("VALUE", str(value / 100)))

    def step_that_dies(step: int) -> int | None:
        process = multiprocessing.get_context("spawn").Process(
            target=run_and_die, args=(tmp_path, kind, step)
        )
        process.start()
        process.join(180)
        return process.exitcode

    write(0)
    before = bench.run(entity)
    step, died = 1, 0
    while True:
        value = step
        write(value)
        status = step_that_dies(step)
        current = store.current(entity.id)
        assert current is not None and store.intact(current)
        if kind == "safety case":
            # The version before, or the new one with all that belongs to it.
            (score,) = current.facts.scores
            assert score.value in (before.facts.scores[0].value, value / 100)
            page = (current.path / "index.html").read_text("utf-8")
            assert f"It is {score.value}." in page and page.rstrip().endswith("</html>")
        else:
            assert current.facts.rows == 8
        log = Path(store.working(entity.id) / "logs.txt")
        for pid in re.findall(
            r"\d+", " ".join(re.findall(r"pid (\d+ \d+)", log.read_text() if log.exists() else ""))
        ):
            until(lambda pid=pid: is_gone(int(pid)))  # type: ignore[misc]
        before = current
        if status == 0:
            break
        assert status == -signal.SIGKILL
        died += 1
        step += 9  # each takes a whole run
    assert died > 2
    # What was left lies in no one's way, and is cleared by the one that came through.
    assert bench.leftovers(entity.id) == []
    write(77)
    with store.lock(entity.id, wait=5):
        last = bench.run(entity)
    assert store.current(entity.id) == last and store.intact(last)
