"""Methods written as Jupyter notebooks: executed by papermill, without parameters of papermill's.

A notebook gets its arguments from :class:`~dyff_dagster.analysis.context.AnalysisContext`, as in the
reference, so it is the same file whoever runs it.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dyff_dagster.analysis.errors import AnalysisError
from dyff_dagster.analysis.kernels import choose_kernel, noting_ends
from dyff_dagster.analysis.records import write_output
from dyff_dagster.analysis.reproducible import reproducible
from dyff_dagster.store.errors import StoreError
from dyff_dagster.store.paths import resolve_inside

START_TIMEOUT = 120
"""Seconds that a kernel has to start: on a loaded machine its imports alone can take long."""

_DIED_EARLY = "Kernel died before replying to kernel_info"


class CellFailed(Exception):
    """A cell raised an exception or its kernel died.

    Attributes:
        cell: Its number from 1, or None where none had started.
        ename: The exception's class; ``DeadKernel`` where the kernel died.
        evalue: The exception's message, which may hold anything; for the log only.
        killed: Whether its kernel was ended by SIGKILL.
    """

    def __init__(self, cell: int | None, ename: str, evalue: str = "", killed: bool = False) -> None:
        self.cell = cell
        self.ename = ename
        self.evalue = evalue
        self.killed = killed
        super().__init__(ename)


def read_notebook(path: Path) -> Any:
    """A notebook as nbformat 4.

    Raises:
        AnalysisError: The file is no notebook.
    """
    import nbformat

    try:
        return nbformat.reads(path.read_text("utf-8"), as_version=4)  # type: ignore[no-untyped-call]
    except (ValueError, KeyError, AttributeError, nbformat.ValidationError) as error:
        raise AnalysisError(f"{path.name} is no Jupyter notebook ({type(error).__name__})") from error


def find_notebook(module: Path, path: str) -> Path:
    """The notebook that a method names.

    Args:
        module: Directory of its module.
        path: Its path there.

    Raises:
        AnalysisError: The path leads out of the module, or there is no such file.
    """
    try:
        found = resolve_inside(module, path)
    except StoreError as error:
        raise AnalysisError(f"notebookPath: {error}") from error
    if not found.is_file():
        raise AnalysisError(f"notebookPath {path!r} names no file in its module")
    return found


def execute_notebook(
    module: Path,
    path: str,
    output: Path,
    scratch: Path,
    progress: Callable[[str, int | None, int | None], None],
    meanwhile: Callable[[], None] | None = None,
) -> Path:
    """Execute a notebook on its kernel, in a copy of its module, and return where it lay.

    Args:
        module: Directory of its module; it is not written to.
        path: The notebook's path there.
        output: Where the executed notebook goes, also when it fails.
        scratch: A directory for the copy and for Jupyter's own files.
        progress: Called as cells start.
        meanwhile: What this process can do, in a thread, while the kernel starts and works.

    Raises:
        CellFailed: A cell failed.
        AnalysisError: The file is no notebook, or its kernel is not installed.
    """
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError
    from papermill.execute import execute_notebook as papermill_execute

    source = find_notebook(module, path)
    notebook = read_notebook(source)
    work = scratch / "work"
    shutil.copytree(module, work, symlinks=True, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    for directory, _, files in os.walk(work):
        # The module's files are read-only in the store; these copies are the notebook's own.
        for name in ("", *files):
            entry = Path(directory, name)
            if not entry.is_symlink():
                entry.chmod(entry.stat().st_mode | 0o200)
    kernel = choose_kernel(notebook, scratch / "jupyter")
    ends: list[int | None] = []
    total = len(notebook.cells)
    started: list[int] = []

    def cell_starts(cell: Any, cell_index: int, **_: Any) -> None:
        started.append(cell_index + 1)
        progress("notebook cells", cell_index, total)

    if meanwhile is not None:
        # Not before papermill is loaded: two threads that load modules can get in each other's way.
        threading.Thread(target=meanwhile, name="meanwhile", daemon=True).start()
    cwd = (work / path).parent
    for attempt in (1, 2):
        try:
            papermill_execute(
                source,
                output,
                kernel_name=kernel,
                start_timeout=START_TIMEOUT,
                cwd=cwd,
                progress_bar=False,
                on_cell_start=cell_starts,
                kernel_manager_class=noting_ends(ends),
            )
        except PapermillExecutionError as error:
            raise CellFailed(error.cell_index + 1, error.ename, error.evalue) from error
        except DeadKernelError as error:
            raise CellFailed(
                started[-1] if started else None, "DeadKernel", killed=-signal.SIGKILL in ends
            ) from error
        except NoSuchKernel as error:
            raise AnalysisError(
                f"{path} asks for the kernel {error.name!r}, which is not installed on this machine"
            ) from error
        except RuntimeError as error:
            # Two kernels that start at once can take the same port, and one of them dies of it.
            if _DIED_EARLY not in str(error) or started:
                raise
            if attempt == 2:
                raise CellFailed(None, "DeadKernel", killed=-signal.SIGKILL in ends) from error
            print("The kernel died while it started; it is started once more.", file=sys.stderr)
        else:
            break
    _refuse_unfinished(output)
    return cwd


def _refuse_unfinished(output: Path) -> None:
    """An exit with status 0 ends a notebook early, and papermill calls that a success: it is none."""
    for number, cell in enumerate(read_notebook(output).cells, start=1):
        due = cell.cell_type == "code" and cell.source.strip()
        if due and cell.execution_count is None and "skip-execution" not in cell.metadata.get("tags", []):
            raise CellFailed(number - 1, "SystemExit")


def keep_notebook(executed: Path, target: Path, replace: Mapping[str, str]) -> Any:
    """Write an executed notebook without what differs from run to run, and return it.

    Args:
        executed: As papermill wrote it.
        target: Where it is to be kept.
        replace: Paths of this run, and what stands for them.
    """
    import nbformat

    notebook = reproducible(read_notebook(executed), replace)
    write_output(target, nbformat.writes(notebook).encode())  # type: ignore[no-untyped-call]
    return notebook
