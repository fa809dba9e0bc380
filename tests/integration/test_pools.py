"""Pools on real instances: who waits for whom, in what order, and what becomes of a place whose holder was killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from tests import postgres, servers
from tests.integration.hosted_audit import HostedAudit, Service, hosted, wait_until

pytestmark = pytest.mark.timeout(900)

Write = Callable[[Mapping[str, Mapping[str, str]], Mapping[str, Any]], HostedAudit]


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str | None]:
    binaries = postgres.programs()
    if binaries is None:
        yield None
        return
    with postgres.server(binaries) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def write(
    request: pytest.FixtureRequest, postgres_url: str | None, tmp_path: Path
) -> Iterator[tuple[Service, Write]]:
    """The service, and what writes a project that asks it, on an instance of each kind."""
    storage: dict[str, Any] = {}
    if request.param == "postgresql":
        if postgres_url is None:
            pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
        storage = {"storage": {"postgres": {"postgres_url": postgres_url}}}
    with hosted() as (service, url):

        def project(evaluations: Mapping[str, Mapping[str, str]], instance: Mapping[str, Any]) -> HostedAudit:
            audit = HostedAudit.write(
                tmp_path / "project", service, url, evaluations, {**storage, **instance}
            )
            with audit.instance() as made:
                made.wipe()
                made.event_log_storage.delete_concurrency_limit("services/hosted")
            audit.datasets()
            return audit

        yield service, project


def test_two_evaluations_of_one_hosted_service_never_run_at_once(write: tuple[Service, Write]) -> None:
    service, project = write
    audit = project({"first": {}, "second": {}}, {})
    with audit.instance() as instance, audit.evaluation("first") as first:
        wait_until(lambda: service.asked, "the first evaluation asks")
        with audit.evaluation("second") as second:
            wait_until(lambda: audit.waiting(instance) or "second" in service.asked, "the second one waits")
            assert audit.taken(instance) == 1
            service.open.set()
            assert (first.wait(), second.wait()) == (0, 0)
        assert audit.taken(instance) == 0
    assert service.order == ["first", "second"]
    assert sorted(set(service.asked)) == ["first", "second"]


def test_a_run_that_is_killed_on_the_command_line_gives_its_place_back(write: tuple[Service, Write]) -> None:
    service, project = write
    audit = project({"first": {}, "second": {}}, {})
    with audit.instance() as instance, audit.evaluation("first") as first:
        wait_until(lambda: service.asked, "the first evaluation asks")
        with audit.evaluation("second") as second:
            wait_until(lambda: audit.waiting(instance), "the second one waits")
            first.send_signal(signal.SIGKILL)
            wait_until(lambda: "second" in service.asked, "the second one asks")
            service.open.set()
            assert second.wait() == 0
        assert audit.taken(instance) == 0


def test_the_more_urgent_of_those_that_wait_is_next(write: tuple[Service, Write]) -> None:
    service, project = write
    audit = project({"first": {}, "second": {}, "urgent": {"dyff-dagster/priority": "7"}}, {})
    in_process = ("-c", "in-process.yaml")
    with audit.instance() as instance, ExitStack() as runs:
        started = [runs.enter_context(audit.evaluation("first", *in_process))]
        wait_until(lambda: service.asked, "the first evaluation asks")
        for waiting, name in enumerate(("second", "urgent"), start=1):
            started.append(runs.enter_context(audit.evaluation(name, *in_process)))
            wait_until(lambda waiting=waiting: audit.waiting(instance) == waiting, f"{name} waits")
        service.open.set()
        assert [run.wait() for run in started] == [0, 0, 0]
    assert service.order == ["first", "urgent", "second"]


LAUNCH = """mutation($params: ExecutionParams!) { launchRun(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on Error { message } } }"""


def launch(server: servers.Webserver, *path: str, priority: int = 0) -> str:
    """Have an asset computed, as the UI's button does."""
    data = server.graphql(
        LAUNCH,
        params={
            "mode": "default",
            "runConfigData": "{}",
            "executionMetadata": {"tags": [{"key": "dagster/priority", "value": str(priority)}]},
            "selector": {
                **server.selector(),
                "pipelineName": "__ASSET_JOB",
                "assetSelection": [{"path": list(path)}],
            },
        },
    )
    assert data["launchRun"]["__typename"] == "LaunchRunSuccess", data
    return str(data["launchRun"]["run"]["runId"])


def worker_of(instance: dg.DagsterInstance, run_id: str) -> int | None:
    """The process of a run, as it said itself."""
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        event = entry.dagster_event
        metadata = event.engine_event_data.metadata if event is not None else {}
        if event is not None and "pid" in metadata:
            return int(metadata["pid"].value)  # type: ignore[arg-type]
    return None


def test_a_launched_run_that_is_killed_loses_its_place_to_the_most_urgent_run_in_the_queue(
    write: tuple[Service, Write],
) -> None:
    service, project = write
    # As in dagster.yaml, but for the patience that no test has.
    monitoring = {"free_slots_after_run_end_seconds": 1, "poll_interval_seconds": 1}
    audit = project({"first": {}, "second": {}, "urgent": {}}, {"run_monitoring": monitoring})
    environment = {**audit.environment, "DYFF_EXECUTOR": "in_process"}
    log = audit.directory / "dev.log"
    with (
        audit.instance() as instance,
        servers.webserver(audit.directory, environment, log, launches=True) as server,
    ):
        first = launch(server, "evaluations", "first")
        wait_until(lambda: service.asked, "the first evaluation asks")
        waiting = [
            launch(server, "evaluations", "second"),
            launch(server, "evaluations", "urgent", priority=7),
        ]
        # One that needs no place goes past them: they were looked at, and stay in the queue.
        free = launch(server, "datasets", "rows-second")
        wait_until(
            lambda: status(instance, free) == dg.DagsterRunStatus.SUCCESS, "what needs no place goes on"
        )
        assert [status(instance, run) for run in waiting] == [dg.DagsterRunStatus.QUEUED] * 2
        assert service.order == ["first"]
        worker = worker_of(instance, first)
        assert worker is not None
        os.kill(worker, signal.SIGKILL)  # and with it its only step
        wait_until(lambda: len(service.order) > 1, "another one asks")
        service.open.set()
        wait_until(lambda: all(over(instance, run) for run in waiting), "the others end")
        assert status(instance, first) == dg.DagsterRunStatus.FAILURE
        assert [status(instance, run) for run in waiting] == [dg.DagsterRunStatus.SUCCESS] * 2
        assert service.order == ["first", "urgent", "second"]
        assert audit.taken(instance) == 0


def status(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


def over(instance: dg.DagsterInstance, run_id: str) -> bool:
    run = instance.get_run_by_id(run_id)
    return run is not None and run.is_finished
