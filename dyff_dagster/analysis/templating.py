"""The templates that pages are made of."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment


@cache
def environment(package: str = "dyff_dagster.analysis") -> Environment:
    """The templates of a package; what is put into one is escaped."""
    from jinja2 import Environment, PackageLoader

    return Environment(loader=PackageLoader(package), autoescape=True, trim_blocks=True, lstrip_blocks=True)
