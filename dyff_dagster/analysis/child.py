"""The process that an analysis runs in: what it sees, where it may write, how long and how large it may be."""

from __future__ import annotations

import json
import os
import signal
import sys
import sysconfig
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from dyff_dagster.analysis.configuration import CONFIG_FILE
from dyff_dagster.analysis.context import STORAGE_ROOT
from dyff_dagster.analysis.errors import AnalysisTimeout, OutOfMemory
from dyff_dagster.analysis.jobs import Job, Outcome, read_back
from dyff_dagster.analysis.limits import Limits
from dyff_dagster.processes import (
    GuardedProcess,
    can_confine,
    clean_environment,
    confined,
    start_guarded,
)
from dyff_dagster.schema.resources import shown_bytes
from dyff_dagster.store import Progress

POLL = 0.1
"""Seconds between two looks at a running analysis."""

_AT_ONCE = 1 << 20
"""Bytes of progress that are taken in at one look."""

_CACHES = (
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_DATASETS_CACHE",
    "TRANSFORMERS_CACHE",
    "TORCH_HOME",
    "TRITON_CACHE_DIR",
    "NLTK_DATA",
)
"""Variables that name a directory which is there to be written by whoever needs something in it."""


_KILLED = (
    "killed by SIGKILL, as the operating system does where memory runs out: let it hold less at once, or run it "
    "where there is more"
)


def work(job: Job, log: Path, limits: Limits, progress: Progress) -> Outcome:
    """Do a job in a process of its own, and return how it ended; with it ends all that it started.

    Args:
        job: The job, written down.
        log: Where its output goes.
        limits: What it may take.
        progress: Told of cells and rows as they come.

    Raises:
        AnalysisTimeout: It took too long.
        OutOfMemory: It held too much.
    """
    env = environment(job)
    command = [sys.executable, "-X", "faulthandler", "-m", "dyff_dagster.analysis.worker", str(job.path)]
    if can_confine():
        command = confined(command, writable(job, env))
    end = None if limits.seconds is None else time.monotonic() + limits.seconds
    told = 0
    with start_guarded(
        command, cwd=job.scratch, env=env, stdout=log, stderr=log, memory=limits.memory
    ) as process:
        status = None
        while status is None:
            status = _status(process)
            told = pass_on(job.progress, told, progress)
            if status is None and end is not None and time.monotonic() >= end:
                raise AnalysisTimeout(job.analysis_id, limits.seconds or 0, limits.more_seconds, str(log))
    if process.exceeded is not None and limits.memory is not None:
        raise OutOfMemory(job.analysis_id, process.exceeded, limits.memory, limits.more_memory, str(log))
    outcome = Outcome.read(job.outcome)
    if outcome is None:
        return Outcome(error=f"{job.analysis_id}: its process {_end(status)}")
    return outcome


def environment(job: Job) -> dict[str, str]:
    """All variables that an analysis sees; none of them is a secret of this process."""
    package = Path(__file__).resolve().parents[2]
    installed = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")}
    own = variables(job)
    if package not in installed:
        # A source tree that is not installed must be found all the same; site-packages must not come first.
        own["PYTHONPATH"] = os.pathsep.join(part for part in (own["PYTHONPATH"], str(package)) if part)
    if can_confine():
        # It may not write to the machine's own; elsewhere that one stays, because paths of sockets must be short.
        own.update(dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(job.scratch / "tmp")))
    env = clean_environment(own)
    cache = _cache(env)
    if cache is not None:
        # What would else be written elsewhere in the home directory.
        env["MPLCONFIGDIR"] = str(cache / "matplotlib")
        env.setdefault("TRITON_CACHE_DIR", str(cache / "triton"))
    return env


def variables(job: Job) -> dict[str, str]:
    """The variables that an analysis gets from us, wherever it runs."""
    jupyter, temporary = job.scratch / "jupyter", job.scratch / "tmp"
    for path in (jupyter, temporary):
        path.mkdir(exist_ok=True)
    return {
        STORAGE_ROOT: str(job.root),
        CONFIG_FILE: str(job.config),
        "PYTHONPATH": os.pathsep.join(str(job.root / module) for module in job.modules),
        "PYTHONHASHSEED": "0",
        "PYTHONUNBUFFERED": "1",
        # A version in the store is never written to, not even with compiled files.
        "PYTHONDONTWRITEBYTECODE": "1",
        "SOURCE_DATE_EPOCH": "315532800",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline" if job.notebook is not None else "Agg",
        "MATPLOTLIBRC": str(_matplotlib_settings(job)),
        # Jupyter's and IPython's own files, so that nothing in the home directory changes a result.
        "JUPYTER_PATH": str(jupyter),
        "JUPYTER_CONFIG_DIR": str(jupyter / "config"),
        "JUPYTER_RUNTIME_DIR": str(jupyter / "runtime"),
        "IPYTHONDIR": str(jupyter / "ipython"),
    }


def writable(job: Job, env: Mapping[str, str]) -> list[Path]:
    """Where an analysis may write: its output, its scratch directory, and caches."""
    named = [Path(part) for name in _CACHES for part in env.get(name, "").split(os.pathsep) if part]
    cache = _cache(env)
    if cache is not None:
        named.append(cache)
    for path in named:
        # One that is not there yet could not be made later: it is its parent that would be written.
        with suppress(OSError):
            path.mkdir(parents=True, exist_ok=True)
    return [job.scratch, job.output.resolve(), *(path.resolve() for path in named)]


def _cache(env: Mapping[str, str]) -> Path | None:
    """The user's cache directory, as the XDG base directory specification has it."""
    if env.get("XDG_CACHE_HOME"):
        return Path(env["XDG_CACHE_HOME"])
    return Path(env["HOME"], ".cache") if env.get("HOME") else None


def _matplotlib_settings(job: Job) -> Path:
    path = job.scratch / "matplotlibrc"
    # Without a salt the ids in an SVG are random.
    path.write_text("svg.hashsalt: dyff-dagster\n", "utf-8")
    return path


def _status(process: GuardedProcess) -> int | None:
    try:
        return process.wait(POLL)
    except TimeoutError:
        return None


def hint_of(outcome: Outcome, limits: Limits) -> str:
    """What may be behind the exception that a method raised, and what would be right; empty where that is not known."""
    ename = outcome.ename or ""
    if outcome.killed:
        return _KILLED
    if ename.endswith("MemoryError"):  # numpy and Arrow have classes of their own below Python's
        if limits.memory is None:
            return "the machine has no more memory: let it hold less at once, or run it where there is more"
        return f"it may hold {shown_bytes(limits.memory)} of memory: {limits.more_memory}, or let it hold less at once"
    if ename == "PermissionError" and can_confine():
        return "it may write to ctx.output_path, to its working directory and to TMPDIR alone"
    return ""


def _end(status: int) -> str:
    if status == -signal.SIGKILL:
        return f"was {_KILLED}"
    how = f"signal {-status}" if status < 0 else f"exit status {status}"
    return f"ended with {how} before it was done"


def pass_on(path: Path, start: int, progress: Progress) -> int:
    """Report the lines from byte ``start`` on, and return where the next one begins."""
    text = read_back(path, _AT_ONCE, start)
    if text is None:
        return start
    whole = text[: text.rfind(b"\n") + 1]
    for line in whole.splitlines():
        # The method can write there too.
        try:
            message, done, total = json.loads(line)
        except (ValueError, TypeError, RecursionError):
            continue
        if isinstance(message, str) and all(count is None or type(count) is int for count in (done, total)):
            progress(message, done, total)
    return start + len(whole)
