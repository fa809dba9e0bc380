"""What a person sees on the terminal while assets are computed: a line a step, and what it has to say."""

from __future__ import annotations

import logging
import time

import dagster as dg
from dagster._core.log_manager import get_log_record_metadata, has_log_record_event  # no public way to these

_STEP_EVENTS = {"STEP_START": "started", "STEP_SUCCESS": "done"}


class _Lines(logging.Formatter):
    """``12:31:05  evaluations/wdbc  380/380 answers``."""

    def format(self, record: logging.LogRecord) -> str:
        metadata = get_log_record_metadata(record)
        step = (metadata.get("step_key") or "").split("__")
        where = "/".join(step[:2]) if len(step) > 1 else ""
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        event = metadata.get("dagster_event")
        message = metadata.get("orig_message") or record.getMessage()
        if event is not None and event.event_type_value in _STEP_EVENTS:
            message = _STEP_EVENTS[event.event_type_value]
        return f"{clock}  {where:<38} {message}"


class _Wanted(logging.Filter):
    """Messages of ours and of steps, warnings and errors; not Dagster's own bookkeeping."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            return True
        if not has_log_record_event(record):
            return record.levelno >= logging.INFO
        event = get_log_record_metadata(record).get("dagster_event")
        return event is not None and event.event_type_value in _STEP_EVENTS


@dg.logger(
    config_schema={
        "log_level": dg.Field(str, default_value="INFO", is_required=False),
        "name": dg.Field(str, default_value="dyff_dagster", is_required=False),
    },
    description="One line a step and one for each message; INFO leaves Dagster's own bookkeeping out.",
)
def console_logger(context: dg.InitLoggerContext) -> logging.Logger:
    """Lines for people. With ``log_level: DEBUG`` it says everything that Dagster says."""
    level = getattr(logging, str(context.logger_config["log_level"]).upper(), logging.INFO)
    logger = logging.Logger(context.logger_config["name"], level=level)
    handler = logging.StreamHandler()
    handler.setFormatter(_Lines())
    if level > logging.DEBUG:
        handler.addFilter(_Wanted())
    logger.addHandler(handler)
    return logger
