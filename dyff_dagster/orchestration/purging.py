"""What ``purge`` removes: what was deleted, old versions that nothing rests on, and what crashes left."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import dagster as dg

from dyff_dagster.catalog import Catalog
from dyff_dagster.evaluation.unused_parts import outdated_parts, parts_of_other_services
from dyff_dagster.orchestration.dependencies import Dependencies
from dyff_dagster.orchestration.marks import PURGE, Marks, key_of, report
from dyff_dagster.orchestration.selection import ancestors, is_declared_only
from dyff_dagster.orchestration.standing import standings
from dyff_dagster.schema.errors import DyffError
from dyff_dagster.schema.platform import Evaluation
from dyff_dagster.schema.statuses import EntityStatus, EntityStatusReason
from dyff_dagster.sessions import SessionError, read_session
from dyff_dagster.sources.remnants import remnants
from dyff_dagster.store import Commit, EntityBusy, Store, StoreError, local_path
from dyff_dagster.store.purging import (
    ANSWERS,
    DOWNLOAD,
    ENTITY,
    Removal,
    broken_uploads,
    carry_out,
    leftovers,
    old_versions,
    probes,
    whole_entity,
)
from dyff_dagster.store.references import versions_behind
from dyff_dagster.store.trees import LinkInStore

_Look = Callable[[], "Removal | list[Removal] | None"]


@dataclass(frozen=True)
class Purge:
    """What an operator wants gone.

    Attributes:
        catalogs: Every catalog that uses the store.
        store: The store.
        instance: Where is recorded what was deleted; None: nothing is known to be.
        before: What was written to, or was current, at a later time stays.
        deleted: What is Deleted.
        strays: What is in none of the catalogs, and not known to be deleted.
        versions: Old versions that no current result was computed from.
        partial: What crashes left.
        answers: Answers of services that no evaluation asks as they were then.
        even_used: Also what current results of others were computed from.
    """

    catalogs: Sequence[Catalog]
    store: Store
    instance: dg.DagsterInstance | None
    before: datetime
    deleted: bool = False
    strays: bool = False
    versions: bool = False
    partial: bool = False
    answers: bool = False
    even_used: bool = False

    def find(self) -> Found:
        """What would be removed, and what stays though it looks as if it were meant; nothing is written.

        Raises:
            StoreError: A record is damaged: what rests on what cannot be known.
            DyffError: The store has nothing of any of the catalogs.
        """
        found = Found()
        ids = self.store.entity_ids()
        if self.deleted or self.strays:
            self._entities(ids, found)
        gone = {removal.entity_id for removal in found.removals}
        rest = [entity_id for entity_id in ids if entity_id not in gone]
        if self.versions:
            self._versions(rest, found)
        if self.partial:
            self._partial(rest, found)
        if self.answers:
            self._answers(rest, found)
        return found

    def carry_out(self, removals: Sequence[Removal]) -> Iterator[tuple[Removal, str]]:
        """Remove some of what was found; each, with why it stays after all, empty where it is gone."""
        return carry_out(self.store, removals, self.before, self._tell)

    def _tell(self, removal: Removal) -> None:
        """Have Dagster know, before anything is removed, that an entity is not what its records say."""
        if removal.what != ENTITY or self.instance is None or removal.kind is None:
            return
        report(
            self.instance,
            key_of(removal.kind, removal.entity_id),
            EntityStatus.deleted,
            EntityStatusReason.delete_command,
            PURGE,
            "Its artifacts were purged. Materializing it makes it anew.",
        )

    def _entities(self, ids: Sequence[str], found: Found) -> None:
        wanted: dict[str, tuple[str | None, str]] = {}
        deleted = self._deleted(ids)
        if self.deleted:
            wanted |= deleted
        if self.strays:
            known = {entity_id for catalog in self.catalogs for entity_id in catalog.entities}
            there = [entity_id for entity_id in ids if self.store.current(entity_id) is not None]
            if there and not known.intersection(there):
                raise DyffError(
                    f"none of the {len(there)} entities in {self.store.root} is in the catalog: name the one that they "
                    "belong to with --catalog, which may be said several times"
                )
            strays = [entity_id for entity_id in ids if entity_id not in known and entity_id not in deleted]
            for entity_id in strays:
                commit = self.store.current(entity_id)
                wanted[entity_id] = (None if commit is None else commit.kind, "it is in no catalog")
        kept: dict[str, str] = {} if self.even_used else self._used(ids, wanted)
        for entity_id, (kind, why) in wanted.items():
            if result := kept.get(entity_id):
                found.stay.append(f"{entity_id}: {result} was computed from it")
            elif self._session_runs(entity_id):
                found.stay.append(f"{entity_id}: its session runs")
            else:
                found.note(functools.partial(whole_entity, self.store, entity_id, why, kind), entity_id)

    def _deleted(self, ids: Sequence[str]) -> dict[str, tuple[str | None, str]]:
        """Kind of what is Deleted, and since when."""
        if self.instance is None:
            return {}
        found: dict[str, tuple[str | None, str]] = {}
        known: set[str] = set()
        for catalog in self.catalogs:
            for entity_id, standing in standings(catalog, self.instance).items():
                known.add(entity_id)
                if standing.status == EntityStatus.deleted and standing.since is not None:
                    found[entity_id] = (catalog.get(entity_id).kind, _since(standing.since))
        for entity_id, (kind, mark) in Marks.read(self.instance).deleted().items():
            commit = self.store.current(entity_id) if entity_id not in known else None
            made_since = commit is not None and (commit.kind != kind or commit.committed > mark.when)
            if entity_id not in known and not made_since:
                found[entity_id] = (kind, _since(mark.when))
        return {entity_id: said for entity_id, said in found.items() if entity_id in ids}

    def _used(self, ids: Sequence[str], wanted: dict[str, tuple[str | None, str]]) -> dict[str, str]:
        """Of what is wanted gone, what must stay, and a result that was computed from it."""
        kept: dict[str, str] = {}
        while True:
            stays = [entity_id for entity_id in ids if entity_id not in wanted or entity_id in kept]
            behind = versions_behind(self.store, self._current(stays))
            more = {
                entity_id: result
                for (entity_id, _), result in behind.items()
                if entity_id in wanted and entity_id not in kept
            }
            if not more:
                return kept
            kept |= more

    def _current(self, ids: Sequence[str]) -> list[Commit]:
        return [commit for entity_id in ids if (commit := self.store.current(entity_id)) is not None]

    def _session_runs(self, entity_id: str) -> bool:
        if not self.store.local:
            return False
        try:
            state = read_session(local_path(self.store.working(entity_id)) / "session")
        except SessionError:
            return True  # whoever cannot say that it has ended leaves it alone
        return state is not None and state.alive()

    def _versions(self, ids: Sequence[str], found: Found) -> None:
        needed = {} if self.even_used else versions_behind(self.store, self._current(ids))
        read = self._being_read(ids)
        for entity_id in ids:
            if entity_id in read:
                found.stay.append(f"{entity_id}: {read[entity_id]} is being computed from it")
                continue
            found.note(functools.partial(self._old, entity_id, needed, found), entity_id)

    def _old(self, entity_id: str, needed: Mapping[tuple[str, str], str], found: Found) -> list[Removal]:
        removals, stay = old_versions(self.store, entity_id, needed, self.before)
        found.stay += stay
        return removals

    def _being_read(self, ids: Sequence[str]) -> dict[str, str]:
        """What runs may be reading at this moment, and what they compute."""
        found: dict[str, str] = {}
        for entity_id in ids:
            if self._is_busy(entity_id):
                for catalog in self.catalogs:
                    if entity_id in catalog:
                        found |= dict.fromkeys(ancestors(catalog, entity_id), entity_id)
        return found

    def _is_busy(self, entity_id: str) -> bool:
        """Whether a process of this machine computes an entity; its lock is not made for that."""
        if not self.store.local or not (local_path(self.store.working(entity_id)) / "lock").exists():
            return False
        try:
            self.store.filesystem.refuse_link(self.store.working(entity_id) / "lock")
            with self.store.lock(entity_id):
                return False
        except LinkInStore:
            return False  # nothing of it will be touched
        except EntityBusy:
            return True

    def _partial(self, ids: Sequence[str], found: Found) -> None:
        for entity_id in ids:
            if self._is_busy(entity_id):
                found.stay.append(f"{entity_id}: it is being computed")
                continue
            found.note(functools.partial(self._left, entity_id), entity_id)
        found.note(functools.partial(broken_uploads, self.store, self.before), "unfinished uploads")
        found.note(functools.partial(probes, self.store, self.before), "trials of the place")
        for entry in remnants(self.store, self.before):
            why = "the first part of a download"
            found.removals.append(Removal("", DOWNLOAD, why, (entry.path,), (entry,)))

    def _left(self, entity_id: str) -> list[Removal]:
        found = leftovers(self.store, entity_id, self.before)
        working = self.store.working(entity_id)
        if names := outdated_parts(self.store, entity_id):
            paths = tuple(working / name for name in names)
            files = tuple(entry for path in paths for entry in self.store.filesystem.entries(path))
            why = "answers that were asked for again"
            found.append(Removal(entity_id, ANSWERS, why, paths, files))
        return found

    def _answers(self, ids: Sequence[str], found: Found) -> None:
        asked, unknown = self._services(ids)
        for entity_id in ids:
            evaluation = any(isinstance(c.entities.get(entity_id), Evaluation) for c in self.catalogs)
            if not evaluation:
                continue
            if entity_id in unknown:
                found.stay.append(f"{entity_id}: its service cannot be known yet ({unknown[entity_id]})")
                continue
            for name, answers in parts_of_other_services(self.store, entity_id, asked):
                path = self.store.working(entity_id) / name
                files = tuple(self.store.filesystem.entries(path))
                if all(entry.modified is not None and entry.modified <= self.before for entry in files):
                    why = f"{answers:,} answers of a service that nobody asks as it was then"
                    found.removals.append(Removal(entity_id, ANSWERS, why, (path,), files))

    def _services(self, ids: Sequence[str]) -> tuple[set[str], dict[str, str]]:
        """Digests of the services as evaluations ask them, or have asked them for a current result; and of which
        evaluations none can be said."""
        asked = {commit.inputs["extras"].get("service", "") for commit in self._current(ids)}
        unknown: dict[str, str] = {}
        for catalog in self.catalogs:
            for entity in catalog.entities.values():
                if is_declared_only(entity) or not isinstance(entity, Evaluation):
                    continue
                try:
                    dependencies = Dependencies(catalog, self.store, entity)
                    asked.add(dependencies.service_digest(dependencies.service_of(entity)))
                except (DyffError, OSError) as error:
                    unknown[entity.id] = str(error)
        return asked, unknown


@dataclass
class Found:
    """What would be removed, and for what stays a clause each.

    Attributes:
        removals: What would be removed.
        stay: What stays, and why.
    """

    removals: list[Removal] = field(default_factory=list)
    stay: list[str] = field(default_factory=list)

    def note(self, look: _Look, entity_id: str) -> None:
        """Add what a look at an entity finds; what cannot be looked at stays."""
        try:
            seen = look()
        except (StoreError, OSError) as error:
            self.stay.append(f"{entity_id}: {error}")
            return
        if isinstance(seen, Removal):
            self.removals.append(seen)
        elif seen:
            self.removals += seen


def _since(moment: datetime) -> str:
    return f"Deleted since {moment:%Y-%m-%d %H:%M} UTC"
