"""Which (replication, row) is still to be asked, and with which request."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from dyff_dagster.evaluation.donors import Donors
from dyff_dagster.evaluation.ledger import Ledger
from dyff_dagster.evaluation.parts import Parts
from dyff_dagster.evaluation.requests import Request, RequestBuilder
from dyff_dagster.evaluation.rows import INDEX, OrderedRows

_BUILD_ROWS = 256
"""Requests that are made at once: what they hold is in memory, and the wire waits while they are made."""


class Plan:
    """Goes through the rows of a data set, replication by replication.

    Raising ``replications``, adding rows, asking failed rows again and going on where a run was killed are
    the same here: whatever has no answer under the key that it has now is asked.

    Args:
        rows: The rows.
        builder: Makes their requests.
        ledger: Knows the digests of requests that were made before; gets those that are made here.
        parts: The answers that are there.
        replications: How often each row is asked.
        donors: Other evaluations whose answers are taken over, or None.

    Attributes:
        taken_up: Answers that were there already, counted as the rows go by.
        reused: Answers that came from other evaluations, counted likewise.
    """

    def __init__(
        self,
        rows: OrderedRows,
        builder: RequestBuilder,
        ledger: Ledger,
        parts: Parts,
        replications: int,
        donors: Donors | None = None,
    ) -> None:
        self._rows = rows
        self._builder = builder
        self._ledger = ledger
        self._parts = parts
        self._replications = replications
        self._donors = donors
        self.taken_up = 0
        self.reused = 0

    def pending(self) -> Iterator[tuple[int, Request]]:
        """(replication, request) of what has no answer yet.

        Raises:
            EvaluationError: A row cannot be made a request of.
        """
        for replication in range(self._replications):
            if self._ledger.rows == self._rows.count and self._all_there(replication):
                self.taken_up += self._rows.count
                continue
            cursor = self._ledger.cursor()
            position = 0
            for batch in self._rows.batches():
                yield from self._of_batch(replication, batch, cursor.take(batch.num_rows), position)
                position += batch.num_rows
            self._ledger.flush()

    def _all_there(self, replication: int) -> bool:
        """Whether nothing is missing, found out without reading the rows themselves."""
        return all(
            self._parts.find(replication, indices, digests).there.all()
            for indices, digests in self._ledger.chunks()
        )

    def _there(self, replication: int, indices: np.ndarray, digests: np.ndarray) -> np.ndarray:
        """Which of these rows have an answer, or get one of another evaluation's."""
        there = self._parts.find(replication, indices, digests).there
        self.taken_up += int(there.sum())
        if self._donors is not None and not there.all():
            missing = np.flatnonzero(~there)
            given = self._donors.give(replication, indices[missing], digests[missing])
            self.reused += int(given.sum())
            there[missing[given]] = True
        return there

    def _of_batch(
        self, replication: int, batch: pa.RecordBatch, digests: np.ndarray, position: int
    ) -> Iterator[tuple[int, Request]]:
        indices = batch.column(INDEX).to_numpy()
        known = len(digests)
        if known:
            there = self._there(replication, indices[:known], digests)
            missing = np.flatnonzero(~there)
            for start in range(0, len(missing), _BUILD_ROWS):
                chosen = missing[start : start + _BUILD_ROWS]
                for at, row in zip(chosen, batch.take(pa.array(chosen)).to_pylist(), strict=True):
                    yield replication, self._builder.request(row, position + int(at))
        for start in range(known, batch.num_rows, _BUILD_ROWS):
            rows = batch.slice(start, _BUILD_ROWS).to_pylist()
            requests = [
                self._builder.request(row, position + start + offset) for offset, row in enumerate(rows)
            ]
            made = np.frombuffer(b"".join(request.digest for request in requests), np.uint64).reshape(-1, 4)
            some = indices[start : start + _BUILD_ROWS]
            self._ledger.fields |= self._builder.sent_fields
            self._ledger.append(some, made)
            there = self._there(replication, some, made)
            for request, is_there in zip(requests, there.tolist(), strict=True):
                if not is_there:
                    yield replication, request
