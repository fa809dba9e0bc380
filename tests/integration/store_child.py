"""What the tests of a store elsewhere kill: processes of other machines, as far as their caches go.

Each prints one line of JSON when it came to its end.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from upath import UPath

from dyff_dagster.schema.errors import DyffError
from dyff_dagster.schema.platform import Module
from dyff_dagster.store import Facts, FileDigest, Inputs, Store
from dyff_dagster.store.digests import digest_file, list_files, tree_digest
from dyff_dagster.store.remote import RemoteFilesystem
from tests.integration.evaluation_support import QUICK, World


def evaluate(root: str, directory: str, url: str) -> str:
    """Run an evaluation; returns its data version."""
    world = World(Path(directory), [url], rows=None)
    world.store = Store(root)
    return world.run(world.evaluation(2), replace(QUICK, part_rows=8, part_age=0.2)).data_version


def upload(root: str, directory: str, dies_after: str) -> list[str]:
    """Commit the files of a directory, dying in the middle of an upload; returns the names that were uploaded."""
    uploaded: list[str] = []
    take = RemoteFilesystem.take

    def counted(self: RemoteFilesystem, source: Path, path: UPath) -> None:
        if len(uploaded) == int(dies_after):
            # The first part of it, as an upload in several pieces leaves it.
            half = path.fs.open(path.path, "wb", block_size=5 << 20)
            half.write(bytes(6 << 20))
            assert half.offset > 0, "a piece is on the server"
            os.kill(os.getpid(), signal.SIGKILL)
        take(self, source, path)
        uploaded.append(path.name)

    RemoteFilesystem.take = counted  # type: ignore[method-assign]
    store = Store(root)
    with store.lock("m"), store.draft("m") as draft:
        for name in sorted(os.listdir(directory)):
            (draft.path / name).write_bytes((Path(directory) / name).read_bytes())
        files: dict[str, FileDigest] = {
            name: digest_file(draft.path / name) for name in list_files(draft.path)
        }
        draft.commit(
            entity=Module(id="m", account="acme", name="m", artifacts=[{"path": "a.txt"}]),
            data_version=tree_digest(files),
            inputs=Inputs(spec="s"),
            facts=Facts(),
        )
    return uploaded


def download(root: str, dies_after: str) -> list[int]:
    """Fetch a version, dying after so many pieces; returns the places from which files were asked for."""
    asked: list[int] = []
    blocks = RemoteFilesystem.blocks

    def counted(self: RemoteFilesystem, path: UPath, start: int = 0) -> Iterator[bytes]:
        asked.append(start)
        for number, block in enumerate(blocks(self, path, start)):
            if number == int(dies_after):
                os.kill(os.getpid(), signal.SIGKILL)
            yield block

    RemoteFilesystem.blocks = counted  # type: ignore[method-assign]
    store = Store(root)
    commit = store.current("m")
    assert commit is not None
    store.on_disk(commit)
    return asked


def main(verb: str, *arguments: str) -> None:
    verbs: dict[str, Callable[..., Any]] = {"evaluate": evaluate, "upload": upload, "download": download}
    try:
        said = {"done": verbs[verb](*arguments)}
    except DyffError as error:
        said = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
