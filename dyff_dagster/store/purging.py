"""What may be removed from a store, and its removal, in an order in which a crash leaves the store whole.

Nothing here decides what an operator wants gone: it finds old versions that nothing rests on and what crashed writes
left, and removes what it is told to. It does so under the entity's lock, so that nothing is touched that a run is
writing; on object stores, which have no lock, age alone protects it.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from upath import UPath

from dyff_dagster.schema.ids import is_id
from dyff_dagster.store.commits import PURGED, Commit
from dyff_dagster.store.errors import EntityBusy, StoreError
from dyff_dagster.store.filesystem import Upload, local_path
from dyff_dagster.store.store import Store
from dyff_dagster.store.trees import Entry

ENTITY, VERSION, UNFINISHED, ANSWERS, DOWNLOAD = "entity", "version", "unfinished", "answers", "download"
UPLOAD = "upload"
"""What can be removed: all of an entity but its history; an old version; what a crash left; answers that no evaluation
asks for any more; the first part of a download; that of an upload, which a server keeps and nobody sees."""

_STAYS = ("lock", "revisions", "history.json", PURGED)
"""What stays of an entity: who waits for the lock has its file open, and a history is no artifact."""

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")
_PROBE = re.compile(r"\.exclusive-[0-9a-f]{32}")
_SCRATCH = "dyff-analysis-"
_YOUNGEST = timedelta(hours=1)
"""Temporary files are there for a moment, some of them without the lock: none that is younger is touched."""


@dataclass(frozen=True)
class Removal:
    """Something that may be removed.

    Attributes:
        entity_id: Whose it is; empty where it is nobody's.
        what: :data:`ENTITY`, :data:`VERSION`, :data:`UNFINISHED`, :data:`ANSWERS`, :data:`DOWNLOAD` or :data:`UPLOAD`.
        why: Why nobody needs it, as a clause.
        paths: What is removed, in this order; of an upload how S3 names it.
        found: The files below them.
        newest: Number of the entity's newest commit when this was found; 0 where there was none.
        kind: The entity's kind, where that is known.
        upload: The upload that is aborted, where it is one; then nothing else is removed.
    """

    entity_id: str
    what: str
    why: str
    paths: tuple[UPath, ...]
    found: tuple[Entry, ...]
    newest: int = 0
    kind: str | None = None
    upload: Upload | None = None


def whole_entity(store: Store, entity_id: str, why: str, kind: str | None = None) -> Removal | None:
    """All of an entity but its history; None where there is nothing else of it.

    Raises:
        LinkInStore: It is reached through a symbolic link.
        StoreError: One of its commits is damaged.
    """
    working = store.working(entity_id)
    store.filesystem.refuse_link(working)
    commits = store.commits(entity_id)
    view = [path for path in _inside(store, store.directory(entity_id)) if path.name != ".dyff"]
    last = ("commits", "commit.json", *_STAYS)
    rest = [path for path in _inside(store, working) if path.name not in last]
    # What points to the current version goes first, and its commit after all before it: whoever reads finds the
    # current version or none, and never an older one in its place.
    paths = [
        working / "commit.json",
        *view,
        *(_record(store, c) for c in commits),
        working / "commits",
        *rest,
    ]
    found = _found(store, paths)
    newest = commits[-1].sequence if commits else 0
    return Removal(entity_id, ENTITY, why, tuple(paths), found, newest, kind) if found else None


def old_versions(
    store: Store, entity_id: str, needed: Mapping[tuple[str, str], str], before: datetime
) -> tuple[list[Removal], list[str]]:
    """Versions of an entity that are not current and that nothing rests on; and a clause for each that stays.

    Args:
        store: The store.
        entity_id: The entity.
        needed: What current results rest on, as :func:`~dyff_dagster.store.references.versions_behind` has it.
        before: What was current at a later time stays: a run may still read it.

    Raises:
        LinkInStore: It is reached through a symbolic link.
        StoreError: One of its commits is damaged.
    """
    store.filesystem.refuse_link(store.working(entity_id) / "commits")
    commits = store.commits(entity_id)
    until = {c.sequence: later.committed for c, later in itertools.pairwise(commits)}
    by_directory: dict[str, list[Commit]] = {}
    for commit in commits:
        by_directory.setdefault(commit.path.name, []).append(commit)
    removals: list[Removal] = []
    stay: list[str] = []
    for same in by_directory.values():
        if same[-1].path.name == commits[-1].path.name:
            continue
        name = f"{entity_id} {', '.join(str(commit.sequence) for commit in same)}"
        ended = until[same[-1].sequence]
        if result := needed.get((entity_id, same[-1].data_version)):
            stay.append(f"{name}: {result} was computed from it")
        elif ended > before:
            stay.append(f"{name}: it was current until {_moment(ended)}, which is too short a time ago")
        else:
            # The records first: a commit whose files are gone would be a damaged one.
            paths = (*(_record(store, commit) for commit in same), same[-1].path)
            numbers = " and ".join(str(commit.sequence) for commit in same)
            why = f"version {numbers}, replaced {_moment(ended)}"
            found = _found(store, paths)
            removals.append(Removal(entity_id, VERSION, why, paths, found, commits[-1].sequence))
    return removals, stay


def leftovers(store: Store, entity_id: str, before: datetime) -> list[Removal]:
    """What runs of an entity left that were killed: drafts, half-made and never committed versions, temporary files.

    Args:
        store: The store.
        entity_id: The entity. Its lock must be held, or tried.
        before: What was written to later stays.

    Raises:
        LinkInStore: It is reached through a symbolic link.
        StoreError: One of its commits is damaged.
    """
    working = store.working(entity_id)
    store.filesystem.refuse_link(working)
    found: list[Removal] = []

    def add(path: UPath, why: str, until: datetime = before) -> None:
        files = tuple(store.filesystem.entries(path))
        if all(entry.modified is not None and entry.modified <= until for entry in files):
            found.append(Removal(entity_id, UNFINISHED, why, (path,), files))

    for path in _inside(store, working / "drafts"):
        add(path, "a draft of a run that was killed")
    for path in _inside(store, working):
        if path.name == "sorting" or path.name.startswith(_SCRATCH):
            add(path, "scratch space of a run that was killed")
    committed = {commit.path.name for commit in store.commits(entity_id)}
    listed: set[UPath] = set()
    for path in _inside(store, working / "versions"):
        if path.name in committed:
            listed |= {path / name for name in store.listing(path) or ()}
        elif store.listing(path) is not None:
            add(path, "a version that was never committed")
        else:
            add(path, "a version that was never finished")
    known = {path for removal in found for path in removal.paths}
    for entry in store.filesystem.entries(store.directory(entity_id)):
        taken = entry.path in listed or known.intersection(entry.path.parents)
        if _TEMPORARY.fullmatch(entry.path.name) and not taken:
            add(entry.path, "a temporary file", min(before, datetime.now(UTC) - _YOUNGEST))
    return found


def broken_uploads(store: Store, before: datetime) -> list[Removal]:
    """Uploads in several pieces that no piece came to since a time: whoever was at it was killed.

    Args:
        store: The store.
        before: What a piece came to later stays.

    Raises:
        StoreUnreachable: The server does not answer, or cannot say.
    """
    found = []
    for upload in store.filesystem.uploads(store.root):
        if upload.modified > before:
            continue
        first = upload.path.relative_to(store.root).parts[0]
        # As S3 itself names it; two may be to the same place.
        path = upload.path.with_name(f"{upload.path.name}?uploadId={upload.identifier}")
        why = f"the first part of an upload, to which nothing came since {_moment(upload.modified)}"
        entry = Entry(path, upload.size, upload.modified)
        owner = first if is_id(first) else ""
        found.append(Removal(owner, UPLOAD, why, (path,), (entry,), upload=upload))
    return found


def probes(store: Store, before: datetime) -> list[Removal]:
    """Objects with which killed processes tried whether a place refuses to create what is there."""
    found = []
    for path in _inside(store, store.root):
        files = tuple(store.filesystem.entries(path)) if _PROBE.fullmatch(path.name) else ()
        if files and all(entry.modified is not None and entry.modified <= before for entry in files):
            found.append(
                Removal("", UNFINISHED, "a trial of the place, by a run that was killed", (path,), files)
            )
    return found


def carry_out(
    store: Store,
    removals: Iterable[Removal],
    before: datetime,
    tell: Callable[[Removal], None] = lambda removal: None,
) -> Iterator[tuple[Removal, str]]:
    """Remove some things, one after the other.

    Args:
        store: The store.
        removals: They are looked at again: what has changed since stays.
        before: As it was given where they were found.
        tell: Told of each right before it is removed.

    Yields:
        Each, with why it stays after all; empty where it is gone.
    """
    for removal in removals:
        try:
            if removal.entity_id:
                store.filesystem.refuse_link(store.working(removal.entity_id) / "lock")
            with store.lock(removal.entity_id) if removal.entity_id else nullcontext():
                why = _changed(store, removal, before)
                if not why:
                    tell(removal)
                    if removal.what == ENTITY:
                        store.revisions.catch_up(removal.entity_id)
                        if removal.newest:
                            taken = json.dumps({"commit": removal.newest}).encode()
                            store.put_working(removal.entity_id, PURGED, taken)
                    if removal.upload is not None:
                        store.filesystem.abort(removal.upload)
                    else:
                        for path in removal.paths:
                            store.filesystem.discard(path)
        except EntityBusy:
            why = "it is being computed"
        except (StoreError, OSError) as error:
            why = str(error)
        yield removal, why


def _changed(store: Store, removal: Removal, before: datetime) -> str:
    """Why something that was found is not removed any more."""
    if removal.what in (ENTITY, VERSION):
        current = store.current(removal.entity_id)
        if (current.sequence if current is not None else 0) != removal.newest:
            return "it was committed anew meanwhile"
    if removal.what == UPLOAD:
        if not any(found.paths == removal.paths for found in broken_uploads(store, before)):
            return "it has come to its end, or a piece has come to it"
    elif removal.what == UNFINISHED and removal.entity_id:
        still = {path for found in leftovers(store, removal.entity_id, before) for path in found.paths}
        if not still.issuperset(removal.paths):
            return "a run has taken it up"
    return ""


def _record(store: Store, commit: Commit) -> UPath:
    return store.working(commit.entity_id) / "commits" / f"{commit.sequence:08d}.json"


def _found(store: Store, paths: Iterable[UPath]) -> tuple[Entry, ...]:
    found = [entry for path in paths for entry in store.filesystem.entries(path)]
    return tuple({entry.path: entry for entry in found}.values())


def _inside(store: Store, path: UPath) -> list[UPath]:
    """What lies directly in a directory, links and empty directories too."""
    if store.local and local_path(path).is_symlink():
        return []
    return [path / name for name in store.filesystem.names(path)]


def _moment(when: datetime) -> str:
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def agreed(shown: Iterable[Removal], now: Iterable[Removal]) -> list[Removal]:
    """Of what is found now, what was shown before: a person has said yes to that and to nothing else.

    A version, or an entity, of which there is more by now stays as a whole.
    """
    seen: dict[tuple[str, str], set[UPath]] = {}
    for removal in shown:
        seen.setdefault((removal.entity_id, removal.what), set()).update(removal.paths)
    found = []
    for removal in now:
        known = seen.get((removal.entity_id, removal.what), set())
        paths = tuple(path for path in removal.paths if path in known)
        if paths and (len(paths) == len(removal.paths) or removal.what not in (ENTITY, VERSION)):
            found.append(replace(removal, paths=paths))
    return found
