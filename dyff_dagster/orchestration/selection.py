"""Which entities are computed, and which are only declared."""

from __future__ import annotations

from dyff_dagster.catalog import Catalog
from dyff_dagster.schema.platform import (
    AuditProcedure,
    DyffEntity,
    Family,
    History,
    InferenceService,
    Method,
    Revision,
)


def is_declared_only(entity: DyffEntity) -> bool:
    """True for what is there as soon as it is written down: Dagster has nothing to run for it (CONTRACT)."""
    if isinstance(entity, InferenceService):
        return entity.builder is None
    return isinstance(entity, Method | AuditProcedure | Family | History | Revision)


def ancestors_with_ops(catalog: Catalog, entity_id: str) -> list[str]:
    """The nearest computed entities upstream, seen through those that are only declared."""
    found: dict[str, None] = {}
    stack = list(reversed(catalog.upstream(entity_id)))
    seen: set[str] = set()
    while stack:
        upstream = stack.pop()
        if upstream in seen:
            continue
        seen.add(upstream)
        if is_declared_only(catalog.get(upstream)):
            stack.extend(reversed(catalog.upstream(upstream)))
        else:
            found[upstream] = None
    return list(found)


def declared_behind(catalog: Catalog, entity_id: str) -> list[str]:
    """What is only declared and yet is part of an entity: its method or service, the families that it names.

    Seen through those that are only declared, as :func:`ancestors_with_ops` sees what is computed.
    """
    found: dict[str, None] = {}
    stack = [entity_id]
    while stack:
        here = stack.pop()
        families = [text.partition("@")[0] for text in catalog.family_references(here).values()]
        for name in [*catalog.upstream(here), *families]:
            if name not in found and is_declared_only(catalog.get(name)):
                found[name] = None
                stack.append(name)
    return list(found)


def ancestors(catalog: Catalog, entity_id: str) -> frozenset[str]:
    """Everything upstream of an entity, however far."""
    seen: set[str] = set()
    stack = list(catalog.upstream(entity_id))
    while stack:
        upstream = stack.pop()
        if upstream not in seen:
            seen.add(upstream)
            stack.extend(catalog.upstream(upstream))
    return frozenset(seen)
