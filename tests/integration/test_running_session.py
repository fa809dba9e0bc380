"""A session that outlives its step: started by its asset, used by an evaluation, gone at its deadline."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq
import pytest

from dyff_dagster import Catalog, DyffStorage, build_definitions
from dyff_dagster.sessions import end_session, read_session
from dyff_dagster.store import Store, local_path
from tests.integration import small_catalog

SESSION = """
---
kind: InferenceSession
id: standing
account: acme
inferenceService: doubler
replicas: 1
expires: {expires}
---
kind: Evaluation
id: asked-there
account: acme
dataset: rows
inferenceSessionReference: standing
"""


class Site:
    """The small catalog with a session of its own."""

    def __init__(self, tmp_path: Path) -> None:
        self.catalog = small_catalog.write(tmp_path / "catalog")
        self.root = tmp_path / "store"
        self.directory = local_path(Store(self.root).working("standing")) / "session"
        self.expire(timedelta(minutes=5))

    def expire(self, after: timedelta) -> None:
        when = (datetime.now(UTC) + after).isoformat()
        (self.catalog / "session.yaml").write_text(SESSION.format(expires=when).lstrip("\n-"))

    def run(self, *names: str) -> dg.ExecuteInProcessResult:
        defs = build_definitions(Catalog.load(self.catalog), storage=DyffStorage(root=str(self.root)))
        keys = [dg.AssetKey(name.split("/")) for name in names]
        job = dg.define_asset_job("session", dg.AssetSelection.assets(*keys))
        defs = dg.Definitions.merge(defs, dg.Definitions(jobs=[job]))
        return defs.resolve_job_def("session").execute_in_process(
            instance=dg.DagsterInstance.ephemeral(), raise_on_error=False
        )

    def requests(self) -> int:
        log = self.catalog / "requests.log"
        return len(log.read_text().splitlines()) if log.exists() else 0


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    try:
        yield made
    finally:
        end_session(made.directory)


def test_an_evaluation_asks_the_session_that_it_refers_to_and_leaves_it_running(site: Site) -> None:
    assert site.run("inferencesessions/standing").success
    state = read_session(site.directory)
    assert state is not None
    assert state.alive()
    assert site.run("datasets/rows", "evaluations/asked-there").success
    assert site.requests() == 10
    assert read_session(site.directory) == state
    assert state.alive()


def test_a_session_that_runs_is_taken_over_and_not_started_twice(site: Site) -> None:
    assert site.run("inferencesessions/standing").success
    first = read_session(site.directory)
    assert site.run("inferencesessions/standing").success
    second = read_session(site.directory)
    assert first is not None
    assert second is not None
    assert first.urls == second.urls


def test_an_evaluation_of_a_session_that_ended_fails_with_one_sentence(site: Site) -> None:
    assert site.run("datasets/rows", "inferencesessions/standing").success
    end_session(site.directory)
    result = site.run("evaluations/asked-there")
    assert not result.success
    event = next(e for e in result.all_events if e.is_step_failure)
    data = event.step_failure_data.user_failure_data
    assert data is not None
    assert "standing" in (data.description or "")
    assert "ended" in (data.description or "")


def test_a_session_of_other_code_is_replaced_and_until_then_not_asked(site: Site) -> None:
    assert site.run("datasets/rows", "inferencesessions/standing").success
    service = site.catalog / "serve.py"
    service.write_text(service.read_text().replace("FACTOR = 2", "FACTOR = 3"))
    refused = site.run("evaluations/asked-there")
    assert not refused.success
    assert site.requests() == 0
    assert site.run("inferencesessions/standing").success
    assert site.run("evaluations/asked-there").success
    answers = pq.read_table(Store(site.root).directory("asked-there") / "answers.parquet").to_pylist()
    assert {row["_index_"]: row["responses"][0]["y"] for row in answers}[5] == 15


def test_an_expired_session_is_refused(site: Site) -> None:
    site.expire(timedelta(minutes=-1))
    result = site.run("inferencesessions/standing")
    assert not result.success
    assert read_session(site.directory) is None
