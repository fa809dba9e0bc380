"""Everything that a catalog knows of one entity, in one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dyff_dagster.catalog.problems import Origin, Problem
from dyff_dagster.schema.canonical import spec_digest
from dyff_dagster.schema.platform import Documentation, DyffEntity
from dyff_dagster.store.held import held_parts, with_held

if TYPE_CHECKING:
    from dyff_dagster.catalog.catalog import Catalog


@dataclass(frozen=True)
class Description:
    """An entity, where it is written down, and what it has to do with others.

    ``upstream`` and ``downstream`` hold ids and kinds. ``spec_digest`` is the SHA-256 of what can change the
    entity's result (see :func:`dyff_dagster.schema.canonical.spec_digest`). ``held`` is what the entity holds
    for dyff-schema 0.46, in the shape of the wire form (see ``store.held``).
    """

    entity: DyffEntity
    origin: Origin
    upstream: tuple[tuple[str, str], ...]
    downstream: tuple[tuple[str, str], ...]
    documentation: Documentation | None
    warnings: tuple[Problem, ...]
    spec_digest: str
    held: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str | None:
        """The entity's name; None for a kind that has none."""
        name: str | None = getattr(self.entity, "name", None)
        return name

    @property
    def annotations(self) -> dict[str, str]:
        """All annotations by key, as they are written: nothing is taken from the environment."""
        return {annotation.key: annotation.value for annotation in self.entity.annotations}

    @property
    def whole(self) -> dict[str, Any]:
        """The wire form, with what is held for 0.46 in its place."""
        return with_held(self.entity.model_dump(mode="json"), self.held)

    def to_json(self) -> dict[str, Any]:
        """Everything as JSON; ``path`` and ``line`` are None in Python.

        ``entity`` is the wire form of the page, which any reader of entities takes; ``held`` is beside it.
        """
        path: Path | None = self.origin.path
        return {
            "id": self.entity.id,
            "kind": self.entity.kind,
            "name": self.name,
            "account": self.entity.account,
            "path": None if path is None else str(path),
            "line": None if path is None else self.origin.line,
            "upstream": [{"id": entity_id, "kind": kind} for entity_id, kind in self.upstream],
            "downstream": [{"id": entity_id, "kind": kind} for entity_id, kind in self.downstream],
            "labels": dict(self.entity.labels),
            "annotations": self.annotations,
            "documentation": None
            if self.documentation is None
            else self.documentation.model_dump(mode="json", include={"title", "summary", "fullPage"}),
            "warnings": [
                {"line": problem.line, "field": problem.field, "message": problem.message}
                for problem in self.warnings
            ],
            "spec_digest": self.spec_digest,
            "entity": self.entity.model_dump(mode="json"),
            "held": dict(self.held),
        }


def describe(catalog: Catalog, entity_id: str) -> Description:
    """Collect what the catalog knows of an entity.

    :raises EntityNotFound: there is no such entity; the text names the id most like it.
    """
    entity = catalog.get(entity_id)

    def with_kinds(ids: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
        return tuple((other, catalog.entities[other].kind) for other in ids)

    return Description(
        entity=entity,
        origin=catalog.origin(entity_id),
        upstream=with_kinds(catalog.upstream(entity_id)),
        downstream=with_kinds(catalog.downstream(entity_id)),
        documentation=catalog.documentation.get(entity_id),
        warnings=tuple(problem for problem in catalog.warnings if problem.entity_id == entity_id),
        spec_digest=spec_digest(entity),
        held=held_parts(entity),
    )
