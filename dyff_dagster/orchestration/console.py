"""What a person sees on the terminal while assets are computed: a line a step, and what it has to say."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

import dagster as dg

# What a record is about has no public accessor.
from dagster._core.execution.plan.objects import StepFailureData
from dagster._core.log_manager import get_log_record_event, get_log_record_metadata, has_log_record_event

_STEP_NAMES: dict[str, str] = {}
"""What each step is called on the terminal. One logger serves every catalog of a code location: Dagster
refuses to merge definitions that bring different ones."""

_STEP_EVENTS = {"STEP_START": "started", "STEP_FAILURE": "failed"}
_WIDTH = 42


class _Lines(logging.Formatter):
    """``12:31:05  evaluations/wdbc  380/380 answers``."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, or for a failed step its one sentence."""
        metadata = get_log_record_metadata(record)
        step = metadata.get("step_key") or ""
        where = _STEP_NAMES.get(step, step)
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        message = metadata.get("orig_message") or record.getMessage()
        event = get_log_record_event(record) if has_log_record_event(record) else None
        if event is not None and event.event_type_value in _STEP_EVENTS:
            message = _STEP_EVENTS[event.event_type_value]
            if event.is_step_failure:
                message = _why(event.step_failure_data)
        return f"{clock}  {where:<{_WIDTH}}  {message}"


def _why(data: StepFailureData) -> str:
    """An op of ours says what happened in one sentence; anything else is shown as Dagster has it."""
    if data.user_failure_data is not None and data.user_failure_data.description:
        return f"failed: {data.user_failure_data.description}"
    return f"failed\n{data.error_display_string}"


class _Wanted(logging.Filter):
    """Messages of ours and of steps, warnings and errors; not Dagster's own bookkeeping."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a person wants to read it."""
        if not has_log_record_event(record):
            return record.levelno >= logging.INFO
        return get_log_record_event(record).event_type_value in _STEP_EVENTS or (
            record.levelno >= logging.WARNING and not get_log_record_metadata(record).get("step_key")
        )


def name_steps(names: Mapping[str, str]) -> None:
    """Say how steps are called on the terminal, by step key."""
    _STEP_NAMES.update(names)


@dg.logger(
    config_schema={
        "log_level": dg.Field(str, default_value="INFO", is_required=False),
        "name": dg.Field(str, default_value="dyff_dagster", is_required=False),
    },
    description="One line a step and one for each message; INFO leaves Dagster's own bookkeeping out.",
)
def console_logger(context: dg.InitLoggerContext) -> logging.Logger:
    """Lines for people. With ``log_level: DEBUG`` it says everything that Dagster says.

    Dagster uses it where the run config has ``loggers: {console: {}}``.
    """
    level = getattr(logging, str(context.logger_config["log_level"]).upper(), logging.INFO)
    # Not getLogger: two runs of one process would share its handlers and say everything twice.
    logger = logging.Logger(context.logger_config["name"], level=min(level, logging.DEBUG))
    handler = logging.StreamHandler()
    handler.setFormatter(_Lines())
    if level > logging.DEBUG:
        handler.addFilter(_Wanted())
    logger.addHandler(handler)
    return logger
