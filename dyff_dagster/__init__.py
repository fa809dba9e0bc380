"""AI audits as Dagster assets.

Everything here is loaded when it is first asked for: a notebook that only wants an ``AnalysisContext``
does not pay for Dagster, and reading a schema does not pay for either.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dyff_dagster.analysis.context import AnalysisContext
    from dyff_dagster.catalog import Catalog
    from dyff_dagster.orchestration import (
        DyffCatalogComponent,
        DyffSessions,
        DyffStorage,
        DyffTranslator,
        DyffTranslatorData,
        build_definitions,
        build_reaper,
        build_session_ops,
        definitions_from_environment,
        in_process_io_manager,
    )

__version__ = "0.1.0"

__all__ = [
    "AnalysisContext",
    "Catalog",
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

_HOMES = {"AnalysisContext": "dyff_dagster.analysis.context", "Catalog": "dyff_dagster.catalog"}


def __getattr__(name: str) -> Any:
    """Import a public name from its room (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES.get(name, "dyff_dagster.orchestration")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
