"""How an entity looks as an asset."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg

from dyff_dagster.catalog import Catalog
from dyff_dagster.orchestration.automation import condition_of
from dyff_dagster.orchestration.names import asset_key, owner_of, plain_name
from dyff_dagster.orchestration.overview import Line, as_markdown, overview, references_in
from dyff_dagster.orchestration.pools import pool_of, priority_tags
from dyff_dagster.orchestration.selection import ancestors_with_ops
from dyff_dagster.orchestration.step_pods import TAG, step_pod
from dyff_dagster.schema.canonical import spec_digest
from dyff_dagster.schema.platform import (
    Audit,
    Dataset,
    DataSource,
    DyffEntity,
    Evaluation,
    InferenceService,
    InferenceSession,
    Measurement,
    Method,
    Model,
    Module,
    Report,
    SafetyCase,
)
from dyff_dagster.sessions.kubernetes import StepPods

_KIND = re.compile(r"[^a-z0-9_]")


@dataclass(frozen=True)
class DyffTranslatorData:
    """What a translator may look at.

    Attributes:
        entity: The entity to translate.
        catalog: The whole catalog, so that references resolve.
        steps: What the administrator says of the pods that steps run in.
        webserver_url: Where Dagster's web server answers (DYFF_WEBSERVER_URL), for links; None: not known.
    """

    entity: DyffEntity
    catalog: Catalog
    steps: StepPods = field(default_factory=StepPods)
    webserver_url: str | None = None

    @cached_property
    def overview(self) -> tuple[Line, ...]:
        """The essentials of the entity's specification."""
        return overview(self.entity, self.catalog)

    @cached_property
    def named(self) -> Mapping[str, str]:
        """The entities of the catalog that they name, by what they are to it."""
        return references_in(self.overview, self.catalog)


class DyffTranslator:
    """Says how each entity looks as an asset: subclass it, and override the method of what is to be other.

    Each attribute has one method, and :meth:`get_asset_spec` puts them together: a subclass that changes one keeps the
    rest. For what is not among them override :meth:`get_asset_spec`.

    Example:
        .. code-block:: python

            class OurTranslator(DyffTranslator):
                def get_tags(self, data):
                    return {**super().get_tags(data), "site": "ward-7"}

            defs = build_definitions(catalog, translator=OurTranslator())
    """

    def get_asset_key(self, entity: DyffEntity) -> dg.AssetKey:
        """The asset's key, ``[plural of the kind, id]``; also that of edges to it."""
        return asset_key(entity)

    def get_asset_spec(self, data: DyffTranslatorData) -> dg.AssetSpec:
        """The asset of an entity, put together from what the other methods say."""
        return dg.AssetSpec(
            key=self.get_asset_key(data.entity),
            deps=self.get_deps(data),
            group_name=self.get_group_name(data),
            kinds=self.get_kinds(data),
            owners=self.get_owners(data),
            description=self.get_description(data),
            metadata=self.get_metadata(data),
            tags=self.get_tags(data),
            code_version=self.get_code_version(data),
            automation_condition=self.get_automation_condition(data),
        )

    def get_deps(self, data: DyffTranslatorData) -> list[dg.AssetKey]:
        """Keys of what is upstream: the entity's ``dependencies()``, and what its annotations name.

        Where one of those is only declared, and Dagster has nothing to run for it, the computed entities behind it
        are upstream too: Dagster orders steps by direct edges alone, and an evaluation must not start before the
        model of its service is there.
        """
        entity, catalog = data.entity, data.catalog
        deps = dict.fromkeys([*catalog.upstream(entity.id), *ancestors_with_ops(catalog, entity.id)])
        return [self.get_asset_key(catalog.get(dep)) for dep in deps]

    def get_group_name(self, data: DyffTranslatorData) -> str | None:
        """The group: the account."""
        return plain_name(data.entity.account)

    def get_kinds(self, data: DyffTranslatorData) -> set[str]:
        """What Dagster draws on it: the entity's kind and its technology."""
        return kinds_of(data.entity)

    def get_owners(self, data: DyffTranslatorData) -> list[str]:
        """``team:ACCOUNT``, where Dagster allows such an owner."""
        owner = owner_of(data.entity.account)
        return [owner] if owner else []

    def get_tags(self, data: DyffTranslatorData) -> dict[str, str]:
        """Its labels, those that are tags in Dagster too."""
        return tags_of(data.entity)

    def get_code_version(self, data: DyffTranslatorData) -> str | None:
        """The digest of its specification."""
        return spec_digest(data.entity)

    def get_automation_condition(self, data: DyffTranslatorData) -> dg.AutomationCondition[Any] | None:
        """When it starts by itself: None, unless its manifest asks for it.

        Whatever is said here, an InferenceSession never does.
        """
        return condition_of(data.entity, data.catalog, self.get_asset_key)

    def get_description(self, data: DyffTranslatorData) -> str | None:
        """What the entity is about, as Markdown, and a table of its specification's essentials.

        The first line is plain text: lists of assets show it as it stands.
        """
        keys = {name: self.get_asset_key(data.catalog.get(name)) for name in data.named.values()}
        table = as_markdown(data.overview, keys, data.webserver_url)
        said = texts_of(data)
        return "\n\n".join(text for text in (*said[:2], table, *said[2:]) if text) or None

    def get_metadata(self, data: DyffTranslatorData) -> Mapping[str, Any]:
        """What the asset's page shows before anything was computed."""
        entity = data.entity
        metadata: dict[str, Any] = {
            "dyff/kind": entity.kind,
            "dyff/id": entity.id,
            "dyff/account": entity.account,
        }
        if name := getattr(entity, "name", None):
            metadata["dyff/name"] = name
        origin = data.catalog.origin(entity.id)
        if origin.path is not None:
            metadata["dyff/manifest"] = f"{origin.path.name}:{origin.line}"
            metadata["dagster/code_references"] = _code_references(origin.path, origin.line)
        if references := data.catalog.family_references(entity.id):
            metadata["dyff/references"] = dg.MetadataValue.json(dict(references))
        for annotation in ("checks", "withhold", "automation"):
            if (value := data.catalog.annotation(entity.id, annotation)) is not None:
                metadata[f"dyff/{annotation}"] = value
        for role, name in data.named.items():
            key = self.get_asset_key(data.catalog.get(name))
            metadata[f"dyff/spec/{role}"] = dg.MetadataValue.asset(key)
        return metadata

    def get_op_tags(self, data: DyffTranslatorData) -> Mapping[str, Any]:
        """Tags of the op that computes the entity.

        For ``k8s_job_executor`` what its step's pod is like, and, where its label says so, how urgent it is.
        """
        return {TAG: step_pod(data.entity, data.steps), **priority_tags(data.entity)}

    def get_pool(self, data: DyffTranslatorData) -> str | None:
        """The pool that its op takes a place in: of its accelerators, or of the service that it asks."""
        return pool_of(data.entity)


def kinds_of(entity: DyffEntity) -> set[str]:
    """The entity's kind and its technology, as Dagster draws them."""
    technology: str | None = None
    if isinstance(entity, Dataset | Evaluation | Measurement | Report):
        technology = "parquet"
    elif isinstance(entity, SafetyCase):
        technology = "jupyter"
    elif isinstance(entity, Method):
        technology = "jupyter" if entity.implementation.jupyterNotebook else "python"
    elif isinstance(entity, Module):
        technology = "python"
    elif isinstance(entity, DataSource):
        technology = entity.sourceKind
    elif isinstance(entity, Model):
        technology = {"HuggingFaceHub": "huggingface", "GitLFS": "git"}.get(entity.source.kind.value, "file")
    elif isinstance(entity, InferenceService | InferenceSession):
        service = entity if isinstance(entity, InferenceService) else entity.inferenceService
        technology = service.runner.kind.value if service.runner else "http"
    return {_KIND.sub("", kind.lower()) for kind in (entity.kind, technology) if kind}


def texts_of(data: DyffTranslatorData) -> list[str]:
    """What is said about an entity, the shortest first.

    Its documentation, else its name and description, else a sentence about what it does.
    """
    entity = data.entity
    documentation = data.catalog.documentation.get(entity.id)
    said: list[str | None]
    if documentation is not None:
        said = [documentation.title, documentation.summary, documentation.fullPage]
    elif isinstance(entity, Evaluation):
        service = entity.inferenceSession.inferenceService
        times = "once" if entity.replications == 1 else f"{entity.replications} times"
        said = [f"Every row of {entity.dataset}, asked of {service.id} {times}."]
    elif isinstance(entity, Audit):
        said = [f"{entity.auditProcedure}, applied to {entity.inferenceService}."]
    elif isinstance(entity, Report):
        said = [f"{entity.rubric} of the answers of {entity.evaluation}."]
    elif isinstance(entity, InferenceSession):
        said = [f"{entity.inferenceService.name}, running until its deadline."]
    else:
        said = [getattr(entity, "name", None), getattr(entity, "description", None)]
    return [text for text in said if text]


def _code_references(path: Path, line: int) -> dg.CodeReferencesMetadataValue:
    with warnings.catch_warnings():
        # Dagster may still change it. Who runs an audit can do nothing about that.
        warnings.simplefilter("ignore", dg.BetaWarning)
        reference = dg.LocalFileCodeReference(
            file_path=str(path.absolute()), line_number=line, label=f"{path.name}:{line}"
        )
        return dg.CodeReferencesMetadataValue(code_references=[reference])


def tags_of(entity: DyffEntity) -> dict[str, str]:
    """The entity's labels, those that are tags in Dagster too."""
    tags = {}
    for key, value in entity.labels.items():
        text = value or ""
        if re.fullmatch(r"[A-Za-z0-9_.-]{1,63}(/[A-Za-z0-9_.-]{1,63})?", key) and re.fullmatch(
            r"[A-Za-z0-9_.-]{0,63}", text
        ):
            tags[key] = text
    return tags
