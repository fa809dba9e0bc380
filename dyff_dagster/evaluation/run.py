"""Run an InferenceService on a Dataset and commit its answers."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq

from dyff_dagster.evaluation.client import Client, FailedRow, Tally
from dyff_dagster.evaluation.completeness import count
from dyff_dagster.evaluation.errors import EvaluationError, EvaluationIncomplete
from dyff_dagster.evaluation.options import DEFAULT_WORKERS, EvaluationOptions
from dyff_dagster.evaluation.parts import INDEX, REPLICATION, RESPONSES, Parts
from dyff_dagster.evaluation.requests import Request, RequestBuilder
from dyff_dagster.evaluation.responses import ResponseReader
from dyff_dagster.schema.arrow import open_dataset
from dyff_dagster.schema.content import ContentDigest
from dyff_dagster.schema.ids import replication_id
from dyff_dagster.schema.platform import Evaluation
from dyff_dagster.sessions import Session
from dyff_dagster.store import Commit, Facts, Inputs, Progress, Store, columns_of, no_progress

_GROUP_ROWS = 65_536
_GROUP_BYTES = 64 * 1024 * 1024
"""A row group of the written answers is closed at the first of these."""


def run(
    entity: Evaluation,
    store: Store,
    *,
    inputs: Inputs,
    dataset: Path,
    service_digest: str,
    session: Callable[[], AbstractContextManager[Session]],
    withheld: frozenset[str] = frozenset(),
    options: EvaluationOptions | None = None,
    progress: Progress = no_progress,
    run_id: str = "",
    fresh: bool = False,
) -> Commit:
    """Answer every row in every replication exactly once, and commit the answers.

    Call it while holding the entity's lock (:meth:`~dyff_dagster.store.Store.lock`).

    Args:
        entity: The evaluation.
        store: Where unfinished answers lie and the finished ones go.
        inputs: What the result is made from, recorded with it.
        dataset: Directory of the data set's committed version.
        service_digest: Digest of the service, first part of every answer's key.
        session: Opens the session; not called where nothing is left to ask.
        withheld: Fields that the service may not see.
        options: Timeouts, attempts, what to bear.
        progress: Told (rows answered, rows in all), counting replications.
        run_id: Recorded with the commit.
        fresh: Ask for everything again, also for what has an answer.

    Raises:
        EvaluationIncomplete: Rows stayed without an answer; what was answered is kept for the next try.
        EvaluationError: A row cannot be sent, or the endpoint fails everything.
        SessionError: The service did not start, or died.
    """
    options = options or EvaluationOptions()
    data = open_dataset(dataset)
    if INDEX not in data.schema.names:
        raise EvaluationError(
            f"{entity.id}: the data set has no field {INDEX}: import it with dyff-dagster import-data"
        )
    interface = entity.inferenceSession.inferenceService.interface
    reader = ResponseReader(interface)
    builder = RequestBuilder(interface.inputPipeline, withheld)
    parts = Parts(store, entity.id, service_digest, reader.type)
    if fresh:
        parts.begin_again()
    known = parts.keys()
    expected = data.count_rows() * entity.replications
    wanted: dict[int, bytes] = {}
    taken_up = 0

    def pending() -> Iterator[tuple[int, Request]]:
        nonlocal taken_up
        for request in builder.requests(data):
            wanted[request.index] = request.digest
            for replication in range(entity.replications):
                if (replication, request.index, request.digest) in known:
                    taken_up += 1
                else:
                    yield replication, request

    rest = pending()
    first = next(rest, None)
    tally = Tally()
    service_log, logs = "", ""
    if first is not None:

        def report(tally: Tally) -> None:
            progress("answers", min(taken_up + tally.answered, expected), expected)

        workers = entity.inferenceSession.replicas * (entity.workersPerReplica or DEFAULT_WORKERS)
        with session() as opened:
            client = Client(opened, reader, options, parts, max(1, workers), report)
            tally = client.tally
            try:
                client.ask_all(_chain(first, rest))
            finally:
                if tally.failed and opened.replicas:
                    service_log, logs = opened.log_tail(), f"; the service's log is in {opened.directory}"
                _write_summary(store, entity, tally)
                _write_failed(store, entity, tally.failed)
    progress("answers", taken_up + tally.answered, expected)

    with store.draft(entity.id) as draft:
        data_version, rows, schema = _write_answers(entity, parts, wanted, draft.path)
        completeness = count(entity.id, draft.path, data, entity.replications)
        unexplained = completeness.missing - len(tally.failed)
        if (
            completeness.duplicated
            or completeness.unexpected
            or unexplained
            or completeness.missing > options.allowed_failures(expected)
        ):
            raise EvaluationIncomplete(
                _incomplete(entity, completeness.missing, tally, store) + logs,
                completeness,
                tally.errors,
                service_log,
            )
        facts = Facts(
            rows=rows,
            columns=columns_of(schema),
            sent_fields=tuple(sorted(builder.sent_fields)),
            withheld=tuple(sorted(withheld)),
            completeness=completeness,
            notes={"takenUp": taken_up, **_summary(tally)},
        )
        commit = draft.commit(
            entity=entity, data_version=data_version, inputs=inputs, facts=facts, run_id=run_id
        )
    parts.retire()
    return commit


def _chain(first: tuple[int, Request], rest: Iterator[tuple[int, Request]]) -> Iterator[tuple[int, Request]]:
    yield first
    yield from rest


def _write_answers(
    entity: Evaluation, parts: Parts, wanted: dict[int, bytes], directory: Path
) -> tuple[str, int, pa.Schema]:
    """Write the answers as reference-facts has them; returns their content digest, number and schema.

    Rows stand in the order that the content digest is defined over: by the replication's id, then by row.
    """
    schema = pa.schema(
        [
            pa.field(REPLICATION, pa.string(), nullable=False),
            pa.field(INDEX, pa.int64(), nullable=False),
            parts.schema.field(RESPONSES),
        ]
    )
    names = [replication_id(entity.id, number) for number in range(entity.replications)]
    order = sorted(range(entity.replications), key=names.__getitem__)
    digest = ContentDigest(schema)
    rows = waiting_rows = waiting_bytes = 0
    waiting: list[pa.RecordBatch] = []
    with pq.ParquetWriter(directory / "answers.parquet", schema, compression="zstd") as writer:

        def flush() -> None:
            if waiting:
                writer.write_table(pa.Table.from_batches(waiting, schema))
                waiting.clear()

        for batch in parts.answers(wanted, order):
            replications = pa.array([names[number] for number in batch.column(REPLICATION).to_pylist()])
            columns = [replications, batch.column(INDEX), batch.column(RESPONSES)]
            batch = pa.RecordBatch.from_arrays(columns, schema=schema)
            digest.update(batch)
            waiting.append(batch)
            rows += batch.num_rows
            waiting_rows += batch.num_rows
            waiting_bytes += batch.nbytes
            if waiting_rows >= _GROUP_ROWS or waiting_bytes >= _GROUP_BYTES:
                flush()
                waiting_rows = waiting_bytes = 0
        flush()
    return digest.hexdigest(), rows, schema


def _incomplete(entity: Evaluation, missing: int, tally: Tally, store: Store) -> str:
    if not tally.failed:
        return (
            f"{entity.id}: {missing} rows have no answer after every one was asked for: "
            "the data set changed under this run; start it again"
        )
    row = min(tally.failed, key=lambda row: (row.index, row.replication))
    return (
        f"{entity.id}: {missing} of the answers are missing, the first is row {row.index}, replication "
        f"{row.replication}, because {row.error} ({row.attempts} attempts); all are listed in "
        f"{store.working(entity.id) / 'errors.parquet'}, and running it again asks for these alone"
    )


def _summary(tally: Tally) -> dict[str, Any]:
    latencies = sorted(tally.latencies)

    def quantile(q: float) -> float | None:
        return round(latencies[min(len(latencies) - 1, int(q * len(latencies)))], 6) if latencies else None

    return {
        "rows": tally.answered,
        "requests": tally.requests,
        "retries": tally.retries,
        "errors": tally.errors,
        "rowsPerSecond": round(tally.answered / tally.seconds, 3) if tally.seconds else 0.0,
        "latency": {"p50": quantile(0.5), "p95": quantile(0.95), "p99": quantile(0.99)},
        "bytes": tally.bytes,
    }


def _write_summary(store: Store, entity: Evaluation, tally: Tally) -> None:
    """Keep CONTRACT's ``summary.json``: counts are totals over all runs, rates are the last run's."""
    try:
        before = json.loads(store.get_working(entity.id, "summary.json"))
    except (FileNotFoundError, ValueError):
        before = {}
    now = _summary(tally)
    for name in ("rows", "requests", "retries", "bytes"):
        now[name] += before.get(name, 0)
    errors = dict(before.get("errors", {}))
    for kind, number in tally.errors.items():
        errors[kind] = errors.get(kind, 0) + number
    # Tokens and cost are CONTRACT's names; null, not 0, says that nobody counted them.
    now.update(errors=errors, tokens=before.get("tokens"), cost=before.get("cost"))
    now["runs"] = before.get("runs", 0) + 1
    store.put_working(entity.id, "summary.json", json.dumps(now, indent=1).encode())


def _write_failed(store: Store, entity: Evaluation, failed: list[FailedRow]) -> None:
    """Keep the rows that stayed without an answer; never what was sent for them."""
    schema = pa.schema(
        [
            pa.field(REPLICATION, pa.string(), nullable=False),
            pa.field(INDEX, pa.int64(), nullable=False),
            pa.field("class", pa.string(), nullable=False),
            pa.field("status", pa.int32()),
            pa.field("attempts", pa.int32(), nullable=False),
            pa.field("message", pa.string(), nullable=False),
            pa.field("body", pa.string(), nullable=False),
        ]
    )
    rows = [
        {
            REPLICATION: replication_id(entity.id, row.replication),
            INDEX: row.index,
            "class": row.error.kind,
            "status": row.error.status,
            "attempts": row.attempts,
            "message": row.error.message,
            "body": row.error.body,
        }
        for row in sorted(failed, key=lambda row: (row.replication, row.index))
    ]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), sink)
    store.put_working(entity.id, "errors.parquet", sink.getvalue(), private=True)
