"""Which request each row makes, by digest: written once, so that nothing is built twice to be compared.

The ledger of a data set under one input pipeline has a record for each row, in the rows' order. Whoever
knows it can tell which answers still stand without making a single request.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dyff_dagster.store import Store

_CHUNK_ROWS = 65_536
_DIRECTORY = "requests"
_SCHEMA = pa.schema([pa.field("_index_", pa.int64(), nullable=False), pa.field("request", pa.binary(32))])


def digests_of(column: pa.Array) -> np.ndarray:
    """A column of 32-byte digests as an array of shape (rows, 4) of uint64, which is quick to compare."""
    _, buffer = column.buffers()
    if buffer is None:
        return np.zeros((0, 4), np.uint64)
    words = np.frombuffer(buffer, np.uint64, count=4 * (column.offset + len(column)))
    return words.reshape(-1, 4)[column.offset :]


def column_of(digests: np.ndarray) -> pa.Array:
    """The inverse of :func:`digests_of`."""
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(32), len(digests), [None, pa.py_buffer(np.ascontiguousarray(digests))]
    )


@dataclass
class Ledger:
    """Digests of requests, in the order of the rows.

    Args:
        store: Where it lies: ``ROOT/ID/.dyff/requests/CONTEXT/``.
        entity_id: The evaluation.
        context: Digest of all that decides which requests the rows make.

    Attributes:
        rows: How many rows it knows.
        fields: Names of the top-level fields of their requests.
    """

    store: Store
    entity_id: str
    context: str
    rows: int = field(default=0, init=False)
    fields: set[str] = field(default_factory=set, init=False)
    _chunks: list[tuple[str, int]] = field(default_factory=list, init=False)
    _waiting: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list, init=False)
    _waiting_rows: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        for name in self.store.working_names(self.entity_id, self._directory):
            chunk = self._read(name)
            # What was cut short or lost is not there, nor is anything behind it.
            if chunk is None or name != self._name(len(self._chunks)):
                break
            self._chunks.append((name, chunk.num_rows))
            self.rows += chunk.num_rows
            self.fields.update(json.loads((chunk.schema.metadata or {}).get(b"fields", b"[]")))

    @property
    def _directory(self) -> str:
        return f"{_DIRECTORY}/{self.context[:32]}"

    @staticmethod
    def _name(number: int) -> str:
        return f"{number:06d}.parquet"

    def append(self, indices: np.ndarray, digests: np.ndarray) -> None:
        """Add what comes next: int64 (rows,) and uint64 (rows, 4)."""
        self._waiting.append((indices, digests))
        self._waiting_rows += len(indices)
        self.rows += len(indices)
        if self._waiting_rows >= _CHUNK_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write what was added."""
        if not self._waiting_rows:
            return
        indices = np.concatenate([indices for indices, _ in self._waiting])
        digests = np.concatenate([digests for _, digests in self._waiting])
        table = pa.Table.from_arrays([pa.array(indices), column_of(digests)], schema=_SCHEMA)
        table = table.replace_schema_metadata({"fields": json.dumps(sorted(self.fields))})
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="none", use_dictionary=False)  # digests do not compress
        name = self._name(len(self._chunks))
        self.store.put_working(self.entity_id, f"{self._directory}/{name}", sink.getvalue())
        self._chunks.append((name, len(indices)))
        self._waiting, self._waiting_rows = [], 0

    def agrees_with(self, indices: Iterator[np.ndarray]) -> bool:
        """Whether it knows the first of these rows, in their order, and no others."""
        known = (chunk for chunk, _ in self.chunks())
        held = next(known, np.zeros(0, np.int64))
        for window in indices:
            while len(window):
                if not len(held):
                    held = next(known, np.zeros(0, np.int64))
                    if not len(held):
                        return True
                size = min(len(window), len(held))
                if not np.array_equal(window[:size], held[:size]):
                    return False
                window, held = window[size:], held[size:]
        return not len(held) and next(known, None) is None

    def begin_again(self) -> None:
        """Forget everything."""
        self.forget()
        self.rows, self._chunks, self._waiting, self._waiting_rows = 0, [], [], 0

    def cursor(self) -> Cursor:
        """Read it from the first row, as far as it goes now."""
        return Cursor(self.chunks())

    def chunks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(indices, digests) of everything that was written, from the first row."""
        for name, _ in list(self._chunks):
            chunk = self._read(name)
            if chunk is None:
                raise FileNotFoundError(name)
            yield chunk.column(0).chunk(0).to_numpy(), digests_of(chunk.column(1).chunk(0))

    def forget_others(self) -> None:
        """Remove the ledgers of other contexts: what rows asked then is in the answers' own keys."""
        for other in self.store.working_names(self.entity_id, _DIRECTORY):
            if other != self.context[:32]:
                self.store.clear_working(self.entity_id, f"{_DIRECTORY}/{other}")

    def forget(self) -> None:
        """Remove this one."""
        self.store.clear_working(self.entity_id, self._directory)

    def _read(self, name: str) -> pa.Table | None:
        try:
            data = self.store.get_working(self.entity_id, f"{self._directory}/{name}")
            table = pq.read_table(pa.BufferReader(data)).combine_chunks()
        except (pa.ArrowInvalid, OSError):
            return None
        return table if table.schema.equals(_SCHEMA) and table.num_rows else None


class Cursor:
    """Reads a ledger row by row, as many at a time as are asked for."""

    def __init__(self, chunks: Iterator[tuple[np.ndarray, np.ndarray]]) -> None:
        self._chunks = chunks
        self._held = np.zeros((0, 4), np.uint64)

    def take(self, rows: int) -> np.ndarray:
        """Digests of the next rows, uint64 (n, 4); n is smaller where the ledger ends."""
        taken = []
        while rows:
            if not len(self._held):
                chunk = next(self._chunks, None)
                if chunk is None:
                    break
                self._held = chunk[1]
            taken.append(self._held[:rows])
            self._held = self._held[rows:]
            rows -= len(taken[-1])
        return np.concatenate(taken) if taken else np.zeros((0, 4), np.uint64)
