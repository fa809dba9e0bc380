"""One analysis, from its method and inputs to a committed Measurement, SafetyCase or Report."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from dyff_dagster.analysis.attribution import check_scores_are_of
from dyff_dagster.analysis.child import hint_of, work
from dyff_dagster.analysis.completeness import check_completeness
from dyff_dagster.analysis.configuration import Heading, write_configuration
from dyff_dagster.analysis.errors import AnalysisError, FunctionFailed, IncompleteRows, NotebookFailed
from dyff_dagster.analysis.html import Origin, Page, frame
from dyff_dagster.analysis.jobs import NOTEBOOK, PAGE, Job, Outcome, read_back
from dyff_dagster.analysis.limits import Limits
from dyff_dagster.analysis.making import MADE, Making, version_of_directory
from dyff_dagster.analysis.preconditions import check_analysis
from dyff_dagster.analysis.provenance import origins_of
from dyff_dagster.analysis.records import (
    FIGURE,
    describe_scores,
    read_conclusion,
    read_scores,
    settle_scores,
    write_output,
)
from dyff_dagster.analysis.reports import commit_report
from dyff_dagster.analysis.rows import record_scores
from dyff_dagster.analysis.rubrics import ReportViews, as_measurement
from dyff_dagster.analysis.subjects import NOBODY, Subjects
from dyff_dagster.analysis.untouched import Untouched
from dyff_dagster.processes import tail
from dyff_dagster.schema.content import digest_dataset
from dyff_dagster.schema.parquet import DatasetPathError, open_dataset
from dyff_dagster.schema.platform import (
    DocumentationBase,
    Measurement,
    MeasurementLevel,
    MethodImplementationKind,
    Report,
    SafetyCase,
)
from dyff_dagster.schema.scores import declared_scores
from dyff_dagster.store import (
    Commit,
    Draft,
    Facts,
    Inputs,
    Progress,
    Store,
    columns_of,
    local_path,
    no_progress,
)
from dyff_dagster.store.digests import digest_file, refuse_all_but_files

LOG = "logs.txt"
FAILED_NOTEBOOK = "failed/notebook.ipynb"
NO_LIMITS = Limits()

Worker = Callable[[Job, Path, Limits, Progress], Outcome]
"""Does a job and says how it ended: :func:`work`, or a :class:`~dyff_dagster.analysis.pod.PodWorker`."""


def run(
    entity: Measurement | SafetyCase | Report,
    store: Store,
    *,
    inputs: Inputs,
    input_paths: Mapping[str, Path],
    modules: Mapping[str, Path],
    limits: Limits = NO_LIMITS,
    worker: Worker = work,
    progress: Progress = no_progress,
    run_id: str = "",
    git: str = "",
    documentation: DocumentationBase | None = None,
    subjects: Subjects = NOBODY,
) -> Commit:
    """Run an analysis in a process of its own and commit what it makes.

    The caller holds the store's lock on the entity. Nothing is committed unless all of it is there: the
    declared schema, and at instance level every row of the input once.

    Args:
        entity: The analysis; a Report is the analysis that its rubric makes of the evaluation.
        store: Where it is committed. The log is kept at ``ROOT/ID/.dyff/logs.txt``, a notebook that failed
            at ``ROOT/ID/.dyff/failed/notebook.ipynb``.
        inputs: What the result depends on, for the commit. Its extras ``scope:ID`` are the versions of what
            the scope names and the method does not read; a SafetyCase's page shows them.
        input_paths: By entity id, the local directory of each input's committed version.
        modules: By module id, the local directory of each of the method's modules.
        limits: How long it may take and how much memory it may hold.
        worker: What does the work: a process of this machine, or a pod that shares the store's volume.
        progress: Told of cells and rows as they come.
        run_id: The Dagster run, for the commit.
        git: Commit of the repository that the manifests are in, for the commit and the page.
        documentation: What its author says of it: where the page has no other title, it has this one.
        subjects: What dyff-audit's context is told of the system and the method.

    Raises:
        NotebookFailed: A cell raised an exception, or the kernel died.
        FunctionFailed: The function raised an exception.
        AnalysisTimeout: It took too long.
        OutOfMemory: It held too much memory.
        InputsChanged: The method wrote to an input or to a module.
        IncompleteRows: Rows are missing, doubled or of no row of the input.
        AnalysisError: Arguments or inputs are missing or surplus, or what was made is not what was declared.
        StoreError: The method left a symbolic link in its output.
    """
    report = entity if isinstance(entity, Report) else None
    if isinstance(entity, Report):
        entity = as_measurement(entity)
    check_analysis(entity, input_paths, modules, here=worker is work)
    shared = None if worker is work else store.scratch(entity.id)
    with (
        store.draft(entity.id) as draft,
        tempfile.TemporaryDirectory(
            prefix="dyff-analysis-", dir=shared, ignore_cleanup_errors=True
        ) as scratch,
        # Where the store is elsewhere, the log is on its way to it. It is no file of the method's.
        tempfile.TemporaryDirectory(prefix="dyff-log-", ignore_cleanup_errors=True) as logs,
    ):
        making = Making.now(run_id, git)
        heading = Heading.of(entity, documentation)
        job = _prepare(entity, draft, Path(scratch), inputs, input_paths, modules, making, heading, subjects)
        if report is not None:
            job = replace(job, arrow_schema=None, views=ReportViews.of(report))
        job.write()
        log = local_path(store.working(entity.id) / LOG) if store.local else Path(logs) / LOG
        log.parent.mkdir(parents=True, exist_ok=True)
        log.unlink(missing_ok=True)
        # What is there after this run is of this run.
        store.remove_working(entity.id, FAILED_NOTEBOOK)
        untouched = Untouched(
            {item.entity: input_paths[item.entity] for item in entity.inputs}.items(), modules.items()
        )
        try:
            try:
                outcome = worker(job, log, limits, progress)
            except AnalysisError:
                # However it ended: what others read must not stay changed in silence.
                untouched.check(entity.id)
                raise
            untouched.check(entity.id)
        except BaseException:
            _show_tail(log)
            raise
        finally:
            if not store.local and log.exists():
                store.put_working(entity.id, LOG, log.read_bytes())
        where = str(store.working(entity.id) / LOG)
        if not outcome.succeeded:
            _show_tail(log)
            raise _failure(entity, job, outcome, store, where, hint_of(outcome, limits))
        if isinstance(entity, SafetyCase):
            _make_room(entity.id, draft.path / PAGE)
        refuse_all_but_files(entity.id, draft.path)
        making = replace(making, packages=outcome.packages)
        try:
            check_scores_are_of(draft.path, entity.id, entity.method.id)
            if report is not None:
                return commit_report(report, draft, inputs, input_paths, making)
            if isinstance(entity, Measurement):
                return _commit_measurement(entity, draft, inputs, input_paths, making)
            return _commit_safety_case(entity, draft, inputs, making, job)
        except AnalysisError as error:
            if str(error).startswith(entity.id):
                raise
            raise AnalysisError(f"{entity.id}: {error}") from error


def _prepare(
    entity: Measurement | SafetyCase,
    draft: Draft,
    scratch: Path,
    inputs: Inputs,
    input_paths: Mapping[str, Path],
    modules: Mapping[str, Path],
    making: Making,
    heading: Heading,
    subjects: Subjects,
) -> Job:
    implementation = entity.method.implementation
    notebook = implementation.jupyterNotebook
    is_notebook = implementation.kind == MethodImplementationKind.JupyterNotebook and notebook is not None
    job = Job(
        analysis_id=entity.id,
        scratch=scratch.resolve(),
        notebook=notebook.notebookPath if is_notebook and notebook else None,
        notebook_module=notebook.notebookModule if is_notebook and notebook else None,
        modules=tuple(modules),
        measurement=isinstance(entity, Measurement),
        arrow_schema=entity.schema_.arrowSchema if isinstance(entity, Measurement) else None,
        page=_page(entity, inputs, modules, making, heading),
        scores=tuple(spec.model_dump(mode="json") for spec in declared_scores(entity.method)),
    )
    job.root.mkdir()
    (draft.path / ".dyff").mkdir()
    job.output.symlink_to(Path(draft.path).resolve(), target_is_directory=True)
    for name, path in {
        **modules,
        **{item.entity: input_paths[item.entity] for item in entity.inputs},
    }.items():
        (job.root / name).symlink_to(Path(path).resolve(), target_is_directory=True)
    write_configuration(job.config, entity, heading, subjects)
    return job


def _page(
    entity: Measurement | SafetyCase,
    inputs: Inputs,
    modules: Mapping[str, Path],
    making: Making,
    heading: Heading,
) -> Page:
    return Page(
        title=heading.title,
        kind=entity.kind,
        entity_id=entity.id,
        account=entity.account,
        description=entity.description or "",
        provenance=origins_of(entity, inputs, modules) if isinstance(entity, SafetyCase) else (),
        making=making,
    )


def _failure(
    entity: Measurement | SafetyCase, job: Job, outcome: Outcome, store: Store, log: str, hint: str
) -> AnalysisError:
    if outcome.ename is None:
        error = outcome.error or "it failed"
        named = error if error.startswith(entity.id) else f"{entity.id}: {error}"
        return AnalysisError(f"{named}; the log is {log}")
    if job.notebook is None:
        implementation = entity.method.implementation
        function = implementation.pythonFunction or implementation.pythonRubric
        name = function.fullyQualifiedName if function else ""
        return FunctionFailed(entity.id, name, outcome.ename, outcome.where, log, hint)
    kept = ""
    if (executed := read_back(job.executed)) is not None:
        store.put_working(entity.id, FAILED_NOTEBOOK, executed)
        kept = str(store.working(entity.id) / FAILED_NOTEBOOK)
    return NotebookFailed(entity.id, job.notebook, outcome.cell, outcome.ename, kept, log, hint)


def _show_tail(log: Path) -> None:
    """The log's end on the terminal: it may hold what no event log should."""
    text = tail(log)
    if text:
        print(text, file=sys.stderr)


def _commit_measurement(
    entity: Measurement, draft: Draft, inputs: Inputs, input_paths: Mapping[str, Path], making: Making
) -> Commit:
    schema = entity.schema_.decode()
    try:
        dataset = open_dataset(draft.path)
    except DatasetPathError:
        raise AnalysisError(
            f"{entity.id}: its method wrote no rows; yield them from the function, or call ctx.write in the notebook"
        ) from None
    if not dataset.schema.equals(schema, check_metadata=False):
        raise AnalysisError(
            f"{entity.id}: the rows that its notebook wrote do not have the declared schema; "
            "write them with ctx.write, which says where they differ"
        )
    completeness = None
    with ThreadPoolExecutor(max_workers=1) as pool:
        # Both read all rows, and neither needs the interpreter for it.
        data_version = pool.submit(digest_dataset, dataset)
        if entity.level == MeasurementLevel.Instance:
            completeness = check_completeness(entity, dataset, input_paths)
    if completeness is not None:
        if not completeness.complete:
            raise IncompleteRows(entity.id, completeness)
    else:
        record_scores(draft.path, schema, analysis_id=entity.id, method=entity.method.id, scope=entity.scope)
    settle_scores(draft.path, declared_scores(entity.method), entity.id)
    facts = Facts(
        rows=dataset.count_rows(),
        columns=columns_of(schema),
        completeness=completeness,
        **_reported(entity, draft.path, making),
    )
    return draft.commit(
        entity=entity, data_version=data_version.result(), inputs=inputs, facts=facts, run_id=making.run
    )


def _commit_safety_case(entity: SafetyCase, draft: Draft, inputs: Inputs, making: Making, job: Job) -> Commit:
    settle_scores(draft.path, declared_scores(entity.method), entity.id)
    # The frame is made here, where none of the method's code runs any more: it says what the page was made from.
    page = _finished(job.page, draft.path, making, with_notebook=job.notebook is not None)
    write_output(draft.path / PAGE, frame(job.read_content(), page).encode())
    return draft.commit(
        entity=entity,
        data_version=version_of_directory(draft.path, PAGE),
        inputs=inputs,
        facts=Facts(page=PAGE, **_reported(entity, draft.path, making)),
        run_id=making.run,
    )


def _make_room(entity_id: str, page: Path) -> None:
    """Remove what the method left where the page goes."""
    if page.is_dir() and not page.is_symlink():
        raise AnalysisError(f"{entity_id}: {PAGE} is a directory, and the page goes there; name it otherwise")
    page.unlink(missing_ok=True)


def _finished(page: Page, directory: Path, making: Making, *, with_notebook: bool) -> Page:
    """A page's frame with what is known once the analysis has ended."""
    conclusion, holds = read_conclusion(directory) or ("", None)
    executed: tuple[Origin, ...] = ()
    if with_notebook:
        digest = digest_file(directory / NOTEBOOK).sha256
        executed = (Origin("Executed notebook", NOTEBOOK, version=digest),)
    return replace(
        page,
        conclusion=conclusion,
        holds=holds,
        provenance=(*page.provenance, *executed),
        making=making,
    )


def _reported(entity: Measurement | SafetyCase, directory: Path, making: Making) -> dict[str, Any]:
    """What the analysis said of itself."""
    conclusion = read_conclusion(directory)
    return {
        "scores": describe_scores(read_scores(directory), declared_scores(entity.method)),
        "notebook": NOTEBOOK if (directory / NOTEBOOK).exists() else None,
        "figure": FIGURE if (directory / FIGURE).exists() else None,
        "conclusion": conclusion[0] if conclusion else None,
        "notes": {**({"holds": conclusion[1]} if conclusion else {}), MADE: making.to_json()},
    }
