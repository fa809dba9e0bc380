"""One op for every entity that is computed, a bare asset for every one that is only declared."""

# No `from __future__ import annotations` here: Dagster reads the annotations of an op as they stand.

import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import dagster as dg

from dyff_dagster.catalog import Catalog
from dyff_dagster.evaluation import EvaluationIncomplete
from dyff_dagster.orchestration.checks import PROVENANCE, EntityChecks
from dyff_dagster.orchestration.dependencies import UnsatisfiedDependency
from dyff_dagster.orchestration.lineage import column_lineage
from dyff_dagster.orchestration.metadata import commit_metadata
from dyff_dagster.orchestration.names import op_name
from dyff_dagster.orchestration.orphans import ends_with_its_run
from dyff_dagster.orchestration.progress import StepProgress
from dyff_dagster.orchestration.resources import DyffSessions, DyffStorage, ResourceKeys
from dyff_dagster.orchestration.selection import is_declared_only
from dyff_dagster.orchestration.steps import Step
from dyff_dagster.orchestration.translator import DyffTranslator, DyffTranslatorData
from dyff_dagster.processes import GuardError
from dyff_dagster.schema.errors import DyffError
from dyff_dagster.schema.platform import (
    DataSource,
    DataSources,
    DyffEntity,
    Evaluation,
    InferenceService,
    InferenceSession,
)
from dyff_dagster.schema.statuses import failure_status
from dyff_dagster.sessions import SessionError
from dyff_dagster.sessions.kubernetes import StepPods
from dyff_dagster.store import Commit, EntityBusy
from dyff_dagster.store.references import Provenance


class ComputeConfig(dg.Config):
    """Run config of every op."""

    force: bool = False
    """Compute again what has not changed."""


_CONFIG_SCHEMA = dict(ComputeConfig.to_fields_dict())
"""Made once: of an annotation Dagster would make it anew for every op."""
_FETCH_FAILED = "FetchFailed"
_SIGNATURE = inspect.Signature([inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD)])


def build_assets(
    catalog: Catalog,
    translator: DyffTranslator,
    keys: ResourceKeys | None = None,
    steps: StepPods | None = None,
    webserver_url: str | None = None,
) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """An asset for every entity, in the catalog's order.

    Args:
        catalog: The entities.
        translator: How they look.
        keys: What their resources are called.
        steps: What the administrator says of the pods that steps run in.
        webserver_url: Where Dagster's web server answers, for links in descriptions.
    """
    keys, steps = keys or ResourceKeys(), steps or StepPods()
    assets: list[dg.AssetsDefinition | dg.AssetSpec] = []
    for entity in catalog.entities.values():
        data = DyffTranslatorData(entity=entity, catalog=catalog, steps=steps, webserver_url=webserver_url)
        spec = translator.get_asset_spec(data)
        if is_declared_only(entity):
            assets.append(spec)
        else:
            if isinstance(entity, InferenceSession):
                # It costs for as long as it lives: never by itself, whatever a translator says.
                spec = spec.replace_attributes(automation_condition=None)
            assets.append(_computed(data, spec, keys, translator))
    return assets


@dataclass(frozen=True, slots=True)
class _Computation:
    """What an op needs when it runs; thousands are kept from loading on, and so no more than that.

    Attributes:
        catalog: All entities.
        entity: The one to compute.
        key: Its asset.
        translator: How entities look.
        keys: What the resources are called.
    """

    catalog: Catalog
    entity: DyffEntity
    key: dg.AssetKey
    translator: DyffTranslator
    keys: ResourceKeys

    def checks(self) -> EntityChecks:
        """The checks of its asset."""
        return EntityChecks.of(self.catalog, self.entity, self.key)

    def resources(self) -> set[str]:
        """What its op requires: of sessions only what asks a service, is built for one or runs in pods of its own."""
        isolated = self.catalog.annotation(self.entity.id, "isolation") == "pod"
        if isolated or isinstance(self.entity, Evaluation | InferenceService | InferenceSession):
            return {self.keys.storage, self.keys.sessions}
        return {self.keys.storage}


def _computed(
    data: DyffTranslatorData, spec: dg.AssetSpec, keys: ResourceKeys, translator: DyffTranslator
) -> dg.AssetsDefinition:
    computation = _Computation(data.catalog, data.entity, spec.key, translator, keys)

    def compute(
        context: dg.AssetExecutionContext,
    ) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult[Any]]:
        checks = computation.checks().only({check.name for check in context.selected_asset_check_keys})
        if context.selected_asset_keys:
            yield from _run(context, computation, checks)
        else:
            storage: DyffStorage = getattr(context.resources, keys.storage)
            yield from _check_again(computation.entity, checks, storage)

    # What Dagster would work out again some twenty times for each of thousands of ops that differ in nothing of it.
    compute.__signature__ = _SIGNATURE  # type: ignore[attr-defined]
    compute.__annotations__ = {}
    check_specs = computation.checks().specs()
    return dg.multi_asset(
        name=op_name(data.entity),
        specs=[spec],
        check_specs=check_specs,
        can_subset=bool(check_specs),  # so that checks can be run alone; there is one asset in it
        required_resource_keys=computation.resources(),
        op_tags=translator.get_op_tags(data),
        pool=translator.get_pool(data),
        config_schema=_CONFIG_SCHEMA,
    )(compute)


def _check_again(
    entity: DyffEntity, checks: EntityChecks, storage: DyffStorage
) -> Iterator[dg.AssetCheckResult]:
    """The checks of what is committed, without computing it: after a threshold was changed, say."""
    store = storage.store()
    commit = store.current(entity.id)
    if commit is None:
        yield from checks.failures(f"{entity.id} was never materialized: there is nothing to check")
    elif not store.intact(commit):
        yield from checks.failures(f"{entity.id} has lost files in {commit.path}: materialize it again")
    else:
        yield from checks.results(commit, Provenance(store))


def _run(
    context: dg.AssetExecutionContext, computation: _Computation, checks: EntityChecks
) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult[Any]]:
    """Compute an entity and report it; what may not be green raises ``Failure`` and is never materialized."""
    catalog, entity, key, translator = (
        computation.catalog,
        computation.entity,
        computation.key,
        computation.translator,
    )
    config = ComputeConfig(**context.op_execution_context.op_config)
    storage: DyffStorage = getattr(context.resources, computation.keys.storage)
    sessions: DyffSessions | None = None
    if computation.keys.sessions in computation.resources():
        sessions = getattr(context.resources, computation.keys.sessions)
    try:
        with (
            ends_with_its_run(context),
            StepProgress(context, key, observed=isinstance(entity, Evaluation)) as progress,
        ):
            store = storage.store()
            step = Step(
                catalog=catalog,
                store=store,
                entity=entity,
                progress=progress,
                run_id=context.run.run_id,
            )
            if sessions is not None:
                built = isinstance(entity, InferenceService)
                step = replace(
                    step,
                    startup_timeout=sessions.startup_timeout,
                    client_processes=sessions.client_processes,
                    cluster=sessions.cluster(store),
                    image_repository=sessions.image_repository() if built else None,
                )
            commit, reused = step.compute(force=config.force)
    except (DyffError, OSError, GuardError) as error:
        if isinstance(error, SessionError | EvaluationIncomplete) and (tail := error.log_tail()):
            # It may hold prompts: the terminal may show it, Dagster's event log may not.
            print(f"The last lines of the service's log:\n{tail}", file=sys.stderr, flush=True)
        message = _sentence(entity, error)
        metadata = {
            "dyff/status": failure_status(entity.kind),
            "dyff/reason": _reason(entity, getattr(error, "reason", None)),
        }
        if not isinstance(error, EntityBusy):  # another run computes it, and will say how the checks stand
            yield from checks.failures(message, getattr(error, "completeness", None))
            # The failure itself is an event of the run: the asset's page would say nothing of it.
            context.log_event(
                dg.AssetObservation(
                    asset_key=key,
                    description=message,
                    metadata={
                        **metadata,
                        "dyff/error": dg.MetadataValue.text(message),
                        "dyff/failed_run": dg.MetadataValue.dagster_run(context.run.run_id),
                    },
                )
            )
        raise dg.Failure(description=message, metadata=metadata, allow_retries=False) from None
    if reused:
        context.log.info(f"unchanged: version {commit.data_version[:12]} is taken over")
    else:
        context.log.info(_summary(commit))
    if warning := commit.facts.notes.get("warning"):
        context.log.warning(warning)
    results = list(checks.results(commit, Provenance(store)))
    if broken := [r for r in results if r.check_name in checks.built_in and not r.passed]:
        # A failed blocking check inside MaterializeResult would leave the asset materialized.
        yield from results
        why = "; ".join(str(r.metadata["reason"].value) for r in broken if "reason" in r.metadata)
        lost = all(result.check_name == PROVENANCE for result in broken)
        if not lost:
            why = (
                f"{why or 'rows are doubled'}: its files in {commit.path} were changed after they were committed; "
                "materialize it again with force: true"
            )
        reason = _reason(entity, UnsatisfiedDependency.reason if lost else None)
        raise dg.Failure(
            description=f"{entity.id}: {why}",
            metadata={"dyff/status": failure_status(entity.kind), "dyff/reason": reason},
            allow_retries=False,
        )
    yield dg.MaterializeResult(
        asset_key=key,
        metadata=commit_metadata(
            commit,
            reused=reused,
            pages_url=storage.pages_url,
            references=catalog.family_references(entity.id),
            lineage=column_lineage(entity, catalog, translator.get_asset_key),
        ),
        check_results=results,
        data_version=dg.DataVersion(commit.data_version),
    )


def _sentence(entity: DyffEntity, error: DyffError | OSError | GuardError) -> str:
    """What happened and what to do; a disk's own errors say neither."""
    if isinstance(error, DyffError):
        return str(error)
    if isinstance(error, GuardError):
        return f"{entity.id}: {error}"
    what = error.strerror or type(error).__name__
    where = f" at {error.filename}" if error.filename else ""
    return (
        f"{entity.id}: the operating system refused to read or write{where} ({what}): "
        "free space or correct permissions, and run it again; what was committed before stands"
    )


def _reason(entity: DyffEntity, said: str | None = None) -> str:
    """The platform's word for a failure of that kind of entity.

    Args:
        entity: What failed.
        said: The error's own word, where it has one. Bytes that could not be brought have another for each kind.
    """
    if said is not None and said != _FETCH_FAILED:
        return said
    if isinstance(entity, DataSource):
        return "UploadFailed" if entity.sourceKind == DataSources.upload else _FETCH_FAILED
    return {
        "Evaluation": "Incomplete",
        "Dataset": "IngestFailed",
        "InferenceService": "BuildFailed",
        "Model": _FETCH_FAILED,
        "Module": _FETCH_FAILED,
    }.get(entity.kind, "Failed")


def _summary(commit: Commit) -> str:
    """What came of it, in a line."""
    facts = commit.facts
    said: list[str] = []
    if facts.completeness is not None:
        said.append(f"{facts.completeness.answered} of {facts.completeness.expected} answered")
    elif facts.rows is not None and not facts.scores:
        said.append(f"{facts.rows} rows")
    said += [str(score) for score in facts.scores[:3]]
    return ", ".join(said) or f"version {commit.data_version[:12]}"
