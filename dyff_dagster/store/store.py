"""The store: immutable versions, a pointer to the current one, and a view for other tools.

Layout, as CONTRACT fixes it::

    ROOT/ID/.dyff/versions/DATA_VERSION/   one committed version; nothing in it ever changes
    ROOT/ID/.dyff/commits/00000001.json    the commits, in order; the highest number is the current one
    ROOT/ID/.dyff/commit.json              a copy of the current one, for other tools
    ROOT/ID/.dyff/revisions/00000001.json  what the entity said, each time that it said something else
    ROOT/ID/...                            the current version's files and .KIND.json, for other tools

A commit is made by exclusive creation of the next number: of two writers one succeeds, and the other is
told so. Everything before that is invisible, everything after it is repaired by whoever comes next.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from upath import UPath

from dyff_dagster.schema.ids import check_id, is_id
from dyff_dagster.schema.platform import DyffEntity
from dyff_dagster.store.commits import PURGED, Commit, purged_up_to
from dyff_dagster.store.digests import FileDigest, digest_file, list_files, refuse_links, tree_digest
from dyff_dagster.store.errors import CommitConflict, EntityBusy, StoreError
from dyff_dagster.store.facts import Facts
from dyff_dagster.store.filesystem import local_path, open_filesystem
from dyff_dagster.store.held import held_parts
from dyff_dagster.store.inputs import Inputs
from dyff_dagster.store.revisions import Revisions, current_user, wire_form

_FILES = ".files.json"
"""Written last into a version: a version without it is not there."""

_OWN = (
    "versions", "commits", "commit.json", "drafts", "lock", "parts", "requests", "sessions", "revisions",
    "history.json", PURGED,
)  # fmt: skip
"""Names under ``.dyff`` that an artifact may not use: they are the store's and its users' own."""


class Store:
    """Artifacts of entities under one root.

    Args:
        root: A local directory or an fsspec URL (``s3://bucket/prefix``). It need not exist yet.

    Attributes:
        revisions: What its entities said, each time that they said something else.

    Raises:
        StoreError: The root is empty, a file, a URL of no kind that is known, or needs a package that is not
            installed.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        if root == "":  # pathlib takes it for the working directory, which nobody has named
            raise StoreError(
                "the storage root is empty: DYFF_STORAGE_ROOT must name a directory, or a URL as in s3://bucket/prefix"
            )
        try:
            self.root = UPath(root)
            _ = self.root.fs
        # The root itself is not repeated: a URL may carry a secret.
        except ImportError as error:
            raise StoreError(
                f"the storage root needs a package that is not installed ({error}): "
                "install it, or name another place in DYFF_STORAGE_ROOT"
            ) from error
        except ValueError as error:
            scheme = str(root).partition("://")[0]
            raise StoreError(
                f"the storage root cannot be reached as {scheme}://: "
                "DYFF_STORAGE_ROOT must name a directory, or a URL as in s3://bucket/prefix"
            ) from error
        if self.root.protocol in ("", "file", "local"):
            self.root = UPath(local_path(self.root).absolute())
        self._files = open_filesystem(self.root)
        self.revisions = Revisions(self._files, self.root)
        self._working: dict[str, UPath] = {}

    def __repr__(self) -> str:
        return f"Store({str(self.root)!r})"

    @property
    def local(self) -> bool:
        """True where the store lies on a disk of this machine."""
        return self._files.local

    def directory(self, entity_id: str) -> UPath:
        """``ROOT/ID``: the view that other tools read."""
        return self.root / check_id(entity_id)

    def working(self, entity_id: str) -> UPath:
        """``ROOT/ID/.dyff``: what belongs to the entity and to no version, such as unfinished answers."""
        # Thousands of parts lie in one: making their paths would take as long as reading them.
        if entity_id not in self._working:
            self._working[entity_id] = self.directory(entity_id) / ".dyff"
        return self._working[entity_id]

    def put_working(self, entity_id: str, name: str, data: bytes, *, private: bool = False) -> None:
        """Write ``ROOT/ID/.dyff/NAME``, whole or not at all; ``private``: readable by its owner alone."""
        path = self.working(entity_id) / name
        self._files.put(path, data)
        if private and self.local:
            local_path(path).chmod(0o600)

    def get_working(self, entity_id: str, name: str) -> bytes:
        """Read ``ROOT/ID/.dyff/NAME``; FileNotFoundError where there is none."""
        return self._files.read(self.working(entity_id) / name)

    def remove_working(self, entity_id: str, name: str) -> None:
        """Remove ``ROOT/ID/.dyff/NAME``, if it is there."""
        self._files.remove(self.working(entity_id) / name)

    def clear_working(self, entity_id: str, name: str) -> None:
        """Remove the directory ``ROOT/ID/.dyff/NAME`` with the files in it, if it is there."""
        for found in self._files.names(self.working(entity_id) / name):
            self._files.remove(self.working(entity_id) / name / found)
        self._files.clear(self.working(entity_id) / name)

    def working_names(self, entity_id: str, name: str) -> list[str]:
        """What lies in the directory ``ROOT/ID/.dyff/NAME``, sorted, hidden names left out."""
        return [
            found for found in self._files.names(self.working(entity_id) / name) if not found.startswith(".")
        ]

    # Reading

    def entity_ids(self) -> list[str]:
        """Ids of everything that has a directory here, sorted; other names are passed over."""
        return [name for name in self._files.names(self.root) if is_id(name)]

    def current(self, entity_id: str) -> Commit | None:
        """The current commit, or None where nothing was ever committed.

        Raises:
            StoreError: The record is damaged or of a later format.
        """
        numbers = self._sequence_numbers(entity_id)
        return self._read_commit(entity_id, numbers[-1]) if numbers else None

    def commits(self, entity_id: str) -> list[Commit]:
        """Every commit of an entity, the first one first."""
        return [self._read_commit(entity_id, number) for number in self._sequence_numbers(entity_id)]

    def entity_json(self, entity_id: str) -> dict[str, Any] | None:
        """The entity as it was when last committed (its wire form), or None."""
        numbers = self._sequence_numbers(entity_id)
        if not numbers:
            return None
        record = json.loads(self._files.read(self._commit_path(entity_id, numbers[-1])))
        resource: dict[str, Any] = record["resource"]
        return resource

    # Writing

    @contextlib.contextmanager
    def lock(self, entity_id: str, wait: float = 0.0) -> Iterator[None]:
        """Hold an entity for as long as it is being computed.

        The operating system lets go of it when the process ends in whatever way. On object stores there
        is no such lock; there the exclusive creation of the commit alone decides.

        Args:
            entity_id: The entity.
            wait: Seconds to wait for another process that holds it.

        Raises:
            EntityBusy: Another process holds it, and goes on holding it.
        """
        if not self.local:
            yield
            return
        import fcntl

        path = local_path(self.working(entity_id) / "lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+") as file:
            end = time.monotonic() + wait
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if time.monotonic() >= end:
                        file.seek(0)
                        raise EntityBusy(entity_id, file.read(64).strip()) from error
                    time.sleep(0.05)
            file.truncate(0)
            file.write(f"process {os.getpid()}")
            file.flush()
            yield

    @contextlib.contextmanager
    def draft(self, entity_id: str) -> Iterator[Draft]:
        """A place to make the next version; whatever is not committed is gone afterwards."""
        if self.local:
            parent = local_path(self.working(entity_id) / "drafts")
            parent.mkdir(parents=True, exist_ok=True)
            path = parent / uuid.uuid4().hex
            path.mkdir()
        else:
            path = Path(tempfile.mkdtemp(prefix="dyff-draft-"))
        try:
            yield Draft(self, entity_id, path)
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def clear_drafts(self, entity_id: str) -> None:
        """Remove what a killed process left half-made. Call it under :meth:`lock`."""
        if self.local:
            working = local_path(self.working(entity_id))
            shutil.rmtree(working / "drafts", ignore_errors=True)
            for folder in ("parts", "requests"):
                for temporary in (working / folder).glob("*/.*.tmp"):
                    temporary.unlink(missing_ok=True)

    def intact(self, commit: Commit) -> bool:
        """Whether every file of a version is still there with its size; bytes are not read again."""
        for name, digest in commit.files.items():
            try:
                if (commit.path / name).stat().st_size != digest.size:
                    return False
            except FileNotFoundError:
                return False
        return True

    def repair(self, commit: Commit) -> None:
        """Bring the view for other tools up to ``commit`` where a crash left it behind."""
        pointer = self.working(commit.entity_id) / "commit.json"
        try:
            if json.loads(self._files.read(pointer))["sequence"] == commit.sequence:
                return
        except (FileNotFoundError, ValueError, KeyError):
            pass
        self._publish(commit, self._files.read(self._commit_path(commit.entity_id, commit.sequence)))

    def _add_version(
        self, entity_id: str, data_version: str, draft: Path, known_digests: Mapping[str, FileDigest]
    ) -> tuple[str, dict[str, FileDigest]]:
        """Make the draft's files a version; returns the name of its directory, and the files.

        Content of the same digest can come with other files (a notebook, a figure): those have a directory of
        their own, so that what a commit says of its version lies in it. A directory without a listing was left
        by a killed process and nobody has seen it; a file that a disk lost is put back.
        """
        refuse_links(entity_id, draft)
        files = {
            name: known_digests.get(name) or digest_file(draft / name)
            for name in list_files(draft, links=False)
        }
        for name in files:
            parts = PurePosixPath(name).parts
            if parts[0] == ".dyff" and len(parts) > 1 and parts[1] in _OWN:
                raise StoreError(
                    f"{entity_id}: an artifact may not be named {name}, the store keeps its own there"
                )
        versions = self.working(entity_id) / "versions"
        directory = data_version
        known = self._listing(versions / directory)
        if known is not None and known != files:
            directory = f"{data_version}-{tree_digest(files)[:16]}"
            known = self._listing(versions / directory)
        version = versions / directory
        if known is None:
            self._files.clear(version)
        for name, digest in files.items():
            if known is None or not self._holds(version / name, digest):
                self._files.take(draft / name, version / name)
        if known is None:
            listing = {name: {"sha256": d.sha256, "md5": d.md5, "size": d.size} for name, d in files.items()}
            with contextlib.suppress(FileExistsError):
                self._files.create(version / _FILES, json.dumps(listing, sort_keys=True, indent=1).encode())
            if self.local:
                local_path(version / _FILES).chmod(0o444)
        return directory, files

    def _listing(self, version: UPath) -> dict[str, FileDigest] | None:
        """What a version is made of, or None where it was never completed."""
        try:
            known = json.loads(self._files.read(version / _FILES))
            return {name: FileDigest(**digest) for name, digest in known.items()}
        except (FileNotFoundError, ValueError, TypeError, AttributeError):
            return None

    def _holds(self, path: UPath, digest: FileDigest) -> bool:
        """Whether a file of a version is there as it was committed."""
        try:
            if not self.local:
                return bool(path.stat().st_size == digest.size)
            return digest_file(local_path(path)) == digest
        except FileNotFoundError:
            return False

    def _commit(
        self,
        entity: DyffEntity,
        data_version: str,
        files: dict[str, FileDigest],
        inputs: Inputs,
        facts: Facts,
        run_id: str,
        directory: str,
    ) -> Commit:
        numbers = self._sequence_numbers(entity.id)
        sequence = (numbers[-1] if numbers else purged_up_to(self._files, self.working(entity.id))) + 1
        now = datetime.now(UTC)
        commit = Commit(
            entity_id=entity.id,
            kind=entity.kind,
            sequence=sequence,
            data_version=data_version,
            code_version=inputs.spec,
            input_digest=inputs.digest,
            inputs=inputs.to_json(),
            committed=now,
            run_id=run_id,
            files=files,
            facts=facts,
            path=self.working(entity.id) / "versions" / directory,
        )
        resource = wire_form(entity, self.entity_json(entity.id), now)
        said = {**commit.to_json(), "resource": resource, "by": current_user()}
        if held := held_parts(entity):
            said["held"] = held
        record = json.dumps(said, indent=1, sort_keys=True).encode()
        self.revisions.catch_up(entity.id)
        try:
            self._files.create(self._commit_path(entity.id, sequence), record)
        except FileExistsError as error:
            raise CommitConflict(entity.id, sequence) from error
        self._publish(commit, record)
        self.revisions.catch_up(entity.id)
        return commit

    def _publish(self, commit: Commit, record: bytes) -> None:
        directory = self.directory(commit.entity_id)
        kind_file = f".{commit.kind.lower()}.json"
        published = 0
        with contextlib.suppress(FileNotFoundError, ValueError, KeyError):
            published = json.loads(self._files.read(directory / ".dyff" / "commit.json"))["sequence"]
        before: set[str] = set()
        for number in self._sequence_numbers(commit.entity_id):
            # A commit whose publishing was cut short is not in commit.json, and its files may be here.
            if published <= number < commit.sequence:
                before |= set(self._read_commit(commit.entity_id, number).files)
        for name in commit.files:
            self._files.view(commit.path / name, directory / name)
        for name in before - set(commit.files):
            self._files.remove(directory / name)
        resource = json.loads(record)["resource"]
        self._files.put(directory / kind_file, json.dumps(resource, indent=1).encode())
        self._files.put(directory / ".dyff" / "commit.json", record)

    def _commit_path(self, entity_id: str, sequence: int) -> UPath:
        return self.working(entity_id) / "commits" / f"{sequence:08d}.json"

    def _sequence_numbers(self, entity_id: str) -> list[int]:
        names = self._files.names(self.working(entity_id) / "commits")
        return sorted(int(name[:-5]) for name in names if name.endswith(".json") and name[:-5].isdigit())

    def _read_commit(self, entity_id: str, sequence: int) -> Commit:
        path = self._commit_path(entity_id, sequence)
        return Commit.from_json(self._files.read(path).decode(), self.directory(entity_id), str(path))


class Draft:
    """The next version of an entity's artifact, in the making.

    Attributes:
        path: A local directory, empty at first. Files that begin with ``.dyff/`` are published under
            ``ROOT/ID/.dyff/`` and are no rows to other tools.
    """

    def __init__(self, store: Store, entity_id: str, path: Path) -> None:
        self._store = store
        self._entity_id = entity_id
        self.path = path

    def commit(
        self,
        *,
        entity: DyffEntity,
        data_version: str,
        inputs: Inputs,
        facts: Facts,
        run_id: str = "",
        digests: Mapping[str, FileDigest] | None = None,
    ) -> Commit:
        """Make the draft a version and move the pointer to it.

        Where a version of the same content is there already its files are kept and the draft's dropped.

        Args:
            entity: The entity; its wire form is stored beside the artifact.
            data_version: Digest of the content (hexadecimal SHA-256).
            inputs: What it was made from.
            facts: What there is to say about it.
            run_id: The Dagster run, if there is one.
            digests: Those of files that were taken while they were written; the others are read.

        Raises:
            CommitConflict: Another writer committed meanwhile; its version stands.
            StoreError: The draft holds a symbolic link, or a name that the store keeps for itself.
        """
        directory, files = self._store._add_version(self._entity_id, data_version, self.path, digests or {})
        return self._store._commit(entity, data_version, files, inputs, facts, run_id, directory)
