"""Assets in plain Dagster, as a person would write them down: nothing of ours is imported here."""

# No `from __future__ import annotations` here: Dagster reads the annotations of an op as they stand.

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg


@dataclass(frozen=True)
class Plain:
    """One asset as a person would write it down without us.

    Attributes:
        op: Name of its op; None: it is only declared.
        spec: Arguments of its AssetSpec.
        checks: Arguments of its AssetCheckSpecs.
        tags: Of its op.
    """

    op: str | None
    spec: Mapping[str, Any]
    checks: tuple[Mapping[str, Any], ...]
    tags: Mapping[str, Any]


def plain_definitions(
    assets: list[Plain], condition_of: Callable[[Plain], dg.AutomationCondition[Any] | None] = lambda _: None
) -> dg.Definitions:
    """The same with Dagster alone, computing nothing."""
    return dg.Definitions(
        assets=[
            dg.AssetSpec(**asset.spec) if asset.op is None else _one_op(asset, condition_of(asset))
            for asset in assets
        ]
    )


def _one_op(asset: Plain, condition: dg.AutomationCondition[Any] | None) -> dg.AssetsDefinition:
    checks = [dg.AssetCheckSpec(**check) for check in asset.checks]

    @dg.multi_asset(
        name=asset.op,
        specs=[dg.AssetSpec(**asset.spec, automation_condition=condition)],
        check_specs=checks,
        op_tags=asset.tags,
    )
    def compute(context: dg.AssetExecutionContext) -> Iterator[Any]:
        yield dg.MaterializeResult(
            check_results=[dg.AssetCheckResult(passed=True, check_name=check.name) for check in checks]
        )

    return compute
