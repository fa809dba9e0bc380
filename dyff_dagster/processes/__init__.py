"""Children that never outlive their purpose: a command, its guard, and the guard's promise.

Standard library only, and no room below this one. POSIX only; what needs Linux says so and has a weaker
substitute elsewhere.
"""

from __future__ import annotations

from dyff_dagster.processes.attached import AttachedProcess, start_guarded
from dyff_dagster.processes.confinement import can_confine, confined
from dyff_dagster.processes.detached import DetachedProcess, adopt
from dyff_dagster.processes.environment import clean_environment
from dyff_dagster.processes.guarded import GuardedProcess, GuardError, terminate_all
from dyff_dagster.processes.logs import tail
from dyff_dagster.processes.process_table import alive, identity

__all__ = [
    "AttachedProcess",
    "DetachedProcess",
    "GuardError",
    "GuardedProcess",
    "adopt",
    "alive",
    "can_confine",
    "clean_environment",
    "confined",
    "identity",
    "start_guarded",
    "tail",
    "terminate_all",
]
