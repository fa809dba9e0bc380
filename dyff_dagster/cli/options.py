"""Options that several verbs share, and what they name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from dyff_dagster.catalog import Catalog
    from dyff_dagster.store import Store

DEFAULT_CATALOG = "examples/breast_cancer"
"""What is taken where neither ``--catalog`` nor DYFF_CATALOG says anything."""

catalog_option = click.option(
    "--catalog",
    "catalog",
    envvar="DYFF_CATALOG",
    default=DEFAULT_CATALOG,
    show_default=True,
    help="Directory or file of manifests, a .py file with `catalog`, or a dotted module name.",
)
storage_option = click.option(
    "--storage",
    "storage",
    envvar="DYFF_STORAGE_ROOT",
    default="dyff-storage",
    show_default=True,
    help="Where artifacts live: a directory or an fsspec URL.",
)


def load_catalog(catalog: str) -> Catalog:
    """Read and check what ``--catalog`` names."""
    from dyff_dagster.catalog import Catalog

    return Catalog.load(existing(catalog))


def open_store(storage: str) -> Store:
    """Open what ``--storage`` names; makes nothing."""
    from dyff_dagster.store import Store

    return Store(storage)


def existing(named: str) -> Path | str:
    """A path where there is one, else what may be a module's name."""
    if not named:
        return named  # which pathlib would take for the working directory
    path = Path(named)
    return path if path.exists() or os.sep in named else named
