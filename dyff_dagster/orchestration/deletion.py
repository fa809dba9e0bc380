"""Deleting an entity: Dagster's records say Deleted from then on, and its artifacts stay until they are purged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import dagster as dg

from dyff_dagster.catalog import Catalog
from dyff_dagster.orchestration.marks import COMMAND, Marks, key_of, report
from dyff_dagster.orchestration.selection import is_declared_only
from dyff_dagster.orchestration.standing import Standing, at_work, standings
from dyff_dagster.schema.errors import DyffError
from dyff_dagster.schema.ids import is_id
from dyff_dagster.schema.statuses import EntityStatus, EntityStatusReason
from dyff_dagster.store import Store
from dyff_dagster.store.revisions import current_user


class Undeletable(DyffError):
    """An entity cannot be deleted as things stand."""


@dataclass(frozen=True)
class Deletion:
    """One entity that is about to be deleted.

    Attributes:
        id: The entity.
        kind: Its kind.
        done: Whether it is Deleted already.
        downstream: What was made from it and is there, or would be made from it; the nearest first.
        automation: What its manifest starts by itself, or None: it would be made anew.
    """

    id: str
    kind: str
    done: bool = False
    downstream: tuple[str, ...] = ()
    automation: str | None = None


def plan_deletion(
    catalog: Catalog, store: Store, instance: dg.DagsterInstance, entity_ids: Sequence[str]
) -> list[Deletion]:
    """What deleting some entities means; nothing is written.

    Args:
        catalog: The entities.
        store: Where their artifacts are.
        instance: What has run.
        entity_ids: In the catalog, or else in the store: a manifest may be gone already.

    Raises:
        EntityNotFound: There is none.
        Undeletable: One is only declared, or a run is working on it.
    """
    known = standings(catalog, instance)
    deleted = Marks.read(instance).deleted()
    found: list[Deletion] = []
    for entity_id in dict.fromkeys(entity_ids):
        if entity_id not in catalog and is_id(entity_id) and (commit := store.current(entity_id)) is not None:
            kind, mark = deleted.get(entity_id, (None, None))
            key = key_of(commit.kind, entity_id)
            _refuse_at_work(entity_id, commit.kind, None, at_work(instance, [key]).get(key))
            done = kind == commit.kind and mark is not None and mark.when >= commit.committed
            found.append(Deletion(entity_id, commit.kind, done=done))
            continue
        entity = catalog.get(entity_id)
        if is_declared_only(entity):
            raise Undeletable(
                f"{entity.id} is a {entity.kind}, which is there because it is written down: take its manifest out of "
                "the catalog"
            )
        key = key_of(entity.kind, entity.id)
        _refuse_at_work(entity.id, entity.kind, known[entity.id], at_work(instance, [key]).get(key))
        automation = catalog.annotation(entity.id, "automation")
        found.append(
            Deletion(
                entity.id,
                entity.kind,
                done=known[entity.id].status == EntityStatus.deleted,
                downstream=tuple(_downstream(catalog, entity.id)),
                automation=None if automation in (None, "manual") else automation,
            )
        )
    return found


def delete(store: Store, instance: dg.DagsterInstance, deletion: Deletion) -> None:
    """Have an entity be Deleted.

    Raises:
        EntityBusy: A run is computing it.
    """
    if deletion.done:
        return
    # A lock is a file in the entity's directory: what never had one has nothing to be locked.
    if store.current(deletion.id) is None:
        _mark(instance, deletion)
        return
    with store.lock(deletion.id):
        _mark(instance, deletion)


def _mark(instance: dg.DagsterInstance, deletion: Deletion) -> None:
    report(
        instance,
        key_of(deletion.kind, deletion.id),
        EntityStatus.deleted,
        EntityStatusReason.delete_command,
        COMMAND,
        "It was deleted. Its artifacts stay until they are purged; materializing it makes it anew.",
        current_user(),
    )


def _refuse_at_work(entity_id: str, kind: str, standing: Standing | None, run_id: str | None) -> None:
    if run_id is not None:
        raise Undeletable(
            f"{entity_id}: the run {run_id} is to compute it at this moment; wait for that one, or end it, and start "
            "this again"
        )
    if kind == "InferenceSession" and standing is not None and standing.status == EntityStatus.admitted:
        raise Undeletable(
            f"{entity_id}: its session runs; end it first, with dyff-dagster terminate {entity_id}"
        )


def _downstream(catalog: Catalog, entity_id: str) -> list[str]:
    """Everything that is made from an entity, the nearest first."""
    found: dict[str, None] = {}
    waiting = [entity_id]
    while waiting:
        below = [down for up in waiting for down in catalog.downstream(up) if down not in found]
        found.update(dict.fromkeys(below))
        waiting = list(dict.fromkeys(below))
    return list(found)
