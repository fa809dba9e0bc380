"""How far a step is: lines in Dagster's log, observations of its asset, and a bar on a terminal."""

from __future__ import annotations

import multiprocessing
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

import dagster as dg

from dyff_dagster.store import Progress

_SECONDS_BETWEEN_LINES = 3.0
_SECONDS_BETWEEN_OBSERVATIONS = 30.0
"""Each line and each observation is an event that Dagster keeps for good."""


class StepProgress:
    """Takes what a room says of its progress, and shows it where people look.

    Use it as a context manager and call it as a :data:`~dyff_dagster.store.Progress`.

    Args:
        context: The step.
        key: Its asset.
        observed: Whether the asset's page shows it while it runs.
    """

    def __init__(self, context: dg.AssetExecutionContext, key: dg.AssetKey, observed: bool) -> None:
        self._context = context
        self._key = key
        self._observed = observed
        self._last_line = self._last_observation = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        terminal = _terminal()
        if terminal is not None:
            self._bar = _bar(terminal)
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar.console.file.close()

    def __call__(self, message: str, done: int | None = None, total: int | None = None) -> None:
        """Show it, unless something was shown just before."""
        now = time.monotonic()
        if self._bar is not None and done is not None and total is not None:
            self._draw(message, done, total)
        if now - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = now
            if self._bar is None or total is None:
                count = "" if done is None else f"{done} " if total is None else f"{done}/{total} "
                self._context.log.info(count + message)
        if self._observed and total and now - self._last_observation >= _SECONDS_BETWEEN_OBSERVATIONS:
            self._last_observation = now
            metadata: dict[str, Any] = {
                "dyff/answered": done or 0,
                "dyff/asked": total,
                "dyff/progress": message,
            }
            self._context.log_event(dg.AssetObservation(asset_key=self._key, metadata=metadata))

    def _draw(self, message: str, done: int, total: int) -> None:
        if self._task is None:
            self._task = self._bar.add_task(message, total=total)
        self._bar.update(self._task, completed=done, total=total, description=message)


def log_progress(log: dg.DagsterLogManager) -> Progress:
    """Progress as lines in a log, for ops that compute no asset."""

    def tell(message: str, done: int | None = None, total: int | None = None) -> None:
        log.info(message if done is None or total is None else f"{done}/{total} {message}")

    return tell


def _terminal() -> TextIO | None:
    """The terminal of a person who waits for ``dagster asset materialize`` or ``dg launch``, else None.

    Dagster captures the standard error of steps, so that the terminal itself has to be opened. Runs of a
    daemon or of a web server have nobody who waits, and several steps at once, each in a process of its own,
    would draw over one another.
    """
    command = Path(sys.argv[0]).name
    if command not in ("dagster", "dg") or "api" in sys.argv[1:2] or multiprocessing.parent_process():
        return None
    try:
        return Path("/dev/tty").open("w", encoding="utf-8")
    except OSError:
        return None


def _bar(terminal: TextIO) -> Any:
    """A bar that goes away when the step is over."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bars

    return Bars(
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.description}", markup=False),
        console=Console(file=terminal),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
