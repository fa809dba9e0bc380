"""Where entities stand, derived from a real instance: never run, made, failed, behind a failure, cut off, expired."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from dyff_dagster import Catalog, DyffStorage, build_definitions
from dyff_dagster.orchestration.names import asset_key
from dyff_dagster.orchestration.propagation import build_failure_sensor
from dyff_dagster.orchestration.standing import Standing, standings
from tests.integration import small_catalog

SESSION = """kind: InferenceSession
id: standing
account: acme
inferenceService: doubler
expires: {expires}
"""


class Site:
    """The small catalog on an instance of its own."""

    def __init__(self, tmp_path: Path, instance: dg.DagsterInstance) -> None:
        self.directory = small_catalog.write(tmp_path / "catalog")
        self.root = tmp_path / "store"
        self.instance = instance

    @property
    def catalog(self) -> Catalog:
        return Catalog.load(self.directory)

    def run(self, *names: str, cancel: bool = False) -> str:
        """Run assets in one run; its id."""
        defs = build_definitions(self.catalog, storage=DyffStorage(root=str(self.root)))
        keys = [dg.AssetKey(name.split("/")) for name in names]
        selection = dg.AssetSelection.assets(*keys) if keys else dg.AssetSelection.all()
        merged = dg.Definitions.merge(defs, dg.Definitions(jobs=[dg.define_asset_job("some", selection)]))
        job = merged.resolve_job_def("some")
        if cancel:
            run = self.instance.create_run_for_job(job)
            self.instance.report_run_canceled(run)
            return run.run_id
        return job.execute_in_process(instance=self.instance, raise_on_error=False).run_id

    def now(self, at: datetime | None = None) -> dict[str, Standing]:
        return standings(self.catalog, self.instance, now=at)

    def words(self, at: datetime | None = None) -> dict[str, tuple[str, str | None]]:
        return {name: (found.status, found.reason) for name, found in self.now(at).items()}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        yield Site(tmp_path, instance)


def test_before_anything_ran_what_waits_says_so(site: Site) -> None:
    words = site.words()
    assert words["rows"] == ("Created", None)
    assert words["functions"] == ("Created", None)
    assert words["doubler"] == ("Ready", None)
    assert words["doubled"] == ("Created", "UnsatisfiedDependency")
    assert site.now()["doubled"].cause == "rows"
    assert words["scores"] == ("Created", "UnsatisfiedDependency")


def test_what_was_made_is_ready_or_complete_since_then(site: Site) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    run = site.run()
    found = site.now()
    assert found["rows"].status == "Ready"
    assert found["doubled"].status == found["scores"].status == "Complete"
    assert found["doubled"].run_id == run
    assert found["doubled"].since is not None and before <= found["doubled"].since <= datetime.now(UTC)


def test_a_failure_says_why_and_stands_for_all_behind_it(site: Site) -> None:
    (site.directory / "garbage").touch()
    run = site.run()
    found = site.now()
    assert (found["doubled"].status, found["doubled"].reason) == ("Failed", "Incomplete")
    for name in ("judged", "scores"):
        assert (found[name].status, found[name].reason) == ("Failed", "FailedDependency")
        assert found[name].cause == "doubled"
        assert found[name].run_id == run
    (site.directory / "garbage").unlink()
    site.run()
    assert site.words()["scores"] == ("Complete", None)


def test_what_never_ran_stands_behind_a_failure_of_another_run(site: Site) -> None:
    (site.directory / "garbage").touch()
    site.run("datasets/rows", "evaluations/doubled")
    found = site.now()["scores"]
    assert (found.status, found.reason, found.cause) == ("Created", "FailedDependency", "doubled")


def test_a_failed_attempt_counts_though_an_earlier_version_stands(site: Site) -> None:
    site.run()
    (site.directory / "garbage").touch()
    service = site.directory / "serve.py"
    service.write_text(service.read_text().replace("FACTOR = 2", "FACTOR = 3"))
    site.run("evaluations/doubled")
    assert site.words()["doubled"] == ("Failed", "Incomplete")
    assert site.words()["scores"] == ("Complete", None)


def test_a_run_that_was_canceled_leaves_what_it_was_to_make_interrupted(site: Site) -> None:
    run = site.run(cancel=True)
    found = site.now()["rows"]
    assert (found.status, found.reason, found.run_id) == ("Error", "Interrupted", run)


def test_a_session_is_admitted_until_it_expires(site: Site) -> None:
    expires = datetime.now(UTC) + timedelta(minutes=5)
    (site.directory / "session.yaml").write_text(SESSION.format(expires=expires.isoformat()))
    site.run("inferencesessions/standing")
    try:
        assert site.words()["standing"] == ("Admitted", None)
        later = site.now(expires + timedelta(seconds=1))["standing"]
        assert (later.status, later.reason) == ("Terminated", "Expired")
    finally:
        from dyff_dagster.sessions import end_session
        from dyff_dagster.store import Store, local_path

        end_session(local_path(Store(site.root).working("standing")) / "session")


def test_a_thousand_entities_are_read_in_a_few_queries(site: Site) -> None:
    counted = 0
    read = site.instance.get_asset_records

    def counting(keys: object = None) -> object:
        nonlocal counted
        counted += 1
        return read(keys)  # type: ignore[arg-type]

    many = [
        f"kind: Module\nid: m{n}\naccount: acme\nname: M\nannotations: {{dyff-dagster/files: code}}\n"
        "artifacts: [{path: small_functions.py}]\n"
        for n in range(1000)
    ]
    (site.directory / "many.yaml").write_text("---\n".join(many))
    catalog = site.catalog
    site.instance.get_asset_records = counting  # type: ignore[method-assign,assignment]
    assert len(standings(catalog, site.instance)) > 1000
    assert counted <= 3


def test_everything_behind_a_failure_is_told_of_it(site: Site) -> None:
    (site.directory / "garbage").touch()
    run = site.run()
    catalog = site.catalog
    keys = {entity.id: asset_key(entity) for entity in catalog.entities.values()}
    sensor = build_failure_sensor(catalog, keys, "dyff")
    dagster_run = site.instance.get_run_by_id(run)
    (failure,) = site.instance.get_records_for_run(run, of_type=dg.DagsterEventType.RUN_FAILURE).records
    assert dagster_run is not None and failure.event_log_entry.dagster_event is not None
    context = dg.build_run_status_sensor_context(
        sensor_name=sensor.name,
        dagster_instance=site.instance,
        dagster_run=dagster_run,
        dagster_event=failure.event_log_entry.dagster_event,
    ).for_run_failure()
    sensor(context)
    for name in ("judged", "scores"):
        (record,) = site.instance.fetch_observations(keys[name], limit=1).records
        observation = record.asset_observation
        assert observation is not None
        assert observation.metadata["dyff/reason"].value == "FailedDependency"
        assert observation.metadata["dyff/cause"].value == keys["doubled"]
    assert not site.instance.fetch_observations(keys["rows"], limit=1).records
    assert site.words()["scores"] == ("Failed", "FailedDependency")
