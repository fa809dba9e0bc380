"""What a run would do and cost, said before it is paid, and then what it does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from dyff_dagster import Catalog
from dyff_dagster.cli import main
from dyff_dagster.orchestration.planning import LIKELY, RUN, UNCHANGED, Planned, plan
from dyff_dagster.orchestration.selection import is_declared_only
from dyff_dagster.orchestration.steps import Step
from dyff_dagster.store import Store, no_progress
from tests.integration import small_catalog

MODEL = """kind: Model
id: net
account: acme
name: Net
annotations: {dyff-dagster/files: net}
source: {kind: Upload}
artifact: {kind: HuggingFaceCache, huggingFaceCache: {repoID: acme/net, revision: v1}}
storage: {medium: ObjectStorage}
resources: {storage: 1Mi}
"""


class Site:
    """The small catalog and its store."""

    def __init__(self, tmp_path: Path) -> None:
        self.directory = small_catalog.write(tmp_path / "catalog")
        self.store = Store(tmp_path / "store")

    def plan(self, *names: str) -> dict[str, Planned]:
        return {each.id: each for each in plan(Catalog.load(self.directory), self.store, names or None)}

    def compute(self, *names: str) -> None:
        catalog = Catalog.load(self.directory)
        for entity_id, entity in catalog.entities.items():
            if not is_declared_only(entity) and (not names or entity_id in names):
                Step(catalog, self.store, entity, no_progress).compute()

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.directory / name
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    def requests(self) -> int:
        log = self.directory / "requests.log"
        return len(log.read_text().splitlines()) if log.exists() else 0


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_before_anything_is_there_everything_runs(site: Site) -> None:
    found = site.plan()
    assert {each.action for each in found.values()} == {RUN}
    assert found["doubled"].requests is None  # its rows are not there yet
    assert found["doubled"].replicas == 1


def test_with_its_rows_there_an_evaluation_says_how_many_it_would_ask(site: Site) -> None:
    site.compute("rows")
    found = site.plan()
    assert found["rows"].action == UNCHANGED
    assert (found["doubled"].answers, found["doubled"].requests) == (20, 20)


def test_when_all_is_there_nothing_would_run(site: Site) -> None:
    site.compute()
    found = site.plan()
    assert {each.action for each in found.values()} == {UNCHANGED}


def test_what_is_planned_is_what_is_asked(site: Site) -> None:
    site.compute()
    before = site.requests()
    small_catalog.write_rows(site.directory, 13)
    site.compute("rows")
    planned = site.plan()["doubled"]
    assert planned.action == RUN
    assert planned.why == "the content of rows has changed"
    assert (planned.answers, planned.requests) == (26, 6)
    assert planned.seconds is not None
    site.compute("doubled")
    assert site.requests() - before == planned.requests


def test_what_comes_after_a_change_is_likely(site: Site) -> None:
    site.compute()
    site.edit("audit.yaml", "replications: 2", "replications: 3")
    found = site.plan()
    assert found["doubled"].action == RUN
    assert found["doubled"].why == "its spec has changed"
    assert found["doubled"].requests == 10
    assert found["judged"].action == LIKELY
    assert "doubled" in found["judged"].why
    assert found["functions"].action == UNCHANGED


def test_where_its_rows_would_change_nobody_knows_how_many_are_asked(site: Site) -> None:
    site.compute()
    small_catalog.write_rows(site.directory, 13)
    found = site.plan()
    assert found["rows"].action == RUN
    assert (found["doubled"].action, found["doubled"].answers, found["doubled"].requests) == (
        LIKELY,
        None,
        None,
    )
    # Without the rows in the same run, those that are there count, and all of them are answered.
    assert site.plan("doubled")["doubled"].action == UNCHANGED


def test_where_its_model_would_change_all_may_be_asked(site: Site) -> None:
    named = "id: doubler\naccount: acme\nname: Doubles\n"
    site.edit("audit.yaml", named, f"{named}model: net\n")
    (site.directory / "net").mkdir()
    (site.directory / "net" / "weights.json").write_text("1")
    (site.directory / "model.yaml").write_text(MODEL)
    site.compute()
    (site.directory / "net" / "weights.json").write_text("2")
    found = site.plan()
    assert found["net"].action == RUN
    assert (found["doubled"].action, found["doubled"].requests) == (LIKELY, 20)


def test_changed_code_is_named(site: Site) -> None:
    site.compute()
    service = site.directory / "serve.py"
    service.write_text(service.read_text().replace("FACTOR = 2", "FACTOR = 3"))
    found = site.plan()["doubled"]
    assert (found.action, found.requests) == (RUN, 20)
    assert "service" in found.why


def test_planning_writes_nothing(site: Site) -> None:
    site.compute("rows")
    root = Path(str(site.store.root))
    before = sorted((str(path), path.stat().st_mtime_ns) for path in root.rglob("*"))
    site.plan()
    assert sorted((str(path), path.stat().st_mtime_ns) for path in root.rglob("*")) == before


def test_the_command_shows_it(site: Site) -> None:
    site.compute("rows")
    options = ["--catalog", str(site.directory), "--storage", str(site.store.root)]
    shown = CliRunner().invoke(main, ["plan", *options])
    assert shown.exit_code == 0, shown.output
    assert "20 of 20" in shown.output
    assert "1 of 5 are as they were" in shown.output
    one = CliRunner().invoke(main, ["plan", "doubled", "--json", *options])
    (only,) = json.loads(one.output)
    assert (only["id"], only["action"], only["requests"]) == ("doubled", "run", 20)
    behind = CliRunner().invoke(main, ["plan", "doubled", "--upstream", "--json", *options])
    assert {each["id"] for each in json.loads(behind.output)} == {"rows", "doubled"}
