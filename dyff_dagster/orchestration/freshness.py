"""Is a committed version what would be computed now? Asked through everything upstream of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from dyff_dagster.catalog import Catalog
from dyff_dagster.orchestration.selection import ancestors_with_ops
from dyff_dagster.schema.errors import DyffError
from dyff_dagster.store import Commit, Inputs


@dataclass
class Freshness:
    """Says of entities whether they are out of date; each is looked at once.

    Attributes:
        catalog: The entities.
        current: The current version of one, or None.
        inputs: What one depends on now; raises DyffError where that cannot be said.
    """

    catalog: Catalog
    current: Callable[[str], Commit | None]
    inputs: Callable[[str], Inputs]
    _known: dict[str, str] = field(default_factory=dict, repr=False)

    def fault(self, entity_id: str) -> str:
        """Why an entity's current version is not what would be computed now, as one clause; empty where it is.

        What is out of date upstream makes everything behind it out of date: there the entity that has changed is
        named.
        """
        if entity_id not in self._known:
            self._known[entity_id] = self._fault(entity_id)
        return self._known[entity_id]

    def _fault(self, entity_id: str) -> str:
        kind = self.catalog.get(entity_id).kind
        for upstream in ancestors_with_ops(self.catalog, entity_id):
            if fault := self.fault(upstream):
                # The first cause is named, not the way from it.
                return (
                    fault if fault.startswith("is out of date") else _because(self.catalog, upstream, fault)
                )
        commit = self.current(entity_id)
        if commit is None:
            return "was never materialized"
        try:
            fresh = commit.input_digest == self.inputs(entity_id).digest
        except DyffError as error:
            return f"is out of date: the {kind} {entity_id} cannot be computed now ({error})"
        return "" if fresh else f"is out of date: what the {kind} {entity_id} is made from has changed"


def _because(catalog: Catalog, entity_id: str, fault: str) -> str:
    return f"is out of date: the {catalog.get(entity_id).kind} {entity_id} {fault}"
