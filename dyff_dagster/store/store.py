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
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from upath import UPath

from dyff_dagster.schema.ids import check_id, is_id
from dyff_dagster.schema.platform import DyffEntity
from dyff_dagster.store.commits import Commit, purged_up_to
from dyff_dagster.store.digests import FileDigest
from dyff_dagster.store.draft import Draft
from dyff_dagster.store.errors import CommitConflict, EntityBusy, StoreError
from dyff_dagster.store.facts import Facts
from dyff_dagster.store.fetched import cache_directory, cache_of_store, fetch_version
from dyff_dagster.store.filesystem import Filesystem, local_path, open_filesystem
from dyff_dagster.store.held import held_parts
from dyff_dagster.store.inputs import Inputs
from dyff_dagster.store.progress import Progress, no_progress
from dyff_dagster.store.remote import remote_options, variables_of
from dyff_dagster.store.revisions import Revisions, current_user, wire_form
from dyff_dagster.store.versions import Versions

_LOCAL = ("", "file", "local")
"""What universal_pathlib calls paths of this machine."""


class Store:
    """Artifacts of entities under one root.

    Args:
        root: A local directory or an fsspec URL (``s3://bucket/prefix``). It need not exist yet.
        cache: Where a store elsewhere keeps what it needs on a disk of this machine; default DYFF_CACHE, else
            ``dyff-dagster`` in the user's cache directory.

    Attributes:
        revisions: What its entities said, each time that they said something else.

    Raises:
        StoreError: The root is empty, a file, a URL of no kind that is known, or needs a package that is not
            installed.
    """

    def __init__(self, root: str | os.PathLike[str], *, cache: str | os.PathLike[str] | None = None) -> None:
        if root == "":  # pathlib takes it for the working directory, which nobody has named
            raise StoreError(
                "the storage root is empty: DYFF_STORAGE_ROOT must name a directory, or a URL as in s3://bucket/prefix"
            )
        try:
            self.root = UPath(root)
            if self.root.protocol not in _LOCAL:
                self.root = UPath(self.root, **remote_options(self.root.protocol))
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
        if self.root.protocol in _LOCAL:
            self.root = UPath(local_path(self.root).absolute())
        self._files = open_filesystem(self.root)
        self.revisions = Revisions(self._files, self.root)
        self._versions = Versions(self._files)
        self._cache = Path(cache) if cache else cache_directory()
        self._working: dict[str, UPath] = {}
        self._seen: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"Store({str(self.root)!r})"

    @property
    def local(self) -> bool:
        """True where the store lies on a disk of this machine."""
        return self._files.local

    def variables(self, names: Iterable[str]) -> list[str]:
        """Of environment variables those that a process must have to write here; none where it is a disk."""
        return [] if self.local else variables_of(self.root.protocol, names)

    @property
    def filesystem(self) -> Filesystem:
        """The operations of the place where it lies, for what looks after a store: ``purge``, ``verify-store``."""
        return self._files

    def listing(self, version: UPath) -> dict[str, FileDigest] | None:
        """What a version's directory says that it is made of, or None where it was never completed.

        Raises:
            StoreUnreachable: The place does not answer.
        """
        return self._versions.listing(version)

    @property
    def machine_root(self) -> Path:
        """The directory of this machine that all of the store's files lie below that a process here can open.

        The root itself, or, of a store elsewhere, this machine's cache.
        """
        return local_path(self.root) if self.local else self._cache

    def scratch(self, entity_id: str) -> Path:
        """A directory of this machine for what a computation of an entity needs on a disk: drafts, logs, a lock.

        ``ROOT/ID/.dyff``, or, of a store elsewhere, the entity's place in this machine's cache.
        """
        if self.local:
            return local_path(self.working(entity_id))
        return cache_of_store(self._cache, self.root) / check_id(entity_id)

    def on_disk(self, commit: Commit, progress: Progress = no_progress) -> Path:
        """A version's directory on this machine; one that lies elsewhere is fetched, once.

        Raises:
            StoreError: It has lost a file, or one is not what was committed.
            OSError: It does not fit on this disk.
        """
        if self.local:
            return local_path(commit.path)
        return fetch_version(self._files, commit, self.scratch(commit.entity_id), progress)

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

        The operating system lets go of it when the process ends in whatever way. Object stores have no such
        lock: there it holds among the processes of this machine, and among others the first commit decides.

        Args:
            entity_id: The entity.
            wait: Seconds to wait for another process that holds it.

        Raises:
            EntityBusy: Another process holds it, and goes on holding it.
        """
        import fcntl

        path = self.scratch(entity_id) / "lock"
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
            # Whoever commits while this one is at work was first.
            self._seen[entity_id] = self._last_number(entity_id)
            try:
                yield
            finally:
                del self._seen[entity_id]

    @contextlib.contextmanager
    def draft(self, entity_id: str) -> Iterator[Draft]:
        """A place to make the next version; whatever is not committed is gone afterwards."""
        path = self.scratch(entity_id) / "drafts" / uuid.uuid4().hex
        path.mkdir(parents=True)
        try:
            yield Draft(self, entity_id, path)
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def clear_drafts(self, entity_id: str) -> None:
        """Remove what a killed process left half-made. Call it under :meth:`lock`."""
        scratch = self.scratch(entity_id)
        shutil.rmtree(scratch / "drafts", ignore_errors=True)
        for folder in ("parts", "requests"):
            for temporary in (scratch / folder).glob("*/.*.tmp"):
                temporary.unlink(missing_ok=True)

    def intact(self, commit: Commit) -> bool:
        """Whether every file of a version is still there with its size; bytes are not read again."""
        there = self._files.sizes(commit.path)
        return all(there.get(name) == digest.size for name, digest in commit.files.items())

    def repair(self, commit: Commit) -> None:
        """Bring the view for other tools up to ``commit`` where a crash left it behind."""
        pointer = self.working(commit.entity_id) / "commit.json"
        try:
            if json.loads(self._files.read(pointer))["sequence"] == commit.sequence:
                return
        except (FileNotFoundError, ValueError, KeyError):
            pass
        self._publish(commit, self._files.read(self._commit_path(commit.entity_id, commit.sequence)))

    def _add(
        self, entity_id: str, data_version: str, draft: Path, digests: Mapping[str, FileDigest]
    ) -> tuple[str, dict[str, FileDigest]]:
        return self._versions.add(
            entity_id, data_version, self.working(entity_id) / "versions", draft, digests
        )

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
        seen = self._seen.get(entity.id)
        sequence = (self._last_number(entity.id) if seen is None else seen) + 1
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
        if seen is not None:
            self._seen[entity.id] = sequence
        self._publish(commit, record)
        self.revisions.catch_up(entity.id)
        return commit

    def _publish(self, commit: Commit, record: bytes) -> None:
        directory = self.directory(commit.entity_id)
        kind_file = f".{commit.kind.lower()}.json"
        published = 0
        with contextlib.suppress(FileNotFoundError, ValueError, KeyError):
            published = json.loads(self._files.read(directory / ".dyff" / "commit.json"))["sequence"]
        # A commit whose publishing was cut short is not in commit.json, and its files may be here.
        earlier = [
            self._read_commit(commit.entity_id, number)
            for number in self._sequence_numbers(commit.entity_id)
            if published <= number < commit.sequence
        ]
        # What is shown already need not be copied anew.
        same = not self.local and published > 0 and all(one.path == commit.path for one in earlier)
        for name in () if same and earlier else commit.files:
            self._files.view(commit.path / name, directory / name)
        for name in {name for one in earlier for name in one.files} - set(commit.files):
            self._files.remove(directory / name)
        resource = json.loads(record)["resource"]
        self._files.put(directory / kind_file, json.dumps(resource, indent=1).encode())
        self._files.put(directory / ".dyff" / "commit.json", record)

    def _commit_path(self, entity_id: str, sequence: int) -> UPath:
        return self.working(entity_id) / "commits" / f"{sequence:08d}.json"

    def _sequence_numbers(self, entity_id: str) -> list[int]:
        names = self._files.names(self.working(entity_id) / "commits")
        return sorted(int(name[:-5]) for name in names if name.endswith(".json") and name[:-5].isdigit())

    def _last_number(self, entity_id: str) -> int:
        """The highest number of a commit so far, also of those that were purged; 0 where there is none."""
        numbers = self._sequence_numbers(entity_id)
        return numbers[-1] if numbers else purged_up_to(self._files, self.working(entity_id))

    def _read_commit(self, entity_id: str, sequence: int) -> Commit:
        path = self._commit_path(entity_id, sequence)
        return Commit.from_json(self._files.read(path).decode(), self.directory(entity_id), str(path))
