"""Entities as Dagster assets: the only room that knows Dagster.

:func:`build_definitions` turns a catalog into ``dg.Definitions``; :class:`DyffTranslator` says how an entity
looks as an asset and is the one thing to subclass; :class:`DyffCatalogComponent` does the same from YAML.
"""

from __future__ import annotations

from dyff_dagster.orchestration.component import DyffCatalogComponent
from dyff_dagster.orchestration.definitions import build_definitions, definitions_from_environment
from dyff_dagster.orchestration.resources import DyffSessions, DyffStorage
from dyff_dagster.orchestration.session_ops import build_reaper, build_session_ops, in_process_io_manager
from dyff_dagster.orchestration.translator import DyffTranslator, DyffTranslatorData

__all__ = [
    "DyffCatalogComponent",
    "DyffSessions",
    "DyffStorage",
    "DyffTranslator",
    "DyffTranslatorData",
    "build_definitions",
    "build_reaper",
    "build_session_ops",
    "definitions_from_environment",
    "in_process_io_manager",
]
