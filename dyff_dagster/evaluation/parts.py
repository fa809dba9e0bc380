"""Unfinished answers, in durable parts: what a killed run has paid for is not paid for again.

A part is a small Parquet file below ``ROOT/ID/.dyff/parts/SERVICE/``: complete or absent, never changed.
Its rows carry the key of the answer (the service is in the directory's name), so that an answer is taken
up only where the same request would be sent to the same service for the same row and replication.
"""

from __future__ import annotations

import functools
import io
import itertools
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dyff_dagster.evaluation.errors import EvaluationError
from dyff_dagster.store import Store

REPLICATION = "_replication_"
INDEX = "_index_"
REQUEST = "request"
RESPONSES = "responses"

_OPEN_PARTS = 4
"""Parts that are held in memory while answers are put in order."""


@dataclass(frozen=True)
class Answer:
    """One row's answer in one replication.

    Attributes:
        replication: From 0.
        index: The row's ``_index_``.
        request: SHA-256 of the request's body.
        responses: What the service said, as the output schema has it.
    """

    replication: int
    index: int
    request: bytes
    responses: list[dict[str, Any]]


@dataclass
class Parts:
    """The parts of one evaluation under one service.

    Args:
        store: Where they lie.
        entity_id: The evaluation.
        service_digest: Digest of the service; answers of another one are not looked at.
        response_type: Arrow type of the responses.
        ignored: Names of parts that are not looked at: those of before a run that asks for all again.
    """

    store: Store
    entity_id: str
    service_digest: str
    response_type: pa.DataType
    ignored: frozenset[str] = frozenset()
    generation: int = field(default=1, init=False)
    """Counts the runs that asked for all again; answers of a later one go before those of an earlier."""
    _pending: list[Answer] = field(default_factory=list, init=False)
    # Parts are written in threads, and a failed one puts its answers back while another is closed.
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __post_init__(self) -> None:
        self.generation = max([int(n[1:7]) for n in self.names() if n[:1] == "g"], default=1)

    def begin_again(self) -> None:
        """Look at no part that is there now; answers from now on go before theirs, also in later runs."""
        self.ignored = frozenset(self.names())
        self.generation += 1

    @property
    def _directory(self) -> str:
        return f"parts/{self.service_digest[:32]}"

    @property
    def schema(self) -> pa.Schema:
        """Arrow schema of a part."""
        return pa.schema(
            [
                pa.field(REPLICATION, pa.int32(), nullable=False),
                pa.field(INDEX, pa.int64(), nullable=False),
                pa.field(REQUEST, pa.binary(32), nullable=False),
                pa.field(RESPONSES, self.response_type),
            ]
        )

    def add(self, answer: Answer) -> int:
        """Take an answer into the open part; returns how many it holds now."""
        with self._lock:
            self._pending.append(answer)
            return len(self._pending)

    def take(self) -> list[Answer]:
        """Close the open part: its answers, to be given to :meth:`write`."""
        with self._lock:
            pending, self._pending = self._pending, []
            return pending

    def write(self, answers: list[Answer]) -> None:
        """Write one part; it is durable when this returns.

        Raises:
            EvaluationError: Arrow cannot hold an answer; all others are written.
            OSError: The disk refused; the answers are in the open part again.
        """
        if not answers:
            return
        try:
            table = self._table(answers)
        except (ValueError, TypeError, OverflowError, pa.ArrowException) as error:
            self._write_apart(answers, error)
            return
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="zstd")
        first, last = answers[0], answers[-1]
        rows = f"{first.replication:04d}-{first.index:012d}-{last.index:012d}"
        name = f"g{self.generation:06d}-{rows}-{uuid.uuid4().hex[:12]}.parquet"
        try:
            self.store.put_working(self.entity_id, f"{self._directory}/{name}", sink.getvalue())
        except OSError:
            with self._lock:
                self._pending[:0] = answers  # paid for: whoever writes next tries again
            raise

    def _table(self, answers: list[Answer]) -> pa.Table:
        return pa.Table.from_arrays(
            [
                pa.array([answer.replication for answer in answers], pa.int32()),
                pa.array([answer.index for answer in answers], pa.int64()),
                pa.array([answer.request for answer in answers], pa.binary(32)),
                pa.array([answer.responses for answer in answers], self.response_type),
            ],
            schema=self.schema,
        )

    def _write_apart(self, answers: list[Answer], error: Exception) -> None:
        """Write what can be written of answers that do not fit into one part together."""
        if len(answers) == 1:
            raise EvaluationError(
                f"the answer to row {answers[0].index} in replication {answers[0].replication} cannot be stored "
                f"({type(error).__name__}): its outputSchema is too narrow for it"
            ) from None
        middle = len(answers) // 2
        failure: EvaluationError | None = None
        for half in (answers[:middle], answers[middle:]):
            try:
                self.write(half)
            except EvaluationError as found:
                failure = failure or found
        if failure is not None:
            raise failure

    def names(self) -> list[str]:
        """Names of the parts that are there, without the ignored ones."""
        names = self.store.working_names(self.entity_id, self._directory)
        return [name for name in names if name.endswith(".parquet") and name not in self.ignored]

    def retire(self) -> None:
        """Remove the ignored parts: what was asked again, and committed, has taken their place."""
        for name in self.ignored:
            self.store.remove_working(self.entity_id, f"{self._directory}/{name}")

    def _read(self, name: str, columns: list[str] | None = None) -> pa.Table | None:
        """A part, or None where the file is none: something else wrote it, or a disk lost it.

        Its answers are asked for again, which is the safe side.
        """
        try:
            data = self.store.get_working(self.entity_id, f"{self._directory}/{name}")
            table = pq.read_table(pa.BufferReader(data), columns=columns)
        except (pa.ArrowInvalid, OSError):
            return None
        wanted = self.schema if columns is None else pa.schema([self.schema.field(c) for c in columns])
        return table if table.schema.equals(wanted) else None

    def keys(self) -> set[tuple[int, int, bytes]]:
        """(replication, ``_index_``, request digest) of every answer that is there."""
        keys: set[tuple[int, int, bytes]] = set()
        for name in self.names():
            table = self._read(name, [REPLICATION, INDEX, REQUEST])
            if table is None:
                continue
            replications, indices, requests = (table.column(i).to_pylist() for i in range(3))
            keys.update(zip(replications, indices, requests, strict=True))
        return keys

    def answers(self, wanted: dict[int, bytes], order: list[int]) -> Iterator[pa.RecordBatch]:
        """Every answer that still stands, once, by replication in the given order and then by row.

        Only keys are held in memory, and a few parts at a time.

        Args:
            wanted: Request digest of each row, by ``_index_``.
            order: The replications that count.

        Yields:
            Batches in :attr:`schema`; each holds rows of one part.
        """
        rank = {replication: position for position, replication in enumerate(order)}
        names = list(reversed(self.names()))  # of a later generation first
        seen: set[tuple[int, int]] = set()
        chosen: list[tuple[int, int, int, int]] = []
        for part, name in enumerate(names):
            table = self._read(name, [REPLICATION, INDEX, REQUEST])
            if table is None:
                continue
            columns = (table.column(i).to_pylist() for i in range(3))
            for row, (replication, index, request) in enumerate(zip(*columns, strict=True)):
                key = (replication, index)
                if replication in rank and wanted.get(index) == request and key not in seen:
                    seen.add(key)
                    chosen.append((rank[replication], index, part, row))
        chosen.sort()
        open_part = functools.lru_cache(maxsize=_OPEN_PARTS)(self._read)
        for part, run in itertools.groupby(chosen, key=lambda key: key[2]):
            table = open_part(names[part])
            if table is None:
                raise EvaluationError(
                    f"{self.entity_id}: the part {names[part]} of its answers went away while it was read: "
                    "start it again"
                )
            rows = pa.array([row for _, _, _, row in run], pa.int64())
            yield from table.take(rows).to_batches()
