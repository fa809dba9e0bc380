"""The executor that DYFF_EXECUTOR names."""

from __future__ import annotations

from typing import Any

import dagster as dg

from dyff_dagster.schema.errors import DyffError


def executor_named(name: str) -> dg.ExecutorDefinition:
    """Dagster's executor of that name, as it suits this project.

    Args:
        name: ``in_process``, ``multiprocess`` or ``k8s``.

    Raises:
        DyffError: There is none of that name, or it needs a package that is not installed.
    """
    if name == "in_process":
        return dg.in_process_executor
    if name == "multiprocess":
        return dg.multi_or_in_process_executor
    if name == "k8s":
        return k8s_executor()
    raise DyffError(f"DYFF_EXECUTOR is {name!r}: it must be in_process, multiprocess or k8s")


def k8s_executor() -> dg.ExecutorDefinition:
    """Dagster's ``k8s_job_executor``, whose step Jobs go with the run's pod unless run config says otherwise.

    It needs an instance whose run launcher is ``K8sRunLauncher``.

    Raises:
        DyffError: dagster-k8s is not installed.
    """
    try:
        from dagster_k8s import k8s_job_executor
    except ImportError as error:
        raise DyffError(
            "DYFF_EXECUTOR is k8s and dagster-k8s is not installed: install dyff-dagster[kubernetes]"
        ) from error
    schema: Any = k8s_job_executor.config_schema
    fields = dict(schema.config_type.fields)
    fields["enable_owner_references"] = dg.Field(
        bool,
        default_value=True,
        description="Whether step Jobs are owned by the run's pod, so that they go when it is deleted.",
    )
    return k8s_job_executor.configured(lambda config: config, config_schema=fields)
