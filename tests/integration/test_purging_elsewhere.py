"""Purging a store in a bucket while requests fail: what was to go is gone, the rest is whole, and the end is told."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dyff_dagster.cli import main
from dyff_dagster.store import Store
from dyff_dagster.store.purging import carry_out, old_versions, whole_entity
from dyff_dagster.store.verification import verify
from tests import object_store
from tests.integration import small_catalog
from tests.integration.elsewhere_support import commit_text
from tests.object_store import ObjectStore, Server
from tests.unreliable import FAULTS, Unreliable


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with object_store.s3(tmp_path_factory.mktemp("moto")) as server:
        yield server


def command(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


def behind(
    unreliable: Unreliable, moto: Server, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> ObjectStore:
    """A bucket of a server that is reached through what fails, with nothing below us that tries again for long."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    return dataclasses.replace(moto, url=unreliable.url).bucket(directory, monkeypatch)


def filled(url: str) -> Store:
    """Three versions of an entity, and what crashes left of others."""
    store = Store(url)
    for text in ("one", "two", "three"):
        commit_text(store, text, besides=f"figure of {text}")
    for number in range(40):
        store.filesystem.put(
            store.root / "m" / ".dyff" / "versions" / "broken" / f"{number:02d} [a]*", b"part"
        )
    store.filesystem.put(store.root / "m2" / ".dyff" / "parts" / "service" / "g000001", b"paid for")
    store.filesystem.put(store.root / f".exclusive-{'0' * 32}", b"")
    return store


def names(store: Store) -> set[str]:
    return set(store.filesystem.sizes(store.root))


@pytest.mark.parametrize("seed", range(4))
def test_what_fails_now_and_then_is_tried_again(
    seed: int, moto: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_catalog.write(tmp_path / "catalog")
    with Unreliable(moto.url, seed).running() as unreliable:
        bucket = behind(unreliable, moto, tmp_path, monkeypatch)
        store = filled(f"{bucket.bucket}/root")
        old = store.commits("m")[:2]
        gone = {f"m/.dyff/versions/broken/{number:02d} [a]*" for number in range(40)} | {
            f".exclusive-{'0' * 32}"
        }
        for commit in old:
            gone |= {f"m/.dyff/commits/{commit.sequence:08d}.json"}
            gone |= {
                f"m/.dyff/versions/{commit.path.name}/{name}" for name in store.filesystem.sizes(commit.path)
            }
        expected = names(store) - gone
        assert len(names(store)) == len(expected) + len(gone)

        unreliable.share = 0.5
        options = ("--versions", "--partial", "--older-than", "0", "--storage", str(store.root))
        done = command("purge", *options, "--catalog", tmp_path / "catalog", "--yes", "--json")
        assert done.exit_code == 0, done.output
        assert verify(store).findings == ()
        unreliable.share = 0
        assert set(unreliable.done) == set(FAULTS), "each of them happened"
        assert len(json.loads(done.stdout)["removals"]) == 4
        assert names(store) == expected
        assert [commit.sequence for commit in store.commits("m")] == [3]
        assert store.intact(store.commits("m")[0])


@pytest.mark.parametrize("seed", range(3))
def test_a_server_that_goes_away_in_the_middle_leaves_a_whole_store_and_is_told(
    seed: int, moto: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=1)
    with Unreliable(moto.url, seed).running() as unreliable:
        bucket = behind(unreliable, moto, tmp_path, monkeypatch)
        store = filled(f"{bucket.bucket}/root")
        removals, _ = old_versions(store, "m", {}, now)
        everything = whole_entity(store, "m", "it is not wanted")
        assert everything is not None and len(removals) == 2

        def go(*_: object) -> None:
            unreliable.share = 1.0

        left = [why for _, why in carry_out(store, [removals[0]], now, go)]
        assert len(left) == 1 and "failed 4 times" in left[0] and "s3://" in left[0]
        unreliable.share = 0
        assert verify(store).findings == ()
        current = store.current("m")
        assert current is not None and current.sequence == 3

        discard = store.filesystem.discard
        seen: list[str] = []

        def counted(path: object) -> None:
            seen.append(str(path))
            if len(seen) == 2 + seed * 3:  # in the view, among the records, or after them
                go()
            discard(path)  # type: ignore[arg-type]

        monkeypatch.setattr(store.filesystem, "discard", counted)
        (again,) = carry_out(store, [everything], now)
        assert "failed 4 times" in again[1]
        unreliable.share = 0
        monkeypatch.undo()
        current = store.current("m")
        assert current is None or (current.sequence == 3 and store.intact(current))
        rest = whole_entity(store, "m", "it is not wanted")
        assert rest is not None
        assert [why for _, why in carry_out(store, [rest], now)] == [""]
        assert {name for name in names(store) if name.startswith("m/") and "/revisions/" not in name} <= {
            "m/.dyff/history.json",
            "m/.dyff/purged.json",
        }
