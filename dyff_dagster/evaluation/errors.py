"""What can go wrong when a model is run over a data set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dyff_dagster.schema.errors import DyffError
from dyff_dagster.store import Completeness


class EvaluationError(DyffError):
    """An evaluation cannot be run or cannot go on."""


class EvaluationIncomplete(EvaluationError):
    """Some (row, replication) has no answer, or more than one; nothing was committed.

    Attributes:
        completeness: The count.
        errors: Number of rows that failed, by class.
    """

    def __init__(
        self, message: str, completeness: Completeness, errors: dict[str, int], service_log: str = ""
    ) -> None:
        self.completeness = completeness
        self.errors = errors
        self._service_log = service_log
        super().__init__(message)

    def log_tail(self) -> str:
        """The last lines of the service's log: for a terminal only, they may hold prompts."""
        return self._service_log


@dataclass(eq=False)  # not frozen: Python itself writes to an exception that is raised
class RowError(Exception):
    """One request that got no usable answer.

    Attributes:
        kind: The class: ``refused``, ``timeout``, ``connect-timeout``, ``idle-timeout``, ``total-timeout``,
            ``status-503``, ``not-json``, ``wrong-shape``, ``too-long``, ``adapter``, or one that the service's
            answer rules name.
        message: One sentence; names fields, never shows what stands in them.
        status: HTTP status, or None where there was none.
        body: The first 500 characters of the reply. Kept in ``errors.parquet`` only.
        retryable: Whether asking again may help.
        counts: Whether it is one of the attempts that a row has; "too much, come back later" is none.
        responses: What the reply held where its class may be accepted as an answer.
    """

    kind: str
    message: str
    status: int | None = None
    body: str = ""
    retryable: bool = False
    counts: bool = True
    responses: list[dict[str, Any]] | None = None

    def __str__(self) -> str:
        return self.message
