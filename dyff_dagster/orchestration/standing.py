"""Where every entity stands, in the page's words, derived from Dagster's instance alone.

Dagster keeps what ran and what came of it, and this reads it back: there is no second database that could say
something else. For what never ran, because something upstream was missing or had failed, Dagster has no event; that
follows from what is upstream.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from dagster import DagsterEventType, DagsterRunStatus

from dyff_dagster.catalog import Catalog
from dyff_dagster.orchestration.marks import Mark, Marks
from dyff_dagster.orchestration.names import asset_key, op_name
from dyff_dagster.orchestration.selection import ancestors_with_ops, is_declared_only
from dyff_dagster.schema.platform import DyffEntity, InferenceSession
from dyff_dagster.schema.statuses import (
    EntityStatus,
    EntityStatusReason,
    failure_status,
    is_status_failure,
    success_status,
)

_UNDER_WAY = frozenset(
    {
        DagsterRunStatus.QUEUED,
        DagsterRunStatus.NOT_STARTED,
        DagsterRunStatus.STARTING,
        DagsterRunStatus.STARTED,
        DagsterRunStatus.CANCELING,
    }
)
_WAITING = frozenset({DagsterRunStatus.QUEUED, DagsterRunStatus.NOT_STARTED})
_CUT_OFF = frozenset(
    {
        None,
        "DagsterExecutionInterruptedError",
        "ChildProcessCrashException",
        "KeyboardInterrupt",
        "SystemExit",
    }
)
"""What Dagster says of a step whose process was ended; of a pod that is gone it names no error."""
_MOST_KEYS = 500
"""Assets that the instance is asked for at once."""


@dataclass(frozen=True)
class Standing:
    """Where one entity stands.

    Attributes:
        status: The page's word: Created, Admitted, Ready, Complete, Error, Failed, Terminated or Deleted.
        reason: The page's word for why, or None.
        since: When it came to that, as far as that is known.
        run_id: The run that brought it there.
        cause: The entity upstream that is the reason, where one is.
    """

    status: str
    reason: str | None = None
    since: datetime | None = None
    run_id: str | None = None
    cause: str | None = None

    @property
    def blocks(self) -> bool:
        """Whether what depends on it cannot be computed because something failed: this, or what is behind it."""
        return is_status_failure(self.status) or self.reason == EntityStatusReason.failed_dependency


def standings(
    catalog: Catalog,
    instance: dg.DagsterInstance,
    keys: Mapping[str, dg.AssetKey] | None = None,
    now: datetime | None = None,
) -> dict[str, Standing]:
    """Where each entity of a catalog stands, dependencies first.

    Args:
        catalog: The entities.
        instance: What has run.
        keys: Their assets' keys by entity id, where a translator gave them others.
        now: The time, for sessions that expire.
    """
    computed = [entity for entity in catalog.entities.values() if not is_declared_only(entity)]
    reader = _Reader(catalog, instance, dict(keys or {}), now or datetime.now(UTC))
    reader.read(computed)
    found: dict[str, Standing] = {}
    for entity_id in _in_order(catalog):
        entity = catalog.get(entity_id)
        if is_declared_only(entity):
            found[entity_id] = Standing(success_status(entity.kind))
        else:
            found[entity_id] = reader.standing(entity, found)
    return {entity_id: found[entity_id] for entity_id in catalog.entities}


def at_work(instance: dg.DagsterInstance, keys: Sequence[dg.AssetKey]) -> dict[dg.AssetKey, str]:
    """The run that is to compute an asset and has not yet, waiting or under way, by key.

    Args:
        instance: What has run.
        keys: Some assets.
    """
    found: dict[dg.AssetKey, str] = {}
    for record in instance.get_asset_records(keys) if keys else ():
        entry = record.asset_entry
        made, run_id = entry.last_materialization, entry.last_run_id
        if run_id and (made is None or made.run_id != run_id):
            run = instance.get_run_by_id(run_id)
            if run is not None and run.status in _UNDER_WAY:
                found[entry.asset_key] = run_id
    return found


def _in_order(catalog: Catalog) -> Iterable[str]:
    """Dependencies before what depends on them."""
    done: set[str] = set()
    for start in catalog.entities:
        stack = [start]
        while stack:
            entity_id = stack[-1]
            waiting = [up for up in catalog.upstream(entity_id) if up not in done]
            if waiting:
                stack.extend(waiting)
                continue
            stack.pop()
            if entity_id not in done:
                done.add(entity_id)
                yield entity_id


@dataclass
class _Run:
    """What is known of one run.

    Attributes:
        status: Its status; None where Dagster no longer knows it.
        steps: Status of each step that has begun, by key.
        ended: When each ended.
        failures: Metadata of each step that failed.
        cut_off: Steps that failed because their process was ended.
        created: When the run was asked for.
        updated: When the run last changed.
    """

    status: DagsterRunStatus | None
    steps: dict[str, str] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)
    failures: dict[str, dict[str, Any]] = field(default_factory=dict)
    cut_off: set[str] = field(default_factory=set)
    created: datetime | None = None
    updated: datetime | None = None


@dataclass
class _Reader:
    catalog: Catalog
    instance: dg.DagsterInstance
    keys: dict[str, dg.AssetKey]
    now: datetime
    _entries: dict[dg.AssetKey, Any] = field(default_factory=dict)
    _runs: dict[str, _Run] = field(default_factory=dict)
    _marks: Marks = field(default_factory=Marks)

    def read(self, entities: list[DyffEntity]) -> None:
        """Look at all their assets, some hundreds at a time."""
        keys = [self._key(entity) for entity in entities]
        for start in range(0, len(keys), _MOST_KEYS):
            for record in self.instance.get_asset_records(keys[start : start + _MOST_KEYS]):
                self._entries[record.asset_entry.asset_key] = record.asset_entry
        self._marks = Marks.read(self.instance)

    def standing(self, entity: DyffEntity, upstream: Mapping[str, Standing]) -> Standing:
        """Where an entity stands, given where everything upstream of it does."""
        mark = self._mark(entity)
        if mark is not None:
            return Standing(mark.status, mark.reason, mark.when)
        return self._ran(entity, upstream)

    def _mark(self, entity: DyffEntity) -> Mark | None:
        """What was done to an entity since it was last run or made; a manifest that is here was not removed."""
        mark = self._marks.told.get(self._key(entity))
        entry = self._entries.get(self._key(entity))
        if mark is None or entry is None:
            return mark
        made = entry.last_materialization
        if made is not None and made.timestamp >= mark.when.timestamp():
            return None
        created = self._run(entry.last_run_id).created if entry.last_run_id else None
        return None if created is not None and created >= mark.when else mark

    def _ran(self, entity: DyffEntity, upstream: Mapping[str, Standing]) -> Standing:
        """Where an entity stands by what ran."""
        entry = self._entries.get(self._key(entity))
        made = None if entry is None else entry.last_materialization
        run_id = None if entry is None else entry.last_run_id
        attempt = self._attempt(entity, run_id, upstream) if run_id is not None else None
        if made is not None and (attempt is None or made.run_id == run_id):
            return self._made(entity, made)
        if attempt is not None and (attempt.status != EntityStatus.created or made is None):
            return attempt
        if made is not None:
            return self._made(entity, made)
        return self._never(entity, upstream)

    def _key(self, entity: DyffEntity) -> dg.AssetKey:
        return self.keys.get(entity.id) or asset_key(entity)

    def _made(self, entity: DyffEntity, made: dg.EventLogEntry) -> Standing:
        since = datetime.fromtimestamp(made.timestamp, UTC)
        if not isinstance(entity, InferenceSession):
            return Standing(success_status(entity.kind), None, since, made.run_id)
        materialization = made.asset_materialization
        expires = _text(materialization.metadata if materialization is not None else {}, "dyff/expires")
        if expires is not None and datetime.fromisoformat(expires) <= self.now:
            return Standing(
                EntityStatus.terminated,
                EntityStatusReason.expired,
                datetime.fromisoformat(expires),
                made.run_id,
            )
        return Standing(EntityStatus.admitted, None, since, made.run_id)

    def _attempt(self, entity: DyffEntity, run_id: str, upstream: Mapping[str, Standing]) -> Standing | None:
        """What came of the last run that was to compute an entity; None where it says nothing of it."""
        run, step = self._run(run_id), op_name(entity)
        if run.status is None:
            return None
        if step in run.failures:
            metadata = run.failures[step]
            return Standing(
                failure_status(entity.kind),
                EntityStatusReason.interrupted if step in run.cut_off else _text(metadata, "dyff/reason"),
                _moment(run.ended.get(step)) or run.updated,
                run_id,
            )
        if run.steps.get(step) == "SUCCESS":
            return None
        if run.status in _WAITING:
            return Standing(EntityStatus.created, None, run.updated, run_id)
        if run.status in _UNDER_WAY:
            return Standing(EntityStatus.admitted, None, run.updated, run_id)
        if run.status == DagsterRunStatus.SUCCESS:
            return None
        cause = self._failed_upstream(entity, upstream, run)
        if cause is not None:
            return Standing(
                failure_status(entity.kind), EntityStatusReason.failed_dependency, run.updated, run_id, cause
            )
        return Standing(failure_status(entity.kind), EntityStatusReason.interrupted, run.updated, run_id)

    def _failed_upstream(
        self, entity: DyffEntity, upstream: Mapping[str, Standing], run: _Run | None = None
    ) -> str | None:
        """The first entity behind this one that failed, the one that began it."""
        for dependency in ancestors_with_ops(self.catalog, entity.id):
            standing = upstream.get(dependency)
            failed_there = run is not None and op_name(self.catalog.get(dependency)) in run.failures
            if failed_there or (standing is not None and standing.blocks):
                return (standing.cause if standing is not None else None) or dependency
        return None

    def _never(self, entity: DyffEntity, upstream: Mapping[str, Standing]) -> Standing:
        cause = self._failed_upstream(entity, upstream)
        if cause is not None:
            return Standing(EntityStatus.created, EntityStatusReason.failed_dependency, cause=cause)
        for dependency in ancestors_with_ops(self.catalog, entity.id):
            standing = upstream.get(dependency)
            if standing is None or not _is_there(self.catalog.get(dependency), standing):
                return Standing(
                    EntityStatus.created, EntityStatusReason.unsatisfied_dependency, cause=dependency
                )
        return Standing(EntityStatus.created)

    def _run(self, run_id: str) -> _Run:
        if run_id in self._runs:
            return self._runs[run_id]
        records = self.instance.get_run_records(dg.RunsFilter(run_ids=[run_id]))
        if not records:
            found = _Run(None)
        else:
            record = records[0]
            found = _Run(
                record.dagster_run.status,
                created=record.create_timestamp.replace(tzinfo=UTC),
                updated=record.update_timestamp.replace(tzinfo=UTC),
            )
            for stats in self.instance.get_run_step_stats(run_id):
                if stats.status is not None:
                    found.steps[stats.step_key] = stats.status.value
                if stats.end_time is not None:
                    found.ended[stats.step_key] = stats.end_time
            for failure in self.instance.get_records_for_run(
                run_id, of_type=DagsterEventType.STEP_FAILURE
            ).records:
                event = failure.event_log_entry.dagster_event
                if event is None or event.step_key is None:
                    continue
                data = event.step_failure_data.user_failure_data
                found.failures[event.step_key] = dict(data.metadata) if data is not None else {}
                error = event.step_failure_data.error
                if data is None and (error is None or error.cls_name in _CUT_OFF):
                    found.cut_off.add(event.step_key)
        self._runs[run_id] = found
        return found


def _is_there(entity: DyffEntity, standing: Standing) -> bool:
    if isinstance(entity, InferenceSession):
        return standing.status == EntityStatus.admitted
    return standing.status == success_status(entity.kind)


def _moment(timestamp: float | None) -> datetime | None:
    return None if timestamp is None else datetime.fromtimestamp(timestamp, UTC)


def _text(metadata: Mapping[str, Any], name: str) -> str | None:
    value = metadata.get(name)
    text = getattr(value, "value", value)
    return str(text) if text is not None else None
