"""The catalog as a Dagster component: some lines of YAML instead of a definitions.py."""

# No `from __future__ import annotations` here: Dagster reads the component's fields as they stand.

from dataclasses import dataclass
from typing import Annotated, Any

import dagster as dg
from dagster.components.utils.translation import TranslationFn, TranslationFnResolver
from pydantic import Field

from dyff_dagster.catalog import Catalog
from dyff_dagster.orchestration.definitions import build_definitions
from dyff_dagster.orchestration.resources import DyffSessions, DyffStorage
from dyff_dagster.orchestration.scaffolding import DyffCatalogScaffolder
from dyff_dagster.orchestration.translation import TranslatedTranslator
from dyff_dagster.orchestration.translator import DyffTranslator, DyffTranslatorData


class StorageFields(dg.Resolvable, dg.Model):
    """Where artifacts live."""

    root: str = Field(
        default="dyff-storage", description="A directory, relative to the project, or an fsspec URL."
    )
    pages_url: str | None = Field(
        default=None, description="Where `dyff-dagster serve-pages` answers; without it metadata shows paths."
    )


class SessionFields(dg.Resolvable, dg.Model):
    """How inference services are made to answer."""

    backend: str = Field(default="local", description="`local` or `kubernetes`.")
    kubernetes: str = Field(
        default="", description="File of settings of the cluster, relative to the project."
    )
    startup_timeout: float = Field(default=120.0, description="Seconds until a local service must be ready.")
    client_processes: int = Field(
        default=1, ge=1, description="Processes that send an evaluation's requests."
    )


def _names(data: DyffTranslatorData) -> dict[str, Any]:
    """What a template in `translation` may name, beside Dagster's own `spec`."""
    return {"entity": data.entity, "data": data}


@dg.scaffold_with(DyffCatalogScaffolder)
@dataclass
class DyffCatalogComponent(dg.Component, dg.Resolvable):
    """AI audits as assets: every entity of a catalog of manifests.

    Attributes:
        path: Directory or file of manifests, relative to the component's directory, or a dotted module
            name. Default: the component's own directory.
        storage: A directory (relative to the project) or an fsspec URL for artifacts; or ``root`` and ``pages_url``.
        sessions: ``local`` or ``kubernetes``; or ``backend`` and the other fields of the resource.
        translation: Attributes that every asset gets, as in other components. Templates may name ``spec``, the asset
            as it would be, and ``entity``.
        resource_prefix: Begins the names of the resources; two components of one project that store in
            different places need two.
    """

    path: str = "."
    storage: str | StorageFields = "dyff-storage"
    sessions: str | SessionFields = "local"
    translation: (
        Annotated[TranslationFn[DyffTranslatorData], TranslationFnResolver[DyffTranslatorData](_names)] | None
    ) = None
    resource_prefix: str = "dyff"

    def get_translator(self) -> DyffTranslator:
        """How entities look as assets, before ``translation``; override it in a subclass."""
        return DyffTranslator()

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Load the catalog and build its definitions."""
        path = (context.path if context.path.is_dir() else context.path.parent) / self.path
        base = str(context.project_root)
        storage = (
            self.storage if isinstance(self.storage, StorageFields) else StorageFields(root=self.storage)
        )
        sessions = (
            self.sessions
            if isinstance(self.sessions, SessionFields)
            else SessionFields(backend=self.sessions)
        )
        catalog = Catalog.load(path if path.exists() else self.path)
        translator = self.get_translator()
        if self.translation is not None:
            translator = TranslatedTranslator(translator, self.translation, catalog)
        return build_definitions(
            catalog,
            storage=DyffStorage(base=base, **storage.model_dump()),
            sessions=DyffSessions(base=base, **sessions.model_dump()),
            translator=translator,
            resource_prefix=self.resource_prefix,
            watch=path if path.exists() and path.suffix != ".py" else None,
        )
