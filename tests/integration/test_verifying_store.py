"""Every byte of a store is read again: what is missing, surplus or different is named, and nothing else."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from dyff_dagster.store import local_path
from dyff_dagster.store.verification import verify
from tests.integration.operating_support import Desk, made, template

__all__ = ["made", "template"]


def version(made: Desk, entity_id: str) -> Path:
    commit = made.store.current(entity_id)
    assert commit is not None
    path = local_path(commit.path)
    path.chmod(0o755)
    return path


def overwrite(path: Path, data: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(data)


def test_a_store_as_it_was_committed_is_said_to_be_so(made: Desk) -> None:
    done = made.run("verify-store")
    assert done.exit_code == 0, done.output
    sizes = {
        path: path.stat().st_size
        for path in made.root.rglob("versions/*/*")
        if path.is_file() and path.name != ".files.json"
    }
    assert "5 entities, 5 versions" in done.output and "all as committed" in done.output
    found = json.loads(made.run("verify-store", "--json").stdout)
    hidden = sum(p.stat().st_size for p in made.root.rglob("versions/*/.dyff/*"))
    assert found["bytes"] == sum(sizes.values()) + hidden
    assert found["findings"] == []


def test_each_file_that_is_not_as_it_was_committed_is_named(made: Desk) -> None:
    answers = version(made, "doubled") / "answers.parquet"
    data = answers.read_bytes()
    overwrite(answers, data[:-1] + bytes([data[-1] ^ 1]))
    (version(made, "rows") / "data.parquet").unlink()
    (version(made, "functions") / "more.py").write_text("# mine")
    overwrite(next(version(made, "judged").glob("*.parquet")), b"short")

    done = made.run("verify-store")
    assert done.exit_code == 1
    lines = done.output.splitlines()
    assert any(line.startswith("doubled ") and "answers.parquet differs" in line for line in lines)
    assert any("SHA-256" in line for line in lines if line.startswith("doubled "))
    assert any(line.startswith("rows ") and "data.parquet is missing" in line for line in lines)
    assert any(
        line.startswith("functions ") and "more.py is there and was not committed" in line for line in lines
    )
    assert any(line.startswith("judged ") and "5 bytes, and" in line for line in lines)
    assert lines[-1].endswith("4 not as committed")

    found = json.loads(made.run("verify-store", "--json").stdout)
    assert {(f["entity"], f["what"]) for f in found["findings"]} == {
        ("doubled", "differs"),
        ("rows", "missing"),
        ("functions", "surplus"),
        ("judged", "differs"),
    }
    alone = made.run("verify-store", "functions", "scores")
    assert alone.exit_code == 1 and "2 entities, 2 versions" in alone.output and "rows" not in alone.output


def test_an_old_version_is_verified_too(made: Desk) -> None:
    first = version(made, "rows")
    made.change_rows(12)
    made.materialize("datasets/rows")
    (first / "data.parquet").unlink()
    (finding,) = verify(made.store).findings
    assert (finding.entity_id, finding.file, finding.what) == ("rows", "data.parquet", "missing")
    assert finding.version == first.name


def test_a_link_in_a_files_place_is_no_file(made: Desk) -> None:
    file = version(made, "rows") / "data.parquet"
    file.rename(made.root.parent / "elsewhere")
    file.symlink_to(made.root.parent / "elsewhere")
    (finding,) = verify(made.store).findings
    assert finding.what == "link"


def test_a_wrong_md5_in_the_record_is_a_difference(made: Desk) -> None:
    record = made.root / "rows" / ".dyff" / "commits" / "00000001.json"
    said = json.loads(record.read_text())
    listing = version(made, "rows") / ".files.json"
    for where, files in ((record, said["files"]), (listing, json.loads(listing.read_text()))):
        files["data.parquet"]["md5"] = "AAAAAAAAAAAAAAAAAAAAAA=="
        overwrite(where, json.dumps(said if where == record else files).encode())
    (finding,) = verify(made.store).findings
    assert finding.what == "differs" and finding.detail.startswith("MD5 ")


def test_a_damaged_record_is_named_and_the_rest_is_read(made: Desk) -> None:
    (made.root / "rows" / ".dyff" / "commits" / "00000001.json").write_text("{")
    (version(made, "functions") / "small_functions.py").unlink()
    found = {(f.entity_id, f.what) for f in verify(made.store).findings}
    assert found == {("rows", "damaged"), ("functions", "missing")}


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_cannot_be_read_is_named(made: Desk) -> None:
    (version(made, "rows") / "data.parquet").chmod(0)
    (finding,) = verify(made.store).findings
    assert finding.what == "damaged"


def test_an_entity_that_is_not_there_is_refused(made: Desk) -> None:
    done = made.run("verify-store", "nothing")
    assert done.exit_code == 1
    assert "has nothing of nothing" in done.output


def test_a_place_with_nothing_in_it_is_not_said_to_be_whole(made: Desk) -> None:
    made.root = made.root.parent / "nowhere"
    done = made.run("verify-store")
    assert done.exit_code == 1
    assert "has no committed version" in done.output
    assert not made.root.exists()


def test_progress_is_told_in_bytes(made: Desk) -> None:
    told: list[tuple[int, int]] = []
    verified = verify(made.store, None, lambda done, total: told.append((done, total)))
    assert told[-1] == (verified.bytes, verified.bytes)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
