"""Where every entity of a catalog stands, read from the store."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from dyff_dagster.catalog import Catalog
from dyff_dagster.orchestration.checks import EntityChecks
from dyff_dagster.orchestration.selection import is_declared_only
from dyff_dagster.orchestration.steps import Step
from dyff_dagster.schema.errors import DyffError
from dyff_dagster.schema.statuses import success_status
from dyff_dagster.store import Commit, Score, Store, local_path, no_progress


@dataclass(frozen=True)
class EntityState:
    """One line of ``dyff-dagster status``.

    Attributes:
        id: The entity.
        kind: Its kind.
        status: The page's word; ``Stale`` where what it depends on has changed since it was computed.
        headline: Its first score.
        failed_checks: What its author demanded and it does not hold.
        page: URL or path of its page.
        committed: When it was computed.
        data_version: Digest of its content.
    """

    id: str
    kind: str
    status: str
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
        }


def entity_states(catalog: Catalog, store: Store, pages_url: str | None = None) -> list[EntityState]:
    """The state of every entity, dependencies first.

    Args:
        catalog: The entities.
        store: Where their artifacts are.
        pages_url: Where pages are served, or None: then paths are given.
    """
    return [_state(catalog, store, entity_id, pages_url) for entity_id in catalog.entities]


def _state(catalog: Catalog, store: Store, entity_id: str, pages_url: str | None) -> EntityState:
    entity = catalog.get(entity_id)
    if is_declared_only(entity):
        return EntityState(entity.id, entity.kind, success_status(entity.kind))
    commit = store.current(entity.id)
    if commit is None:
        return EntityState(entity.id, entity.kind, "Created")
    results = EntityChecks.of(catalog, entity).results(commit)
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
