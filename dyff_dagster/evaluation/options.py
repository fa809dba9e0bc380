"""What an author may set about how an evaluation is run, beyond the page's own fields."""

from __future__ import annotations

from dataclasses import dataclass, field

from dyff_dagster.evaluation.errors import EvaluationError
from dyff_dagster.schema.answer_rules import AnswerRules
from dyff_dagster.schema.prices import Prices

DEFAULT_WORKERS = 16
"""Requests in flight at one replica where ``workersPerReplica`` is not set."""


@dataclass(frozen=True)
class EvaluationOptions:
    """How hard to try, what to bear, and when to stop.

    Attributes:
        max_failed_rows: How many (row, replication) may stay unanswered: a count (``5``) or a fraction
            below 1 (``0.01``).
        accept: Classes of errors that are taken as answers; their class travels with them.
        rules: Which replies with status 200 are no answers.
        prices: What answers cost, where that is known.
        reuse: Whether answers of other evaluations with the same key are taken over.
        max_requests: Requests to send at most, counted over all runs; None: as many as it takes.
        max_cost: Money to spend at most, in the prices' currency, counted over all runs.
        max_seconds: Seconds to ask at most, counted over all runs.
        attempts: How often a request is sent before its row counts as failed; answers that say "too much"
            (429, or 503 with Retry-After) do not count.
        row_seconds: Seconds after which a row is given up whatever it waited for.
        connect_timeout: Seconds for a connection to be made.
        attempt_timeout: Seconds for one request, from sending it to the last byte of its reply.
        idle_timeout: Seconds without a byte after which a reply is given up.
        tail_timeout: Seconds after which the last requests of a run are sent anew, where other requests took
            far less; doubled each time, up to ``attempt_timeout``.
        last_words: Seconds in which a replica that is told to end may still answer what it was asked.
        patience: Seconds without a single success after which an endpoint that fails everything stops the run.
        max_retry_after: Seconds that an endpoint may ask to be left alone; longer ones are cut to this.
        max_reply: Bytes of one reply at most.
        part_rows: Answers in memory at most, and so what a kill can cost: the half of them is a part.
        part_age: Seconds after which a part is written even if it is not full.
        processes: Client processes, where the wire is faster than one core of this machine.
    """

    max_failed_rows: float = 0
    accept: frozenset[str] = frozenset()
    rules: AnswerRules = field(default_factory=AnswerRules)
    prices: Prices | None = None
    reuse: bool = False
    max_requests: int | None = None
    max_cost: float | None = None
    max_seconds: float | None = None
    attempts: int = 5
    row_seconds: float = 3600.0
    connect_timeout: float = 10.0
    attempt_timeout: float = 600.0
    idle_timeout: float = 600.0
    tail_timeout: float = 30.0
    last_words: float = 30.0
    patience: float = 120.0
    max_retry_after: float = 300.0
    max_reply: int = 64 * 1024 * 1024
    part_rows: int = 2048
    part_age: float = 5.0
    processes: int = 1

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


def parse_limit(name: str, text: str | None) -> float | None:
    """Read one of the annotations ``max-requests``, ``max-cost`` and ``max-seconds``.

    Raises:
        EvaluationError: It is no number of 0 or more.
    """
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise EvaluationError(f"dyff-dagster/{name} is {text!r}: it must be a number, 0 or more")
    return value
