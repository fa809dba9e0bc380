"""What an author may set about how an evaluation is run, beyond the page's own fields."""

from __future__ import annotations

from dataclasses import dataclass

from dyff_dagster.evaluation.errors import EvaluationError

DEFAULT_WORKERS = 16
"""Requests in flight at one replica where ``workersPerReplica`` is not set."""


@dataclass(frozen=True)
class EvaluationOptions:
    """How hard to try, and what to bear.

    Attributes:
        max_failed_rows: How many (row, replication) may stay unanswered: a count (``5``) or a fraction
            below 1 (``0.01``).
        attempts: How often a request is sent before its row counts as failed.
        connect_timeout: Seconds for a connection to be made.
        attempt_timeout: Seconds for one request, from sending it to the last byte of its reply.
        max_reply: Bytes of one reply at most.
        part_rows: Answers of one durable part: what a kill can cost at most.
        part_age: Seconds after which a part is written even if it is not full.
    """

    max_failed_rows: float = 0
    attempts: int = 5
    connect_timeout: float = 10.0
    attempt_timeout: float = 600.0
    max_reply: int = 64 * 1024 * 1024
    part_rows: int = 256
    part_age: float = 5.0

    def allowed_failures(self, expected: int) -> int:
        """The number of (row, replication) out of ``expected`` that may stay unanswered."""
        if 0 < self.max_failed_rows < 1:
            return int(self.max_failed_rows * expected)
        return int(self.max_failed_rows)


def parse_max_failed_rows(text: str | None) -> float:
    """Read the annotation ``dyff-dagster/max-failed-rows``.

    Raises:
        EvaluationError: It is neither a whole number nor a fraction between 0 and 1.
    """
    if text is None:
        return 0
    try:
        value = float(text)
    except ValueError:
        value = -1
    is_count = text.strip().isdigit()
    if value < 0 or (not is_count and value >= 1):
        raise EvaluationError(
            f"dyff-dagster/max-failed-rows is {text!r}: it must be a count such as 5 or a fraction such as 0.01"
        )
    return value
