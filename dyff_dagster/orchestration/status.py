"""Where every entity of a catalog stands, for people: what Dagster knows of its runs, and what the store holds."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg

from dyff_dagster.catalog import Catalog
from dyff_dagster.orchestration.checks import EntityChecks
from dyff_dagster.orchestration.marks import Marks, entity_of
from dyff_dagster.orchestration.selection import is_declared_only
from dyff_dagster.orchestration.standing import Standing, standings
from dyff_dagster.orchestration.steps import Step
from dyff_dagster.schema.errors import DyffError
from dyff_dagster.schema.statuses import EntityStatus, success_status
from dyff_dagster.store import Commit, Score, Store, local_path, no_progress
from dyff_dagster.store.references import Provenance


@dataclass(frozen=True)
class EntityState:
    """One line of ``dyff-dagster status``.

    Attributes:
        id: The entity.
        kind: Its kind.
        status: The page's word; ``Stale`` where what it depends on has changed since it was computed.
        reason: The page's word for why, where there is one.
        cause: The entity upstream that is the reason.
        since: When it came to that.
        run: The Dagster run that brought it there.
        headline: Its first score.
        failed_checks: What its author demanded and it does not hold.
        page: URL or path of its page.
        committed: When it was computed.
        data_version: Digest of its content.
    """

    id: str
    kind: str
    status: str
    reason: str | None = None
    cause: str | None = None
    since: datetime | None = None
    run: str | None = None
    headline: Score | None = None
    failed_checks: tuple[str, ...] = ()
    page: str | None = None
    committed: datetime | None = None
    data_version: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            **asdict(self),
            "failed_checks": list(self.failed_checks),
            "committed": self.committed.isoformat() if self.committed else None,
            "since": self.since.isoformat() if self.since else None,
        }


def entity_states(
    catalog: Catalog,
    store: Store,
    pages_url: str | None = None,
    instance: dg.DagsterInstance | None = None,
    only: Collection[str] | None = None,
) -> list[EntityState]:
    """The state of every entity, dependencies first.

    Args:
        catalog: The entities.
        store: Where their artifacts are.
        pages_url: Where pages are served, or None: then paths are given.
        instance: What has run; None: the store alone is asked, which knows of no failure.
        only: These entities alone.
    """
    known = standings(catalog, instance) if instance is not None else {}
    provenance = Provenance(store)
    return [
        _state(catalog, store, entity_id, pages_url, known.get(entity_id), provenance)
        for entity_id in catalog.entities
        if only is None or entity_id in only
    ]


def removed_states(catalog: Catalog, store: Store, instance: dg.DagsterInstance) -> list[EntityState]:
    """What the sensor found to be gone from its catalog, as long as its artifacts are there."""
    found: list[EntityState] = []
    for key, mark in Marks.read(instance).removed().items():
        entity = entity_of(key)
        if entity is None or entity[1] in catalog:
            continue
        commit = store.current(entity[1])
        if commit is not None and commit.kind == entity[0]:
            found.append(
                EntityState(
                    commit.entity_id,
                    commit.kind,
                    mark.status,
                    reason=mark.reason,
                    since=mark.when,
                    headline=commit.facts.headline,
                    committed=commit.committed,
                    data_version=commit.data_version,
                )
            )
    return sorted(found, key=lambda state: state.id)


def _state(
    catalog: Catalog,
    store: Store,
    entity_id: str,
    pages_url: str | None,
    standing: Standing | None,
    provenance: Provenance,
) -> EntityState:
    entity = catalog.get(entity_id)
    if is_declared_only(entity):
        return EntityState(entity.id, entity.kind, success_status(entity.kind))
    state = _stored(catalog, store, entity_id, pages_url, provenance)
    if standing is None:
        return state
    if standing.status == EntityStatus.created and state.committed is not None:
        return state  # it was computed where another instance kept the book
    made = standing.status == success_status(entity.kind)
    if made and state.committed is None:
        return state  # Dagster knows of an artifact that this store does not have
    return replace(
        state,
        status=state.status if made and state.status == "Stale" else str(standing.status),
        reason=None if standing.reason is None else str(standing.reason),
        cause=standing.cause,
        since=standing.since,
        run=standing.run_id,
    )


def _stored(
    catalog: Catalog, store: Store, entity_id: str, pages_url: str | None, provenance: Provenance
) -> EntityState:
    """What the store says of a computed entity."""
    entity = catalog.get(entity_id)
    commit = store.current(entity.id)
    if commit is None:
        return EntityState(entity.id, entity.kind, "Created")
    results = EntityChecks.of(catalog, entity).results(commit, provenance)
    return EntityState(
        id=entity.id,
        kind=entity.kind,
        status=success_status(entity.kind) if _is_fresh(catalog, store, entity_id) else "Stale",
        headline=commit.facts.headline,
        failed_checks=tuple(
            result.check_name for result in results if result.check_name and not result.passed
        ),
        page=_page(store, commit, pages_url),
        committed=commit.committed,
        since=commit.committed,
        run=commit.run_id or None,
        data_version=commit.data_version,
    )


def _page(store: Store, commit: Commit, pages_url: str | None) -> str | None:
    """The page of the current version: its URL, or its path in the view for other tools."""
    if commit.facts.page is None:
        return None
    if pages_url:
        return f"{pages_url.rstrip('/')}/{commit.entity_id}/"
    path = store.directory(commit.entity_id) / commit.facts.page
    if store.local and local_path(path).is_relative_to(Path.cwd()):
        return str(local_path(path).relative_to(Path.cwd()))
    return str(path)


def _is_fresh(catalog: Catalog, store: Store, entity_id: str) -> bool:
    """Whether running the entity now would reuse what it has."""
    commit = store.current(entity_id)
    try:
        inputs = Step(catalog, store, catalog.get(entity_id), no_progress).inputs()
    except DyffError:
        return False
    return commit is not None and commit.input_digest == inputs.digest
