"""Why entities are as they are, read from the instance alone after real runs: each reason that a run can end with."""

from __future__ import annotations

import datetime
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from dyff_dagster import DyffSessions, DyffStorage, build_definitions, build_session_ops
from dyff_dagster.orchestration.standing import standings
from dyff_dagster.sessions import read_session
from dyff_dagster.store import local_path
from tests.integration.api_server import TOKEN, ApiServer, refused
from tests.integration.operating_support import Desk, desk, made, template

__all__ = ["desk", "made", "template"]

DEADLINE = 300.0

SESSION = """kind: InferenceSession
id: standing
account: acme
inferenceService: doubler
expires: {expires}
"""

UPLOAD = """kind: DataSource
id: table
account: acme
name: Table
sourceKind: upload
source: raw/table.csv
"""

RUN = """
import sys
import dagster as dg
from dyff_dagster import Catalog, DyffStorage, build_definitions
defs = build_definitions(Catalog.load(sys.argv[1]), storage=DyffStorage(root=sys.argv[2]))
job = defs.resolve_implicit_global_asset_job_def()
job.execute_in_process(instance=dg.DagsterInstance.get(), raise_on_error=False)
"""


class Sessions:
    """A session of the small catalog, started as an asset; ended whatever happens."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.expires = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=10)
        (desk.directory / "session.yaml").write_text(SESSION.format(expires=self.expires.isoformat()))

    def start(self) -> None:
        self.desk.materialize("inferencesessions/standing")

    def word(self) -> tuple[str, str | None]:
        return self.desk.words()["standing"]


@pytest.fixture
def session(desk: Desk) -> Iterator[Sessions]:
    made = Sessions(desk)
    made.start()
    try:
        yield made
    finally:
        desk.run("terminate", "standing")


# Sessions


def test_a_session_that_is_terminated_says_so_at_once(session: Sessions) -> None:
    desk = session.desk
    assert session.word() == ("Admitted", None)
    before = datetime.datetime.now(datetime.UTC)
    done = desk.run("terminate", "standing")
    assert done.output == "standing: ended\n"
    assert session.word() == ("Terminated", "TerminateCommand")
    (state,) = json.loads(desk.run("status", "standing", "--json").stdout)
    assert (state["status"], state["reason"]) == ("Terminated", "TerminateCommand")
    since = datetime.datetime.fromisoformat(state["since"])
    assert before <= since <= datetime.datetime.now(datetime.UTC)

    session.start()
    assert session.word() == ("Admitted", None), "one that is started anew runs"


def test_a_session_that_was_ended_in_a_crash_of_the_command_is_noted_by_the_next(session: Sessions) -> None:
    from dyff_dagster.sessions import end_session

    desk = session.desk
    end_session(local_path(desk.store.working("standing")) / "session")
    assert session.word() == ("Admitted", None)
    assert desk.run("terminate", "standing").output == "standing: no session runs\n"
    assert session.word() == ("Terminated", "TerminateCommand")
    marks = desk.instance.fetch_observations(dg.AssetKey(["inferencesessions", "standing"]), limit=9).records
    desk.run("terminate", "standing")
    again = desk.instance.fetch_observations(dg.AssetKey(["inferencesessions", "standing"]), limit=9).records
    assert len(again) == len(marks) == 1


def test_an_op_that_terminates_a_session_leaves_the_same_mark(session: Sessions) -> None:
    desk = session.desk
    ops = build_session_ops(desk.catalog)

    @dg.job(
        resource_defs={
            "dyff_storage": DyffStorage(root=str(desk.root)),
            "dyff_sessions": DyffSessions(),
        },
        config={"ops": {"terminate_session": {"config": {"session": "standing"}}}},
    )
    def evening() -> None:
        ops["terminate_session"]()

    assert evening.execute_in_process(instance=desk.instance).success
    assert session.word() == ("Terminated", "TerminateCommand")


def test_a_session_that_expired_says_since_when(session: Sessions) -> None:
    later = session.expires + datetime.timedelta(hours=1)
    found = standings(session.desk.catalog, session.desk.instance, now=later)["standing"]
    assert (found.status, found.reason, found.since) == ("Terminated", "Expired", session.expires)


def test_a_session_that_was_terminated_did_not_expire(session: Sessions) -> None:
    session.desk.run("terminate", "standing")
    later = session.expires + datetime.timedelta(hours=1)
    found = standings(session.desk.catalog, session.desk.instance, now=later)["standing"]
    assert (found.status, found.reason) == ("Terminated", "TerminateCommand")
    assert found.since is not None and found.since < session.expires


def test_a_session_that_runs_is_neither_deleted_nor_purged(session: Sessions) -> None:
    desk = session.desk
    done = desk.run("delete", "standing", "--yes")
    assert done.exit_code == 1
    assert "dyff-dagster terminate standing" in done.output
    (desk.directory / "session.yaml").unlink()
    desk.materialize("datasets/rows")
    found = desk.purge("--strays")
    assert found["removals"] == [] and "standing: its session runs" in found["stays"]
    state = read_session(local_path(desk.store.working("standing")) / "session")
    assert state is not None and state.alive()


def test_without_an_instance_a_session_is_ended_and_it_says_what_is_not_recorded(
    session: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = os.environ["DAGSTER_HOME"]
    monkeypatch.delenv("DAGSTER_HOME")
    done = session.desk.run("terminate", "standing")
    assert done.exit_code == 0 and "DAGSTER_HOME names no directory" in done.stderr
    monkeypatch.setenv("DAGSTER_HOME", home)


# What runs end with


@pytest.mark.parametrize(
    ("entity_id", "file", "reason"),
    [
        ("functions", "code/small_functions.py", "FetchFailed"),
        ("rows", "data/data.parquet", "DataSourceMissing"),
        ("table", "raw/table.csv", "UploadFailed"),
    ],
)
def test_files_that_go_after_the_manifests_were_checked_are_missed(
    desk: Desk, entity_id: str, file: str, reason: str
) -> None:
    (desk.directory / "source.yaml").write_text(UPLOAD)
    (desk.directory / "raw").mkdir()
    (desk.directory / "raw" / "table.csv").write_text("x\n1\n")
    catalog = desk.catalog
    defs = build_definitions(catalog, storage=DyffStorage(root=str(desk.root)))
    (desk.directory / file).unlink()
    defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=desk.instance, raise_on_error=False
    )
    found = standings(catalog, desk.instance)
    assert (found[entity_id].status, found[entity_id].reason) == ("Error", reason)
    assert (found["judged"].status, found["judged"].reason) == (
        ("Complete", None) if entity_id == "table" else ("Failed", "FailedDependency")
    )


def test_rows_that_are_not_what_the_schema_says_are_not_ingested(desk: Desk) -> None:
    path = desk.directory / "audit.yaml"
    path.write_text(path.read_text().replace("x: int64!, label: int64!}}", "x: int64!, label: string!}}"))
    desk.materialize("datasets/rows")
    assert desk.words()["rows"] == ("Error", "IngestFailed")


def test_rows_without_answers_are_incomplete(desk: Desk) -> None:
    (desk.directory / "garbage").touch()
    desk.materialize("datasets/rows", "evaluations/doubled")
    assert desk.words()["doubled"] == ("Failed", "Incomplete")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_run_whose_process_is_ended_is_interrupted(desk: Desk, how: signal.Signals) -> None:
    service = desk.directory / "serve.py"
    text = service.read_text()
    service.write_text(
        text.replace(
            '        if os.path.exists("die")',
            '        import time; time.sleep(3600)\n        if os.path.exists("die")',
        )
    )
    log = desk.directory / "requests.log"
    child = subprocess.Popen(
        [sys.executable, "-c", RUN, str(desk.directory), str(desk.root)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(lambda: log.exists() or child.poll() is not None)
    assert child.poll() is None
    assert desk.words()["doubled"][0] == "Admitted"
    child.send_signal(how)
    child.wait(timeout=DEADLINE)
    if how is signal.SIGKILL:  # as Dagster's run monitoring does, when it finds it out
        (run,) = desk.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
        desk.instance.report_run_failed(run)
    assert desk.words()["doubled"] == ("Failed", "Interrupted")
    assert desk.words()["rows"] == ("Ready", None)
    assert desk.words()["scores"][1] in ("FailedDependency", "Interrupted")


def test_a_quota_of_the_cluster_is_the_reason(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = desk.directory / "audit.yaml"
    image = f"image: {{host: registry.example, name: doubler, digest: 'sha256:{'0' * 64}'}}"
    runner = "runner: {kind: standalone, "
    path.write_text(path.read_text().replace(runner, f"{runner}{image}, "))
    desk.materialize("datasets/rows")
    message = 'pods "x" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=2'
    with ApiServer().running() as server:
        kubeconfig = tmp_path / "kubeconfig"
        kubeconfig.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "c",
                    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                    "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.port}"}}],
                    "users": [{"name": "u", "user": {"token": TOKEN}}],
                }
            )
        )
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        server.cue("POST", "/jobs", *[refused(403, "Forbidden", message)] * 20)
        defs = build_definitions(
            desk.catalog,
            storage=DyffStorage(root=str(desk.root)),
            sessions=DyffSessions(backend="kubernetes"),
        )
        selection = dg.AssetSelection.assets(dg.AssetKey(["evaluations", "doubled"]))
        merged = dg.Definitions.merge(defs, dg.Definitions(jobs=[dg.define_asset_job("some", selection)]))
        merged.resolve_job_def("some").execute_in_process(instance=desk.instance, raise_on_error=False)
    assert desk.words()["doubled"] == ("Failed", "QuotaLimit")


def wait_for(there: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE
    while not there():
        assert time.monotonic() < end
        time.sleep(0.1)
