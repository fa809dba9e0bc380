"""Answers of other evaluations that asked the same service the same thing in the same replication."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from dyff_dagster.evaluation.ledger import column_of
from dyff_dagster.evaluation.part import ORIGIN, REPLICATION, REQUEST
from dyff_dagster.evaluation.parts import Parts
from dyff_dagster.evaluation.rows import INDEX

_NONE = np.zeros(0, np.int64)


class Donors:
    """What other evaluations of a store have answered by the same service.

    Each of their answers is given to one row at most, over all runs: where a data set asks the same thing ten
    times, it gets ten answers, as it would have from the service. What is itself a copy is not given on. A row
    of the same ``_index_`` goes first.

    It holds some 60 bytes for each answer that it knows.

    Args:
        parts: Those of the evaluation that takes over; answers are copied there.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._others = [
            other
            for entity_id in parts.store.entity_ids()
            if entity_id != parts.entity_id and not (other := _parts_of(parts, entity_id)).empty
        ]
        self._known: dict[int, _Known] = {}

    def give(self, replication: int, indices: np.ndarray, requests: np.ndarray) -> np.ndarray:
        """Take over what there is for these rows.

        Args:
            replication: From 0.
            indices: Their ``_index_``: int64 (rows,).
            requests: The digests of their requests: uint64 (rows, 4).

        Returns:
            Which of them have an answer now: bool (rows,).
        """
        given = np.zeros(len(indices), bool)
        if not self._others or not len(indices):
            return given
        if replication not in self._known:
            self._known[replication] = _Known(self._others, replication, self._parts.copied(replication))
        known = self._known[replication]
        places = [known.take(int(i), request) for i, request in zip(indices, requests, strict=True)]
        rows = [at for at, place in enumerate(places) if place >= 0]
        if rows:
            given[rows] = True
            self._copy(replication, known, [places[at] for at in rows], indices[rows], requests[rows])
        return given

    def _copy(
        self, replication: int, known: _Known, places: list[int], indices: np.ndarray, requests: np.ndarray
    ) -> None:
        tables = [
            self._others[known.evaluation[place]].take(
                replication, int(known.part[place]), [int(known.row[place])]
            )
            for place in places
        ]
        table = pa.concat_tables(tables)
        columns = {
            REPLICATION: pa.array([replication] * len(places), pa.int32()),
            INDEX: pa.array(indices, pa.int64()),
            REQUEST: column_of(requests),
            ORIGIN: pa.array([known.origin(place) for place in places], pa.string()),
        }
        columns |= {name: table.column(name) for name in table.schema.names if name not in columns}
        self._parts.write_table(pa.table(columns, schema=self._parts.schema), replication)


def _parts_of(parts: Parts, entity_id: str) -> Parts:
    return Parts(parts.store, entity_id, parts.service_digest, parts.response_type, parts.accept)


class _Known:
    """The keys of the answers in one replication, sorted by the first word of the request's digest."""

    def __init__(self, others: list[Parts], replication: int, copied: set[tuple[str, bytes]]) -> None:
        found = [
            (number, part, keys)
            for number, other in enumerate(others)
            for part, keys in other.originals(replication)
        ]
        counts = [len(keys.rows) for _, _, keys in found]
        requests = np.concatenate([np.zeros((0, 4), np.uint64), *(keys.requests for _, _, keys in found)])
        order = np.argsort(requests[:, 0], kind="stable")
        self.requests = requests[order]
        self._first = np.ascontiguousarray(self.requests[:, 0])
        self.index = np.concatenate([_NONE, *(keys.indices for _, _, keys in found)])[order]
        self.evaluation = np.repeat([f[0] for f in found], counts).astype(np.int32)[order]
        self.part = np.repeat([f[1] for f in found], counts).astype(np.int32)[order]
        self.row = np.concatenate([_NONE, *(keys.rows for _, _, keys in found)])[order]
        self._names = [other.entity_id for other in others]
        self._given = np.zeros(len(order), bool)
        if copied:  # an earlier run took them over
            for place, request in enumerate(self.requests):
                self._given[place] = (self.origin(place), request.tobytes()) in copied

    def origin(self, place: int) -> str:
        """Whose answer it is: the evaluation and the row."""
        return f"{self._names[self.evaluation[place]]}/{self.index[place]}"

    def take(self, index: int, request: np.ndarray) -> int:
        """The place of an answer to this request that was not given yet, or -1."""
        start = int(np.searchsorted(self._first, request[0], side="left"))
        high = int(np.searchsorted(self._first, request[0], side="right"))
        chosen = -1
        for place in range(start, high):
            if self._given[place] or not (self.requests[place] == request).all():
                continue
            if self.index[place] == index:
                chosen = place
                break
            chosen = place if chosen < 0 else chosen
        if chosen >= 0:
            self._given[chosen] = True
        return chosen
