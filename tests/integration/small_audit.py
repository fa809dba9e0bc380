"""The small audit with what a procedure requires of it, computed once and copied for each test."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from dyff_dagster import Catalog
from dyff_dagster.orchestration.selection import is_declared_only
from dyff_dagster.orchestration.steps import Step
from dyff_dagster.store import Commit, Store, no_progress
from tests.integration import small_catalog

AUDIT = """
kind: AuditProcedure
id: procedure
account: acme
name: Doubling
requirements: [{dataset: rows, rubric: doubling}, {dataset: rows, rubric: small_functions.judge}]
---
kind: Audit
id: audited
account: acme
auditProcedure: procedure
inferenceService: doubler
annotations: {dyff-dagster/checks: "scores/accuracy >= 0.9; lower(scores/accuracy) >= 0.999"}
"""


@dataclass(frozen=True)
class Place:
    """A catalog on disk and its store."""

    root: Path

    @property
    def directory(self) -> Path:
        return self.root / "catalog"

    @property
    def store(self) -> Store:
        return Store(self.root / "store")

    def catalog(self) -> Catalog:
        return Catalog.load(self.directory)

    def step(self, entity_id: str) -> Step:
        catalog = self.catalog()
        return Step(catalog, self.store, catalog.get(entity_id), no_progress)

    def compute(self, entity_id: str) -> Commit:
        return self.step(entity_id).compute()[0]

    def compute_all(self, *besides: str) -> None:
        """Everything in the catalog's order, but what is named."""
        catalog = self.catalog()
        for entity_id, entity in catalog.entities.items():
            if not is_declared_only(entity) and entity_id not in besides:
                self.compute(entity_id)

    def add(self, name: str, text: str) -> None:
        (self.directory / name).write_text(text)

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.directory / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def copy(self, root: Path) -> Place:
        shutil.copytree(self.root, root)
        return Place(root)


def write(root: Path) -> Place:
    """The small catalog with an audit of its service, nothing computed."""
    place = Place(root)
    small_catalog.write(place.directory)
    place.edit(
        "audit.yaml",
        "id: score\naccount: acme\n",
        "id: score\naccount: acme\nannotations: {dyff-dagster/rubric: doubling}\n",
    )
    place.add("requirements.yaml", AUDIT)
    return place
