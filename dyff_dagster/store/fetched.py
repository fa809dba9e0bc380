"""Versions of a store elsewhere, on a disk of this machine: fetched once, checked, and read-only from then on.

::

    CACHE/stores/STORE/ID/versions/TREE/      a version, whole, by the digest of its files: of two stores that were at
                                              the same place one after the other, none gets the other's
    CACHE/stores/STORE/ID/incoming/TREE/      one on its way, and beside it, by digest, what is there of its next
                                              file; whoever comes next goes on with it
    CACHE/stores/STORE/ID/...                 what a computation of the entity needs on a disk: drafts, logs, a lock

All of it may be removed whenever nothing runs.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from upath import UPath

from dyff_dagster.schema.canonical import sha256_text
from dyff_dagster.store.commits import Commit
from dyff_dagster.store.digests import Digesting, FileDigest, tree_digest
from dyff_dagster.store.errors import StoreError
from dyff_dagster.store.filesystem import Filesystem
from dyff_dagster.store.paths import resolve_inside
from dyff_dagster.store.progress import Progress

_BLOCK = 1 << 20


def cache_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """Where this machine keeps what is fetched from stores elsewhere.

    DYFF_CACHE, else ``dyff-dagster`` in the user's cache directory.
    """
    if named := environment.get("DYFF_CACHE"):
        return Path(named).expanduser().absolute()
    home = environment.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "dyff-dagster"


def cache_of_store(cache: Path, root: UPath) -> Path:
    """Where a store's share of the cache lies."""
    return cache / "stores" / sha256_text(str(root))[:32]


def fetch_version(files: Filesystem, commit: Commit, cache: Path, progress: Progress) -> Path:
    """Have a version on this disk.

    Args:
        files: The filesystem that it is on.
        commit: Which version.
        cache: The entity's directory in this machine's cache.
        progress: Told the bytes that are there.

    Returns:
        Its directory. What lies in it is read-only.

    Raises:
        StoreError: A file is not there, or is not what was committed.
        OSError: It does not fit on this disk.
    """
    tree = tree_digest(commit.files)
    target = cache / "versions" / tree
    if _is_there(target, commit):
        return target
    with _alone(cache / "incoming" / f"{tree}.lock"):
        if _is_there(target, commit):  # another process fetched it meanwhile
            return target
        incoming = cache / "incoming" / tree
        incoming.mkdir(parents=True, exist_ok=True)
        _refuse_without_space(commit, incoming)
        total, done = sum(digest.size for digest in commit.files.values()), 0
        for name, digest in commit.files.items():
            if not (path := resolve_inside(incoming, name)).exists():
                _fetch(files, commit, name, digest, incoming.with_name(digest.sha256), path)
            done += digest.size
            progress(f"bytes of {commit.entity_id}", done, total)
        shutil.rmtree(target, ignore_errors=True)  # somebody took a file away
        target.parent.mkdir(parents=True, exist_ok=True)
        incoming.replace(target)
    return target


def _is_there(target: Path, commit: Commit) -> bool:
    try:
        return target.is_dir() and all(
            (target / name).stat().st_size == digest.size for name, digest in commit.files.items()
        )
    except FileNotFoundError:
        return False


def _fetch(files: Filesystem, commit: Commit, name: str, digest: FileDigest, part: Path, path: Path) -> None:
    """One file, gone on with where it was broken off."""
    path.parent.mkdir(parents=True, exist_ok=True)
    digesting = Digesting()
    with part.open("a+b") as file:
        file.seek(0)
        while block := file.read(_BLOCK):
            digesting.update(block)
        try:
            if digesting.size < digest.size:
                for block in files.blocks(commit.path / name, digesting.size):
                    file.write(block)
                    digesting.update(block)
        except FileNotFoundError:
            raise StoreError(
                f"{commit.entity_id} has lost {name} of its version in {commit.path}: materialize it again, which "
                "puts it back"
            ) from None
    if digesting.digest() != digest:
        part.unlink()
        raise StoreError(
            f"{commit.entity_id}: {name} in {commit.path} is not what was committed; materialize it again with "
            "'force: true', which puts it back"
        )
    part.chmod(0o444)
    part.replace(path)


def _refuse_without_space(commit: Commit, directory: Path) -> None:
    there = sum(path.stat().st_size for path in directory.parent.rglob("*") if path.is_file())
    missing = sum(digest.size for digest in commit.files.values()) - there
    free = shutil.disk_usage(directory).free
    if missing > free:
        raise OSError(
            errno.ENOSPC,
            f"{commit.entity_id} needs {missing} bytes in {directory} and {free} are free: make room, or name "
            "another place in DYFF_CACHE",
        )


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One process of this machine at a time; the operating system lets go when it ends."""
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
