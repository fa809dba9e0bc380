"""Every byte of every committed version, read again and compared with what was committed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from upath import UPath

from dyff_dagster.store.commits import Commit
from dyff_dagster.store.digests import FileDigest
from dyff_dagster.store.errors import StoreError, StoreUnreachable
from dyff_dagster.store.store import Store
from dyff_dagster.store.versions import CLAIM, FILES

MISSING, SURPLUS, DIFFERS, LINK, DAMAGED = "missing", "surplus", "differs", "link", "damaged"
"""What can be wrong: a file is not there; is there and was not committed; has other bytes; is a symbolic link; cannot
be read, or is a record that cannot be."""

_OWN = (FILES, CLAIM)
"""What the store itself keeps in a version."""

_WORKERS = 4


@dataclass(frozen=True)
class Finding:
    """Something that is not as it was committed.

    Attributes:
        entity_id: Whose it is.
        version: Name of the version's directory; empty where it is about a record.
        file: The file, relative to the version; or the record.
        what: :data:`MISSING`, :data:`SURPLUS`, :data:`DIFFERS`, :data:`LINK` or :data:`DAMAGED`.
        detail: More of it, as a clause.
    """

    entity_id: str
    version: str
    file: str
    what: str
    detail: str = ""

    def __str__(self) -> str:
        where = f"{self.entity_id} {self.version[:12]}" if self.version else self.entity_id
        return f"{where}: {self.file} {_WORDS[self.what]}" + (f": {self.detail}" if self.detail else "")


_WORDS = {
    MISSING: "is missing",
    SURPLUS: "is there and was not committed",
    DIFFERS: "differs from what was committed",
    LINK: "is a symbolic link",
    DAMAGED: "cannot be read",
}


@dataclass(frozen=True)
class Verified:
    """What was looked at.

    Attributes:
        entities: How many have a committed version.
        versions: How many versions.
        files: How many files were read.
        bytes: And how many bytes.
        findings: What is not as it was committed.
    """

    entities: int
    versions: int
    files: int
    bytes: int
    findings: tuple[Finding, ...]

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        findings = [
            {"entity": f.entity_id, "version": f.version, "file": f.file, "what": f.what, "detail": f.detail}
            for f in self.findings
        ]
        return {
            "entities": self.entities,
            "versions": self.versions,
            "files": self.files,
            "bytes": self.bytes,
            "findings": findings,
        }


def verify(
    store: Store,
    entity_ids: Sequence[str] | None = None,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> Verified:
    """Read every file of every committed version again; nothing is written.

    Args:
        store: The store.
        entity_ids: These entities alone.
        tell: Told how many bytes of how many were read, after each version.

    Raises:
        StoreUnreachable: The place does not answer, so that nothing can be said of it.
    """
    findings: list[Finding] = []
    versions: dict[UPath, Commit] = {}
    entities = 0
    for entity_id in store.entity_ids() if entity_ids is None else entity_ids:
        try:
            commits = store.commits(entity_id)
        except StoreUnreachable:
            raise
        except StoreError as error:
            findings.append(Finding(entity_id, "", "its record of a commit", DAMAGED, str(error)))
            continue
        entities += bool(commits)
        for commit in commits:
            other = versions.setdefault(commit.path, commit)
            if dict(other.files) != dict(commit.files):
                detail = f"commits {other.sequence} and {commit.sequence} say different things of one version"
                findings.append(Finding(entity_id, commit.path.name, "its record", DAMAGED, detail))
    total = sum(digest.size for commit in versions.values() for digest in commit.files.values())
    done = files = 0
    with ThreadPoolExecutor(min(_WORKERS, os.cpu_count() or 1), thread_name_prefix="verify") as threads:
        for commit in versions.values():
            found, read, size = _verify_version(store, commit, threads)
            if found and commit.sequence not in {c.sequence for c in store.commits(commit.entity_id)}:
                continue  # it was purged meanwhile
            findings += found
            done, files = done + size, files + read
            tell(done, total)
    return Verified(entities, len(versions), files, done, tuple(findings))


def _verify_version(
    store: Store, commit: Commit, threads: ThreadPoolExecutor
) -> tuple[list[Finding], int, int]:
    """What is wrong with a version, and how many files and bytes of it were read."""
    name = commit.path.name
    there = {
        str(entry.path.relative_to(commit.path)): entry for entry in store.filesystem.entries(commit.path)
    }
    findings = [
        Finding(commit.entity_id, name, file, SURPLUS)
        for file in there
        if file not in commit.files and file not in _OWN
    ]
    if _listing(store, commit.path) != dict(commit.files):
        what = MISSING if FILES not in there else DIFFERS
        findings.append(Finding(commit.entity_id, name, FILES, what))
    readable = [file for file in commit.files if file in there and not there[file].link]
    for file in commit.files:
        if file not in there:
            findings.append(Finding(commit.entity_id, name, file, MISSING))
        elif there[file].link:
            findings.append(Finding(commit.entity_id, name, file, LINK))
    digests = threads.map(lambda file: _digest(store, commit.path / file), readable)
    for file, digest in zip(readable, digests, strict=True):
        findings += [
            Finding(commit.entity_id, name, file, what, detail)
            for what, detail in _differences(commit.files[file], digest)
        ]
    return (
        sorted(findings, key=lambda f: f.file),
        len(readable),
        sum(commit.files[file].size for file in commit.files),
    )


def _listing(store: Store, version: UPath) -> dict[str, FileDigest] | None:
    try:
        return store.listing(version)
    except StoreUnreachable:
        raise
    except OSError:
        return None


def _digest(store: Store, path: UPath) -> FileDigest | str:
    try:
        return store.filesystem.digest(path)
    except StoreError as error:
        return str(error)
    except OSError as error:
        return error.strerror or type(error).__name__


def _differences(expected: FileDigest, found: FileDigest | str) -> Iterator[tuple[str, str]]:
    if isinstance(found, str):
        yield DAMAGED, found
    elif found.size != expected.size:
        yield DIFFERS, f"{found.size:,} bytes, and {expected.size:,} were committed"
    elif found.sha256 != expected.sha256:
        yield DIFFERS, f"SHA-256 {found.sha256}, and {expected.sha256} was committed"
    elif found.md5 != expected.md5:
        yield DIFFERS, f"MD5 {found.md5}, and {expected.md5} was committed"
