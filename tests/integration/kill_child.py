"""What a test kills: a real process that runs an evaluation, and dies where it is told to.

The functions here are run in a process of their own, which multiprocessing's fork server starts.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from dyff_dagster.schema.errors import DyffError
from tests.integration.evaluation_support import QUICK, World

PART_ROWS = 16
WORKERS = 4
OPTIONS = replace(QUICK, part_rows=PART_ROWS, part_age=0.5)

_STEPS = frozenset({"os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "shutil.rmtree"})


@dataclass(frozen=True)
class Job:
    """One run.

    Attributes:
        directory: Of the world.
        urls: Of the service.
        replications: Of the evaluation.
        dies_at_step: The step on the file system at which the process kills itself; 0: at none.
    """

    directory: Path
    urls: tuple[str, ...]
    replications: int = 2
    dies_at_step: int = 0


def run(job: Job, end: Connection) -> None:
    """Run the evaluation; sends ``("done", data version)`` or ``("error", class, text)``."""
    if job.dies_at_step:
        _die_at(job.dies_at_step)
    w = existing(job)
    try:
        end.send(("done", w.run(w.evaluation(job.replications, workers=WORKERS), OPTIONS).data_version))
    except (DyffError, OSError) as error:
        end.send(("error", type(error).__name__, str(error)))
    except KeyboardInterrupt:
        end.send(("interrupted",))


def run_until_terminated(job: Job, end: Connection) -> None:
    """As :func:`run`, where SIGTERM is an exception in the main thread, as Dagster has it in its processes."""

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    run(job, end)


def hold_lock(job: Job, end: Connection) -> None:
    """Take the evaluation's lock, say so, and hold it until the other end says something."""
    w = existing(job)
    with w.store.lock("eval-1"):
        end.send("held")
        with contextlib.suppress(EOFError):
            end.recv()


def existing(job: Job) -> World:
    """The world of a job, its data set as it lies there."""
    return World(job.directory, job.urls, rows=None)


def _die_at(step: int) -> None:
    """Kill this process at the n-th rename, link, removal or the like: between what lies before and after it."""
    left = step

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event in _STEPS or (event == "open" and arguments[1] in ("wb", "xb")):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
