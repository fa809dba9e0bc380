"""What starts by itself: the conditions behind ``dyff-dagster/automation``, and the sensor that looks at them.

Nothing starts unasked: without the annotation an entity is ``manual``, and where none has another value there is no
sensor. Sessions never start by themselves, whatever they say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import dagster as dg

from dyff_dagster.catalog import Catalog
from dyff_dagster.orchestration.checks import EntityChecks
from dyff_dagster.orchestration.names import asset_key
from dyff_dagster.orchestration.selection import is_declared_only
from dyff_dagster.schema.platform import DyffEntity, InferenceSession

MANUAL, EAGER = "manual", "eager"
SENSOR = "automation"
"""Name of the sensor, after the prefix."""

_C: Any = dg.AutomationCondition


def automation_of(entity: DyffEntity, catalog: Catalog) -> str:
    """What an entity asks for: ``manual``, ``eager`` or a cron line."""
    if is_declared_only(entity) or isinstance(entity, InferenceSession):
        return MANUAL
    return (catalog.annotation(entity.id, "automation") or MANUAL).strip()


def condition_of(
    entity: DyffEntity, catalog: Catalog, key_of: Callable[[DyffEntity], dg.AssetKey] = asset_key
) -> dg.AutomationCondition[Any] | None:
    """The condition of an entity's asset, or None where it is started by hand.

    Args:
        entity: The entity.
        catalog: Where its annotations and what is upstream of it are.
        key_of: The key of an entity's asset.
    """
    said = automation_of(entity, catalog)
    if said == MANUAL:
        return None
    upstream = [catalog.get(name) for name in catalog.upstream(entity.id)]
    declared = [key_of(other) for other in upstream if is_declared_only(other)]
    if said != EAGER:
        return on_cron(said, declared)
    checks = EntityChecks.of(catalog, entity, key_of(entity))
    return eager(declared, next((dg.AssetCheckKey(checks.key, name) for name in checks.built_in), None))


def _may_run(declared: Sequence[dg.AssetKey]) -> dg.AutomationCondition[Any]:
    """Everything upstream is there, whole, and not just being made; and this is not running already.

    What a look costs is the number of conditions times that of dependencies, whether or not something is left to
    decide. So each dependency is gone to once, and asked little where it is only declared. What this very look starts
    holds nothing up: both come into one run, in their order.
    """
    not_there = _C.missing().with_label("UnsatisfiedDependency")
    held_up = _C.any_deps_match(
        ~_C.will_be_requested()
        & (
            not_there
            | _C.execution_failed().with_label("FailedDependency")
            | _C.run_in_progress()
            | _C.backfill_in_progress()
            | ~_C.all_checks_match(_C.check_passed(), blocking_only=True).with_label(
                "its blocking checks passed"
            )
        )
    ).with_label("a dependency is not there, failed, is being computed, or did not pass a blocking check")
    condition: dg.AutomationCondition[Any] = ~held_up
    if declared:
        only_declared = dg.AssetSelection.assets(*declared)
        condition = ~_C.any_deps_match(not_there).allow(only_declared).with_label(
            "what is only declared is not there"
        ) & ~held_up.ignore(only_declared)
    condition &= ~_C.in_progress().with_label("it is being computed")
    return condition


def eager(
    declared: Sequence[dg.AssetKey] = (), check: dg.AssetCheckKey | None = None
) -> dg.AutomationCondition[Any]:
    """Compute what is missing as soon as everything upstream is there, and again what has changed.

    A change is another spec, other code, or other content upstream: an upstream asset that was computed again and came
    out the same is none. After a failure it is tried once more when something has changed since, or something upstream
    was computed again, and not before. What was cancelled does not come back until something has changed.

    Args:
        declared: Dependencies that are only declared; a look asks less of them. They may be left out.
        check: A check of the asset that each of its runs makes. Dagster reads whether it could be made in one query
            for all assets, and whether an asset failed in one for each; it may be left out.
    """
    failed = _C.execution_failed()
    if check is not None:
        failed = _C.any_checks_match(_C.execution_failed()).allow(dg.AssetSelection.checks(check))
    other_spec = _C.code_version_changed().with_label("its spec changed")
    # Whether it failed is asked last, and so only of those of which a dependency was just computed.
    mended = _C.any_deps_match(_C.newly_updated()) & _C.execution_failed()
    # Where both sides come within one look the right one wins: what is made in the very run in which this fails has not
    # mended it. Another spec wins nevertheless, since what has just been started or has just ended had the old one.
    called_for = (
        _C.missing().newly_true().with_label("it is not there")
        | other_spec
        | mended.with_label("it failed, and a dependency was computed again")
    ).since((_C.newly_requested() | _C.newly_updated() | failed.newly_true()) & ~other_spec)
    # That it was computed after all does not settle this: it may have begun with the content of before. If it did not,
    # it is found unchanged and taken over.
    outdated = (
        _C.any_deps_match(_C.data_version_changed() & ~_C.executed_with_root_target())
        .with_label("the content of a dependency changed, in another run")
        .since(_C.newly_requested())
    )
    condition: dg.AutomationCondition[Any] = ((called_for | outdated) & _may_run(declared)).with_label(
        "eager"
    )
    return condition


def on_cron(line: str, declared: Sequence[dg.AssetKey] = ()) -> dg.AutomationCondition[Any]:
    """Compute once after each tick of a cron line (in UTC), when everything upstream is there.

    What is then found unchanged is taken over and costs nothing.

    Args:
        line: The schedule.
        declared: Dependencies that are only declared; a look asks less of them. They may be left out.
    """
    due = _C.cron_tick_passed(line).since_last_handled().with_label(f"the schedule {line} (UTC) is due")
    condition: dg.AutomationCondition[Any] = (due & _may_run(declared)).with_label(f"on schedule {line}")
    return condition


def build_automation_sensor(
    specs: Sequence[dg.AssetSpec], prefix: str, interval: int = 30
) -> dg.AutomationConditionSensorDefinition | None:
    """The sensor that evaluates the conditions; None where nothing asks for it.

    Whoever writes ``automation`` into a manifest has asked for it, so that it runs from the start; it is turned off in
    Dagster's UI.

    Args:
        specs: The assets.
        prefix: Begins its name.
        interval: Seconds between two looks.
    """
    keys = [spec.key for spec in specs if spec.automation_condition is not None]
    if not keys:
        return None
    return dg.AutomationConditionSensorDefinition(
        name=f"{prefix}_{SENSOR}",
        target=dg.AssetSelection.assets(*keys),
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=interval,
        description="Starts what dyff-dagster/automation asks for.",
    )
