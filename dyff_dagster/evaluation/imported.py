"""Answers that were given elsewhere, committed as an evaluation's: checked as strictly as our own."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from dyff_dagster.evaluation.completeness import count
from dyff_dagster.evaluation.errors import EvaluationError, EvaluationIncomplete
from dyff_dagster.evaluation.options import EvaluationOptions
from dyff_dagster.evaluation.part import CLASS, REPLICATION, RESPONSES
from dyff_dagster.evaluation.responses import ResponseReader
from dyff_dagster.evaluation.rows import INDEX, OrderedRows
from dyff_dagster.evaluation.writing import write_answers
from dyff_dagster.schema.arrow import open_dataset
from dyff_dagster.schema.ids import replication_id
from dyff_dagster.schema.platform import Evaluation
from dyff_dagster.store import Commit, Facts, Inputs, Progress, Store, columns_of, no_progress

if TYPE_CHECKING:
    import pyarrow.dataset

_BATCH_ROWS = 1024


def take_imported(
    entity: Evaluation,
    store: Store,
    *,
    inputs: Inputs,
    dataset: Path,
    answers: Path,
    options: EvaluationOptions | None = None,
    progress: Progress = no_progress,
    run_id: str = "",
) -> Commit:
    """Commit answers that lie in a file, as ``dyff-dagster import-eval`` writes it. No service is asked.

    Args:
        entity: The evaluation.
        store: Where the answers go.
        inputs: What the result is made from, recorded with it.
        dataset: Directory of the data set's committed version.
        answers: A Parquet file of ``_replication_: int32`` (from 0), ``_index_: int64``, ``responses`` as the
            service's outputSchema has them, and ``_class_: string``: the class of the error of a row that has no
            answer, else null. Rows of a replication are in the order of their index.
        options: Of these ``max_failed_rows`` counts.
        progress: Told (rows taken, rows in all).
        run_id: Recorded with the commit.

    Raises:
        EvaluationIncomplete: Rows have no answer, or more than one, or are of no row of the data set.
        EvaluationError: The file is none of these.
    """
    options = options or EvaluationOptions()
    reader = ResponseReader(entity.inferenceSession.inferenceService.interface)
    found = _open(entity, answers, reader.type)
    rows = OrderedRows(open_dataset(dataset), [], store.scratch(entity.id) / "sorting")
    expected = rows.count * entity.replications
    errors = _errors(found)
    schema = pa.schema(
        [
            pa.field(REPLICATION, pa.string(), nullable=False),
            pa.field(INDEX, pa.int64(), nullable=False),
            pa.field(RESPONSES, reader.type),
        ]
    )
    try:
        with store.draft(entity.id) as draft:
            data_version, written = write_answers(
                draft.path, schema, _answers(entity, found, schema, expected, progress)
            )
            completeness = count(entity.id, draft.path, rows.indices, entity.replications)
            surplus = found.count_rows() - sum(errors.values()) - written
            if (
                surplus
                or completeness.duplicated
                or completeness.unexpected
                or completeness.missing > options.allowed_failures(expected)
            ):
                raise EvaluationIncomplete(
                    _incomplete(entity, completeness.missing, expected, surplus, completeness.duplicated),
                    completeness,
                    errors,
                )
            said = {"rows": written, "requests": 0, "retries": 0, "errors": errors, "runs": 1}
            store.put_working(entity.id, "summary.json", json.dumps(said, indent=1).encode())
            facts = Facts(
                rows=written,
                columns=columns_of(schema),
                completeness=completeness,
                notes={"imported": answers.name, "requests": 0, "errors": errors},
            )
            return draft.commit(
                entity=entity, data_version=data_version, inputs=inputs, facts=facts, run_id=run_id
            )
    finally:
        rows.close()


def _open(entity: Evaluation, answers: Path, responses: pa.DataType) -> pyarrow.dataset.Dataset:
    wanted = {REPLICATION: pa.int32(), INDEX: pa.int64(), RESPONSES: responses, CLASS: pa.string()}
    try:
        found = open_dataset(answers)
    except (OSError, pa.ArrowException) as error:
        raise EvaluationError(
            f"{entity.id}: {answers} cannot be read as Parquet ({type(error).__name__}): import the log again"
        ) from error
    for name, kind in wanted.items():
        position = found.schema.get_field_index(name)
        if position < 0 or not found.schema.field(position).type.equals(kind):
            was = "is not there" if position < 0 else f"is {found.schema.field(position).type}"
            raise EvaluationError(
                f"{entity.id}: the field {name} of {answers} {was}: it must be {kind}; import the log again"
            )
    return found


def _errors(found: pyarrow.dataset.Dataset) -> dict[str, int]:
    errors: Counter[str] = Counter()
    for batch in found.to_batches(columns=[CLASS]):
        counts = pc.value_counts(batch.column(0)).to_pylist()
        errors.update({item["values"]: item["counts"] for item in counts if item["values"] is not None})
    return dict(sorted(errors.items()))


def _answers(
    entity: Evaluation,
    found: pyarrow.dataset.Dataset,
    schema: pa.Schema,
    expected: int,
    progress: Progress,
) -> Iterator[pa.RecordBatch]:
    import pyarrow.dataset as ds  # takes pandas with it

    taken = 0
    names = [replication_id(entity.id, number) for number in range(entity.replications)]
    for number in sorted(range(entity.replications), key=names.__getitem__):
        scanner = found.scanner(
            columns=[INDEX, RESPONSES],
            filter=(ds.field(REPLICATION) == number) & ds.field(CLASS).is_null(),
            batch_size=_BATCH_ROWS,
            batch_readahead=2,
            fragment_readahead=1,
        )
        last: Any = None
        for batch in scanner.to_batches():
            if not batch.num_rows:
                continue
            indices = batch.column(0).to_numpy()
            if (indices[1:] < indices[:-1]).any() or (last is not None and indices[0] < last):
                raise EvaluationError(
                    f"{entity.id}: the imported answers are not in the order of {INDEX}: import the log again"
                )
            if batch.column(1).null_count:
                raise EvaluationError(
                    f"{entity.id}: an imported row has neither an answer nor an error: import the log again"
                )
            last = indices[-1]
            taken += batch.num_rows
            progress("answers", taken, expected)
            columns = [pa.array([names[number]] * batch.num_rows, pa.string()), *batch.columns]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _incomplete(entity: Evaluation, missing: int, expected: int, surplus: int, duplicated: int) -> str:
    if surplus:
        return (
            f"{entity.id}: {surplus} of the imported answers are of no replication that is asked for "
            f"(replications: {entity.replications}): import the log again"
        )
    if duplicated:
        return f"{entity.id}: {duplicated} rows have more than one imported answer: import the log again"
    return (
        f"{entity.id}: {missing} of {expected} answers are not in the log that was imported: run those samples again "
        f"there and import again, or say dyff-dagster/max-failed-rows: {missing}, and every score shows how many "
        "were answered"
    )
