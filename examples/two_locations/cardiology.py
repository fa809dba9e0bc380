"""The code location of the cardiology team: its own manifests, its own storage."""

import os
from pathlib import Path

from dyff_dagster import definitions_from_environment

defs = definitions_from_environment(
    base=Path(__file__).parent,
    environment={**os.environ, "DYFF_CATALOG": "cardiology", "DYFF_STORAGE_ROOT": "dyff-storage/cardiology"},
)
