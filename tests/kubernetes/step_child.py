"""What the tests on a cluster kill: a process that runs a step of Dagster's, and dies where it is told to.

The functions here are run in a process of their own, which multiprocessing's fork server starts.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import dagster as dg

from dyff_dagster import Catalog, DyffSessions, DyffStorage, build_definitions
from dyff_dagster.sessions.kubernetes.api import KubernetesApi
from tests import servers

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["tests.kubernetes.step_child", "pytest", "aiohttp", "tenacity", "kubernetes"]
)
_SECONDS_ENOUGH = 120


@dataclass(frozen=True)
class Run:
    """One run of Dagster's, in this process.

    Attributes:
        catalog: Directory of manifests.
        storage: Storage root.
        settings: What DYFF_KUBERNETES would name.
        home: DAGSTER_HOME.
        assets: What is materialized.
        key: The instance key, or empty.
        client_processes: Of an evaluation.
        dies_at_call: The call to the API server at which the process kills itself; 0: at none.
        before: Whether it dies before that call is sent, or when its answer has come.
    """

    catalog: Path
    storage: Path
    settings: Path
    home: Path
    assets: tuple[str, ...]
    key: str = ""
    client_processes: int = 1
    dies_at_call: int = 0
    before: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of a run.

    Attributes:
        success: Whether all was materialized.
        metadata: Of each materialization, by its asset's id.
        failures: What the failed steps said, and the reasons they gave.
    """

    success: bool
    metadata: dict[str, dict[str, Any]]
    failures: dict[str, tuple[str, str]]

    @property
    def said(self) -> str:
        """All that went wrong."""
        return "\n".join(f"{key}: {text} ({reason})" for key, (text, reason) in self.failures.items())


class Child:
    """A process that makes a run."""

    def __init__(self, run: Run) -> None:
        self._here, there = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=_materialize, args=(run, there), daemon=False)
        self._process.start()
        there.close()
        self._outcome: Outcome | None = None

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process.pid is not None
        return int(self._process.pid)

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return bool(self._process.is_alive())

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.join(_SECONDS_ENOUGH)

    def outcome(self) -> Outcome | None:
        """What it said when it ended; None where it was killed."""
        if self._outcome is None:
            try:
                self._outcome = self._here.recv()
            except (EOFError, ConnectionError):
                self._process.join(_SECONDS_ENOUGH)
                assert self._process.exitcode == -signal.SIGKILL, self._process.exitcode
                return None
        self._process.join(_SECONDS_ENOUGH)
        return self._outcome

    def succeeded(self) -> Outcome:
        """What it said; it must have come to its end, and all be materialized."""
        said = self.outcome()
        assert said is not None
        assert said.success, said.said
        return said

    def failed(self) -> Outcome:
        """What it said; it must have come to its end, and something have failed."""
        said = self.outcome()
        assert said is not None
        assert not said.success
        return said


@contextmanager
def child(run: Run) -> Iterator[Child]:
    """A process that makes a run; it is dead afterwards."""
    made = Child(run)
    try:
        yield made
    finally:
        made.kill()


def _materialize(run: Run, end: Connection) -> None:
    os.environ.update(servers.environment(run.home))
    if run.key:
        os.environ["DYFF_INSTANCE_KEY"] = run.key
    if run.dies_at_call:
        _die_at(run.dies_at_call, run.before)
    definitions = build_definitions(
        Catalog.load(run.catalog),
        storage=DyffStorage(root=str(run.storage)),
        sessions=DyffSessions(
            backend="kubernetes", kubernetes=str(run.settings), client_processes=run.client_processes
        ),
        executor=dg.in_process_executor,
    )
    selection = dg.AssetSelection.assets(*(asset.split("/") for asset in run.assets))
    job = dg.define_asset_job("audit", selection, config={"loggers": {"console": {}}})
    whole = dg.Definitions.merge(definitions, dg.Definitions(jobs=[job]))
    with dg.DagsterInstance.get() as instance:
        result = whole.resolve_job_def("audit").execute_in_process(instance=instance, raise_on_error=False)
    metadata = {
        event.asset_key.path[-1]: {
            key: getattr(value, "value", value) for key, value in event.materialization.metadata.items()
        }
        for event in result.get_asset_materialization_events()
        if event.asset_key is not None
    }
    failures = {}
    for event in result.all_events:
        if event.is_step_failure:
            data = event.step_failure_data
            told = data.user_failure_data
            reason = told.metadata.get("dyff/reason") if told is not None else None
            text = (told.description if told is not None else None) or str(data.error)
            failures[event.step_key] = (text, str(getattr(reason, "value", reason)))
    end.send(Outcome(result.success, metadata, failures))


def _die_at(number: int, before: bool) -> None:
    """Kill this process at its n-th call to the API server: between what lies before and after it."""
    once, calls = KubernetesApi._once, 0

    def counted(self: KubernetesApi, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        mine = calls
        if mine == number and before:
            os.kill(os.getpid(), signal.SIGKILL)
        answer = once(self, *arguments)
        if mine == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    KubernetesApi._once = counted  # type: ignore[method-assign]
