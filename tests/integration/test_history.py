"""Families and history through Dagster and the command: who changed what, and what a name stood for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from click import unstyle
from click.testing import CliRunner, Result

from dyff_dagster import Catalog, DyffStorage, build_definitions
from dyff_dagster.cli import main
from dyff_dagster.schema.platform import Module
from dyff_dagster.store import Facts, Inputs, Store
from tests.integration import small_catalog
from tests.integration.test_orchestration import Audit

FAMILIES = """
---
kind: Family
id: sets
account: acme
memberKind: Dataset
members: {held-out: rows}
---
kind: Family
id: services
account: acme
memberKind: InferenceService
members: {live: doubler}
"""


@pytest.fixture
def audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Audit]:
    monkeypatch.setenv("DYFF_USER", "ada")
    with dg.instance_for_test() as instance:
        audit = Audit(tmp_path, instance)
        audit.edit("audit.yaml", "dataset: rows\nreplications", "dataset: sets@held-out\nreplications")
        audit.edit("audit.yaml", "{inferenceService: doubler}", "{inferenceService: services@live}")
        path = audit.directory / "audit.yaml"
        path.write_text(path.read_text().replace("dataset: rows}", "dataset: sets@held-out}") + FAMILIES)
        yield audit


def numbers(audit: Audit) -> dict[str, int]:
    """How many revisions each entity of the store has."""
    return {name: len(audit.store.revisions.of(name)) for name in audit.store.entity_ids()}


def command(audit: Audit, *arguments: str) -> Result:
    return CliRunner().invoke(
        main, ["history", *arguments, "--storage", str(audit.root)], catch_exceptions=False
    )


def test_loading_records_nothing(audit: Audit) -> None:
    audit.definitions().resolve_asset_graph()
    assert not audit.root.exists()


def test_a_family_has_an_asset_and_no_edges(audit: Audit) -> None:
    graph = audit.definitions().resolve_asset_graph()
    node = graph.get(dg.AssetKey(["families", "sets"]))
    assert node.is_materializable is False
    assert node.parent_keys == set()
    assert node.child_keys == set()
    assert dg.AssetKey(["datasets", "rows"]) in graph.get(dg.AssetKey(["evaluations", "doubled"])).parent_keys


def test_what_a_manifest_names_by_family_is_in_metadata_before_and_after(audit: Audit) -> None:
    written = {"dataset": "sets@held-out", "inferenceSession.inferenceService": "services@live"}
    graph = audit.definitions().resolve_asset_graph()
    spec = graph.get(dg.AssetKey(["evaluations", "doubled"])).metadata
    assert spec["dyff/references"].value == written
    assert "dyff/references" not in graph.get(dg.AssetKey(["datasets", "rows"])).metadata

    metadata = audit.materialized(audit.run())
    assert metadata["evaluations/doubled"]["dyff/references"] == written
    assert metadata["measurements/judged"]["dyff/references"] == {"scope.dataset": "sets@held-out"}
    assert "dyff/references" not in metadata["datasets/rows"]
    again = audit.materialized(audit.run())["evaluations/doubled"]
    assert (again["dyff/reused"], again["dyff/references"]) == (True, written)


def test_a_run_records_what_is_computed_and_what_is_declared_with_it(audit: Audit) -> None:
    result = audit.run()
    assert numbers(audit) == dict.fromkeys(
        ["doubled", "doubler", "functions", "judge", "judged", "rows", "score", "scores", "services", "sets"],
        1,
    )
    (method,) = audit.store.revisions.of("judge")
    assert (method.user, method.run_id, method.commit) == ("ada", result.run_id, "judged/1")
    audit.run()
    assert set(numbers(audit).values()) == {1}


def test_only_what_is_used_of_the_declared_is_recorded(audit: Audit) -> None:
    audit.run('key:"datasets/rows"')
    assert numbers(audit) == {"rows": 1}


def test_a_changed_manifest_is_a_revision_of_what_it_changes(audit: Audit) -> None:
    audit.run()
    audit.edit("audit.yaml", "replications: 2", "replications: 3")
    audit.run()
    assert {name: count for name, count in numbers(audit).items() if count > 1} == {"doubled": 2}


def test_a_threshold_that_was_lowered_is_in_the_history_although_nothing_was_computed(audit: Audit) -> None:
    audit.run()
    audit.edit("audit.yaml", "accuracy >= 0.9", "accuracy >= 0.1")
    assert audit.materialized(audit.run())["measurements/scores"]["dyff/reused"] is True
    shown = command(audit, "scores", "--diff").output
    assert "-  dyff-dagster/checks: accuracy >= 0.9;" in shown
    assert "+  dyff-dagster/checks: accuracy >= 0.1;" in shown
    assert len(audit.store.commits("scores")) == 1


def test_moving_a_member_makes_stale_and_revises_exactly_what_refers_to_it(audit: Audit) -> None:
    audit.run()
    path = audit.directory / "audit.yaml"
    other = small_catalog.MANIFESTS.split("---")[0].replace("id: rows", "id: other-rows")
    path.write_text(path.read_text() + "---" + other)
    before = _code_versions(audit)
    audit.edit("audit.yaml", "{keyword: rows, entity: rows}", "{keyword: rows, entity: sets@held-out}")
    audit.edit("audit.yaml", "{held-out: rows}", "{held-out: other-rows}")
    after = _code_versions(audit)
    assert {key for key in before if before[key] != after[key]} == {
        "evaluations/doubled", "families/sets", "measurements/judged", "measurements/scores",
    }  # fmt: skip

    assert audit.run('key:"datasets/other-rows" or key:"evaluations/doubled"').success
    assert {name: count for name, count in numbers(audit).items() if count > 1} == {"doubled": 2, "sets": 2}
    shown = command(audit, "doubled", "1", "2").output
    assert "-dataset: rows" in shown
    assert "+dataset: other-rows" in shown


def _code_versions(audit: Audit) -> dict[str, str | None]:
    graph = audit.definitions().resolve_asset_graph()
    return {key.to_user_string(): graph.get(key).code_version for key in graph.get_all_asset_keys()}


# The command


@pytest.fixture
def changed(audit: Audit) -> Audit:
    """Three revisions of the evaluation, by two people."""
    rows = 'key:"datasets/rows" or key:"evaluations/doubled"'
    audit.run(rows)
    audit.edit("audit.yaml", "replications: 2", "replications: 3")
    audit.run(rows)
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        patch.setenv("DYFF_USER", "grace")
        audit.edit("audit.yaml", "workersPerReplica: 2", "workersPerReplica: 1")
        audit.edit("audit.yaml", "y: int64!", "y: int32!")
        audit.run(rows)
    return audit


def test_the_command_lists_who_changed_what_and_diffs_two_revisions(changed: Audit) -> None:
    listed = command(changed, "doubled")
    assert listed.exit_code == 0
    lines = [line for line in listed.output.splitlines() if " doubled/" in line]
    assert [("ada" in line, "grace" in line) for line in lines] == [
        (True, False),
        (True, False),
        (False, True),
    ]
    assert "(the first)" in lines[0]
    assert "replications" in lines[1]
    assert "outputSchema.arrow.responses" in lines[2]
    assert "workersPerReplica" in listed.output

    found: list[dict[str, Any]] = json.loads(command(changed, "doubled", "--json").output)
    assert [one["changed"] for one in found[:2]] == [None, ["replications"]]
    assert [one["user"] for one in found] == ["ada", "ada", "grace"]
    assert all(one["run"] and one["commit"].startswith("doubled/") for one in found)

    second = command(changed, "doubled", "1", "2").output
    assert second.splitlines()[1].startswith("revision 2: 20")
    assert ", by ada, with commit doubled/2, in run " in second
    assert second.splitlines()[2:4] == ["--- doubled revision 1", "+++ doubled revision 2"]
    assert "-replications: 2\n+replications: 3\n" in second
    assert "\x1b" not in second

    last = command(changed, "doubled", "--diff").output
    assert last == command(changed, "doubled", "previous", "latest").output
    assert last == command(changed, "doubled", "2").output
    assert last == command(changed, "doubled", found[1]["id"], found[2]["id"][:8]).output
    assert "y: int32!" in last
    assert "by grace" in last

    compared = json.loads(command(changed, "doubled", "1", "latest", "--json").output)
    assert (compared["old"]["number"], compared["new"]["number"]) == (1, 3)
    assert {"field": "replications", "old": 2, "new": 3} in compared["changed"]
    assert "+replications: 3" in compared["diff"]


def test_a_narrow_terminal_gets_each_moment_and_commit_on_one_line(tmp_path: Path) -> None:
    module = Module(id="a-module-with-a-long-id", account="me", name="M", artifacts=[{"path": "a.txt"}])
    store = Store(tmp_path)
    with store.draft(module.id) as draft:
        (draft.path / "a.txt").write_text("a")
        draft.commit(entity=module, data_version="d" * 64, inputs=Inputs(spec="s"), facts=Facts())
    arguments = ["history", module.id, "--storage", str(tmp_path)]
    environment = {
        "FORCE_COLOR": "1",
        "COLUMNS": "90",
        "DYFF_USER": "a.long.name@" + "x" * 60,
        "NO_COLOR": None,
    }
    shown = unstyle(CliRunner().invoke(main, arguments, env=environment).output)
    (revision,) = store.revisions.of(module.id)
    (line,) = [line for line in shown.splitlines() if f"{revision.created:%Y-%m-%d %H:%M:%S}" in line]
    assert "…/1" in line
    assert "(the first)" in shown
    assert f"{module.id}/1" in CliRunner().invoke(main, arguments).output


def test_a_terminal_gets_colours(changed: Audit) -> None:
    shown = (
        CliRunner()
        .invoke(main, ["history", "doubled", "1", "2", "--storage", str(changed.root)], color=True)
        .output
    )
    assert "\x1b[31m-replications: 2\x1b[0m" in shown
    assert "\x1b[32m+replications: 3\x1b[0m" in shown


def test_the_same_revision_twice_says_so(audit: Audit) -> None:
    audit.run('key:"datasets/rows"')
    assert command(audit, "rows", "1", "1").output.splitlines()[-1] == "They say the same."


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["somebody"], "somebody has no history in "),
        (["../rows"], "'../rows' is no possible id"),
        (["rows", "7"], "rows has no revision '7': write a number (1), an id, latest or previous"),
        (["rows", "--diff"], "rows has one revision, and nothing before it to compare it with"),
    ],
)
def test_what_cannot_be_shown_is_one_sentence(audit: Audit, arguments: list[str], message: str) -> None:
    audit.run('key:"datasets/rows"')
    done = command(audit, *arguments)
    assert done.exit_code == 1
    assert done.output.startswith(message)
    assert done.output.count("\n") == 1


def test_reading_a_history_makes_no_store(tmp_path: Path) -> None:
    root = tmp_path / "nowhere"
    assert CliRunner().invoke(main, ["history", "rows", "--storage", str(root)]).exit_code == 1
    assert not root.exists()


def test_an_audit_run_anew_elsewhere_has_the_same_revisions(audit: Audit, tmp_path: Path) -> None:
    audit.run()
    other = tmp_path / "elsewhere"
    defs = build_definitions(Catalog.load(audit.directory), storage=DyffStorage(root=str(other)))
    job = dg.define_asset_job("audit", dg.AssetSelection.all())
    dg.Definitions.merge(defs, dg.Definitions(jobs=[job])).resolve_job_def("audit").execute_in_process(
        instance=audit.instance
    )
    ids = {name: [r.id for r in audit.store.revisions.of(name)] for name in audit.store.entity_ids()}
    assert ids == {
        name: [r.id for r in Store(other).revisions.of(name)] for name in Store(other).entity_ids()
    }
