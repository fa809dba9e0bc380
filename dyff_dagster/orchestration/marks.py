"""What was done to entities besides running them, as Dagster's own records have it: deleted, terminated, purged.

A mark is an observation of the entity's asset that belongs to no run and says by whom it was made (``dyff/by``). All of
them are read in one query, however many entities there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from dagster import DagsterEventType

# What an event of no run is stored under has no public name.
from dagster._core.instance import RUNLESS_RUN_ID

from dyff_dagster.schema.platform import Entities, Resources
from dyff_dagster.schema.statuses import EntityStatus, EntityStatusReason
from dyff_dagster.store import StoreError

COMMAND, PURGE, MANIFEST = "command", "purge", "manifest"
"""Who made a mark: a person, with ``delete`` or ``terminate``; ``purge``; the sensor that watches the manifests."""

_PAGE = 1000


@dataclass(frozen=True)
class Mark:
    """One mark.

    Attributes:
        status: ``Deleted`` or ``Terminated``; of a manifest that is back, what the entity is again.
        reason: The page's word for why, or None.
        when: When it was made.
        by: :data:`COMMAND`, :data:`PURGE` or :data:`MANIFEST`.
    """

    status: str
    reason: str | None
    when: datetime
    by: str


@dataclass
class Marks:
    """The marks of all assets of an instance; of each asset the last by a person or by ``purge``, and by the sensor."""

    told: dict[dg.AssetKey, Mark] = field(default_factory=dict)
    manifests: dict[dg.AssetKey, Mark] = field(default_factory=dict)

    @classmethod
    def read(cls, instance: dg.DagsterInstance) -> Marks:
        """Read them."""
        found = cls()
        for key, mark in _all(instance):
            (found.manifests if mark.by == MANIFEST else found.told)[key] = mark
        return found

    def deleted(self) -> dict[str, tuple[str, Mark]]:
        """Kind and mark of everything that was deleted by a person or whose manifest was removed, by id.

        Whoever asks has to look whether it was made anew since.
        """
        found: dict[str, tuple[str, Mark]] = {}
        for marks in (self.removed(), self.told):
            for key, mark in marks.items():
                entity = entity_of(key)
                if entity is not None and mark.status == EntityStatus.deleted:
                    kind, entity_id = entity
                    if entity_id not in found or found[entity_id][1].when < mark.when:
                        found[entity_id] = (kind, mark)
        return found

    def removed(self) -> dict[dg.AssetKey, Mark]:
        """What the sensor found to be gone from its catalog and not back since."""
        return {k: m for k, m in self.manifests.items() if m.status == EntityStatus.deleted}


def report(
    instance: dg.DagsterInstance,
    key: dg.AssetKey,
    status: str,
    reason: str | None,
    by: str,
    description: str,
    user: str = "",
) -> None:
    """Make a mark.

    Args:
        instance: Where.
        key: The entity's asset.
        status: What the entity is from now on.
        reason: The page's word for why.
        by: :data:`COMMAND`, :data:`PURGE` or :data:`MANIFEST`.
        description: The same in a sentence, for Dagster's UI.
        user: Who it was, where a person was.
    """
    metadata: dict[str, Any] = {"dyff/status": str(status), "dyff/by": by}
    metadata |= {"dyff/reason": str(reason)} if reason else {}
    metadata |= {"dyff/user": user} if user else {}
    instance.report_runless_asset_event(
        dg.AssetObservation(asset_key=key, description=description, metadata=metadata)
    )


def report_terminated(instance: dg.DagsterInstance, session_id: str, user: str) -> None:
    """Note that a person ended a session before its deadline."""
    report(
        instance,
        key_of("InferenceSession", session_id),
        EntityStatus.terminated,
        EntityStatusReason.terminate_command,
        COMMAND,
        "Its session was ended before its deadline.",
        user,
    )


def key_of(kind: str, entity_id: str) -> dg.AssetKey:
    """The key of an entity that need not be in a catalog any more.

    Raises:
        StoreError: There is no such kind.
    """
    try:
        return dg.AssetKey([Resources.for_kind(Entities(kind)).value, entity_id])
    except (ValueError, KeyError):
        raise StoreError(
            f"{entity_id}: the store says that it is of kind {kind!r}, and there is none: its record was damaged; "
            "restore it, or remove the entity's directory"
        ) from None


def entity_of(key: dg.AssetKey) -> tuple[str, str] | None:
    """Kind and id of the entity of an asset, the inverse of :func:`key_of`; None for a key of another form."""
    if len(key.path) != 2:
        return None
    plural, entity_id = key.path
    kinds = [kind.value for kind in Entities if kind.value in Resources.__members__]
    found = [kind for kind in kinds if Resources.for_kind(Entities(kind)).value == plural]
    return (found[0], entity_id) if found else None


def _all(instance: dg.DagsterInstance) -> Iterator[tuple[dg.AssetKey, Mark]]:
    """Every mark, the oldest first."""
    cursor: str | None = None
    while True:
        page = instance.get_records_for_run(
            RUNLESS_RUN_ID, cursor=cursor, of_type=DagsterEventType.ASSET_OBSERVATION, limit=_PAGE
        )
        for record in page.records:
            observation = record.event_log_entry.asset_observation
            if observation is None:
                continue
            mark = _mark(observation.metadata, record.event_log_entry.timestamp)
            if mark is not None:
                yield observation.asset_key, mark
        if not page.has_more or not page.records:
            return
        cursor = page.cursor


def _mark(metadata: Mapping[str, Any], timestamp: float) -> Mark | None:
    said = {name: str(getattr(value, "value", value)) for name, value in metadata.items()}
    status, by = said.get("dyff/status"), said.get("dyff/by")
    if by is None and status == EntityStatus.deleted:
        by = MANIFEST  # of a release whose sensor alone said so
    if status is None or by not in (COMMAND, PURGE, MANIFEST):
        return None
    return Mark(status, said.get("dyff/reason"), datetime.fromtimestamp(timestamp, UTC), by)
