"""What is purged and what is not: versions that results rest on, what runs write, links, crashes in the middle."""

from __future__ import annotations

import dataclasses
import datetime
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from dyff_dagster.orchestration.purging import Purge
from dyff_dagster.store import Store, local_path
from dyff_dagster.store import purging as store_purging
from tests.integration.operating_support import Desk, desk, made, template

__all__ = ["desk", "made", "template"]


def tree(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def age(path: Path, days: float = 3) -> None:
    """As if it had been written some days ago."""
    then = (datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days)).timestamp()
    for each in [path, *path.rglob("*")] if path.is_dir() else [path]:
        os.utime(each, (then, then), follow_symlinks=False)


def versions(desk: Desk, entity_id: str) -> set[str]:
    return {p.name for p in (desk.root / entity_id / ".dyff" / "versions").iterdir()}


# Old versions


def test_an_old_version_goes_when_no_current_result_rests_on_it(made: Desk) -> None:
    first = made.store.current("rows")
    assert first is not None
    made.change_rows(12)
    made.materialize("datasets/rows")

    kept = made.run("purge", "--versions", "--older-than", "0", "--dry-run")
    assert "nothing is to be removed" in kept.output
    assert "stays: rows 1:" in kept.output and "was computed from it" in kept.output
    assert first.path.exists()

    made.materialize()  # now all results are of the new rows
    purged = made.purge("--versions", "--older-than", "0")
    assert {removal["entity"] for removal in purged["removals"]} >= {"rows", "doubled", "judged", "scores"}
    assert not first.path.exists()
    assert [commit.sequence for commit in made.store.commits("rows")] == [2]
    assert made.run("verify-store").exit_code == 0
    for entity_id in ("rows", "doubled", "judged", "scores"):
        commit = made.store.current(entity_id)
        assert commit is not None and made.store.intact(commit)
    assert made.purge("--versions", "--older-than", "0")["removals"] == []
    made.materialize()
    assert [commit.sequence for commit in made.store.commits("scores")] == [2], "all of it was taken over"


def test_versions_behind_a_result_stay_however_far_behind_it_they_are(made: Desk) -> None:
    made.change_rows(12)
    made.materialize("datasets/rows", "evaluations/doubled")
    # scores rests on judged, and that on the first answers and rows.
    assert made.purge("--versions", "--older-than", "0")["removals"] == []
    purged = made.purge("--versions", "--older-than", "0", "--even-used")
    assert {removal["entity"] for removal in purged["removals"]} == {"rows", "doubled"}
    assert made.run("verify-store").exit_code == 0


def test_a_version_that_was_current_a_moment_ago_stays(desk: Desk) -> None:
    desk.materialize("datasets/rows")
    desk.change_rows(12)
    desk.materialize("datasets/rows")
    found = desk.purge("--versions")
    assert found["removals"] == []
    assert "which is too short a time ago" in found["stays"][0]


def test_what_a_run_may_be_reading_stays(desk: Desk) -> None:
    desk.materialize("datasets/rows")
    desk.change_rows(12)
    desk.materialize("datasets/rows")
    with desk.store.lock("scores"):
        found = desk.purge("--versions", "--older-than", "0")
    assert found["removals"] == []
    assert "rows: scores is being computed from it" in found["stays"]
    assert len(desk.purge("--versions", "--older-than", "0")["removals"]) == 1


def test_bytes_are_those_that_the_disk_gets_back(desk: Desk) -> None:
    desk.materialize("datasets/rows")
    desk.change_rows(12)
    desk.materialize("datasets/rows")
    old = desk.store.commits("rows")[0]
    sizes = [p.stat().st_size for p in local_path(old.path).rglob("*") if p.is_file()]
    record = desk.root / "rows" / ".dyff" / "commits" / "00000001.json"
    found = desk.purge("--versions", "--older-than", "0", "--dry-run")
    assert found["bytes"] == sum(sizes) + record.stat().st_size
    (desk.root / "elsewhere").hardlink_to(local_path(old.path) / "data.parquet")
    again = desk.purge("--versions", "--older-than", "0", "--dry-run")
    assert again["bytes"] == found["bytes"] - (desk.root / "elsewhere").stat().st_size


# Entities


def test_what_a_current_result_was_computed_from_stays_though_it_is_deleted(made: Desk) -> None:
    made.run("delete", "rows", "doubled", "--yes")
    found = made.purge()
    assert found["removals"] == []
    assert len(found["stays"]) == 2 and all("was computed from it" in clause for clause in found["stays"])
    assert {r["entity"] for r in made.purge("--even-used")["removals"]} == {"rows", "doubled"}
    assert made.store.current("rows") is None
    assert made.store.current("scores") is not None


def test_a_whole_chain_that_is_deleted_goes(made: Desk) -> None:
    made.run("delete", "rows", "doubled", "judged", "scores", "--yes")
    assert {r["entity"] for r in made.purge()["removals"]} == {"rows", "doubled", "judged", "scores"}
    left = tree(made.root)
    assert not [name for name in left if name.endswith((".parquet", "scores.json"))]
    assert [name for name in left if "/revisions/" in name]
    made.materialize()
    assert made.words()["scores"] == ("Complete", None)
    assert made.run("verify-store").exit_code == 0


def test_what_is_in_no_catalog_stays_until_it_is_asked_for(made: Desk) -> None:
    made.take_out("scores")  # and no sensor has noticed
    assert made.purge()["removals"] == []
    assert [r["entity"] for r in made.purge("--strays")["removals"]] == ["scores"]
    assert made.store.current("scores") is None
    assert made.store.current("judged") is not None


def test_the_wrong_catalog_purges_nothing(desk: Desk) -> None:
    desk.materialize("datasets/rows")
    other = desk.root.parent / "other"
    other.mkdir()
    (other / "one.yaml").write_text("kind: Family\nid: f\naccount: a\nmemberKind: Dataset\n")
    before = tree(desk.root)
    from click.testing import CliRunner

    from dyff_dagster.cli import main

    arguments = ["purge", "--strays", "--yes", "--catalog", str(other), "--storage", str(desk.root)]
    refused = CliRunner().invoke(main, arguments)
    assert refused.exit_code == 1
    assert "none of the 1 entities in" in refused.output and "--catalog" in refused.output
    assert tree(desk.root) == before
    both = CliRunner().invoke(main, [*arguments, "--catalog", str(desk.directory)])
    assert both.exit_code == 0 and "nothing is to be removed" in both.output


def test_an_entity_that_is_being_computed_stays(made: Desk) -> None:
    made.run("delete", "scores", "--yes")
    before = tree(made.root / "scores")
    with made.store.lock("scores"):
        done = made.run("purge", "--yes")
    assert done.exit_code == 1
    assert "scores" in done.stderr and "it is being computed" in done.stderr
    after = tree(made.root / "scores")
    assert {n: b for n, b in after.items() if n != ".dyff/lock"} == {
        n: b for n, b in before.items() if n != ".dyff/lock"
    }


def test_what_was_made_anew_while_somebody_thought_about_it_stays(made: Desk) -> None:
    made.run("delete", "scores", "--yes")
    before = datetime.datetime.now(datetime.UTC)
    purge = Purge([made.catalog], made.store, made.instance, before, deleted=True)
    shown = purge.find()
    code = made.directory / "code" / "small_functions.py"
    code.write_text(code.read_text() + "\n# other code\n")
    made.materialize("modules/functions", "measurements/scores")
    ((removal, why),) = list(purge.carry_out(shown.removals))
    assert removal.entity_id == "scores" and why == "it was committed anew meanwhile"
    assert made.words()["scores"] == ("Complete", None)


@pytest.fixture(scope="module")
def twice(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A desk on which all was materialized twice, and one entity was deleted."""
    path = tmp_path_factory.mktemp("twice")
    shutil.copytree(template, path, dirs_exist_ok=True)
    with dg.instance_for_test(temp_dir=str(path / "home")) as instance:
        made = Desk(path, instance)
        made.change_rows(12)
        made.materialize()
        made.run("delete", "scores", "--yes")
    return path


@pytest.fixture
def made_twice(twice: Path, tmp_path: Path) -> Iterator[Desk]:
    """A copy of it."""
    shutil.copytree(twice, tmp_path, dirs_exist_ok=True)
    with dg.instance_for_test(temp_dir=str(tmp_path / "home")) as instance:
        yield Desk(tmp_path, instance)


@pytest.mark.parametrize("steps", [1, 3, 4, 6, 9])
def test_a_crash_in_mid_purge_leaves_the_store_whole(made_twice: Desk, steps: int) -> None:
    """It is killed after so many removals; what is left is whole, and the next purge ends it."""
    made = made_twice
    script = (
        "import os, sys\n"
        "from dyff_dagster.store.filesystem import LocalFilesystem\n"
        "from dyff_dagster.cli import main\n"
        "discard, left = LocalFilesystem.discard, [int(sys.argv[1])]\n"
        "def counted(*arguments):\n"
        "    if not left[0]: os._exit(9)\n"
        "    left[0] -= 1\n"
        "    discard(*arguments)\n"
        "LocalFilesystem.discard = counted\n"
        "main(sys.argv[2:])\n"
    )
    options = ["purge", "--deleted", "--versions", "--older-than", "0", "--yes"]
    options += ["--catalog", str(made.directory), "--storage", str(made.root)]
    done = subprocess.run(
        [sys.executable, "-c", script, str(steps), *options], capture_output=True, text=True
    )
    assert done.returncode == 9, done.stderr
    for entity_id in made.store.entity_ids():
        numbers = [commit.sequence for commit in made.store.commits(entity_id)]
        assert not numbers or numbers[-1] == 2 or entity_id == "functions", "the current version is the same"
        for commit in made.store.commits(entity_id):
            assert made.store.intact(commit), entity_id
    assert made.run("verify-store").exit_code == 0
    assert made.words()["scores"] == ("Deleted", "DeleteCommand")
    made.purge("--deleted", "--versions", "--partial", "--older-than", "0")
    assert made.store.current("scores") is None
    assert [c.sequence for c in made.store.commits("rows")] == [2]
    assert versions(made, "rows") == {made.store.commits("rows")[0].path.name}


# What crashes leave


def test_what_crashes_left_goes_and_what_runs_write_stays(made: Desk) -> None:
    working = made.root / "scores" / ".dyff"
    left = [
        working / "drafts" / "d1" / "part-00000.parquet",
        working / "versions" / ("0" * 64) / "half.parquet",
        working / "sorting" / "000000.arrow",
        working / "dyff-analysis-x1" / "job.json",
        made.root / "scores" / f".part-00000.parquet.{'a' * 32}.tmp",
        made.root / ".cache" / "web" / "x" / "archive.zip.part",
    ]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    before = tree(made.root)
    assert made.purge("--partial")["removals"] == [], "they are too young"
    for path in left:
        age(path)
    with made.store.lock("scores"):
        busy = made.purge("--partial", "--dry-run")
    assert [r["what"] for r in busy["removals"]] == ["download"]
    assert "scores: it is being computed" in busy["stays"]
    found = made.purge("--partial")
    assert sorted(r["what"] for r in found["removals"]) == ["download", *["unfinished"] * 5]
    gone = {str(path.relative_to(made.root)) for path in left}
    assert set(tree(made.root)) == set(before) - gone
    assert made.run("verify-store").exit_code == 0


def test_a_download_that_goes_on_stays(desk: Desk) -> None:
    from dyff_dagster.sources.downloads import alone, partial_of

    desk.materialize("datasets/rows")
    target = desk.root / ".cache" / "web" / "x" / "archive.zip"
    with alone(target):
        partial_of(target).write_bytes(b"half")
        age(partial_of(target))
        assert desk.purge("--partial")["removals"] == []
    assert len(desk.purge("--partial")["removals"]) == 1
    assert not partial_of(target).exists()


def test_a_draft_of_a_later_run_is_not_taken_for_the_one_that_was_shown(made: Desk) -> None:
    draft = made.root / "scores" / ".dyff" / "versions" / ("0" * 64)
    draft.mkdir()
    (draft / "half.parquet").write_bytes(b"half")
    age(draft)
    now = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    purge = Purge([made.catalog], made.store, made.instance, now, partial=True)
    shown = purge.find()
    assert len(shown.removals) == 1
    (draft / "half.parquet").write_bytes(b"whole")  # a run has begun it anew
    ((_, why),) = list(purge.carry_out(shown.removals))
    assert why == "a run has taken it up"
    assert (draft / "half.parquet").read_bytes() == b"whole"


def test_answers_that_can_be_taken_up_stay(desk: Desk) -> None:
    (desk.directory / "garbage").touch()
    desk.materialize("datasets/rows", "evaluations/doubled")  # fails, and pays
    (desk.directory / "garbage").unlink()
    desk.materialize("datasets/rows", "evaluations/doubled")
    parts = desk.root / "doubled" / ".dyff" / "parts"
    before = tree(parts)
    assert before
    age(parts)
    assert desk.purge("--partial", "--answers")["removals"] == []
    assert tree(parts) == before


def test_answers_of_a_service_that_nobody_asks_any_more_go_when_it_is_said(desk: Desk) -> None:
    desk.materialize("datasets/rows", "evaluations/doubled")
    service = desk.directory / "serve.py"
    service.write_text(service.read_text().replace("FACTOR = 2", "FACTOR = 3"))
    parts = desk.root / "doubled" / ".dyff" / "parts"
    age(parts)
    assert desk.purge("--answers")["removals"] == [], "the current answers are of that service"
    desk.materialize("evaluations/doubled")
    assert len(list(parts.iterdir())) == 2
    age(parts)
    assert desk.purge("--partial")["removals"] == [], "they were paid for"
    (removal,) = desk.purge("--answers")["removals"]
    assert removal["why"] == "20 answers of a service that nobody asks as it was then"
    assert len(list(parts.iterdir())) == 1


def test_answers_that_were_asked_for_again_go(desk: Desk) -> None:
    desk.materialize("datasets/rows", "evaluations/doubled")
    (service,) = (desk.root / "doubled" / ".dyff" / "parts").iterdir()
    (service / "g000002.begun").touch()  # a forced run that was killed at once
    found = desk.purge("--partial")
    assert [r["why"] for r in found["removals"]] == ["answers that were asked for again"]
    assert [p.name for p in service.iterdir()] == ["g000002.begun"]
    desk.materialize("evaluations/doubled")
    assert desk.words()["doubled"] == ("Complete", None)


def test_a_version_of_which_there_is_more_than_was_shown_stays(made: Desk) -> None:
    made.change_rows(12)
    made.materialize("datasets/rows")
    later = datetime.datetime.now(datetime.UTC)
    (shown,), _ = store_purging.old_versions(made.store, "rows", {}, later)
    more = dataclasses.replace(shown, paths=(*shown.paths, made.store.working("rows") / "other"))
    assert store_purging.agreed([shown], [shown]) == [shown]
    assert store_purging.agreed([shown], [more]) == []


# Links


@pytest.mark.parametrize("place", ["scores", "scores/.dyff", "scores/.dyff/versions"])
def test_nothing_is_removed_through_a_link(made: Desk, place: str) -> None:
    made.run("delete", "scores", "--yes")
    outside = made.root.parent / "outside"
    (made.root / place).rename(outside)
    (made.root / place).symlink_to(outside)
    before = tree(outside)
    made.run("purge", "--yes")
    made.run("purge", "--partial", "--versions", "--older-than", "0", "--yes")
    assert tree(outside) == before


def test_a_link_among_garbage_is_removed_itself_and_nothing_behind_it(made: Desk) -> None:
    outside = made.root.parent / "outside"
    outside.mkdir()
    (outside / "precious").write_text("mine")
    age(outside / "precious")
    draft = made.root / "scores" / ".dyff" / "drafts" / "d"
    draft.mkdir(parents=True)
    (draft / "file").symlink_to(outside / "precious")
    (draft / "folder").symlink_to(outside)
    age(draft)
    assert len(made.purge("--partial")["removals"]) == 1
    assert not draft.exists()
    assert (outside / "precious").read_text() == "mine"


def test_a_link_put_in_a_directorys_place_at_the_last_moment_is_not_followed(tmp_path: Path) -> None:
    from dyff_dagster.store.trees import LinkInStore, remove_tree

    (tmp_path / "outside" / "versions" / "v").mkdir(parents=True)
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "e").symlink_to(tmp_path / "outside")
    root = tmp_path / "root"
    with pytest.raises(LinkInStore):
        remove_tree(root, root / "e" / "versions" / "v")
    assert (tmp_path / "outside" / "versions" / "v").exists()


# What it says


def test_a_dry_run_removes_nothing(made: Desk) -> None:
    made.run("delete", "scores", "--yes")
    before = tree(made.root)
    done = made.run("purge", "--dry-run", "--versions", "--deleted", "--partial", "--older-than", "0")
    assert done.exit_code == 0 and "frees " in done.output
    assert tree(made.root) == before


def test_without_a_terminal_nothing_is_purged_unasked(made: Desk) -> None:
    made.run("delete", "scores", "--yes")
    before = tree(made.root)
    done = made.run("purge", terminal="y\n")
    assert done.exit_code == 1 and "say --yes" in done.output
    assert tree(made.root) == before


def test_a_damaged_record_stops_it_before_anything_is_removed(made: Desk) -> None:
    made.run("delete", "judged", "--yes")
    record = made.root / "scores" / ".dyff" / "commits" / "00000001.json"
    record.write_text("{")
    before = tree(made.root)
    done = made.run("purge", "--yes")
    assert done.exit_code == 1
    assert "00000001.json is no commit record" in done.output
    assert {n: b for n, b in tree(made.root).items() if "lock" not in n} == {
        n: b for n, b in before.items() if "lock" not in n
    }


def test_a_store_elsewhere_is_purged_by_age_alone(tmp_path: Path) -> None:
    import fsspec

    from dyff_dagster.schema.platform import Dataset
    from dyff_dagster.store import Facts, Inputs

    store = Store("memory://purge-elsewhere")
    entity = Dataset.model_validate(
        {
            "kind": "Dataset",
            "id": "rows",
            "account": "a",
            "name": "R",
            "artifacts": [{"path": "data"}],
            "schema": {"arrowSchema": ""},
        }
    )
    for number in (1, 2):
        with store.draft("rows") as draft:
            (draft.path / "data").write_text(str(number))
            draft.commit(
                entity=entity,
                data_version=f"{number}" * 64,
                inputs=Inputs(spec="s", extras={"n": str(number)}),
                facts=Facts(),
            )
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=1)
    removals, stay = store_purging.old_versions(store, "rows", {}, later)
    assert [removal.why.split(",")[0] for removal in removals] == ["version 1"] and not stay
    assert [why for _, why in store_purging.carry_out(store, removals, later)] == [""]
    assert [commit.sequence for commit in store.commits("rows")] == [2]
    names = fsspec.filesystem("memory").find("/purge-elsewhere/rows/.dyff/versions")
    assert names and all("2" * 64 in name for name in names)
