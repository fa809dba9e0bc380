"""Which rows there are, told from the order in which they come, in the memory of a few batches."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow.dataset

INDEX, REPLICATION, RESPONSE = "_index_", "_replication_", "_response_index_"

Run = tuple[str, int, bytes]
"""A replication, how many distinct indexes it has, and the SHA-256 of these."""


def keys_in_turn(
    dataset: pyarrow.dataset.Dataset, columns: list[str], *, once: bool
) -> tuple[Run, ...] | None:
    """The distinct keys of the rows, by replication, or None where they do not ascend.

    Two data sets with the same runs have the same keys.

    Args:
        dataset: The rows.
        columns: ``_index_``, with ``_replication_`` and ``_response_index_`` where these tell rows apart. Rows
            ascend by replication, index and response, as far as they are given.
        once: Whether a row that is there twice counts as out of order.
    """
    runs: list[Run] = []
    open_run: _OpenRun | None = None
    for replication, index, response in _pieces(dataset, columns):
        if index is None:
            return None
        if open_run is None or open_run.replication != replication:
            if open_run is not None:
                if replication < open_run.replication:
                    return None
                runs.append(open_run.closed())
            open_run = _OpenRun(replication)
        if not open_run.take(index, response, once):
            return None
    return (*runs, open_run.closed()) if open_run is not None else ()


def number_of(runs: tuple[Run, ...]) -> int:
    """How many keys there are."""
    return sum(number for _, number, _ in runs)


@dataclass
class _OpenRun:
    """The rows of one replication so far; ``last`` is the index and the response of the latest one."""

    replication: str
    number: int = 0
    last: tuple[int, int] | None = None
    digest: Any = field(default_factory=hashlib.sha256)

    def take(self, index: NDArray[np.int64], response: NDArray[np.int64] | None, once: bool) -> bool:
        """Go on with these rows; False where they are out of order."""
        before = np.roll(index, 1)
        before[0] = index[0] if self.last is None else self.last[0]
        new, again = index > before, index == before
        if self.last is None:
            new[0], again[0] = True, False
        if not (new | again).all():
            return False
        if once and again.any():
            if response is None:
                return False
            earlier = np.roll(response, 1)
            earlier[0] = 0 if self.last is None else self.last[1]
            if not (response[again] > earlier[again]).all():
                return False
        self.digest.update(index[new].tobytes())
        self.number += int(np.count_nonzero(new))
        self.last = int(index[-1]), 0 if response is None else int(response[-1])
        return True

    def closed(self) -> Run:
        return self.replication, self.number, self.digest.digest()


def _pieces(
    dataset: pyarrow.dataset.Dataset, columns: list[str]
) -> Iterator[tuple[str, NDArray[np.int64] | None, NDArray[np.int64] | None]]:
    """The rows, cut where the replication changes; ends with None where a key is null or of an odd type."""
    from dyff_dagster.schema.streaming import read_batches

    unknown = "", None, None
    for batch in read_batches(dataset, columns):
        if not batch.num_rows:
            continue
        index = _numbers(batch.column(INDEX))
        response = _numbers(batch.column(RESPONSE)) if RESPONSE in columns else None
        if index is None or (response is None and RESPONSE in columns):
            yield unknown
            return
        if REPLICATION not in columns:
            yield "", index, response
            continue
        replications = batch.column(REPLICATION)
        if not pa.types.is_dictionary(replications.type):
            replications = replications.dictionary_encode()
        kind = replications.type.value_type
        nulls = replications.null_count + replications.dictionary.null_count
        if nulls or not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            yield unknown
            return
        codes = replications.indices.to_numpy(zero_copy_only=False)
        starts = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist()]
        for start, end in zip(starts, [*starts[1:], len(codes)], strict=True):
            name = replications.dictionary[int(codes[start])].as_py()
            yield name, index[start:end], None if response is None else response[start:end]


def _numbers(column: pa.Array) -> NDArray[np.int64] | None:
    if column.null_count or not pa.types.is_integer(column.type):
        return None
    try:
        return np.asarray(column.cast(pa.int64()).to_numpy(zero_copy_only=False))
    except pa.ArrowInvalid:
        return None
