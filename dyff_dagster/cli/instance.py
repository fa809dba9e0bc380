"""The Dagster instance that DAGSTER_HOME names, where there is one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dyff_dagster.schema.errors import DyffError

if TYPE_CHECKING:
    import dagster as dg

HOME = "DAGSTER_HOME"


@contextmanager
def open_instance() -> Iterator[dg.DagsterInstance | None]:
    """The instance, or None where DAGSTER_HOME names no directory."""
    home = os.environ.get(HOME)
    if home is None or not os.path.isdir(home):  # noqa: PTH112
        yield None
        return
    import dagster as dg

    with dg.DagsterInstance.get() as instance:
        yield instance


@contextmanager
def require_instance(what: str) -> Iterator[dg.DagsterInstance]:
    """The instance.

    Args:
        what: What needs it, for the error.

    Raises:
        DyffError: DAGSTER_HOME names no directory.
    """
    with open_instance() as instance:
        if instance is None:
            raise DyffError(
                f"{what} in Dagster's records: {HOME} must name the directory of the instance that runs this catalog"
            )
        yield instance
