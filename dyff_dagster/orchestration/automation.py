"""What starts by itself: the conditions behind ``dyff-dagster/automation``, and the sensor that looks at them.

Nothing starts unasked: without the annotation an entity is ``manual``, and where none has another value there is no
sensor. Sessions never start by themselves, whatever they say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import dagster as dg

from dyff_dagster.catalog import Catalog
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
    return eager(declared) if said == EAGER else on_cron(said, declared)


def _may_run(declared: Sequence[dg.AssetKey]) -> dg.AutomationCondition[Any]:
    """Everything upstream is there, whole, and not just being made; and this is not running already.

    What a look costs is the number of conditions times that of dependencies, whether or not something is left to
    decide, and two queries for each asset of which it is still open whether it runs. So what is cheap cuts first, and
    whether it runs or failed is asked at once, and not of what is only declared.
    """
    held_up = _C.any_deps_match(
        _C.execution_failed().with_label("FailedDependency")
        | _C.run_in_progress()
        | _C.backfill_in_progress()
    )
    if declared:
        held_up = held_up.ignore(dg.AssetSelection.assets(*declared))
    condition: dg.AutomationCondition[Any] = (
        ~_C.any_deps_missing().with_label("UnsatisfiedDependency")
        & ~held_up.with_label("a dependency failed or is being computed")
        & _C.all_deps_blocking_checks_passed().with_label("the blocking checks of its dependencies passed")
        & ~_C.in_progress().with_label("it is being computed")
    )
    return condition


def eager(declared: Sequence[dg.AssetKey] = ()) -> dg.AutomationCondition[Any]:
    """Compute what is missing as soon as everything upstream is there, and again what has changed.

    A change is another spec, other code, or other content upstream: an upstream asset that was computed again and came
    out the same is none. After a failure it is tried once more when something has changed since, and not before.

    Args:
        declared: Dependencies that are only declared; a look asks less of them. They may be left out.
    """
    # Three "since", each of another shape: Dagster 1.13 keeps what it knows of such a node under a name made of the
    # operators right below it, and two of the same shape would take each other's memory for their own.
    changed = (
        _C.any_deps_match(_C.data_version_changed()).with_label("the content of a dependency changed")
        | _C.code_version_changed().with_label("its spec changed")
    ).since(_C.newly_requested() | _C.newly_updated())
    failed = _C.execution_failed()
    # With "all of" around it the trigger has no time of its own, so that a dependency made in the very run in which
    # this failed does not count as mended: within one look the failure comes last.
    mended = (failed & (_C.any_deps_match(_C.newly_updated()) | _C.code_version_changed())).since(
        _C.newly_requested() | failed.newly_true()
    )
    # To Dagster a run that was cancelled is none that failed: whoever cancels it does not want it back at once. Where
    # its materializations are wiped, it is missing anew.
    never_begun = ~_C.newly_requested().since(_C.missing().newly_true())
    # Whether it failed is two queries. They are made once for each asset as long as it is asked of the whole asset,
    # which is so at the start of an "all of" and not behind its other parts.
    wanted = (failed & mended).with_label("it failed, and something was mended since") | (
        ~failed
        & (
            (_C.missing() & never_begun).with_label("it was never computed")
            | changed.with_label("its spec, or the content of a dependency, changed since it was computed")
        )
    )
    condition: dg.AutomationCondition[Any] = (wanted & _may_run(declared)).with_label("eager")
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
