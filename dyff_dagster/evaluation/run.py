"""Run an InferenceService on a Dataset and commit its answers."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from dyff_dagster.evaluation.client import Client, Pending
from dyff_dagster.evaluation.completeness import count
from dyff_dagster.evaluation.donors import Donors
from dyff_dagster.evaluation.errors import EvaluationIncomplete
from dyff_dagster.evaluation.fleet import Fleet
from dyff_dagster.evaluation.ledger import Ledger
from dyff_dagster.evaluation.options import DEFAULT_WORKERS, EvaluationOptions
from dyff_dagster.evaluation.part import CLASS, REPLICATION, RESPONSES
from dyff_dagster.evaluation.parts import Parts
from dyff_dagster.evaluation.plan import Plan
from dyff_dagster.evaluation.requests import REQUEST_FORMAT, Request, RequestBuilder
from dyff_dagster.evaluation.responses import ResponseReader
from dyff_dagster.evaluation.rows import INDEX, OrderedRows
from dyff_dagster.evaluation.state import describe
from dyff_dagster.evaluation.summary import Summary
from dyff_dagster.evaluation.tally import Tally
from dyff_dagster.evaluation.writing import write_answers
from dyff_dagster.schema.arrow import open_dataset
from dyff_dagster.schema.canonical import canonical_json, sha256_text
from dyff_dagster.schema.ids import replication_id
from dyff_dagster.schema.platform import Evaluation
from dyff_dagster.sessions import Session, SessionError
from dyff_dagster.store import (
    Commit,
    Completeness,
    Facts,
    Inputs,
    Progress,
    Store,
    columns_of,
    no_progress,
)


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

    Call it while holding the entity's lock (:meth:`~dyff_dagster.store.Store.lock`). The memory that it takes
    does not grow with the data set.

    Args:
        entity: The evaluation.
        store: Where unfinished answers lie and the finished ones go.
        inputs: What the result is made from, recorded with it.
        dataset: Directory of the data set's committed version.
        service_digest: Digest of the service, first part of every answer's key.
        session: Opens the session; not called where nothing is left to ask.
        withheld: Fields that the service may not see.
        options: Timeouts, attempts, what to bear, when to stop.
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
    interface = entity.inferenceSession.inferenceService.interface
    builder = RequestBuilder(interface.inputPipeline, withheld)
    reader = ResponseReader(interface)
    spill = store.scratch(entity.id) / "sorting"
    rows = OrderedRows(data, builder.columns(data.schema.names), spill)
    try:
        parts = Parts(store, entity.id, service_digest, reader.type, options.accept)
        if fresh:
            parts.begin_again()
        work = _Work(
            entity=entity,
            store=store,
            options=options,
            rows=rows,
            builder=builder,
            reader=reader,
            parts=parts,
            ledger=_ledger(entity, store, rows, inputs, withheld),
            progress=progress,
            fresh=fresh,
        )
        return work.run(session, inputs, tuple(sorted(withheld)), run_id)
    finally:
        rows.close()


def _ledger(
    entity: Evaluation, store: Store, rows: OrderedRows, inputs: Inputs, withheld: frozenset[str]
) -> Ledger:
    """The digests of requests that were made of this version of the data set in this way, as far as known."""
    version = inputs.upstream.get(entity.dataset)
    pipeline = entity.inferenceSession.inferenceService.interface.inputPipeline or []
    said = [
        REQUEST_FORMAT,
        version or uuid.uuid4().hex,
        [adapter.model_dump(mode="json") for adapter in pipeline],
        sorted(withheld),
    ]
    ledger = Ledger(store, entity.id, sha256_text(canonical_json(said).decode()))
    if ledger.rows and not ledger.agrees_with(rows.indices()):
        ledger.begin_again()
    ledger.forget_others()
    return ledger


@dataclass
class _Work:
    """One run of one evaluation."""

    entity: Evaluation
    store: Store
    options: EvaluationOptions
    rows: OrderedRows
    builder: RequestBuilder
    reader: ResponseReader
    parts: Parts
    ledger: Ledger
    progress: Progress
    fresh: bool

    def __post_init__(self) -> None:
        self.expected = self.rows.count * self.entity.replications
        self.plan = Plan(
            self.rows,
            self.builder,
            self.ledger,
            self.parts,
            self.entity.replications,
            Donors(self.parts) if self.options.reuse and not self.fresh else None,
        )
        self.tally = Tally(self.entity.id)
        self.summary = Summary(self.store, self.entity.id, self.options.prices)
        self.service_log, self.logs = "", ""
        self.stopped: str | None = None

    def run(
        self,
        session: Callable[[], AbstractContextManager[Session]],
        inputs: Inputs,
        withheld: tuple[str, ...],
        run_id: str,
    ) -> Commit:
        rest = self.plan.pending()
        first = next(rest, None)
        if first is not None:
            try:
                with session() as opened:
                    self.tally.session = opened.notes
                    self._ask(opened, _chain(first, rest))
            except SessionError as error:
                self.tally.session = self.tally.session or error.notes
                raise
            finally:
                if self.tally.session:  # what it took is known when it has ended
                    with contextlib.suppress(OSError):
                        self.summary.write(self.tally)
        self.tally.reused = self.plan.reused
        self.progress("answers", self._answered(), self.expected)
        if self.stopped is not None:
            raise self._stopped(rest)
        # What was written meanwhile, here or by a process of this one.
        self.parts.look()
        with self.store.draft(self.entity.id) as draft:
            data_version, written, schema = self._write_answers(draft.path)
            completeness = count(self.entity.id, draft.path, self.rows.indices, self.entity.replications)
            self._refuse_incomplete(completeness)
            facts = Facts(
                rows=written,
                columns=columns_of(schema),
                sent_fields=tuple(sorted(self.builder.sent_fields | self.ledger.fields)),
                withheld=withheld,
                completeness=completeness,
                notes={"takenUp": self.plan.taken_up, **self._notes()},
            )
            commit = draft.commit(
                entity=self.entity, data_version=data_version, inputs=inputs, facts=facts, run_id=run_id
            )
        self.parts.retire()
        return commit

    def _notes(self) -> dict[str, Any]:
        """What this run did, and what all of them together cost."""
        run, total = self.summary.of_run(self.tally), self.summary.totals(self.tally)
        return {
            **run,
            "total": {
                name: total[name]
                for name in ("requests", "retries", "tokens", "cost", "runs", "gpuSeconds")
                if name in total
            },
            **({"session": dict(self.tally.session)} if self.tally.session else {}),
        }

    def _answered(self) -> int:
        return self.plan.taken_up + self.plan.reused + self.tally.answered

    def _ask(self, session: Session, pending: Pending) -> None:
        workers = self.entity.inferenceSession.replicas * (self.entity.workersPerReplica or DEFAULT_WORKERS)
        workers = max(1, workers)
        client = (
            self._fleet(session, workers) if self.options.processes > 1 else self._client(session, workers)
        )
        try:
            client.ask_all(pending)
        except BaseException:
            with contextlib.suppress(OSError):  # a full disk must not hide what happened before
                self._note(client, session)
            raise
        self._note(client, session)

    def _note(self, client: Client | Fleet, session: Session) -> None:
        """Keep what is known after asking, however it ended."""
        self.stopped = client.stopped
        self.ledger.flush()
        self.summary.write(self.tally)
        self.store.put_working(self.entity.id, "errors.parquet", self.tally.failed.parquet(), private=True)
        if self.tally.failed.count and (session.replicas or session.moving is not None):
            self.service_log, self.logs = session.log_tail(), f"; the service's log is in {session.directory}"

    def _client(self, session: Session, workers: int) -> Client:
        return Client(
            session,
            self.reader,
            self.options,
            self.parts,
            workers,
            self.tally,
            self.summary,
            lambda client: self._report(client.traffic.in_flight, client.traffic.lowered),
            self.options.allowed_failures(self.expected),
        )

    def _fleet(self, session: Session, workers: int) -> Fleet:
        return Fleet(
            self.options.processes,
            session,
            self.entity.inferenceSession.inferenceService.interface,
            self.options,
            self.parts,
            workers,
            self.tally,
            self.summary,
            self._report,
            session.directory / "clients",
            self.options.allowed_failures(self.expected),
        )

    def _report(self, in_flight: int, limit: int | None = None) -> None:
        done = min(self._answered(), self.expected)
        self.progress(describe(self.tally, in_flight, limit, self.expected - done), done, self.expected)

    def _stopped(self, rest: Iterator[tuple[int, Request]]) -> EvaluationIncomplete:
        """A cap was reached: count what else is there, without asking for it."""
        for _ in rest:
            pass
        answered = self._answered()
        missing = self.expected - answered
        return EvaluationIncomplete(
            f"{self.entity.id}: stopped at dyff-dagster/{self.stopped}, with {answered} of {self.expected} answers: "
            "raise it and start it again, which goes on where this stopped",
            Completeness(expected=self.expected, answered=answered, missing=missing),
            self.tally.errors,
        )

    def _write_answers(self, directory: Path) -> tuple[str, int, pa.Schema]:
        """Write the answers as reference-facts has them; returns their content digest, number and schema.

        Rows stand in the order that the content digest is defined over: by the replication's id, then by row.
        """
        fields = [
            pa.field(REPLICATION, pa.string(), nullable=False),
            pa.field(INDEX, pa.int64(), nullable=False),
            self.parts.schema.field(RESPONSES),
        ]
        if self.options.accept:
            fields.append(self.parts.schema.field(CLASS))
        schema = pa.schema(fields)
        names = [replication_id(self.entity.id, number) for number in range(self.entity.replications)]
        order = sorted(range(self.entity.replications), key=names.__getitem__)

        def batches() -> Iterator[pa.RecordBatch]:
            for batch in self.parts.answers(self.ledger.chunks, order):
                number = batch.column(REPLICATION)[0].as_py()
                columns = [pa.array([names[number]] * batch.num_rows, pa.string())]
                columns += [batch.column(field.name) for field in fields[1:]]
                yield pa.RecordBatch.from_arrays(columns, schema=schema)

        data_version, rows = write_answers(directory, schema, batches())
        return data_version, rows, schema

    def _refuse_incomplete(self, completeness: Completeness) -> None:
        unexplained = completeness.missing - self.tally.failed.count
        if (
            completeness.duplicated
            or completeness.unexpected
            or unexplained
            or completeness.missing > self.options.allowed_failures(self.expected)
        ):
            raise EvaluationIncomplete(
                self._incomplete(completeness.missing) + self.logs,
                completeness,
                self.tally.errors,
                self.service_log,
            )

    def _incomplete(self, missing: int) -> str:
        row = self.tally.failed.first
        if row is None:
            return (
                f"{self.entity.id}: {missing} rows have no answer after every one was asked for: "
                "the data set changed under this run; start it again"
            )
        return (
            f"{self.entity.id}: {missing} of the answers are missing, the first is row {row.index}, replication "
            f"{row.replication}, because {row.error} ({row.attempts} attempts); all are listed in "
            f"{self.store.working(self.entity.id) / 'errors.parquet'}, and running it again asks for these alone"
        )


def _chain(first: tuple[int, Request], rest: Iterator[tuple[int, Request]]) -> Pending:
    yield first
    yield from rest
