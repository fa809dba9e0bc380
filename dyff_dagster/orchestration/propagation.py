"""A failure told to everything behind it: Dagster writes no event for a step whose upstream failed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import dagster as dg

# What an observation looks like as an event has no public name.
from dagster._core.events import AssetObservationData

from dyff_dagster.catalog import Catalog
from dyff_dagster.orchestration.names import op_name
from dyff_dagster.orchestration.selection import is_declared_only
from dyff_dagster.orchestration.standing import Standing, standings
from dyff_dagster.schema.statuses import EntityStatusReason


def build_failure_sensor(
    catalog: Catalog, keys: Mapping[str, dg.AssetKey], prefix: str
) -> dg.SensorDefinition:
    """A sensor that, when a run has failed, reports ``FailedDependency`` on every asset behind what failed in it.

    It computes nothing and costs nothing, so that it runs from the start.

    Args:
        catalog: The entities.
        keys: Their assets' keys by entity id.
        prefix: Begins its name.
    """

    @dg.run_failure_sensor(
        name=f"{prefix}_failed_dependencies",
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Reports FailedDependency on every asset behind one that failed.",
    )
    def failed_dependencies(context: dg.RunFailureSensorContext) -> None:
        failed = {event.step_key for event in context.get_step_failure_events() if event.step_key is not None}
        told = report_failed_dependencies(catalog, keys, context.instance, failed, context.dagster_run)
        if told:
            context.log.info(f"FailedDependency: {', '.join(told)}")

    return failed_dependencies


def report_failed_dependencies(
    catalog: Catalog,
    keys: Mapping[str, dg.AssetKey],
    instance: dg.DagsterInstance,
    failed_steps: set[str],
    run: dg.DagsterRun,
) -> list[str]:
    """Report on every asset that cannot be computed because one of these steps failed; which they are.

    Args:
        catalog: The entities.
        keys: Their assets' keys by entity id.
        instance: Where it is reported.
        failed_steps: Keys of the steps that failed.
        run: Their run.
    """
    causes = {
        entity.id
        for entity in catalog.entities.values()
        if not is_declared_only(entity) and op_name(entity) in failed_steps
    }
    told = []
    for entity_id, standing in _blocked(catalog, keys, instance):
        if standing.cause not in causes:
            continue
        told.append(entity_id)
        observation = dg.AssetObservation(
            asset_key=keys[entity_id],
            description=f"{standing.cause} failed, which this is made of.",
            metadata={
                "dyff/status": str(standing.status),  # Dagster keeps no enumerations of others
                "dyff/reason": str(EntityStatusReason.failed_dependency),
                "dyff/cause": dg.MetadataValue.asset(keys[standing.cause]),
                "dyff/failed_run": dg.MetadataValue.dagster_run(run.run_id),
            },
        )
        # It belongs to the run that failed: what belongs to none is read as a whole by whoever asks for statuses.
        instance.report_dagster_event(
            dg.DagsterEvent(
                event_type_value=dg.DagsterEventType.ASSET_OBSERVATION.value,
                job_name=run.job_name,
                message=observation.description,
                event_specific_data=AssetObservationData(observation),
            ),
            run.run_id,
        )
    return told


def _blocked(
    catalog: Catalog, keys: Mapping[str, dg.AssetKey], instance: dg.DagsterInstance
) -> Iterator[tuple[str, Standing]]:
    for entity_id, standing in standings(catalog, instance, keys).items():
        if standing.reason == EntityStatusReason.failed_dependency and standing.cause is not None:
            yield entity_id, standing
