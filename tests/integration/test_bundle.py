"""A bundle of a small audit that really ran, checked by the command on a machine that has nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from dyff_dagster.audits.bundle import (
    read_private_key,
    read_public_key,
    verify_bundle,
    write_bundle,
)
from dyff_dagster.catalog import Catalog
from dyff_dagster.cli import main
from dyff_dagster.orchestration.selection import is_declared_only
from dyff_dagster.orchestration.steps import Step
from dyff_dagster.processes.process_table import LINUX
from dyff_dagster.schema.content import digest_table
from dyff_dagster.schema.parquet import open_dataset
from dyff_dagster.store import Facts, Inputs, Store, StoreError, no_progress
from tests import object_store, servers
from tests.integration import small_catalog, small_safety_case

SCORE = """
def score(arguments, judged):
    from dyff_dagster.analysis.recipes import estimate
    e = estimate("rate", judged, {"outcomes": "correct", "clusters": "_index_"}, input="judged")
    yield from pa.Table.from_pylist(
        [e.row("accuracy")],
        schema=pa.schema([
            pa.field("score", pa.string(), nullable=False), pa.field("value", pa.float64(), nullable=False),
            ("low", pa.float64()), ("high", pa.float64()), pa.field("n", pa.int64(), nullable=False),
            ("recipe", pa.string()),
        ]),
    ).to_batches()
"""

CELL = """
from dyff_dagster import AnalysisContext

context = AnalysisContext()
columns = {name: name for name in ("value", "low", "high", "n")}
context.score("accuracy", context.estimate("quoted", "scores", columns, where={"score": "accuracy"}))
context.score("by_hand", 0.5)
context.conclusion("It doubles.", holds=True)
"""


@dataclass(frozen=True)
class Ran:
    """The audit's catalog and storage, and a pair of keys."""

    catalog: Path
    storage: Path | str
    private: Path
    public: Path


def ran_in(directory: Path, storage: Path | str) -> Ran:
    catalog = small_safety_case.add(small_catalog.write(directory / "catalog"))
    functions = catalog / "code" / "small_functions.py"
    functions.write_text(functions.read_text().partition("def score(")[0] + SCORE)
    manifest = catalog / "audit.yaml"
    columns = "high: float64, n: int64!"
    manifest.write_text(manifest.read_text().replace(columns, f"{columns}, recipe: string"))
    notebook = catalog / "notebook" / "case.ipynb"
    document = json.loads(notebook.read_text())
    document["cells"][0]["source"] = CELL
    notebook.write_text(json.dumps(document))
    loaded = Catalog.load(catalog)
    store = Store(storage)
    for entity in loaded.entities.values():
        if not is_declared_only(entity):
            Step(loaded, store, entity, no_progress).compute()
    command("keygen", "--out", "keys", cwd=directory)
    return Ran(catalog, storage, directory / "keys.pem", directory / "keys.pub.pem")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    directory = tmp_path_factory.mktemp("audit")
    return ran_in(directory, directory / "storage")


def command(*arguments: object, cwd: Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    """The command, without anything of the environment that names a catalog or a storage."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DYFF_")}
    done = subprocess.run(
        servers.command("dyff-dagster", *map(str, arguments)),
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def bundled(ran: Ran, directory: Path, *options: str) -> Path:
    directory.mkdir(exist_ok=True)
    command(
        "bundle", "case", "--catalog", ran.catalog, "--storage", ran.storage, "--key", ran.private, *options,
        cwd=directory,
    )  # fmt: skip
    return directory / "case.bundle.zip"


def test_a_bundle_is_verified_with_nothing_else_there(ran: Ran, tmp_path: Path) -> None:
    path = bundled(ran, tmp_path)
    alone = tmp_path / "alone"
    alone.mkdir()
    path.rename(alone / "b.zip")
    shown = command("verify", "b.zip", "--key", ran.public, cwd=alone).stdout
    assert "case: all holds, and 1 of 3 scores are asserted only" in shown
    assert "value [interval]" in shown
    assert "2 of 3 made again, 1 asserted" in shown
    assert sorted(os.listdir(alone)) == ["b.zip"]
    found = json.loads(command("verify", "b.zip", "--key", ran.public, "--json", cwd=alone).stdout)
    assert found["holds"] is True
    assert {(score["entity"], score["name"]): score["verdict"] for score in found["scores"]} == {
        ("scores", "accuracy"): "recomputed",
        ("case", "accuracy"): "recomputed",
        ("case", "by_hand"): "asserted",
    }
    assert set(found["left_out"]) == {"rows", "doubled", "judged"}


def test_a_bundle_of_a_store_in_a_bucket_is_verified_alike(
    ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "server").mkdir()
    with object_store.s3(tmp_path / "server") as server:
        bucket = server.bucket(tmp_path, monkeypatch)
        there = ran_in(tmp_path, f"{bucket.bucket}/root")
        fetched = tmp_path / "another-machine"
        monkeypatch.setenv("DYFF_CACHE", str(fetched))  # of the machine that computed it nothing is needed
        store, key = Store(there.storage), read_private_key(there.private)
        written = write_bundle("case", Catalog.load(there.catalog), store, tmp_path / "api.zip", key=key)
        assert set(written.left_out) == {"rows", "doubled", "judged"}
        # What is left out is not fetched either, unless scores were made of its rows.
        (cache,) = (fetched / "stores").iterdir()
        have = {path.name for path in cache.iterdir() if any(path.glob("versions/*"))}
        assert {"case", "scores", "judged"} <= have and not have & {"rows", "doubled"}
        path = bundled(there, tmp_path / "bundled")
        whole = bundled(there, tmp_path / "whole", "--with-data")
    assert path.read_bytes() == (tmp_path / "api.zip").read_bytes()
    for file, left_out in ((path, {"rows", "doubled", "judged"}), (whole, set())):
        found = json.loads(command("verify", file, "--key", there.public, "--json", cwd=tmp_path).stdout)
        assert found["holds"] is True
        assert set(found["left_out"]) == left_out
        assert {(score["entity"], score["name"]): score["verdict"] for score in found["scores"]} == {
            ("scores", "accuracy"): "recomputed",
            ("case", "accuracy"): "recomputed",
            ("case", "by_hand"): "asserted",
        }


def test_what_was_changed_in_a_bucket_goes_into_no_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "server").mkdir()
    with object_store.s3(tmp_path / "server") as server:
        bucket = server.bucket(tmp_path, monkeypatch)
        there = ran_in(tmp_path, f"{bucket.bucket}/root")
        commit = Store(there.storage).current("case")
        assert commit is not None
        page = commit.path / "index.html"
        data = page.fs.cat_file(page.path)
        page.fs.pipe_file(page.path, data.replace(b"doubles", b"triples"))
        monkeypatch.setenv("DYFF_CACHE", str(tmp_path / "another-machine"))
        with pytest.raises(StoreError, match=r"case: index\.html in s3://.* is not what was committed"):
            write_bundle("case", Catalog.load(there.catalog), Store(there.storage), tmp_path / "b.zip")
        assert not (tmp_path / "b.zip").exists()


def test_a_changed_byte_is_named_and_the_status_is_one(ran: Ran, tmp_path: Path) -> None:
    path = bundled(ran, tmp_path)
    data = path.read_bytes()
    place = (
        data.index(b"<!doctype html>") + 3
        if b"<!doctype html>" in data
        else data.index(b"<!DOCTYPE html>") + 3
    )
    path.write_bytes(data[:place] + b"#" + data[place + 1 :])
    done = command("verify", path, "--key", ran.public, cwd=tmp_path, status=1)
    assert "entities/case/files/index.html was changed" in done.stdout
    assert "case: does not hold" in done.stdout


def test_code_is_run_only_if_it_is_asked_for(ran: Ran, tmp_path: Path) -> None:
    path = bundled(ran, tmp_path, "--with-data")
    found = json.loads(command("verify", path, "--key", ran.public, "--json", cwd=tmp_path).stdout)
    assert "code" not in [check["name"] for check in found["checks"]]
    done = command("verify", path, "--key", ran.public, "--json", "--execute", cwd=tmp_path)
    (code,) = [check for check in json.loads(done.stdout)["checks"] if check["name"] == "code"]
    assert (code["state"], code["summary"], code["notes"]) == ("holds", "3 analyses run again", [])


def test_code_that_makes_something_else_fails(ran: Ran, tmp_path: Path) -> None:
    loaded = Catalog.load(ran.catalog)
    store = Store(ran.storage)
    honest = store.current("judged")
    assert honest is not None
    rows = open_dataset(honest.path).to_table()
    flipped = rows.set_column(2, rows.schema.field(2), pa.array([False] * rows.num_rows))
    other = Store(tmp_path / "storage")
    shutil.copytree(ran.storage, tmp_path / "storage", dirs_exist_ok=True)
    with other.draft("judged") as draft:
        pq.write_table(flipped, draft.path / "part-00000.parquet")
        draft.commit(
            entity=loaded.get("judged"),
            data_version=digest_table(flipped),
            inputs=Inputs(**honest.inputs),
            facts=Facts(),
        )
    out = tmp_path / "b.zip"
    write_bundle("judged", loaded, other, out, key=read_private_key(ran.private), with_data=True)
    key = read_public_key(ran.public)
    # All of it is in order, and yet it is not what the code makes of the answers.
    assert verify_bundle(out, key).holds
    found = verify_bundle(out, key, execute=True)
    (code,) = [check for check in found.checks if check.name == "code"]
    assert code.faults == (
        f"judged: run again it makes the version {honest.data_version}, not {digest_table(flipped)}",
    )
    assert not found.holds


def test_code_that_takes_longer_than_it_may_is_ended(ran: Ran, tmp_path: Path) -> None:
    path = bundled(ran, tmp_path, "--with-data")
    found = verify_bundle(path, read_public_key(ran.public), execute=True, timeout=1e-6)
    (code,) = [check for check in found.checks if check.name == "code"]
    assert code.state == "fails"
    assert not found.holds
    assert all(": give it more with --timeout, or see in" in fault for fault in code.faults)


@pytest.mark.skipif(not LINUX, reason="memory is watched on Linux")
def test_code_is_held_to_the_memory_that_its_author_states(ran: Ran, tmp_path: Path) -> None:
    shutil.copytree(ran.catalog, tmp_path / "catalog")
    manifest = tmp_path / "catalog" / "safety-case.yaml"
    stated = "id: argue\nannotations: {dyff-dagster/max-memory: 128Mi}\n"
    manifest.write_text(manifest.read_text().replace("id: argue\n", stated))
    out = tmp_path / "b.zip"
    store, key = Store(ran.storage), read_private_key(ran.private)
    write_bundle("case", Catalog.load(tmp_path / "catalog"), store, out, key=key, with_data=True)
    (code,) = [
        check
        for check in verify_bundle(out, read_public_key(ran.public), execute=True).checks
        if check.name == "code"
    ]
    (fault,) = code.faults
    assert fault.startswith("case: killed when it held ")
    assert "and it may hold 128Mi: raise dyff-dagster/max-memory of argue, or let it hold less" in fault


def test_without_the_rows_code_is_not_run_and_it_says_so(ran: Ran, tmp_path: Path) -> None:
    path = bundled(ran, tmp_path)
    done = command("verify", path, "--key", ran.public, "--json", "--execute", cwd=tmp_path)
    (code,) = [check for check in json.loads(done.stdout)["checks"] if check["name"] == "code"]
    assert code["state"] == "holds"
    assert sorted(code["notes"]) == [
        "judged was not run: not all rows of rows are in the bundle",
        "scores was not run: not all rows of judged are in the bundle",
    ]


def test_errors_of_the_verbs_are_one_sentence(
    ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = bundled(ran, tmp_path)
    monkeypatch.chdir(tmp_path)
    for arguments, said in (
        (("verify", path, "--key", ran.private), "is a private key: give the public one"),
        (("verify", ran.public, "--key", ran.public), "it is no zip file"),
        (("keygen", "--out", ran.private.with_suffix("")), "File exists"),
        (("bundle", "case", "--catalog", ran.catalog, "--storage", ran.storage), "File exists"),
        (("bundle", "csae", "--catalog", ran.catalog, "--storage", ran.storage), "did you mean 'case'"),
    ):
        done = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert done.exit_code == 1
        assert said in done.output


def test_an_unsigned_bundle_is_warned_of_and_does_not_hold(ran: Ran, tmp_path: Path) -> None:
    done = command(
        "bundle", "scores", "--catalog", ran.catalog, "--storage", ran.storage, "--json", cwd=tmp_path
    )
    assert "warning: it is not signed" in done.stderr
    made = json.loads(done.stdout)
    assert made["signed"] is False
    done = command("verify", made["path"], "--key", ran.public, cwd=tmp_path, status=1)
    assert "the bundle is not signed" in done.stdout
