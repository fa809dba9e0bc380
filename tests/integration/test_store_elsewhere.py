"""A store in a bucket: the same audit with the same digests, from whichever machine, killed wherever it may be."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from upath import UPath

from dyff_dagster.store import Commit, CommitConflict, EntityBusy, Store, StoreError, StoreUnreachable
from dyff_dagster.store.digests import digest_file, list_files
from dyff_dagster.store.remote import RemoteFilesystem, variables_of
from tests import object_store, servers
from tests.integration import small_catalog, small_safety_case
from tests.integration.elsewhere_support import (
    assert_one_of_many_creates,
    commit_text,
    computed_as_on_a_disk,
    files_of,
    run_child,
)
from tests.integration.evaluation_support import QUICK, World
from tests.integration.fault_server import Asked, FaultServer
from tests.object_store import ObjectStore, Server


@pytest.fixture(scope="module")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with object_store.s3(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture
def bucket(s3_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """A bucket of the test's own, which this process reaches too."""
    return s3_server.bucket(tmp_path, monkeypatch)


def test_a_whole_audit_in_a_bucket_is_what_it_is_on_a_disk(bucket: ObjectStore, tmp_path: Path) -> None:
    there = computed_as_on_a_disk(bucket, tmp_path)
    # Other tools read the view.
    assert (
        json.loads(bucket.filesystem().cat(f"{there.url}/doubled/.evaluation.json"))["status"] == "Complete"
    )
    assert bucket.filesystem().exists(f"{there.url}/scores/part-00000.parquet")


def test_dagster_materializes_an_audit_with_a_notebook_in_a_bucket(
    bucket: ObjectStore, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    for name in ("definitions.py", "pyproject.toml", "workspace.yaml"):
        shutil.copy(servers.REPOSITORY / name, project / name)
    small_safety_case.add(small_catalog.write(project / "catalog"))
    url = f"{bucket.bucket}/root"
    env = servers.environment(
        tmp_path / "home", DYFF_CATALOG="catalog", DYFF_EXECUTOR="in_process", DYFF_STORAGE_ROOT=url,
        DYFF_CACHE=tmp_path / "cache",
    )  # fmt: skip
    materialize = servers.command("dagster", "asset", "materialize", "--select", "*", "-f", "definitions.py")
    servers.run(materialize, project, env)
    case = Store(url).current("case")
    assert case is not None and case.facts.page is not None
    with servers.pages(UPath(url), project, env, tmp_path / "pages.log") as pages:  # type: ignore[arg-type]
        assert b"html" in servers.urllib.request.urlopen(f"{pages}/case/", timeout=60).read().lower()
    said = servers.run(servers.command("dyff-dagster", "status", "--catalog", "catalog"), project, env)
    assert "case" in said.stdout
    assert not (project / "dyff-storage").exists()


def test_what_is_read_is_fetched_once_and_is_read_only(bucket: ObjectStore, tmp_path: Path) -> None:
    store = Store(f"{bucket.bucket}/root")
    made = commit_text(store, "one")
    path = store.on_disk(made)
    assert (path / "a.txt").read_text() == "one"
    assert (path / "a.txt").stat().st_mode & 0o222 == 0
    assert path.is_relative_to(tmp_path / "cache")
    bucket.filesystem().rm(str(made.path / "a.txt"))
    assert Store(store.root).on_disk(made) == path  # no second time


def test_of_a_store_that_was_emptied_and_filled_anew_the_new_files_are_read(bucket: ObjectStore) -> None:
    """Under the same name: two pages of the same content differ in when they were made."""
    url, directories = f"{bucket.bucket}/root", set()
    for day in ("Monday", "Friday"):
        store = Store(url)
        made = commit_text(store, "one", besides=day)
        directories.add(made.path.name)
        assert (store.on_disk(made) / "figure.txt").read_text() == day
        bucket.filesystem().rm(url, recursive=True)
    assert len(directories) == 1


def test_bytes_that_are_not_what_was_committed_are_refused_and_put_back(bucket: ObjectStore) -> None:
    store = Store(f"{bucket.bucket}/root")
    made = commit_text(store, "one")
    bucket.filesystem().pipe(str(made.path / "a.txt"), b"two")
    with pytest.raises(
        StoreError, match=r"m: a\.txt in s3://.* is not what was committed; materialize it again"
    ):
        store.on_disk(made)
    again = commit_text(store, "one")
    assert again.path == made.path
    assert (store.on_disk(again) / "a.txt").read_text() == "one"


def test_a_file_that_a_bucket_lost_is_told_and_put_back(bucket: ObjectStore) -> None:
    store = Store(f"{bucket.bucket}/root")
    made = commit_text(store, "one")
    bucket.filesystem().rm(str(made.path / "a.txt"))
    assert not store.intact(made)
    with pytest.raises(StoreError, match=r"m has lost a\.txt of its version in s3://"):
        store.on_disk(made)
    assert store.intact(commit_text(store, "one"))


@pytest.mark.parametrize("url", ["bucket", "memory://conflict"])
def test_of_two_machines_at_once_one_wins_and_the_other_says_so(
    bucket: ObjectStore, tmp_path: Path, url: str
) -> None:
    root = f"{bucket.bucket}/root" if url == "bucket" else url
    slow, quick = Store(root, cache=tmp_path / "slow"), Store(root, cache=tmp_path / "quick")
    with slow.lock("m"):
        with quick.lock("m"):  # no lock reaches from one machine to the other
            commit_text(quick, "quick")
            commit_text(quick, "quick again")
        with pytest.raises(CommitConflict, match="another run committed version number 1 while this one"):
            commit_text(slow, "slow")
    current = Store(root).current("m")
    assert current is not None
    assert Store(root)._files.read(current.path / "a.txt") == b"quick again"


def test_two_processes_of_one_machine_hold_an_entity_one_after_the_other(bucket: ObjectStore) -> None:
    root = f"{bucket.bucket}/root"
    with Store(root).lock("m"), pytest.raises(EntityBusy, match="m: another run"), Store(root).lock("m"):
        pass


@pytest.mark.parametrize("url", ["bucket", "memory://same-content"])
def test_two_writers_of_the_same_rows_with_other_files_do_not_write_into_one_version(
    bucket: ObjectStore, tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = f"{bucket.bucket}/root" if url == "bucket" else url
    slow, quick = Store(root, cache=tmp_path / "slow"), Store(root, cache=tmp_path / "quick")
    take = slow._files.take
    quicks: list[Commit] = []

    def overtaken(source: Path, path: UPath) -> None:
        if not quicks:  # between the slow one's claim and its first upload
            quicks.append(commit_text(quick, "rows", besides="drawn by the quick one"))
        take(source, path)

    monkeypatch.setattr(slow._files, "take", overtaken)
    with slow.lock("m"), pytest.raises(CommitConflict):
        commit_text(slow, "rows", besides="drawn by the slow one, longer")
    assert (quick.on_disk(quicks[0]) / "figure.txt").read_text() == "drawn by the quick one"
    assert quick.intact(quicks[0])


def test_of_many_who_create_one_object_at_once_one_does(bucket: ObjectStore) -> None:
    assert_one_of_many_creates(Store(f"{bucket.bucket}/root"))


class Overwriting(MemoryFileSystem):
    """What some releases did: they took ``mode`` and passed it over."""

    protocol = "overwriting"
    store: dict[str, Any] = {}  # noqa: RUF012 - as MemoryFileSystem has it

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        super().pipe_file(path, value, mode="overwrite", **kwargs)


def test_nothing_is_committed_where_create_overwrites(tmp_path: Path) -> None:
    fsspec.register_implementation("overwriting", Overwriting, clobber=True)
    store = Store("overwriting://root", cache=tmp_path)
    with pytest.raises(StoreError, match="overwrites a file that it was asked to create"):
        commit_text(store, "one")
    assert store.current("m") is None
    assert Overwriting.store == {}


def test_what_a_killed_machine_has_paid_for_another_one_takes_up(bucket: ObjectStore, tmp_path: Path) -> None:
    rows, kill_at = 120, 150
    victim: list[subprocess.Popen[str]] = []

    def kill(asked: Asked) -> None:
        if victim and asked.number >= kill_at:
            victim.pop().kill()

    with FaultServer(on_request=kill, copies=2).running() as server:
        world = World(tmp_path, [server.url], rows)
        expected = World(tmp_path / "undisturbed", [server.url], rows)
        root = f"{bucket.bucket}/root"
        env = {**os.environ, "DYFF_CACHE": str(tmp_path / "first")}
        line = [
            sys.executable,
            "-m",
            "tests.integration.store_child",
            "evaluate",
            root,
            str(tmp_path),
            server.url,
        ]
        process = subprocess.Popen(line, cwd=servers.REPOSITORY, env=env, text=True)
        victim.append(process)
        assert process.wait(240) == -signal.SIGKILL
        store = Store(root)
        assert store.current("eval-1") is None
        paid = len(server.record)
        assert paid >= kill_at
        said = run_child(bucket, tmp_path / "second", "evaluate", root, str(tmp_path), server.url)
        assert said is not None and "done" in said
        asked = len(server.record)
        # Two open parts of 8, and what was in flight.
        assert asked - 2 * rows <= 8 * 2 + 4 * 4
        assert server.doubled == []
        assert said["done"] == expected.run(expected.evaluation(2)).data_version
        current = store.current("eval-1")
        assert current is not None and current.facts.rows == 2 * rows
        assert world.dataset.exists()


def test_an_answer_is_not_asked_for_again_because_the_bucket_does_not_answer(
    bucket: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaultServer().running() as server:
        world = World(tmp_path, [server.url], 20)
        world.store = Store(f"{bucket.bucket}/root")
        world.run()
        asked = len(server.record)
        read = world.store._files.read

        def refused(path: UPath) -> bytes:
            if "/parts/" in str(path):
                raise StoreUnreachable(f"{path}: it failed 4 times: start this again")
            return read(path)

        monkeypatch.setattr(world.store._files, "read", refused)
        with pytest.raises(StoreUnreachable):
            world.run(world.evaluation(2))
        assert len(server.record) == asked


def test_several_client_processes_write_into_one_bucket(bucket: ObjectStore, tmp_path: Path) -> None:
    with FaultServer(copies=2).running() as server:
        world = World(tmp_path, [server.url], 100)
        world.store = Store(f"{bucket.bucket}/root")
        made = world.run(world.evaluation(2), replace(QUICK, processes=2))
        assert made.facts.rows == len(server.record) == 200


def test_a_kill_in_mid_upload_shows_nothing_and_the_next_run_uploads_the_rest(
    bucket: ObjectStore, tmp_path: Path
) -> None:
    source = files_of(tmp_path / "files", [1 << 20] * 6)
    root = f"{bucket.bucket}/root"
    assert run_child(bucket, tmp_path / "first", "upload", root, str(source), "4") is None
    store = Store(root)
    assert store.current("m") is None
    assert not bucket.filesystem().exists(f"{root}/m/00.bin")
    said = run_child(bucket, tmp_path / "second", "upload", root, str(source), "-1")
    assert said == {"done": ["04.bin", "05.bin"]}
    made = store.current("m")
    assert made is not None
    assert store.intact(made)
    fetched = store.on_disk(made)
    assert {n: digest_file(fetched / n) for n in list_files(fetched)} == dict(made.files)


def test_a_kill_in_mid_download_costs_one_piece_of_a_file(bucket: ObjectStore, tmp_path: Path) -> None:
    piece = 16 << 20
    source = files_of(tmp_path / "files", [3 * piece + 5, 0, 7])
    root = f"{bucket.bucket}/root"
    assert run_child(bucket, tmp_path / "first", "upload", root, str(source), "-1") is not None
    cache = tmp_path / "second"
    assert run_child(bucket, cache, "download", root, "2") is None
    assert list(cache.rglob("versions/*")) == []
    assert run_child(bucket, cache, "download", root, "-1") == {"done": [2 * piece, 0]}
    (fetched,) = cache.rglob("versions/*")
    assert {p.name: p.read_bytes() for p in fetched.iterdir()} == {
        p.name: p.read_bytes() for p in source.iterdir()
    }


def test_an_object_that_becomes_shorter_while_it_is_read_is_told(tmp_path: Path) -> None:
    path = UPath(f"memory://{tmp_path.name}/object")
    path.fs.pipe_file(path.path, b"a" * (17 << 20))
    blocks = RemoteFilesystem(path.parent).blocks(path)
    assert next(blocks)
    path.fs.pipe_file(path.path, b"a")
    with pytest.raises(StoreError, match="became shorter while it was read: start this again"):
        next(blocks)


def test_client_processes_get_what_says_who_writes_and_no_other_secret() -> None:
    names = [
        "AWS_SECRET_ACCESS_KEY",
        "FSSPEC_S3_KEY",
        "DYFF_CACHE",
        "https_proxy",
        "HF_TOKEN",
        "DYFF_INSTANCE_KEY",
    ]
    assert variables_of("s3", names) == names[:4]
    assert variables_of("gs", names) == names[1:4]
    assert variables_of("sftp", names) == names
