"""Unfinished answers, in durable parts: what a killed run has paid for is not paid for again.

A part is a small Parquet file below ``ROOT/ID/.dyff/parts/SERVICE/``: complete or absent, never changed.
Its rows carry the key of the answer (the service is in the directory's name), so that an answer is taken
up only where the same request would be sent to the same service for the same row and replication.
"""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dyff_dagster.store import Store

REPLICATION = "_replication_"
INDEX = "_index_"
REQUEST = "request"
RESPONSES = "responses"


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
        self._pending.append(answer)
        return len(self._pending)

    def take(self) -> list[Answer]:
        """Close the open part: its answers, to be given to :meth:`write`."""
        pending, self._pending = self._pending, []
        return pending

    def write(self, answers: list[Answer]) -> None:
        """Write one part; it is durable when this returns."""
        if not answers:
            return
        table = pa.Table.from_arrays(
            [
                pa.array([answer.replication for answer in answers], pa.int32()),
                pa.array([answer.index for answer in answers], pa.int64()),
                pa.array([answer.request for answer in answers], pa.binary(32)),
                pa.array([answer.responses for answer in answers], self.response_type),
            ],
            schema=self.schema,
        )
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="zstd")
        first, last = answers[0], answers[-1]
        rows = f"{first.replication:04d}-{first.index:012d}-{last.index:012d}"
        name = f"g{self.generation:06d}-{rows}-{uuid.uuid4().hex[:12]}.parquet"
        try:
            self.store.put_working(self.entity_id, f"{self._directory}/{name}", sink.getvalue())
        except OSError:
            self._pending[:0] = answers  # paid for: whoever writes next tries again
            raise

    def names(self) -> list[str]:
        """Names of the parts that are there, without the ignored ones."""
        names = self.store.working_names(self.entity_id, self._directory)
        return [name for name in names if name.endswith(".parquet") and name not in self.ignored]

    def retire(self) -> None:
        """Remove the ignored parts: what was asked again, and committed, has taken their place."""
        for name in self.ignored:
            self.store.remove_working(self.entity_id, f"{self._directory}/{name}")

    def tables(self, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """The parts that are there, one at a time.

        A file that is no part (something else wrote it, or a disk lost it) is passed over: its answers
        are asked for again, which is the safe side.
        """
        for name in reversed(self.names()):
            try:
                data = self.store.get_working(self.entity_id, f"{self._directory}/{name}")
                table = pq.read_table(pa.BufferReader(data), columns=columns)
            except (pa.ArrowInvalid, OSError):
                continue
            wanted = self.schema if columns is None else pa.schema([self.schema.field(c) for c in columns])
            if table.schema.equals(wanted):
                yield table

    def keys(self) -> set[tuple[int, int, bytes]]:
        """(replication, ``_index_``, request digest) of every answer that is there."""
        keys: set[tuple[int, int, bytes]] = set()
        for table in self.tables([REPLICATION, INDEX, REQUEST]):
            replications, indices, requests = (table.column(i).to_pylist() for i in range(3))
            keys.update(zip(replications, indices, requests, strict=True))
        return keys

    def answers(self, wanted: dict[int, bytes], replications: int) -> pa.Table:
        """Every answer that still stands, once, in (replication, ``_index_``) order.

        Args:
            wanted: Request digest of each row, by ``_index_``.
            replications: How many replications count.

        Returns:
            A table in :attr:`schema`.
        """
        chosen: list[pa.Table] = []
        seen: set[tuple[int, int]] = set()
        for table in self.tables():
            keep = []
            columns = (table.column(name).to_pylist() for name in (REPLICATION, INDEX, REQUEST))
            for row, (replication, index, request) in enumerate(zip(*columns, strict=True)):
                key = (replication, index)
                if replication < replications and wanted.get(index) == request and key not in seen:
                    seen.add(key)
                    keep.append(row)
            chosen.append(table.take(pa.array(keep, pa.int64())))
        if not chosen:
            return self.schema.empty_table()
        return pa.concat_tables(chosen).sort_by([(REPLICATION, "ascending"), (INDEX, "ascending")])
