"""What Dagster's own web server says of an audit: the graph as drawn, and runs started from it."""

from __future__ import annotations

import urllib.request
from typing import Any

import pytest

from dyff_dagster import Catalog
from dyff_dagster.orchestration.names import asset_key
from dyff_dagster.orchestration.selection import is_declared_only
from tests import servers
from tests.conftest import LaunchedAudit, MaterializedExample

NODES = """
{ assetNodes {
    assetKey { path } dependencyKeys { path } groupName kinds description isMaterializable
    owners { ... on TeamAssetOwner { team } }
} }
"""

ENTRIES = """
metadataEntries {
  label __typename
  ... on IntMetadataEntry { intValue }
  ... on FloatMetadataEntry { floatValue }
  ... on BoolMetadataEntry { boolValue }
  ... on TextMetadataEntry { text }
  ... on MarkdownMetadataEntry { mdStr }
  ... on UrlMetadataEntry { url }
  ... on PathMetadataEntry { path }
  ... on TableColumnLineageMetadataEntry {
    lineage { columnName columnDeps { assetKey { path } columnName } }
  }
  ... on TableSchemaMetadataEntry { schema { columns { name type constraints { nullable } } } }
}
"""

ASSET = f"""
query($key: AssetKeyInput!) {{ assetNodeOrError(assetKey: $key) {{ ... on AssetNode {{
  dataVersion
  assetMaterializations(limit: 1) {{ runId {ENTRIES} }}
  assetChecksOrError {{ ... on AssetChecks {{ checks {{
    name blocking executionForLatestMaterialization {{ runId status evaluation {{ severity {ENTRIES} }} }}
  }} }} }}
}} }} }}
"""


def nodes(server: servers.Webserver) -> dict[str, dict[str, Any]]:
    """The graph's nodes by key."""
    return {"/".join(node["assetKey"]["path"]): node for node in server.graphql(NODES)["assetNodes"]}


def asset(server: servers.Webserver, *path: str) -> dict[str, Any]:
    """Everything asked about one asset."""
    found: dict[str, Any] = server.graphql(ASSET, key={"path": list(path)})["assetNodeOrError"]
    return found


def metadata(server: servers.Webserver, *path: str) -> dict[str, dict[str, Any]]:
    """Entries of the latest materialization by label."""
    (latest,) = asset(server, *path)["assetMaterializations"]
    return {entry["label"]: entry for entry in latest["metadataEntries"]}


def checks(server: servers.Webserver, *path: str) -> dict[str, dict[str, Any]]:
    """An asset's checks by name."""
    return {check["name"]: check for check in asset(server, *path)["assetChecksOrError"]["checks"]}


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog.load(servers.EXAMPLE)


def test_every_entity_is_a_node_and_nothing_else_is(
    example_webserver: servers.Webserver, catalog: Catalog
) -> None:
    expected = {asset_key(entity).to_user_string() for entity in catalog.entities.values()}
    assert nodes(example_webserver).keys() == expected


def test_what_an_entity_depends_on_is_upstream_of_its_node(
    example_webserver: servers.Webserver, catalog: Catalog
) -> None:
    graph = nodes(example_webserver)
    edges = 0
    for entity in catalog.entities.values():
        node = graph[asset_key(entity).to_user_string()]
        upstream = {"/".join(key["path"]) for key in node["dependencyKeys"]}
        expected = {asset_key(catalog.get(dep)).to_user_string() for dep in entity.dependencies()}
        assert expected <= upstream
        edges += len(expected)
    assert edges > len(catalog.entities)


def test_a_node_has_its_accounts_group_and_owner(example_webserver: servers.Webserver) -> None:
    for node in nodes(example_webserver).values():
        assert node["groupName"] == "clinical_ai"
        assert node["owners"] == [{"team": "clinical-ai"}]


@pytest.mark.parametrize(
    ("key", "kinds"),
    [
        ("datasources/wdbc-source", {"datasource", "upload"}),
        ("datasets/wdbc-held-out", {"dataset", "parquet"}),
        ("evaluations/wdbc-logreg-eval", {"evaluation", "parquet"}),
        ("methods/wdbc-judge-instances", {"method", "python"}),
        ("methods/wdbc-argue-safety", {"method", "jupyter"}),
        ("safetycases/wdbc-safety-case", {"safetycase", "jupyter"}),
    ],
)
def test_a_node_has_its_entitys_kind_and_technology(
    example_webserver: servers.Webserver, key: str, kinds: set[str]
) -> None:
    assert set(nodes(example_webserver)[key]["kinds"]) == kinds


def test_a_node_says_what_its_entity_is_about(example_webserver: servers.Webserver) -> None:
    graph = nodes(example_webserver)
    assert "Does it find the cancers?" in graph["safetycases/wdbc-safety-case"]["description"]
    assert "held-out third" in graph["datasets/wdbc-held-out"]["description"]


def test_only_what_is_computed_has_a_button_to_compute_it(
    example_webserver: servers.Webserver, catalog: Catalog
) -> None:
    graph = nodes(example_webserver)
    for entity in catalog.entities.values():
        node = graph[asset_key(entity).to_user_string()]
        assert node["isMaterializable"] is not is_declared_only(entity)


def test_an_evaluation_shows_its_rows_and_columns(example_webserver: servers.Webserver) -> None:
    entries = metadata(example_webserver, "evaluations", "wdbc-logreg-eval")
    assert entries["dagster/row_count"]["intValue"] == 380
    columns = {c["name"]: c for c in entries["dagster/column_schema"]["schema"]["columns"]}
    assert columns.keys() == {"_replication_", "_index_", "responses"}
    assert columns["_index_"]["type"] == "int64"
    assert columns["_index_"]["constraints"]["nullable"] is False
    assert "malignant_probability" in columns["responses"]["type"]


def test_an_evaluation_leads_to_its_rows_and_says_where_its_answers_come_from(
    example_webserver: servers.Webserver,
) -> None:
    entries = metadata(example_webserver, "evaluations", "wdbc-logreg-eval")
    with urllib.request.urlopen(entries["dyff/rows_page"]["url"]) as response:
        assert "Rows 1 to 50 of 380" in response.read().decode()
    lineage = {
        item["columnName"]: item["columnDeps"] for item in entries["dagster/column_lineage"]["lineage"]
    }
    fields = {dep["columnName"] for dep in lineage["responses"]}
    assert "mean_radius" in fields and "diagnosis" not in fields
    assert {"/".join(dep["assetKey"]["path"]) for dep in lineage["responses"]} == {"datasets/wdbc-held-out"}
    assert entries["latency/p95"]["floatValue"] > 0


def test_scores_are_numbers_that_dagster_plots(
    example_webserver: servers.Webserver, materialized_example: MaterializedExample
) -> None:
    commit = materialized_example.store.current("wdbc-safety-case")
    assert commit is not None
    entries = metadata(example_webserver, "safetycases", "wdbc-safety-case")
    assert commit.facts.scores
    for score in commit.facts.scores:
        entry = entries[f"score/{score.name}"]
        assert entry["__typename"] == "FloatMetadataEntry"
        assert entry["floatValue"] == score.value
        assert entries[f"score/{score.name}/low"]["floatValue"] == score.low
    assert entries["score/sensitivity"]["floatValue"] == pytest.approx(65 / 71)


def test_a_safety_case_links_to_its_page_and_its_notebook_which_are_there(
    example_webserver: servers.Webserver, materialized_example: MaterializedExample
) -> None:
    entries = metadata(example_webserver, "safetycases", "wdbc-safety-case")
    for label in ("dyff/page", "dyff/notebook"):
        assert entries[label]["__typename"] == "UrlMetadataEntry"
        url = entries[label]["url"]
        assert url.startswith(materialized_example.pages_url)
        with urllib.request.urlopen(url) as response:
            assert response.status == 200
            assert response.headers["Content-Type"].startswith("text/html")


def test_the_data_version_that_dagster_knows_is_the_committed_one(
    example_webserver: servers.Webserver, materialized_example: MaterializedExample, catalog: Catalog
) -> None:
    for entity in catalog.entities.values():
        if not is_declared_only(entity):
            commit = materialized_example.store.current(entity.id)
            assert commit is not None
            known = asset(example_webserver, *asset_key(entity).path)["dataVersion"]
            assert known == commit.data_version


def test_checks_that_hold_are_green_and_say_what_they_held_against(
    example_webserver: servers.Webserver,
) -> None:
    found = checks(example_webserver, "safetycases", "wdbc-safety-case")
    assert found.keys() == {"provenance", "sensitivity_at_least_0_9", "lower_auc_at_least_0_95"}
    execution = found["lower_auc_at_least_0_95"]["executionForLatestMaterialization"]
    assert execution["status"] == "SUCCEEDED"
    entries = {e["label"]: e for e in execution["evaluation"]["metadataEntries"]}
    assert entries["threshold"]["text"] == "lower(auc) >= 0.95"
    assert 0.95 <= entries["value"]["floatValue"] < 1
    assert entries["value"]["floatValue"] == entries["low"]["floatValue"] < entries["high"]["floatValue"]
    assert entries["n"]["intValue"] == 190


def test_a_run_launched_from_the_web_server_materializes_every_asset(launched_audit: LaunchedAudit) -> None:
    for key, node in nodes(launched_audit.server).items():
        if node["isMaterializable"]:
            (latest,) = asset(launched_audit.server, *key.split("/"))["assetMaterializations"]
            assert latest["runId"] == launched_audit.run_id
    scores = metadata(launched_audit.server, "measurements", "scores")
    assert scores["score/accuracy"]["floatValue"] == 1.0
    assert scores["dagster/row_count"]["intValue"] == 1


def test_a_threshold_that_is_missed_is_red_and_the_run_succeeds(launched_audit: LaunchedAudit) -> None:
    found = checks(launched_audit.server, "measurements", "scores")
    states = {name: c["executionForLatestMaterialization"]["status"] for name, c in found.items()}
    assert states.pop("lower_accuracy_at_least_0_999") == "FAILED"
    assert set(states.values()) == {"SUCCEEDED"}
    assert found["lower_accuracy_at_least_0_999"]["blocking"] is False
    case = metadata(launched_audit.server, "safetycases", "case")
    assert case["dyff/conclusion"]["text"] == "It doubles."


def test_without_a_server_of_pages_a_safety_case_shows_the_path_of_its_page(
    launched_audit: LaunchedAudit,
) -> None:
    entry = metadata(launched_audit.server, "safetycases", "case")["dyff/page"]
    assert entry["__typename"] == "PathMetadataEntry"
    assert entry["path"].startswith(str(launched_audit.project))
    assert entry["path"].endswith(".html")
