"""What a result rests on must be there: the check that blocks where it is not, and the one that warns."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dyff_dagster import DyffStorage, build_definitions
from dyff_dagster.schema.platform import Module
from dyff_dagster.store import Facts, Inputs, Store, local_path
from dyff_dagster.store.references import Provenance
from tests.integration.elsewhere_support import commit_text
from tests.integration.operating_support import Desk, desk, made, template

__all__ = ["desk", "made", "template"]


def run(
    desk: Desk, *names: str, checks_alone: bool = False
) -> tuple[bool, dict[str, dg.AssetCheckEvaluation]]:
    """Materialize some assets, or look at their checks alone: whether it went well, and the checks by "ID/CHECK"."""
    defs = build_definitions(desk.catalog, storage=DyffStorage(root=str(desk.root)))
    keys = [dg.AssetKey(name.split("/")) for name in names]
    selection: Any = dg.AssetSelection.assets(*keys)
    if checks_alone:
        selection = dg.AssetSelection.checks_for_assets(*(defs.get_assets_def(key) for key in keys))
    merged = dg.Definitions.merge(defs, dg.Definitions(jobs=[dg.define_asset_job("some", selection)]))
    result = merged.resolve_job_def("some").execute_in_process(instance=desk.instance, raise_on_error=False)
    found = {f"{e.asset_key.path[-1]}/{e.check_name}": e for e in result.get_asset_check_evaluations()}
    return result.success, found


def lose(desk: Desk, entity_id: str) -> str:
    """Take the files of an entity's version away; the version."""
    commit = desk.store.current(entity_id)
    assert commit is not None
    shutil.rmtree(local_path(commit.path))
    return commit.data_version


def test_what_rests_on_whole_versions_says_so(made: Desk) -> None:
    went_well, found = run(made, "measurements/judged", "measurements/scores")
    assert went_well
    assert found["judged/provenance"].passed
    assert found["scores/provenance"].passed
    assert found["scores/provenance"].blocking


def test_a_result_whose_origin_is_gone_is_not_taken_over(made: Desk) -> None:
    """The measurement beside it is whole, and two steps behind it the data set is not."""
    version = lose(made, "rows")
    went_well, found = run(made, "measurements/scores")
    assert not went_well
    check = found["scores/provenance"]
    assert not check.passed
    assert check.severity == dg.AssetCheckSeverity.ERROR
    reason = str(check.metadata["reason"].value)
    assert f"version {version[:12]} of rows" in reason
    assert "materialize rows again" in reason
    assert made.words()["scores"] == ("Failed", "UnsatisfiedDependency")
    # What it says to do helps.
    assert run(made, "datasets/rows", "evaluations/doubled", "measurements/judged", "measurements/scores")[0]
    assert made.words()["scores"] == ("Complete", None)


def test_the_check_alone_sees_what_is_gone(made: Desk) -> None:
    assert run(made, "measurements/scores", checks_alone=True)[1]["scores/provenance"].passed
    before = {state["id"]: state for state in made_states(made)}["scores"]["failed_checks"]
    lose(made, "doubled")
    assert not run(made, "measurements/scores", checks_alone=True)[1]["scores/provenance"].passed
    failed = {state["id"]: state for state in made_states(made)}["scores"]["failed_checks"]
    assert set(failed) - set(before) == {"provenance"}


def made_states(desk: Desk) -> list[dict[str, Any]]:
    done = desk.run("status", "--json")
    assert done.exit_code == 0, done.output
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_each_version_rests_on_its_own(made: Desk) -> None:
    """Versions of before are looked at as they were, those of now as they are."""
    commit = made.store.current("judged")
    assert commit is not None
    assert Provenance(made.store).lost(commit) is None
    made.change_rows(11)
    made.materialize()
    old = next(each for each in made.store.commits("rows") if each.sequence == 1)
    shutil.rmtree(local_path(old.path))
    assert Provenance(made.store).lost(commit) == ("rows", old.data_version)
    now = made.store.current("judged")
    assert now is not None
    assert Provenance(made.store).lost(now) is None


def test_of_two_directories_with_the_same_content_one_that_is_whole_will_do(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    first = commit_text(store, "one", besides="Monday")
    second = commit_text(store, "one", besides="Friday", spec="t")
    assert first.data_version == second.data_version and first.path != second.path
    with store.draft("n") as draft:
        (draft.path / "a.txt").touch()
        result = draft.commit(
            entity=Module(id="n", account="acme", name="n", artifacts=[{"path": "a.txt"}]),
            data_version="a" * 64,
            inputs=Inputs(spec="s", upstream={"m": first.data_version}),
            facts=Facts(),
        )
    shutil.rmtree(local_path(second.path))
    assert Provenance(store).lost(result) is None
    shutil.rmtree(local_path(first.path))
    assert Provenance(store).lost(result) == ("m", first.data_version)


def test_a_damaged_record_on_the_way_is_told(made: Desk, tmp_path: Path) -> None:
    commit = made.store.current("doubled")
    assert commit is not None
    (record,) = local_path(made.store.working("doubled") / "commits").iterdir()
    record.write_text("{}")
    _, found = run(made, "measurements/scores", checks_alone=True)
    assert not found["scores/provenance"].passed
    assert "cannot be known" in str(found["scores/provenance"].metadata["reason"].value)


@pytest.mark.parametrize("deprecated", [False, True])
def test_a_deprecated_kind_is_warned_of_and_computed(desk: Desk, deprecated: bool) -> None:
    if deprecated:
        (desk.directory / "report.yaml").write_text(REPORT)
        (desk.directory / "code" / "small_rubric.py").write_text(RUBRIC)
    run(desk, "datasets/rows", "evaluations/doubled", "modules/functions")
    if not deprecated:
        _, found = run(desk, "measurements/judged")
        assert "judged/deprecated" not in found
        return
    went_well, found = run(desk, "modules/rubrics", "reports/old")
    assert went_well
    check = found["old/deprecated"]
    assert not check.passed
    assert not check.blocking
    assert check.severity == dg.AssetCheckSeverity.WARN
    assert "deprecated since 0.8.0" in str(check.metadata["reason"].value)


RUBRIC = """
import pyarrow as pa

class Doubled:
    schema = pa.schema([
        pa.field("_index_", pa.int64(), nullable=False),
        pa.field("_replication_", pa.string(), nullable=False),
        pa.field("y", pa.int64(), nullable=False),
    ])

    def apply(self, task_data, predictions):
        for batch in predictions.to_batches():
            rows = [
                {"_index_": r["_index_"], "_replication_": r["_replication_"], "y": r["responses"][0]["y"]}
                for r in batch.to_pylist()
            ]
            yield pa.RecordBatch.from_pylist(rows, schema=self.schema)
"""
REPORT = """kind: Module
id: rubrics
account: acme
name: Rubrics
annotations: {dyff-dagster/files: code}
artifacts: [{path: small_rubric.py}]
---
kind: Report
id: old
account: acme
rubric: small_rubric.Doubled
evaluation: doubled
modules: [rubrics]
dataset: rows
inferenceService: doubler
"""
