"""Unfinished answers, in durable parts: what a killed run has paid for is not paid for again.

A part is a small Parquet file below ``ROOT/ID/.dyff/parts/SERVICE/``: complete or absent, never changed. It
holds answers of one replication, ordered by ``_index_``, each with its key (the service is in the
directory's name), so that an answer is taken up only where the same request would be sent to the same
service for the same row and replication. Its name says what is in it::

    g000001.r0000.0.255.256.3f2a….parquet
    generation, replication, first and last _index_, rows, and what makes the name unique

so that of ten thousand parts only those are opened that can hold what is looked for.
"""

from __future__ import annotations

import functools
import io
import itertools
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dyff_dagster.evaluation.cache import Cache
from dyff_dagster.evaluation.errors import EvaluationError
from dyff_dagster.evaluation.ledger import digests_of
from dyff_dagster.evaluation.part import (
    CLASS,
    ORIGIN,
    REQUEST,
    Answer,
    Found,
    Keys,
    Part,
    part_schema,
)
from dyff_dagster.evaluation.rows import INDEX
from dyff_dagster.store import Store, StoreUnreachable

_BEGUN = re.compile(r"g\d{6}\.begun")
"""Says that a run asked for all again: answers of an earlier generation do not count any more."""

_KEYS = [INDEX, REQUEST, CLASS]
_KEY_BYTES = 4 * 1024 * 1024
_TABLE_BYTES = 8 * 1024 * 1024
"""What of the parts is held in memory: keys while rows are looked for, tables while answers are put in order."""
_SLICE_ROWS = 4096


@dataclass
class Parts:
    """The parts of one evaluation under one service.

    Args:
        store: Where they lie.
        entity_id: The evaluation.
        service_digest: Digest of the service; answers of another one are not looked at.
        response_type: Arrow type of the responses.
        accept: Classes of errors that count as answers; what was accepted once and is no longer is not there.
    """

    store: Store
    entity_id: str
    service_digest: str
    response_type: pa.DataType
    accept: frozenset[str] = frozenset()
    generation: int = field(default=1, init=False)
    """Counts the runs that asked for all again; answers of a later one go before those of an earlier."""
    _parts: dict[int, list[Part]] = field(default_factory=dict, init=False)
    _ignored: frozenset[str] = field(default=frozenset(), init=False)

    def __post_init__(self) -> None:
        self.look()

    def look(self) -> None:
        """Take notice of what is there now."""
        names = self.store.working_names(self.entity_id, self._directory)
        parts = [part for name in names if (part := Part.parse(name))]
        # Whoever asked for all again meant it, also where that run was killed and another goes on.
        self._begun = [name for name in names if _BEGUN.fullmatch(name)]
        begun = max((int(name[1:7]) for name in self._begun), default=0)
        self._ignored = frozenset(part.name for part in parts if part.generation < begun)
        self.generation = max([begun, self.generation, *(part.generation for part in parts)])
        found = [part for part in parts if part.name not in self._ignored]
        # Of a later generation first: whoever finds a row's answer need not look further.
        found.sort(key=lambda part: (-part.generation, part.first, part.name))
        self._parts = {}
        for part in found:
            self._parts.setdefault(part.replication, []).append(part)
        self._ranges = {
            replication: np.array([(part.first, part.last) for part in parts], np.int64).reshape(-1, 2)
            for replication, parts in self._parts.items()
        }
        self._assembling = False
        self._keys: Cache[Keys] = Cache(_KEY_BYTES)
        self._tables: Cache[pa.Table] = Cache(_TABLE_BYTES)

    def begin_again(self) -> None:
        """Look at no part that is there now, nor does any later run, also if this one is killed.

        Where a run did so before and was broken off, this goes on with it: what that one paid for stands.
        """
        if not self._begun:
            self.generation += 1
            self.store.put_working(self.entity_id, f"{self._directory}/g{self.generation:06d}.begun", b"")
            self.look()

    def retire(self) -> None:
        """Remove the ignored parts: what was asked again, and committed, has taken their place."""
        for name in (*self._begun, *self._ignored):
            self.store.remove_working(self.entity_id, f"{self._directory}/{name}")

    @property
    def _directory(self) -> str:
        return f"parts/{self.service_digest[:32]}"

    @property
    def empty(self) -> bool:
        """Whether there is nothing to take up."""
        return not self._parts

    @functools.cached_property
    def schema(self) -> pa.Schema:
        """Arrow schema of a part."""
        return part_schema(self.response_type)

    # Writing

    def write(self, answers: Sequence[Answer]) -> None:
        """Write answers, those of a replication as one part; they are durable when this returns.

        Raises:
            EvaluationError: Arrow cannot hold an answer; all others are written.
            OSError: The disk refused; some may be written, none is lost to whoever holds them.
        """
        failure: EvaluationError | None = None
        for replication in sorted({answer.replication for answer in answers}):
            of_it = [answer for answer in answers if answer.replication == replication]
            of_it.sort(key=lambda answer: answer.index)
            try:
                self._write(replication, of_it)
            except EvaluationError as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def _write(self, replication: int, answers: list[Answer]) -> None:
        try:
            table = pa.Table.from_arrays(
                [
                    pa.array([replication] * len(answers), pa.int32()),
                    pa.array([answer.index for answer in answers], pa.int64()),
                    pa.array([answer.request for answer in answers], pa.binary(32)),
                    pa.array([answer.responses for answer in answers], self.response_type),
                    pa.array([answer.accepted for answer in answers], pa.string()),
                    pa.nulls(len(answers), pa.string()),
                ],
                schema=self.schema,
            )
        except (ValueError, TypeError, OverflowError, pa.ArrowException) as error:
            self._write_apart(replication, answers, error)
            return
        self.write_table(table, replication)

    def write_table(self, table: pa.Table, replication: int) -> None:
        """Write rows of :attr:`schema`, of one replication and in order, as one part."""
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="zstd")
        indices = table.column(INDEX)
        extent = f"{indices[0].as_py()}.{indices[-1].as_py()}.{table.num_rows}"
        name = f"g{self.generation:06d}.r{replication:04d}.{extent}.{uuid.uuid4().hex[:16]}.parquet"
        self.store.put_working(self.entity_id, f"{self._directory}/{name}", sink.getvalue())

    def _write_apart(self, replication: int, answers: list[Answer], error: Exception) -> None:
        """Write what can be written of answers that do not fit into one part together."""
        if len(answers) == 1:
            raise EvaluationError(
                f"the answer to row {answers[0].index} in replication {replication} cannot be stored "
                f"({type(error).__name__}): its outputSchema is too narrow for it"
            ) from None
        middle = len(answers) // 2
        failure: EvaluationError | None = None
        for half in (answers[:middle], answers[middle:]):
            try:
                self._write(replication, half)
            except EvaluationError as found:
                failure = failure or found
        if failure is not None:
            raise failure

    # Reading

    def find(self, replication: int, indices: np.ndarray, requests: np.ndarray) -> Found:
        """Look for the answers of rows that ask what they ask now.

        Args:
            replication: From 0.
            indices: Their ``_index_``, ascending: int64 (rows,).
            requests: The digests of their requests: uint64 (rows, 4).
        """
        parts = np.full(len(indices), -1, np.int32)
        rows = np.zeros(len(indices), np.int32)
        if len(indices) and replication in self._parts:
            ranges = self._ranges[replication]
            near = np.flatnonzero((ranges[:, 0] <= indices[-1]) & (ranges[:, 1] >= indices[0]))
            of = self._parts[replication]
            for _, numbers in itertools.groupby(near.tolist(), key=lambda number: of[number].generation):
                some = list(numbers)
                # A plain answer goes before one that was accepted in its place, whatever their parts are called.
                for plain in (True, False) if self.accept else (True,):
                    for number in some:
                        self._find_in(replication, number, indices, requests, parts, rows, plain)
        return Found(parts, rows)

    def _find_in(
        self,
        replication: int,
        number: int,
        indices: np.ndarray,
        requests: np.ndarray,
        parts: np.ndarray,
        rows: np.ndarray,
        plain: bool,
    ) -> None:
        keys = self._keys.get((replication, number), lambda: self._read_keys(replication, number))
        low = np.searchsorted(keys.indices, indices[0], side="left")
        high = np.searchsorted(keys.indices, indices[-1], side="right")
        has, asked, places = keys.indices[low:high], keys.requests[low:high], keys.rows[low:high]
        at = np.searchsorted(indices, has)
        same = (indices[np.minimum(at, len(indices) - 1)] == has) & (at < len(indices))
        same &= keys.plain[low:high] == plain
        same[same] = (requests[at[same]] == asked[same]).all(axis=1) & (parts[at[same]] < 0)
        parts[at[same]] = number
        rows[at[same]] = places[same]

    def _read_keys(self, replication: int, number: int) -> tuple[Keys, int]:
        if self._assembling:  # the answers themselves are wanted next: a part is read once for both
            try:
                table = self._table(replication, number).select(_KEYS)
            except EvaluationError:
                table = None  # it has no answers; the count of what was written will say so
        else:
            table = self._read(self._parts[replication][number].name, _KEYS)
        if table is None or not table.num_rows:
            none = np.zeros(0, np.int64)
            return Keys(none, np.zeros((0, 4), np.uint64), none.astype(np.int32), none.astype(bool)), 0
        indices, requests = table.column(0).chunk(0).to_numpy(), digests_of(table.column(1).chunk(0))
        rows = np.arange(table.num_rows, dtype=np.int32)
        classes = table.column(2).chunk(0)
        plain = np.ones(table.num_rows, bool)
        if classes.null_count < len(classes):
            counts = pc.or_kleene(
                pc.is_null(classes), pc.is_in(classes, value_set=pa.array(sorted(self.accept), pa.string()))
            ).to_numpy(zero_copy_only=False)
            plain = classes.is_null().to_numpy(zero_copy_only=False)
            indices, requests, rows, plain = indices[counts], requests[counts], rows[counts], plain[counts]
        return Keys(indices, requests, rows, plain), 45 * len(rows)

    def originals(self, replication: int) -> Iterator[tuple[int, Keys]]:
        """For each part of a replication its number, and which answers in it are no copies of another's."""
        for number, keys, origins in self._with_origins(replication):
            own = origins.is_null().to_numpy(zero_copy_only=False)
            yield number, Keys(*(column[own] for column in keys))

    def copied(self, replication: int) -> set[tuple[str, bytes]]:
        """(origin, request digest) of each answer that is a copy."""
        return {
            (origin.as_py(), request.tobytes())
            for _, keys, origins in self._with_origins(replication)
            for origin, request in zip(origins, keys.requests, strict=True)
            if origin.is_valid
        }

    def _with_origins(self, replication: int) -> Iterator[tuple[int, Keys, pa.Array]]:
        for number, part in enumerate(self._parts.get(replication, ())):
            keys, _ = self._read_keys(replication, number)
            table = self._read(part.name, [ORIGIN])
            if table is not None and table.num_rows:
                yield number, keys, table.column(0).chunk(0).take(pa.array(keys.rows))

    def take(self, replication: int, number: int, rows: Sequence[int]) -> pa.Table:
        """Some rows of a part, in :attr:`schema`."""
        return self._table(replication, number).take(pa.array(rows, pa.int64()))

    def answers(
        self, rows: Callable[[], Iterator[tuple[np.ndarray, np.ndarray]]], order: Sequence[int]
    ) -> Iterator[pa.RecordBatch]:
        """Every answer that stands, once, by replication in the given order and then by row.

        Args:
            rows: Yields the indices and request digests of all rows, ascending, some thousands at a time.
            order: The replications that count.

        Yields:
            Batches in :attr:`schema`.
        """
        self._assembling = True
        for replication in order:
            for indices, requests in rows():
                for start in range(0, len(indices), _SLICE_ROWS):
                    end = start + _SLICE_ROWS
                    found = self.find(replication, indices[start:end], requests[start:end])
                    yield from self._take(replication, found)

    def _take(self, replication: int, found: Found) -> Iterator[pa.RecordBatch]:
        there = np.flatnonzero(found.there)
        if not len(there):
            return
        parts, rows = found.parts[there], found.rows[there]
        by_part = np.argsort(parts, kind="stable")
        edges = np.flatnonzero(np.diff(parts[by_part])) + 1
        taken = [
            self._table(replication, int(parts[group[0]])).take(pa.array(rows[group]))
            for group in np.split(by_part, edges)
        ]
        table = pa.concat_tables(taken)
        if len(taken) > 1:
            table = table.take(pa.array(np.argsort(by_part, kind="stable")))
        yield from table.combine_chunks().to_batches()

    def _table(self, replication: int, number: int) -> pa.Table:
        def read() -> tuple[pa.Table, int]:
            name = self._parts[replication][number].name
            table = self._read(name)
            if table is None:
                raise EvaluationError(
                    f"{self.entity_id}: the part {name} of its answers went away while it was read: "
                    "start it again"
                )
            return table, table.nbytes

        return self._tables.get((replication, number), read)

    def _read(self, name: str, columns: list[str] | None = None) -> pa.Table | None:
        """A part, or None where the file is none: something else wrote it, or a disk lost it.

        Its answers are asked for again, which is the safe side.
        """
        try:
            data = self.store.get_working(self.entity_id, f"{self._directory}/{name}")
        except StoreUnreachable:
            raise  # what is there now is not known: what it answers must not be paid for again
        except OSError:
            return None
        try:
            table = pq.ParquetFile(pa.BufferReader(data)).read(columns=columns, use_threads=False)
        except (pa.ArrowInvalid, OSError):
            return None
        wanted = self.schema if columns is None else pa.schema([self.schema.field(c) for c in columns])
        return table.combine_chunks() if table.schema.equals(wanted) else None
