"""What a store rests on, on each make of object store that can be had; and none is used that does not keep to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dyff_dagster.cli import main
from dyff_dagster.store import CommitConflict, Store, StoreError, StoreUnreachable
from dyff_dagster.store.digests import digest_file, list_files
from dyff_dagster.store.verification import verify
from tests import object_store
from tests.integration import small_catalog
from tests.integration.elsewhere_support import (
    assert_one_of_many_creates,
    commit_text,
    computed_as_on_a_disk,
    files_of,
    run_child,
)
from tests.object_store import ObjectStore, Server

CONDITIONAL = ("localbucket", "azurite", "fake-gcs-server")
"""Makes that do not overwrite where they are asked to create; and moto, that the other tests use."""

OVERWRITING = ("s3rver", "gcp-storage-emulator")


def started(make: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    object_store.skip_without(make)
    with object_store.running(make, tmp_path_factory.mktemp(make)) as server:
        yield server


@pytest.fixture(scope="module", params=CONDITIONAL)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from started(request.param, tmp_path_factory)


@pytest.fixture
def bucket(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    return server.bucket(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from started("moto", tmp_path_factory)


def command(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


def partial(url: str, catalog: Path, *options: str) -> Result:
    return command("purge", "--partial", *options, "--storage", url, "--catalog", catalog)


def test_of_many_who_create_one_object_at_once_one_does(bucket: ObjectStore) -> None:
    for number in range(5):
        assert_one_of_many_creates(Store(f"{bucket.bucket}/root-{number}"))


def test_names_are_taken_as_they_are_and_neighbours_are_left_alone(bucket: ObjectStore) -> None:
    store = Store(f"{bucket.bucket}/root")
    files, root = store.filesystem, store.root
    names = ("file [a]*", "file a", "of/1", "of/2/3", "of2/1", "of 2/1", "Ünï %2B+#&.txt")
    for name in names:
        files.put(root / name, name.encode())
    assert files.sizes(root) == {name: len(name.encode()) for name in names}
    assert [str(entry.path.relative_to(root)) for entry in files.entries(root)] == sorted(names)
    assert [entry.size for entry in files.entries(root / "of" / "1")] == [4]
    assert all(entry.modified is not None for entry in files.entries(root))
    files.discard(root / "file [a]*")
    files.discard(root / "of")
    files.discard(root / "Ünï %2B+#&.txt")
    assert set(files.sizes(root)) == {"file a", "of2/1", "of 2/1"}
    files.discard(root / "nothing")
    assert files.entries(root / "nothing") == []


def test_a_whole_audit_is_what_it_is_on_a_disk_and_is_verified(bucket: ObjectStore, tmp_path: Path) -> None:
    there = computed_as_on_a_disk(bucket, tmp_path)

    done = command("verify-store", "--storage", there.url)
    assert done.exit_code == 0 and "all as committed" in done.output, done.output
    commit = there.store.current("doubled")
    assert commit is not None
    fs = bucket.filesystem()
    answers = commit.path / "answers.parquet"
    data = fs.cat_file(answers.path)
    fs.pipe_file(answers.path, data[:-1] + bytes([data[-1] ^ 1]))
    rows = there.store.current("rows")
    assert rows is not None
    fs.rm_file((rows.path / "data.parquet").path)
    assert {(f.entity_id, f.file, f.what) for f in verify(there.store).findings} == {
        ("doubled", "answers.parquet", "differs"),
        ("rows", "data.parquet", "missing"),
    }
    # Nothing is left of the trial that came before the first commit.
    assert not [name for name in there.store.filesystem.names(there.store.root) if name.startswith(".")]


def test_of_two_machines_at_once_one_wins_and_the_other_says_so(bucket: ObjectStore, tmp_path: Path) -> None:
    root = f"{bucket.bucket}/root"
    slow, quick = Store(root, cache=tmp_path / "slow"), Store(root, cache=tmp_path / "quick")
    with slow.lock("m"):
        with quick.lock("m"):
            commit_text(quick, "quick")
        with pytest.raises(CommitConflict, match="another run committed version number 1 while this one"):
            commit_text(slow, "slow")
    current = Store(root).current("m")
    assert current is not None
    assert (Store(root).on_disk(current) / "a.txt").read_text() == "quick"


def test_a_kill_in_mid_upload_shows_nothing_and_the_next_run_uploads_the_rest(
    bucket: ObjectStore, tmp_path: Path
) -> None:
    source = files_of(tmp_path / "files", [100_000] * 4)
    root = f"{bucket.bucket}/root"
    assert run_child(bucket, tmp_path / "first", "upload", root, str(source), "2") is None
    assert Store(root).current("m") is None
    said = run_child(bucket, tmp_path / "second", "upload", root, str(source), "-1")
    assert said == {"done": ["02.bin", "03.bin"]}
    made = Store(root).current("m")
    assert made is not None
    fetched = Store(root).on_disk(made)
    assert {n: digest_file(fetched / n) for n in list_files(fetched)} == dict(made.files)


def test_what_a_kill_in_mid_upload_left_is_purged_and_nothing_else(
    bucket: ObjectStore, tmp_path: Path
) -> None:
    small_catalog.write(tmp_path / "catalog")
    root = f"{bucket.bucket}/root"
    source = files_of(tmp_path / "files", [100_000] * 4)
    kept = commit_text(Store(root), "one")
    # A neighbour whose id begins like the other's.
    bucket.filesystem().pipe_file(f"{root}/m2/.dyff/versions/whole/.files.json".partition("://")[2], b"{}")
    before = {entry.path for entry in Store(root).filesystem.entries(Store(root).root)}
    assert run_child(bucket, tmp_path / "first", "upload", root, str(source), "2") is None
    young = json.loads(partial(root, tmp_path / "catalog", "--json", "--dry-run").stdout)
    assert young["removals"] == []

    shown = partial(root, tmp_path / "catalog", "--older-than", "0", "--dry-run")
    assert "a version that was never finished" in shown.output
    found = json.loads(partial(root, tmp_path / "catalog", "--older-than", "0", "--json", "--yes").stdout)
    of_m = [removal for removal in found["removals"] if removal["entity"] == "m"]
    (version,) = [removal for removal in of_m if removal["what"] == "unfinished"]
    assert version["files"] == 3 and version["bytes"] == 200_064, "a claim and two files"
    assert all(removal["left"] is None for removal in found["removals"])
    there = {entry.path for entry in Store(root).filesystem.entries(Store(root).root)}
    assert there == {path for path in before if "/m2/" not in str(path)}
    current = Store(root).current("m")
    assert current is not None and current.path == kept.path and Store(root).intact(current)


@pytest.mark.parametrize("make", OVERWRITING)
def test_nothing_is_committed_where_create_overwrites(
    make: str, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for server in started(make, tmp_path_factory):
        bucket = server.bucket(tmp_path, monkeypatch)
        with pytest.raises(
            StoreError,
            match=r"overwrites a file that it was asked to create.*use a server that knows conditional",
        ):
            commit_text(Store(f"{bucket.bucket}/root"), "one")
        assert bucket.filesystem().find(bucket.bucket) == []


def test_an_upload_that_was_killed_is_named_and_dropped_from_the_server(
    moto: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = moto.bucket(tmp_path, monkeypatch)
    name = bucket.bucket.partition("://")[2]
    small_catalog.write(tmp_path / "catalog")
    root = f"{bucket.bucket}/root"
    source = files_of(tmp_path / "files", [100_000] * 4)
    assert run_child(bucket, tmp_path / "first", "upload", root, str(source), "2") is None
    assert (
        run_child(bucket, tmp_path / "first", "upload", root, str(source), "0") is None
    )  # of the same file again
    # Somebody else's, beside the root, and one that looks as if it were below it.
    fs = bucket.filesystem()
    for key in ("elsewhere/big", "root-of-another/m/big"):
        fs.call_s3("create_multipart_upload", Bucket=name, Key=key)

    def known() -> list[str]:
        said = fs.call_s3("list_multipart_uploads", Bucket=name)
        return sorted(upload["Key"] for upload in said.get("Uploads") or ())

    assert len(known()) == 4
    # moto says of each that it was begun in 2010; when its last piece came is what counts.
    assert json.loads(partial(root, tmp_path / "catalog", "--json", "--dry-run").stdout)["removals"] == []

    def uploads(*options: str) -> list[dict[str, object]]:
        found = json.loads(
            partial(root, tmp_path / "catalog", "--older-than", "0", "--json", *options).stdout
        )
        return [removal for removal in found["removals"] if removal["what"] == "upload"]

    shown = partial(root, tmp_path / "catalog", "--older-than", "0", "--dry-run").output
    assert "the first part of an upload, to which nothing came since" in shown
    named = uploads("--dry-run")
    assert [(removal["entity"], removal["bytes"]) for removal in named] == [("m", 6 << 20)] * 2
    assert all("?uploadId=" in str(removal["paths"]) for removal in named)
    assert len(known()) == 4
    assert [removal["left"] for removal in uploads("--yes")] == [None, None]
    assert known() == ["elsewhere/big", "root-of-another/m/big"]
    assert uploads("--dry-run") == []


def test_a_server_that_cannot_list_unfinished_uploads_is_said_to_be_one(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for server in started("localbucket", tmp_path_factory):
        bucket = server.bucket(tmp_path, monkeypatch)
        small_catalog.write(tmp_path / "catalog")
        done = partial(f"{bucket.bucket}/root", tmp_path / "catalog", "--dry-run")
        assert "does not know how to list unfinished uploads below it" in done.output
        assert done.exit_code == 0


def test_verify_does_not_take_a_server_that_is_gone_for_a_damaged_store(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    for server in started("moto", tmp_path_factory):
        bucket = server.bucket(tmp_path, monkeypatch)
        store = Store(f"{bucket.bucket}/root")
        commit_text(store, "one")
    with pytest.raises(StoreUnreachable, match="failed 4 times"):
        verify(store, ["m"])
