"""Was every (row, replication) answered exactly once? Counted over what was written, not over what was meant."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dyff_dagster.evaluation.part import REPLICATION
from dyff_dagster.evaluation.rows import INDEX
from dyff_dagster.schema.arrow import open_dataset
from dyff_dagster.schema.ids import replication_id
from dyff_dagster.store import Completeness

if TYPE_CHECKING:
    import pyarrow.dataset

_EXAMPLES = 10
_BATCH_ROWS = 65_536


def count(
    entity_id: str, written: Path, rows: Callable[[], Iterator[np.ndarray]], replications: int
) -> Completeness:
    """Compare the written answers with the rows that were to be answered, in the memory of a batch.

    Args:
        entity_id: The evaluation; its replications' ids derive from it.
        written: Directory of the answers' Parquet files, in which the rows of a replication are in order.
        rows: Yields the ``_index_`` of all rows that were asked, ascending.
        replications: How often they were asked.
    """
    answers = open_dataset(written)
    total = _Counts()
    for number in range(replications):
        has = _answered(answers, replication_id(entity_id, number))
        total.add(_compare(rows(), has, number))
    # What belongs to none of the replications was not looked at yet.
    unexpected = answers.count_rows() - total.seen + total.unexpected
    return Completeness(
        expected=total.expected,
        answered=total.answered,
        missing=total.missing,
        duplicated=total.duplicated,
        unexpected=unexpected,
        examples=tuple(total.examples[:_EXAMPLES]),
    )


class _Counts:
    def __init__(self) -> None:
        self.expected = self.answered = self.missing = self.duplicated = self.unexpected = self.seen = 0
        self.examples: list[str] = []

    def add(self, other: _Counts) -> None:
        for name in ("expected", "answered", "missing", "duplicated", "unexpected", "seen"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.examples += other.examples


def _answered(answers: pyarrow.dataset.Dataset, replication: str) -> Iterator[np.ndarray]:
    import pyarrow.dataset as ds  # takes pandas with it

    scanner = answers.scanner(
        columns=[INDEX],
        filter=ds.field(REPLICATION) == replication,
        batch_size=_BATCH_ROWS,
        batch_readahead=2,
        fragment_readahead=1,
    )
    return (batch.column(0).to_numpy() for batch in scanner.to_batches() if batch.num_rows)


def _compare(rows: Iterator[np.ndarray], answers: Iterator[np.ndarray], replication: int) -> _Counts:
    """Walk along both, window by window of the rows; what lies between two windows nobody asked for."""
    counts = _Counts()
    held = np.zeros(0, np.int64)
    for window in rows:
        while not len(held) or held[-1] <= window[-1]:
            more = next(answers, None)
            if more is None:
                break
            counts.seen += len(more)
            held = np.concatenate([held, more])
        here, held = _split(held, int(window[-1]))
        times = np.zeros(len(window), np.int64)
        at = np.searchsorted(window, here)
        asked = window[np.minimum(at, len(window) - 1)] == here
        np.add.at(times, at[asked], 1)
        counts.expected += len(window)
        counts.answered += int((times == 1).sum())
        counts.missing += int((times == 0).sum())
        counts.duplicated += int((times > 1).sum())
        counts.unexpected += int((~asked).sum())
        wrong = window[times != 1][: _EXAMPLES - len(counts.examples)]
        counts.examples += [f"row {index}, replication {replication}" for index in wrong.tolist()]
    counts.unexpected += len(held)
    for more in answers:
        counts.seen += len(more)
        counts.unexpected += len(more)
    return counts


def _split(held: np.ndarray, last: int) -> tuple[np.ndarray, np.ndarray]:
    return held[held <= last], held[held > last]
