"""However an audit is run, what comes out has the same digests."""

from __future__ import annotations

from pathlib import Path

from dyff_dagster.store import Store
from tests import servers
from tests.conftest import LaunchedAudit

COMPUTED = {"rows", "functions", "notebook", "doubled", "judged", "scores", "case"}


def data_versions(project: Path) -> dict[str, str]:
    store = Store(project / "dyff-storage")
    commits = {entity_id: store.current(entity_id) for entity_id in COMPUTED}
    return {entity_id: commit.data_version for entity_id, commit in commits.items() if commit is not None}


def test_dagster_asset_materialize_gives_what_the_web_server_gives(
    project: Path, launched_audit: LaunchedAudit
) -> None:
    env = servers.environment(project / "home", DYFF_CATALOG="catalog", DYFF_EXECUTOR="in_process")
    servers.run(
        servers.command("dagster", "asset", "materialize", "--select", "*", "-f", "definitions.py"),
        project,
        env,
    )
    assert data_versions(project).keys() == COMPUTED
    assert data_versions(project) == data_versions(launched_audit.project)


def test_dg_launch_gives_what_the_web_server_gives(project: Path, launched_audit: LaunchedAudit) -> None:
    # With nothing but the catalog set: no DAGSTER_HOME, and pages somewhere.
    env = servers.environment(
        project / "home",
        DYFF_CATALOG="catalog",
        DYFF_EXECUTOR="in_process",
        DYFF_PAGES_URL="http://127.0.0.1:9",
    )
    del env["DAGSTER_HOME"]
    servers.run(servers.command("dg", "launch", "--assets", "*"), project, env)
    assert data_versions(project).keys() == COMPUTED
    assert data_versions(project) == data_versions(launched_audit.project)
