"""Was every (row, replication) answered exactly once? Counted over what was written, not over what was meant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from pathlib import Path

import pyarrow.dataset

from dyff_dagster.evaluation.parts import INDEX, REPLICATION
from dyff_dagster.schema.arrow import open_dataset
from dyff_dagster.schema.ids import replication_id
from dyff_dagster.store import Completeness

_EXAMPLES = 10


def count(entity_id: str, written: Path, dataset: pyarrow.dataset.Dataset, replications: int) -> Completeness:
    """Compare the written answers with the rows that were to be answered.

    Args:
        entity_id: The evaluation; its replications' ids derive from it.
        written: Directory of the answers' Parquet files.
        dataset: What was asked.
        replications: How often.
    """
    indices: set[int] = set()
    for batch in dataset.to_batches(columns=[INDEX]):
        indices.update(batch.column(0).to_pylist())
    names = {replication_id(entity_id, number): number for number in range(replications)}
    counts: Counter[tuple[int, int]] = Counter()
    unexpected = 0
    for batch in open_dataset(written).to_batches(columns=[REPLICATION, INDEX]):
        for name, index in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            if name in names and index in indices:
                counts[names[name], index] += 1
            else:
                unexpected += 1
    missing = [
        (number, index)
        for number in range(replications)
        for index in sorted(indices)
        if not counts[number, index]
    ]
    doubled = [key for key, times in sorted(counts.items()) if times > 1]
    return Completeness(
        expected=len(indices) * replications,
        answered=sum(times == 1 for times in counts.values()),
        missing=len(missing),
        duplicated=len(doubled),
        unexpected=unexpected,
        examples=_examples(missing + doubled),
    )


def _examples(keys: Collection[tuple[int, int]]) -> tuple[str, ...]:
    return tuple(f"row {index}, replication {number}" for number, index in list(keys)[:_EXAMPLES])
