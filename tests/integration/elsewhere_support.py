"""What the tests of stores elsewhere share: an audit in a bucket, a commit, processes of other machines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dyff_dagster.schema.platform import Module
from dyff_dagster.store import Commit, Facts, Inputs, Store
from dyff_dagster.store.digests import digest_file, tree_digest
from tests import servers
from tests.integration import small_audit
from tests.integration.small_audit import Place
from tests.object_store import ObjectStore

COMPUTED = ("rows", "functions", "doubled", "judged", "scores", "audited")


@dataclass(frozen=True)
class Elsewhere(Place):
    """The small catalog, with its store in a bucket and the cache of one machine."""

    url: str = ""
    machine: str = "one"

    @property
    def store(self) -> Store:
        return Store(self.url, cache=self.root / f"cache-{self.machine}")


def commit_text(store: Store, text: str, *, spec: str = "s", besides: str | None = None) -> Commit:
    with store.draft("m") as draft:
        (draft.path / "a.txt").write_text(text)
        version = tree_digest({"a.txt": digest_file(draft.path / "a.txt")})
        if besides is not None:
            (draft.path / "figure.txt").write_text(besides)
        return draft.commit(
            entity=Module(id="m", account="acme", name="m", artifacts=[{"path": "a.txt"}]),
            data_version=version, inputs=Inputs(spec=spec), facts=Facts(),
        )  # fmt: skip


def versions(place: Place) -> dict[str, str]:
    commits = {entity_id: place.store.current(entity_id) for entity_id in COMPUTED}
    return {name: commit.data_version for name, commit in commits.items() if commit is not None}


def computed_as_on_a_disk(bucket: ObjectStore, tmp_path: Path) -> Elsewhere:
    """A whole audit in a bucket: what comes of it is what comes of it on a disk, and another machine takes it over."""
    on_disk = small_audit.write(tmp_path / "here")
    on_disk.compute_all()
    small_audit.write(tmp_path / "there")
    there = Elsewhere(tmp_path / "there", url=f"{bucket.bucket}/root")
    there.compute_all()
    assert versions(there).keys() == set(COMPUTED)
    assert versions(there) == versions(on_disk)
    # On another machine, with nothing in its cache, all of it is taken over.
    other = Elsewhere(tmp_path / "there", url=there.url, machine="other")
    for entity_id in COMPUTED:
        assert other.step(entity_id).compute()[1], entity_id
    return there


def assert_one_of_many_creates(store: Store) -> None:
    """Eight threads create one object at once."""
    path, made = store.root / "pointer", list[int]()
    ready = threading.Barrier(8)

    def create(number: int) -> None:
        ready.wait(60)
        try:
            store.filesystem.create(path, str(number).encode())
            made.append(number)
        except FileExistsError:
            pass

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(made) == 1
    assert store.filesystem.read(path) == str(made[0]).encode()


def run_child(bucket: ObjectStore, cache: Path, *arguments: str) -> dict[str, Any] | None:
    """What a process of another machine said; None where it was killed."""
    env = {**os.environ, **bucket.environment, "DYFF_CACHE": str(cache)}
    line = [sys.executable, "-m", "tests.integration.store_child", *arguments]
    done = subprocess.run(line, cwd=servers.REPOSITORY, env=env, capture_output=True, text=True)
    if done.returncode == -signal.SIGKILL:
        return None
    assert done.returncode == 0, done.stderr[-4000:]
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


def files_of(directory: Path, sizes: list[int]) -> Path:
    directory.mkdir()
    for number, size in enumerate(sizes):
        (directory / f"{number:02d}.bin").write_bytes(os.urandom(size))
    return directory
