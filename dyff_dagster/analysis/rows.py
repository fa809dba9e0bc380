"""The rows of a measurement: checked against the declared schema and written as they come."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from dyff_dagster.analysis.errors import AnalysisError, WrongRow
from dyff_dagster.analysis.recipes import Derivation
from dyff_dagster.analysis.records import MISSING, SCORES, ScoreRecord, add_score
from dyff_dagster.schema.parquet import RowsError, conform, open_dataset, write_dataset
from dyff_dagster.schema.platform import AnalysisScope

SCORE_FIELDS = ("score", "value")
"""Fields that make the rows of a data-set-level measurement scores; ``low``, ``high``, ``n`` may be there, and
``asked``, ``worst_low``, ``worst_high``."""

RECIPE_FIELD = "recipe"
"""Field that says how a score was made, as ``TracedEstimate.row`` gives it."""

MOST_SCORES = 10_000
"""More rows than this are no list of scores."""


def write_rows(
    data: pa.Table | pa.RecordBatch | Iterable[pa.RecordBatch | pa.Table],
    schema: pa.Schema,
    directory: Path,
    progress: Callable[[int], None] = lambda rows: None,
) -> int:
    """Write a measurement's rows as Parquet, batch by batch, and return how many there are.

    Args:
        data: What a method yielded: a table, a record batch, or an iterable of them.
        schema: The measurement's declared schema; what does not fit it without loss is refused.
        directory: Where the files go.
        progress: Called with the number of rows so far.

    Raises:
        WrongRow: A row does not fit; it is named by ``_index_`` and field, its content is not.
        AnalysisError: A field is missing or surplus, or what was yielded is no table or record batch.
    """
    return write_dataset(_checked(_batches(data), schema, progress), schema, directory)


def _batches(data: Any) -> Iterator[pa.RecordBatch]:
    if isinstance(data, pa.RecordBatch):
        data = [data]
    elif isinstance(data, pa.Table):
        data = data.to_batches()
    elif isinstance(data, str | bytes | dict) or not isinstance(data, Iterable):
        raise AnalysisError(
            f"a method yields Arrow record batches, and this one gave a {type(data).__name__}"
        )
    for item in data:
        if isinstance(item, pa.RecordBatch):
            yield item
        elif isinstance(item, pa.Table):
            yield from item.to_batches()
        else:
            raise AnalysisError(
                f"a method yields Arrow record batches, and this one yielded a {type(item).__name__}; "
                "pyarrow.RecordBatch.from_pylist(rows, schema=...) makes one of a list of dicts"
            )


def _checked(
    batches: Iterator[pa.RecordBatch], schema: pa.Schema, progress: Callable[[int], None]
) -> Iterator[pa.RecordBatch]:
    before = 0
    for batch in batches:
        try:
            yield conform(batch, schema)
        except RowsError as error:
            raise _located(batch, schema, before, error) from None
        before += batch.num_rows
        progress(before)


def _located(batch: pa.RecordBatch, schema: pa.Schema, before: int, error: RowsError) -> AnalysisError:
    """The same complaint with the first row that it is about; none where it is about the whole batch."""
    if _complaint(batch.slice(0, 0), schema) is not None:
        return AnalysisError(
            f"the rows do not fit the declared schema: field {error.field!r} {error.problem}"
        )
    fits, fails = 0, batch.num_rows
    while fails - fits > 1:
        middle = (fits + fails) // 2
        if _complaint(batch.slice(0, middle), schema) is None:
            fits = middle
        else:
            fails = middle
    position = fails - 1
    at = batch.schema.get_field_index("_index_")
    index = batch.column(at)[position].as_py() if at >= 0 else None
    # What is named is the row's number: an _index_ of another type could hold anything.
    row = f"_index_ {index}" if isinstance(index, int) else f"position {before + position}"
    complaint = _complaint(batch.slice(position, 1), schema) or error
    return WrongRow(complaint.field, row, complaint.problem)


def _complaint(batch: pa.RecordBatch, schema: pa.Schema) -> RowsError | None:
    try:
        conform(batch, schema)
    except RowsError as error:
        return error
    return None


def record_scores(
    directory: Path, schema: pa.Schema, *, analysis_id: str, method: str, scope: AnalysisScope
) -> None:
    """Turn the rows of a data-set-level measurement into score records, unless its author wrote some.

    A measurement whose schema has no fields ``score`` and ``value`` has no scores.

    Raises:
        AnalysisError: A score's name is missing, doubled or unusable, a number is not finite (what is not defined is
            null, never NaN), or there are too many rows.
    """
    if any(name not in schema.names for name in SCORE_FIELDS) or (directory / SCORES).exists():
        return
    dataset = open_dataset(directory, schema=schema)
    if dataset.count_rows() > MOST_SCORES:
        raise AnalysisError(
            f"{analysis_id}: a data-set-level measurement has one row per score, and this one more than "
            f"{MOST_SCORES}; rows per instance belong into one of level Instance"
        )
    known = ("score", "value", "low", "high", "n", "level", *MISSING, RECIPE_FIELD)
    names = [name for name in known if name in schema.names]
    for position, row in enumerate(dataset.to_table(columns=names).to_pylist()):
        if row["score"] is None:
            raise AnalysisError(f"{analysis_id}: the score in row {position} has no name")
        try:
            record = ScoreRecord(
                name=str(row["score"]),
                value=_number(row["value"]),
                low=_number(row.get("low")),
                high=_number(row.get("high")),
                n=None if row.get("n") is None else int(row["n"]),
                level=0.95 if row.get("level") is None else float(row["level"]),
                asked=None if row.get("asked") is None else int(row["asked"]),
                worst_low=_number(row.get("worst_low")),
                worst_high=_number(row.get("worst_high")),
                estimator=_estimator(str(row["score"]), row.get(RECIPE_FIELD)),
            )
            add_score(directory, record, analysis_id=analysis_id, method=method, scope=scope, primary=False)
        except AnalysisError as error:
            raise AnalysisError(f"{analysis_id}: {error}") from None


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _estimator(score: str, text: Any) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        return Derivation.from_json(json.loads(text)).to_json()
    except (AnalysisError, ValueError, TypeError, RecursionError):
        raise AnalysisError(
            f"the recipe of score {score!r} is none; take it from TracedEstimate.row, or write null"
        ) from None
