"""The process in which a method's code runs: ``python -m dyff_dagster.analysis.worker JOB``.

What it is told lies in the job's file, what it tells lies in the files that
:class:`~dyff_dagster.analysis.jobs.Job` names. Its own output is the analysis's log.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from dyff_dagster.analysis.html import Content, Page
from dyff_dagster.analysis.jobs import NOTEBOOK, Job, Outcome
from dyff_dagster.analysis.making import Making
from dyff_dagster.schema.errors import DyffError

_PACKAGE = Path(__file__).resolve().parents[1]

_SHOWN = 300
"""Characters of an exception's message that the log shows."""

_PAUSE = 0.1
"""Seconds between two reports of how many rows there are."""


def main(arguments: list[str]) -> int:
    """Do the job whose file is the one argument; 0 where it succeeded, else 1."""
    _go_first()
    job = Job.read(Path(arguments[0]))
    try:
        outcome = _run_notebook(job) if job.notebook is not None else _run_function(job)
    except DyffError as error:
        traceback.print_exc()
        outcome = Outcome(error=str(error))
    except Exception as error:
        traceback.print_exc()
        outcome = Outcome(error=f"the analysis could not be run ({type(error).__name__})")
    outcome.write(job.outcome)
    return 0 if outcome.succeeded else 1


def _go_first() -> None:
    """Where the machine's memory runs out it is this process that goes, and not Dagster's (proc(5): oom_score_adj)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", "ascii")


def _run_function(job: Job) -> Outcome:
    from dyff_dagster.analysis.context import AnalysisContext
    from dyff_dagster.analysis.functions import place_of, raised_in, run_function, run_page_function
    from dyff_dagster.analysis.html import content_of_body
    from dyff_dagster.schema.arrow import decode_schema

    context = AnalysisContext()
    report = _reporter(job)
    rows = None
    try:
        if job.measurement:
            schema = None if job.arrow_schema is None else decode_schema(job.arrow_schema)
            rows = run_function(
                context,
                schema,
                lambda done: report("rows", done, None),
                job.views,
                job.scratch,
            )
        else:
            body = run_page_function(context)
    except DyffError as error:
        # Whoever raised it chose its message, and the method's code may raise our classes as well.
        if raised_in(error.__traceback__, _PACKAGE):
            raise
        return _raised(error, place_of(error.__traceback__, [job.root / module for module in job.modules]))
    except (Exception, SystemExit) as error:
        return _raised(error, place_of(error.__traceback__, [job.root / module for module in job.modules]))
    packages = _packages(job)
    if not job.measurement:
        _write_content(job, lambda page: content_of_body(body, page))
    return Outcome(rows=rows, packages=packages)


def _raised(error: BaseException, where: str) -> Outcome:
    traceback.print_exception(error)
    return Outcome(ename=type(error).__name__, where=where)


def _run_notebook(job: Job) -> Outcome:
    from dyff_dagster.analysis.html import content_of_notebook, prepare_pages
    from dyff_dagster.analysis.notebooks import CellFailed, execute_notebook, keep_notebook

    assert job.notebook is not None and job.notebook_module is not None  # noqa: S101
    replacements = {
        str(job.scratch / "work"): "MODULE",
        str(job.root): "STORAGE",
        str(job.scratch): "SCRATCH",
        # A symbolic link is often resolved on its way into an output.
        str(job.output.resolve()): f"STORAGE/{job.analysis_id}",
    }
    report = _reporter(job)
    module = job.root / job.notebook_module
    meanwhile = None if job.measurement else prepare_pages
    try:
        base = execute_notebook(
            module.resolve(), job.notebook, job.executed, job.scratch, report, meanwhile=meanwhile
        )
    except CellFailed as error:
        print(f"{job.notebook}, cell {error.cell}: {error.ename}: {error.evalue[:_SHOWN]}", file=sys.stderr)
        if job.executed.exists():
            keep_notebook(job.executed, job.executed, replacements)
        return Outcome(ename=error.ename, cell=error.cell, killed=error.killed)
    report("writing the page", None, None)
    notebook = keep_notebook(job.executed, job.output / NOTEBOOK, replacements)
    packages = _packages(job, [cell.source for cell in notebook.cells if cell.cell_type == "code"])
    if not job.measurement:
        _write_content(job, lambda page: content_of_notebook(notebook, page, base))
    return Outcome(packages=packages)


def _packages(job: Job, cells: Sequence[str] | None = None) -> dict[str, str]:
    making = job.page.making or Making()
    return dict(making.using([(job.root / module).resolve() for module in job.modules], cells).packages)


def _write_content(job: Job, make: Callable[[Page], Content]) -> None:
    """What the method shows on the page of a safety case; who started this process puts the frame around it.

    What formats scores is of the method's own making, so it is used here and nowhere else.
    """
    from dyff_dagster.analysis.records import settle_scores
    from dyff_dagster.analysis.score_table import scores_to_show
    from dyff_dagster.schema.scores import ScoreSpec

    declared = [ScoreSpec.model_validate(spec) for spec in job.scores]
    settle_scores(job.output, declared, job.analysis_id)
    scores, about = scores_to_show(job.output, declared)
    job.write_content(make(replace(job.page, scores=scores, about=about)))


def _reporter(job: Job) -> Callable[[str, int | None, int | None], None]:
    next_at = 0.0

    def report(message: str, done: int | None, total: int | None) -> None:
        nonlocal next_at
        now = time.monotonic()
        if total is None and done is not None and now < next_at:
            # Of a count without an end nobody needs every step.
            return
        next_at = now + _PAUSE
        # Progress is a courtesy: a full disk is found out by what matters.
        with contextlib.suppress(OSError), job.progress.open("a", encoding="utf-8") as file:
            file.write(json.dumps([message, done, total]) + "\n")

    return report


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
