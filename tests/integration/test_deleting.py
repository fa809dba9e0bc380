"""Deleted entities: recorded in Dagster, refused at work, undone by materializing; manifests that go and come back."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from dyff_dagster.orchestration.marks import Marks, key_of
from tests.integration.operating_support import Desk, desk, made, template

__all__ = ["desk", "made", "template"]


def test_an_operator_deletes_an_entity_purges_it_and_makes_it_anew(made: Desk) -> None:
    before = made.store.current("scores")
    assert before is not None

    done = made.run("delete", "scores", "--yes")
    assert done.exit_code == 0, done.output
    assert "scores: Deleted" in done.output
    assert made.status()["scores"] == ("Deleted", "DeleteCommand")
    assert made.words()["scores"] == ("Deleted", "DeleteCommand")
    assert made.words()["judged"] == ("Complete", None)
    assert made.store.current("scores") == before, "its artifacts stay"

    shown = made.run("purge", "--dry-run")
    assert "scores" in shown.output and "Deleted since" in shown.output and "frees " in shown.output
    assert made.store.current("scores") == before

    purged = made.purge()
    assert [removal["entity"] for removal in purged["removals"]] == ["scores"]
    assert made.store.current("scores") is None
    assert made.status()["scores"] == ("Deleted", "DeleteCommand")
    assert "scores" in made.run("history", "scores").output, "its history stays"

    made.materialize("measurements/scores")
    assert made.status()["scores"] == ("Complete", None)
    after = made.store.current("scores")
    assert after is not None and after.data_version == before.data_version
    assert after.sequence == before.sequence + 1, "no number is given twice"
    assert len(made.store.revisions.of("scores")) == 1


def test_a_deletion_names_what_is_made_from_the_entity(made: Desk) -> None:
    done = made.run("delete", "doubled", "--yes")
    assert "made from it, and staying as they are: judged, scores" in done.output
    together = made.run("delete", "judged", "scores", "--yes")
    assert "made from it" not in together.output
    assert made.words()["scores"][0] == made.words()["judged"][0] == "Deleted"


def test_what_depends_on_a_deleted_entity_waits_for_it(desk: Desk) -> None:
    desk.materialize("datasets/rows")
    desk.run("delete", "rows", "--yes")
    assert desk.words()["doubled"] == ("Created", "UnsatisfiedDependency")


def test_a_deleted_entity_that_is_materialized_is_what_it_was_and_costs_nothing(made: Desk) -> None:
    before = made.store.current("doubled")
    made.run("delete", "doubled", "--yes")
    made.materialize("evaluations/doubled")
    assert made.words()["doubled"] == ("Complete", None)
    assert made.store.current("doubled") == before


def test_to_delete_twice_says_so_and_records_nothing(desk: Desk) -> None:
    desk.materialize("datasets/rows")
    desk.run("delete", "rows", "--yes")
    first = Marks.read(desk.instance).told[key_of("Dataset", "rows")]
    again = desk.run("delete", "rows", "--yes")
    assert again.exit_code == 0
    assert again.output == "rows: is Deleted already\n"
    assert Marks.read(desk.instance).told[key_of("Dataset", "rows")] == first


def test_what_a_process_computes_is_not_deleted(made: Desk) -> None:
    with made.store.lock("scores"):
        done = made.run("delete", "scores", "--yes")
    assert done.exit_code == 1
    assert "scores: another run" in done.output
    assert made.words()["scores"] == ("Complete", None)


def test_what_a_run_is_to_compute_is_not_deleted(desk: Desk) -> None:
    desk.materialize("datasets/rows")
    from dyff_dagster import DyffStorage, build_definitions

    defs = build_definitions(desk.catalog, storage=DyffStorage(root=str(desk.root)))
    run = desk.instance.create_run_for_job(defs.resolve_implicit_global_asset_job_def())
    done = desk.run("delete", "rows", "--yes")
    assert done.exit_code == 1
    assert f"rows: the run {run.run_id} is to compute it at this moment" in done.output
    desk.instance.report_run_canceled(run)
    assert desk.run("delete", "rows", "--yes").exit_code == 0


def test_what_is_only_declared_is_deleted_by_taking_its_manifest_away(desk: Desk) -> None:
    done = desk.run("delete", "judge", "--yes")
    assert done.exit_code == 1
    assert "judge is a Method, which is there because it is written down" in done.output


def test_all_or_nothing_is_deleted(made: Desk) -> None:
    done = made.run("delete", "scores", "nothing", "--yes")
    assert done.exit_code == 1 and "nothing" in done.output
    assert made.words()["scores"] == ("Complete", None)


def test_an_entity_that_starts_by_itself_is_told_to_come_back(desk: Desk) -> None:
    path = desk.directory / "audit.yaml"
    text = path.read_text()
    path.write_text(
        text.replace(
            "id: doubled\naccount: acme\n",
            "id: doubled\naccount: acme\nannotations: {dyff-dagster/automation: eager}\n",
        )
    )
    assert "automation: eager" in desk.run("delete", "doubled", "--yes").output


def test_without_a_terminal_nothing_is_deleted_unasked(desk: Desk) -> None:
    desk.materialize("datasets/rows")
    done = desk.run("delete", "rows", terminal="y\n")
    assert done.exit_code == 1
    assert "say --yes" in done.output
    assert desk.words()["rows"] == ("Ready", None)


@pytest.mark.parametrize(("answer", "status"), [("n\n", "Ready"), ("y\n", "Deleted")])
def test_on_a_terminal_it_asks(desk: Desk, answer: str, status: str) -> None:
    desk.materialize("datasets/rows")
    master, slave = pty.openpty()
    command = [Path(sys.executable).with_name("dyff-dagster"), "delete", "rows", "--catalog", desk.directory]
    child = subprocess.Popen(
        [*command, "--storage", desk.root], stdin=slave, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    os.write(master, answer.encode())
    output, _ = child.communicate(timeout=300)
    assert "Delete rows? [y/N]" in output.decode()
    assert child.returncode == 0
    assert desk.words()["rows"][0] == status
    os.close(master)
    os.close(slave)


def test_without_an_instance_it_says_what_is_needed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_HOME")
    done = desk.run("delete", "rows", "--yes")
    assert done.exit_code == 1
    assert "DAGSTER_HOME must name the directory" in done.output


def test_a_manifest_that_goes_is_deleted_and_one_that_comes_back_is_what_it_was(made: Desk) -> None:
    made.look()
    before = made.store.current("scores")
    taken = made.take_out("scores")
    assert "Deleted: measurements/scores" in made.look()
    assert made.status()["scores"] == ("Deleted", "DeleteCommand")
    assert "scores" in made.run("status", "scores").output
    assert made.store.current("scores") == before

    (made.directory / "back.yaml").write_text(taken["scores"])
    assert "here again: measurements/scores" in made.look()
    assert made.status()["scores"] == ("Complete", None)
    (latest,) = made.instance.fetch_observations(key_of("Measurement", "scores"), limit=1).records
    assert latest.asset_observation is not None
    assert latest.asset_observation.metadata["dyff/status"].value == "Complete"
    assert made.purge()["removals"] == []
    made.materialize("measurements/scores")
    assert made.store.current("scores") == before, "it was taken over"


def test_a_manifest_that_comes_back_after_a_purge_has_nothing(made: Desk) -> None:
    made.look()
    taken = made.take_out("scores")
    made.look()
    assert [removal["entity"] for removal in made.purge()["removals"]] == ["scores"]
    (made.directory / "back.yaml").write_text(taken["scores"])
    made.look()
    assert made.words()["scores"] == ("Deleted", "DeleteCommand")
    assert made.status()["scores"] == ("Deleted", "DeleteCommand")


def test_the_ui_shows_who_deleted_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYFF_USER", "ada")
    desk.run("delete", "rows", "--yes")
    (record,) = desk.instance.fetch_observations(dg.AssetKey(["datasets", "rows"]), limit=5).records
    assert record.asset_observation is not None
    said = {name: value.value for name, value in record.asset_observation.metadata.items()}
    assert said == {
        "dyff/status": "Deleted",
        "dyff/reason": "DeleteCommand",
        "dyff/by": "command",
        "dyff/user": "ada",
    }
