"""The code location: every entity of the catalog that DYFF_CATALOG names, as Dagster assets."""

from pathlib import Path

from dyff_dagster import definitions_from_environment

defs = definitions_from_environment(base=Path(__file__).parent)
