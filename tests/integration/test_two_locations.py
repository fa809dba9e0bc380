"""Several catalogs as several code locations: the workspace of the page, loaded as Dagster's web server loads it."""

from __future__ import annotations

import yaml
from dagster._core.test_utils import instance_for_test
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget

from tests import servers

WORKSPACE = servers.REPOSITORY / "examples" / "two_locations" / "workspace.yaml"


def test_each_catalog_is_a_code_location_of_its_own() -> None:
    with (
        instance_for_test() as instance,
        WorkspaceProcessContext(instance, WorkspaceFileTarget(paths=[str(WORKSPACE)])) as context,
    ):
        request = context.create_request_context()
        assert request.code_location_errors() == []
        assert set(request.code_location_names) == {"cardiology", "radiology"}
        for name in request.code_location_names:
            (repository,) = request.get_code_location(name).get_repositories().values()
            keys = {node.asset_key.to_user_string() for node in repository.get_asset_node_snaps()}
            assert keys == {
                f"datasources/{name}-file", f"datasets/{name}-questions",
                f"inferenceservices/{name}-assistant", f"evaluations/{name}-answers",
            }  # fmt: skip


def test_the_page_shows_the_workspace_that_is_loaded_here() -> None:
    page = (servers.REPOSITORY / "docs" / "pools.md").read_text()
    shown = page.partition("```yaml\nload_from:")[2].partition("```")[0]
    assert yaml.safe_load("load_from:" + shown) == yaml.safe_load(WORKSPACE.read_text())
