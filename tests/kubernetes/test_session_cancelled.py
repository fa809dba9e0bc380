"""A run that is cancelled as Dagster's UI does it: its session ends, and its answers stay."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml

from tests import servers
from tests.conftest import small_project
from tests.kubernetes.cluster_support import Small
from tests.kubernetes.endurance_support import Site, make_site, overseen, until
from tests.servers import Webserver

LAUNCH = """mutation($params: ExecutionParams!) { launchRun(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on Error { message } } }"""
TERMINATE = """mutation($id: String!) { terminateRun(runId: $id) {
    __typename ... on TerminateRunFailure { message } ... on Error { message } } }"""
STATUS = "query($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"


def launch(server: Webserver) -> str:
    """Materialize the data set and the evaluation as the UI's button does; the run's id."""
    data = server.graphql(
        LAUNCH,
        params={
            "mode": "default",
            "runConfigData": "{}",
            "selector": {
                **server.selector(),
                "pipelineName": "__ASSET_JOB",
                "assetSelection": [{"path": ["datasets", "rows"]}, {"path": ["evaluations", "doubled"]}],
            },
        },
    )
    assert data["launchRun"]["__typename"] == "LaunchRunSuccess", data
    return str(data["launchRun"]["run"]["runId"])


def cancel(server: Webserver, run_id: str) -> None:
    data = server.graphql(TERMINATE, id=run_id)
    assert data["terminateRun"]["__typename"] == "TerminateRunSuccess", data


def status(server: Webserver, run_id: str) -> str:
    return str(server.graphql(STATUS, id=run_id)["runOrError"]["status"])


def environment(site: Site, executor: str) -> dict[str, str]:
    """Without a queue of runs, which would need Dagster's daemon."""
    found = {**site.environment(), "DYFF_EXECUTOR": executor}
    instance = site.run.home / "dagster.yaml"
    said = yaml.safe_load(instance.read_text())
    said["run_coordinator"] = {
        "module": "dagster.core.run_coordinator",
        "class": "DefaultRunCoordinator",
    }
    instance.write_text(yaml.safe_dump(said))
    return found


@pytest.mark.parametrize("executor", ["in_process", "multiprocess"])
def test_a_run_that_is_cancelled_in_the_ui_ends_its_session_and_keeps_its_answers(
    small: Small, tmp_path: Path, executor: str
) -> None:
    # A lease that would end nothing meanwhile.
    site = make_site(small, "site", "--slow", "0.4", rows=60, settings={"lease": 250, "maxLifetime": 300})
    project = small_project(tmp_path / "project")
    log = tmp_path / "webserver.log"
    with (
        overseen(small.api) as overseer,
        servers.webserver(project, environment(site, executor), log) as server,
    ):
        run_id = launch(server)
        until(lambda: overseer.serving("doubled"), "no replica", 120)
        time.sleep(7)  # a part of the answers is written every five seconds
        cancel(server, run_id)
        overseer.nothing_lives(60)
        until(lambda: status(server, run_id) == "CANCELED", f"it is {status(server, run_id)}")
        kept = site.durable
        assert 0 < kept < 120
        (job,) = overseer.sessions_of("doubled")
        assert job["metadata"]["deletionTimestamp"], "it was ended, and has not just expired"
        again = launch(server)
        until(lambda: status(server, again) == "SUCCESS", log.read_text()[-2000:], 120)
        overseer.nothing_lives()
    site.check_answers()
    commit = site.store.current("doubled")
    assert commit is not None
    assert commit.facts.notes["takenUp"] == kept


def test_a_run_that_is_cancelled_while_its_session_starts_leaves_nothing(
    small: Small, tmp_path: Path
) -> None:
    site = make_site(small, "site", "--start", "15", settings={"lease": 250, "maxLifetime": 300})
    project = small_project(tmp_path / "project")
    with (
        overseen(small.api) as overseer,
        servers.webserver(project, environment(site, "in_process"), tmp_path / "webserver.log") as server,
    ):
        run_id = launch(server)
        until(lambda: overseer.living, "no pod", 120)
        cancel(server, run_id)
        overseer.nothing_lives(60)
        until(lambda: status(server, run_id) == "CANCELED", f"it is {status(server, run_id)}")
