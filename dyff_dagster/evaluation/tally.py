"""What a request phase did, counted while it does it."""

from __future__ import annotations

import io
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dyff_dagster.evaluation.errors import RowError
from dyff_dagster.evaluation.latency import Latencies
from dyff_dagster.evaluation.part import REPLICATION
from dyff_dagster.evaluation.rows import INDEX
from dyff_dagster.evaluation.usage import Usage
from dyff_dagster.schema.ids import replication_id

_SCHEMA = pa.schema(
    [
        pa.field(REPLICATION, pa.string(), nullable=False),
        pa.field(INDEX, pa.int64(), nullable=False),
        pa.field("class", pa.string(), nullable=False),
        pa.field("status", pa.int32()),
        pa.field("attempts", pa.int32(), nullable=False),
        pa.field("message", pa.string(), nullable=False),
        pa.field("body", pa.string(), nullable=False),
    ]
)
_GROUP = 1024


@dataclass(frozen=True)
class FailedRow:
    """A (row, replication) that stayed without an answer.

    Attributes:
        replication: From 0.
        index: The row's ``_index_``.
        error: Why.
        attempts: How often it was asked.
    """

    replication: int
    index: int
    error: RowError
    attempts: int


class FailedRows:
    """The rows that stayed without an answer: never what was sent for them.

    They are held compressed, so that a million of them, which mostly say the same, fit into memory.

    Attributes:
        count: How many.
        classes: How many of each class.
        first: The one with the lowest row and replication.
    """

    def __init__(self, entity_id: str) -> None:
        self.count = 0
        self.classes: Counter[str] = Counter()
        self.first: FailedRow | None = None
        self._entity_id = entity_id
        self._names: dict[int, str] = {}
        self._rows: list[dict[str, Any]] = []
        self._sink = io.BytesIO()
        self._writer = pq.ParquetWriter(self._sink, _SCHEMA, compression="zstd")

    def add(self, row: FailedRow) -> None:
        """Note one."""
        self.count += 1
        self.classes[row.error.kind] += 1
        if self.first is None or (row.index, row.replication) < (self.first.index, self.first.replication):
            self.first = row
        if row.replication not in self._names:
            self._names[row.replication] = replication_id(self._entity_id, row.replication)
        self._rows.append(
            {
                REPLICATION: self._names[row.replication],
                INDEX: row.index,
                "class": row.error.kind,
                "status": row.error.status,
                "attempts": row.attempts,
                "message": row.error.message,
                "body": row.error.body,
            }
        )
        if len(self._rows) >= _GROUP:
            self._write()

    def _write(self) -> None:
        if self._rows:
            self._rows.sort(key=lambda row: (row[REPLICATION], row[INDEX]))
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=_SCHEMA))
            self._rows = []

    def parquet(self) -> bytes:
        """All of them as a Parquet file; nothing can be added afterwards."""
        self._write()
        self._writer.close()
        return self._sink.getvalue()


@dataclass
class Tally:
    """Counts of one request phase.

    Attributes:
        entity_id: The evaluation.
        answered: Answers that came.
        requests: Requests sent, retries included.
        retries: Of those, repeated ones.
        accepted: Answers that are of an accepted class of error, by class.
        failed: Rows that stayed without an answer.
        reused: Answers taken over from other evaluations.
        latencies: Of each request that was answered.
        bytes: Of replies.
        usage: Tokens.
        started: Moment of the monotonic clock at which it began.
        seconds: Wall time of the request phase, once it is over.
        session: What the session says of itself; complete once that is closed.
    """

    entity_id: str
    answered: int = 0
    requests: int = 0
    retries: int = 0
    accepted: Counter[str] = field(default_factory=Counter)
    reused: int = 0
    bytes: int = 0
    latencies: Latencies = field(default_factory=Latencies)
    usage: Usage = field(default_factory=Usage)
    started: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    session: dict[str, Any] = field(default_factory=dict)
    failed: FailedRows = field(init=False)

    def __post_init__(self) -> None:
        self.failed = FailedRows(self.entity_id)

    @property
    def errors(self) -> dict[str, int]:
        """Number of failed rows by class."""
        return dict(sorted(self.failed.classes.items()))

    def elapsed(self) -> float:
        """Seconds of the request phase so far."""
        return self.seconds or time.monotonic() - self.started
