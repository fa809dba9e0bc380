"""The catalog as a Dagster component: three lines of YAML instead of a definitions.py."""

# No `from __future__ import annotations` here: Dagster reads the component's fields as they stand.

from dataclasses import dataclass

import dagster as dg

from dyff_dagster.catalog import Catalog
from dyff_dagster.orchestration.definitions import build_definitions
from dyff_dagster.orchestration.resources import DyffSessions, DyffStorage
from dyff_dagster.orchestration.translator import DyffTranslator


@dataclass
class DyffCatalogComponent(dg.Component, dg.Resolvable):
    """AI audits as assets: every entity of a catalog of manifests.

    Attributes:
        catalog: Directory or file of manifests, relative to the component's directory, or a dotted module
            name. Default: the component's own directory.
        storage_root: A directory (relative to the project) or an fsspec URL for artifacts.
        pages_url: Where ``dyff-dagster serve-pages`` answers.
        sessions: ``local`` or ``kubernetes``.
        kubernetes: File of settings of the cluster, relative to the project.
        resource_prefix: Begins the names of the resources; two components of one project that store in
            different places need two.
    """

    catalog: str = "."
    storage_root: str = "dyff-storage"
    pages_url: str | None = None
    sessions: str = "local"
    kubernetes: str = ""
    resource_prefix: str = "dyff"

    def get_translator(self) -> DyffTranslator:
        """How entities look as assets; override it in a subclass."""
        return DyffTranslator()

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Load the catalog and build its definitions."""
        path = (context.path if context.path.is_dir() else context.path.parent) / self.catalog
        return build_definitions(
            Catalog.load(path if path.exists() else self.catalog),
            storage=DyffStorage(
                root=self.storage_root, base=str(context.project_root), pages_url=self.pages_url
            ),
            sessions=DyffSessions(
                backend=self.sessions, kubernetes=self.kubernetes, base=str(context.project_root)
            ),
            translator=self.get_translator(),
            resource_prefix=self.resource_prefix,
            watch=path if path.exists() and path.suffix != ".py" else None,
        )
