"""Sessions as ops of one's own jobs: provisioned, used, terminated; their tokens stay in one process."""


# No `from __future__ import annotations` here: Dagster reads the annotations of an op as they stand.

import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from dyff_dagster import (
    Catalog,
    DyffSessions,
    DyffStorage,
    build_definitions,
    build_session_ops,
    in_process_io_manager,
)
from dyff_dagster.orchestration.session_ops import IN_PROCESS, InProcessIOManager
from dyff_dagster.schema.platform import InferenceSessionAndToken
from dyff_dagster.sessions import read_session
from dyff_dagster.store import Store, local_path
from tests.integration import small_catalog

SESSION = """kind: InferenceSession
id: standing
account: acme
inferenceService: doubler
replicas: 1
expires: {expires}
"""


class Site:
    """The small catalog with a session, and a job of one's own on it."""

    def __init__(self, tmp_path: Path) -> None:
        directory = small_catalog.write(tmp_path / "catalog")
        expires = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
        (directory / "session.yaml").write_text(SESSION.format(expires=expires))
        self.root = tmp_path / "store"
        self.catalog = Catalog.load(directory)
        self.directory = local_path(Store(self.root).working("standing")) / "session"
        self.heard: list[int] = []

    def job(self, session: str = "standing") -> dg.JobDefinition:
        ops = build_session_ops(self.catalog)
        root, directory, heard = self.root, self.directory, self.heard

        @dg.op
        def use(context: dg.OpExecutionContext, opened: InferenceSessionAndToken) -> None:
            assert opened.inferencesession.id == "standing"
            state = read_session(directory)
            assert state is not None
            with urllib.request.urlopen(state.urls[0].rsplit("/", 1)[0] + "/health") as answer:
                heard.append(answer.status)

        @dg.job(
            resource_defs={
                "dyff_storage": DyffStorage(root=str(root)),
                "dyff_sessions": DyffSessions(),
                IN_PROCESS: in_process_io_manager,
            },
            executor_def=dg.in_process_executor,
            config={
                "ops": {
                    name: {"config": {"session": session}}
                    for name in ("provision_session", "terminate_session")
                }
            },
        )
        def try_out() -> None:
            ops["terminate_session"](after=use(ops["provision_session"]()))

        return try_out

    def materialize_what_it_needs(self) -> None:
        defs = build_definitions(self.catalog, storage=DyffStorage(root=str(self.root)))
        keys = [
            key
            for key in defs.resolve_asset_graph().get_all_asset_keys()
            if key.path[0] in ("models", "modules")
        ]
        if keys:
            job = dg.define_asset_job("needed", dg.AssetSelection.assets(*keys))
            merged = dg.Definitions.merge(defs, dg.Definitions(jobs=[job]))
            merged.resolve_job_def("needed").execute_in_process(instance=dg.DagsterInstance.ephemeral())


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path)
    made.materialize_what_it_needs()
    return made


def test_a_job_provisions_a_session_uses_it_and_ends_it(site: Site) -> None:
    result = site.job().execute_in_process(instance=dg.DagsterInstance.ephemeral())
    assert result.success
    assert site.heard and site.heard[0] < 500
    state = read_session(site.directory)
    assert state is not None and not state.alive()


def test_an_op_for_something_that_is_no_session_fails_in_one_sentence(site: Site) -> None:
    result = site.job(session="doubler").execute_in_process(
        instance=dg.DagsterInstance.ephemeral(), raise_on_error=False
    )
    assert not result.success
    failure = result.failure_data_for_node("provision_session")
    assert failure is not None and failure.user_failure_data is not None
    assert (
        failure.user_failure_data.description == "'doubler' is of kind InferenceService, not InferenceSession"
    )


def test_a_token_is_not_handed_on_to_another_process() -> None:
    manager = InProcessIOManager()
    context = dg.build_input_context(
        upstream_output=dg.build_output_context(step_key="provision", name="result", run_id="r")
    )
    with pytest.raises(dg.Failure, match="within one process only"):
        manager.load_input(context)


def test_the_sensor_that_reaps_is_there_only_for_a_cluster(site: Site) -> None:
    def names(sessions: DyffSessions) -> dict[str, dg.SensorDefinition]:
        found = build_definitions(site.catalog, sessions=sessions).sensors or ()
        return {sensor.name: sensor for sensor in found if isinstance(sensor, dg.SensorDefinition)}

    assert "dyff_session_reaper" not in names(DyffSessions())
    sensor = names(DyffSessions(backend="kubernetes"))["dyff_session_reaper"]
    assert sensor.default_status is dg.DefaultSensorStatus.STOPPED
