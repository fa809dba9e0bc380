"""Data sets made from an Evaluation: its answers as rows, for another service to judge.

A row is one answer, seen through one of the service's views. Rows are numbered anew by ``_index_``, in the
order in which an evaluation's answers are committed: by replication, row and place. Which answer a row is, and what
was asked, is kept where the data set declares the fields for it (see ``catalog.derived``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from dyff_dagster.catalog.derived import (
    REPLICATION,
    RESPONSE_INDEX,
    RESPONSES,
    SOURCE_INDEX,
    FieldSources,
    field_sources,
    view_of,
)
from dyff_dagster.schema.annotations import annotation
from dyff_dagster.schema.canonical import canonical_json, sha256_text
from dyff_dagster.schema.ids import replication_id
from dyff_dagster.schema.parquet import conform, open_dataset
from dyff_dagster.schema.platform import Dataset, DataView, Evaluation
from dyff_dagster.sources.dataset import facts_of, stored_form
from dyff_dagster.sources.errors import IngestError
from dyff_dagster.sources.readers import INDEX
from dyff_dagster.sources.row_groups import write_rows
from dyff_dagster.sources.views import BATCH, ViewError, apply, as_json, pipeline_of, rows_to_batch
from dyff_dagster.store import Commit, Inputs, Progress, Store, no_progress

if TYPE_CHECKING:
    import pyarrow.dataset

Row = dict[str, Any]


def answers_fingerprint(entity: Dataset, evaluation: Evaluation) -> dict[str, str]:
    """Digest of how the answers are looked at, for the data set's inputs.

    A view is part of the service that answered, and a change of it changes no answer: it must count here.
    """
    view = view_of(evaluation, annotation(entity, "ingest"))
    said = None if view is None else view.model_dump(mode="json", by_alias=True, exclude={"id", "viewOf"})
    return {"view": sha256_text(canonical_json(said))}


def reads_questions(entity: Dataset, evaluation: Evaluation, asked: Dataset) -> bool:
    """Whether a data set made from an evaluation has fields of the rows that were asked about."""
    names = asked.schema_.decode().names
    view = view_of(evaluation, annotation(entity, "ingest"))
    return bool(field_sources(entity.schema_.decode(), evaluation, view, names).asked)


def fetch_answers(
    entity: Dataset,
    store: Store,
    *,
    evaluation: Evaluation,
    answers: Path,
    asked: Path | None = None,
    inputs: Inputs,
    progress: Progress = no_progress,
    run_id: str = "",
) -> Commit:
    """Make a data set of an evaluation's answers and commit it.

    Args:
        entity: The data set. The annotation ``dyff-dagster/ingest`` names the view; without it the answers are
            taken as they are.
        store: Where to.
        evaluation: Whose answers.
        answers: Directory of its committed version.
        asked: Directory of the version of the data set that was asked about, where the new one has fields of it.
        inputs: What the result is made from, recorded with it.
        progress: Told how many rows there are.
        run_id: Recorded with the commit.

    Raises:
        IngestError: There is no such view, its adapters fail, or what comes out does not fit the declared schema;
            the answer is named and not shown.
    """
    named = annotation(entity, "ingest")
    view = view_of(evaluation, named)
    if named is not None and view is None:
        raise IngestError(
            f"{entity.id}: service {evaluation.inferenceSession.inferenceService.id} of {evaluation.id} has no "
            f"outputView {named.strip()!r}: correct the annotation dyff-dagster/ingest"
        )
    questions = None if asked is None else open_dataset(asked)
    made = _Maker(entity, evaluation, view, questions)
    with store.draft(entity.id) as draft:
        target = draft.path / (entity.artifacts[0].path if entity.artifacts else "data.parquet")
        target.parent.mkdir(parents=True, exist_ok=True)
        schema = stored_form(entity)
        batches = (conform(batch, schema) for batch in made.batches(open_dataset(answers), progress))
        write_rows(batches, schema, target)
        data_version, facts = facts_of(entity, draft.path, progress)
        facts.notes.update({"answers": made.answers, "view": None if view is None else view.id})
        return draft.commit(
            entity=entity, data_version=data_version, inputs=inputs, facts=facts, run_id=run_id
        )


@dataclass
class _Maker:
    """Makes rows of answers, and counts the answers."""

    entity: Dataset
    evaluation: Evaluation
    view: DataView | None
    questions: pyarrow.dataset.Dataset | None
    answers: int = 0

    def __post_init__(self) -> None:
        self._schema = self.entity.schema_.decode()
        names = [] if self.questions is None else self.questions.schema.names
        self._sources: FieldSources = field_sources(self._schema, self.evaluation, self.view, names)
        if self._sources.unknown:
            raise IngestError(
                f"{self.entity.id}: the field {self._sources.unknown[0]} is neither in the view nor in the data set "
                "that was asked about: take it out of the schema"
            )
        self._numbers = {
            replication_id(self.evaluation.id, number): number
            for number in range(self.evaluation.replications)
        }
        self._asked = self._questions()

    def _questions(self) -> tuple[pa.Array, pa.Table] | None:
        """The columns that are wanted of the rows that were asked about, by ``_index_``."""
        if self.questions is None or not self._sources.asked:
            return None
        table = self.questions.to_table(columns=[INDEX, *self._sources.asked])
        return table[INDEX].combine_chunks(), table.select(list(self._sources.asked))

    def batches(self, answers: pyarrow.dataset.Dataset, progress: Progress) -> Iterator[pa.RecordBatch]:
        pipeline = pipeline_of(self.view)
        number = 0
        for batch in answers.to_batches():
            for start in range(0, batch.num_rows, BATCH):
                rows: list[Row] = []
                names: list[str] = []
                asked = batch.slice(start, BATCH).to_pylist()
                questions = self._of(asked)
                for answer, question in zip(asked, questions, strict=True):
                    try:
                        seen = apply(pipeline, answer, self._name)
                    except ViewError as error:
                        raise self._failed(error) from None
                    for row in self._rows(seen, answer):
                        rows.append({**row, **question, INDEX: number})
                        names.append(self._name(answer))
                        number += 1
                self.answers += len(asked)
                try:
                    yield rows_to_batch(rows, self._schema, names)
                except ViewError as error:
                    raise self._failed(error) from None
                progress("rows of answers", number, None)

    def _rows(self, seen: Iterable[Any], answer: Row) -> Iterator[Row]:
        """One row for each answer, with its keys; the view may have left several in their array."""
        found: list[Row] = []
        for row in seen:
            inner = row.get(RESPONSES)
            if RESPONSES in self._schema.names or not isinstance(inner, list):
                found.append(row)
            else:
                found += [{**row, **response} for response in inner]
        wanted = set(self._sources.view)
        for position, row in enumerate(found):
            place = row.get(RESPONSE_INDEX)
            keys = {
                SOURCE_INDEX: answer[INDEX],
                REPLICATION: answer[REPLICATION],
                RESPONSE_INDEX: position if place is None else place,
            }
            yield {**{name: row[name] for name in wanted if name in row}, **keys}

    def _of(self, answers: list[Row]) -> list[Row]:
        """For each answer the wanted fields of the row that was asked about."""
        if self._asked is None:
            return [{} for _ in answers]
        known, table = self._asked
        places = pc.index_in(pa.array([answer[INDEX] for answer in answers], pa.int64()), value_set=known)
        if places.null_count:
            answer = answers[pc.index(places.is_null(), True).as_py()]
            raise IngestError(
                f"{self.entity.id}: {self._name(answer)} is not in the data set {self.evaluation.dataset} "
                f"that {self.evaluation.id} was asked about: materialize the evaluation again"
            )
        return [as_json(row) for row in table.take(places).to_pylist()]

    def _name(self, answer: Row) -> str:
        number = self._numbers.get(answer[REPLICATION], answer[REPLICATION])
        return f"the answer to row {answer[INDEX]}, replication {number}"

    def _failed(self, error: ViewError) -> IngestError:
        view = "" if self.view is None else f" through the view {self.view.id}"
        return IngestError(f"{self.entity.id}: {error.row} cannot be a row{view}: {error.problem}")
