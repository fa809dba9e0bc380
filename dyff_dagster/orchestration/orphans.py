"""A step whose run's process was killed ends too, and gives its place in a pool back.

Dagster's multiprocess steps would go on, and pay. Nobody frees what such a run held either, unless a daemon learns that
it is over: a run of the command line that was killed is taken for running for ever.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import dagster as dg

_WATCH = "dyff-dagster-parent"


@contextmanager
def ends_with_its_run(context: dg.AssetExecutionContext) -> Iterator[None]:
    """Interrupt what is done within when the process of the run is gone; then free the step's place in its pool."""
    parent = multiprocessing.parent_process()
    if parent is None:
        yield
        return
    _watch(parent)
    try:
        yield
    finally:
        if not parent.is_alive():
            step = context.op_execution_context.get_step_execution_context().step.key
            with suppress(Exception):  # the interruption is what must be told
                context.instance.event_log_storage.free_concurrency_slot_for_step(context.run.run_id, step)


def _watch(parent: multiprocessing.process.BaseProcess) -> None:
    if any(thread.name == _WATCH for thread in threading.enumerate()):
        return

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=watch, name=_WATCH, daemon=True).start()
