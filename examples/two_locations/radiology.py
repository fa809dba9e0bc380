"""The code location of the radiology team: its own manifests, its own storage."""

import os
from pathlib import Path

from dyff_dagster import definitions_from_environment

defs = definitions_from_environment(
    base=Path(__file__).parent,
    environment={**os.environ, "DYFF_CATALOG": "radiology", "DYFF_STORAGE_ROOT": "dyff-storage/radiology"},
)
