"""The executor that DYFF_EXECUTOR names."""

from __future__ import annotations

import os
from typing import Any

import dagster as dg

from dyff_dagster.schema.errors import DyffError

_EVERY_STEP = "dyff_dagster.orchestration"
"""What every step's process needs; imported once in each run, by the process that the others are forked from."""

_PRELOADING = "dyff_dagster.orchestration.preloading"
PRELOADED_FILE = "DYFF_DAGSTER_PRELOADED_FILE"
"""Tells that module which file to load, and after a line's end where the file's own imports start from, if anywhere."""


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
        return forking_executor()
    if name == "k8s":
        return k8s_executor()
    raise DyffError(f"DYFF_EXECUTOR is {name!r}: it must be in_process, multiprocess or k8s")


def forking_executor() -> dg.ExecutorDefinition:
    """Dagster's ``multi_or_in_process_executor``, whose steps are forked from a process that has imported all of it.

    Dagster starts an interpreter anew for each step, which takes some seconds of imports, unless run config says
    ``start_method: {forkserver: {}}``: here that is the default, and ``{spawn: {}}`` the other way.
    """
    dagsters: Any = dg.multi_or_in_process_executor

    @dg.executor(
        name=dagsters.name, config_schema=dagsters.config_schema, requirements=dagsters.get_requirements
    )
    def multi_or_in_process_executor(init_context: dg.InitExecutorContext) -> dg.Executor:
        """Steps in processes forked from one that has imported everything, or all in one process."""
        config: dict[str, Any] = dict(init_context.executor_config)
        if "multiprocess" in config and "start_method" not in config["multiprocess"]:
            start = {"forkserver": {"preload_modules": [_EVERY_STEP, *_code_location(init_context.job)]}}
            config["multiprocess"] = {**config["multiprocess"], "start_method": start}
        executor: dg.Executor = dagsters.executor_creation_fn(
            dg.InitExecutorContext(
                job=init_context.job,
                executor_def=init_context.executor_def,
                executor_config=config,
                instance=init_context.instance,
            )
        )
        return executor

    return multi_or_in_process_executor


def _code_location(job: Any) -> list[str]:
    """The modules that load it in the process that steps are forked from."""
    if not hasattr(job, "get_python_origin"):
        return []
    pointer = job.get_python_origin().get_repo_pointer()
    if module := getattr(pointer, "module", None):
        return [module]
    if file := getattr(pointer, "python_file", None):
        os.environ[PRELOADED_FILE] = f"{file}\n{getattr(pointer, 'working_directory', None) or ''}"
        return [_PRELOADING]
    return []


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
