"""How much of an evaluation is still to be asked, found out without asking or writing anything."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dyff_dagster.evaluation.options import EvaluationOptions
from dyff_dagster.evaluation.parts import Parts
from dyff_dagster.evaluation.requests import RequestBuilder
from dyff_dagster.evaluation.responses import ResponseReader
from dyff_dagster.evaluation.rows import INDEX, OrderedRows
from dyff_dagster.schema.arrow import open_dataset
from dyff_dagster.schema.platform import Evaluation
from dyff_dagster.store import Store

_BUILD_ROWS = 1024


@dataclass(frozen=True)
class Missing:
    """What an evaluation would ask.

    Attributes:
        expected: Answers in all: rows times replications.
        requests: Those that are not there, each of them a request at least.
    """

    expected: int
    requests: int


def count_missing(
    entity: Evaluation,
    store: Store,
    *,
    dataset: Path,
    service_digest: str,
    withheld: frozenset[str] = frozenset(),
    options: EvaluationOptions | None = None,
) -> Missing:
    """Count the answers that are not there under the keys that they have now.

    Every request is made to know its digest, and none is sent. Answers that ``reuse`` would take over from other
    evaluations count as missing.

    Args:
        entity: The evaluation.
        store: Where its answers lie.
        dataset: Directory of the data set's committed version.
        service_digest: Digest of the service.
        withheld: Fields that the service may not see.
        options: Which classes of errors count as answers.

    Raises:
        EvaluationError: A row cannot be made a request of.
    """
    options = options or EvaluationOptions()
    interface = entity.inferenceSession.inferenceService.interface
    builder, reader = RequestBuilder(interface.inputPipeline, withheld), ResponseReader(interface)
    parts = Parts(store, entity.id, service_digest, reader.type, options.accept)
    data = open_dataset(dataset)
    requests = position = 0
    with tempfile.TemporaryDirectory(prefix="dyff-plan-") as spill:
        rows = OrderedRows(data, builder.columns(data.schema.names), Path(spill) / "sorting")
        try:
            expected = rows.count * entity.replications
            for batch in rows.batches():
                for start in range(0, batch.num_rows, _BUILD_ROWS):
                    some = batch.slice(start, _BUILD_ROWS)
                    made = [builder.request(row, position + at) for at, row in enumerate(some.to_pylist())]
                    position += len(made)
                    digests = np.frombuffer(b"".join(each.digest for each in made), np.uint64).reshape(-1, 4)
                    indices = some.column(INDEX).to_numpy()
                    for replication in range(entity.replications):
                        there = parts.find(replication, indices, digests).there
                        requests += int((~there).sum())
        finally:
            rows.close()
    return Missing(expected, requests)
