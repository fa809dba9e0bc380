"""From answers to scores: the two functions behind the Methods in ``analysis.yaml``.

malignant is the positive class throughout. An error here names rows and fields and never shows what
stands in them.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset

from dyff_dagster.analysis.recipes import estimate

POSITIVE = "malignant"
CLASSES = pa.array([POSITIVE, "benign"])

INSTANCES = pa.schema(
    [
        pa.field("_index_", pa.int64(), nullable=False),
        pa.field("_replication_", pa.string(), nullable=False),
        pa.field("malignant_probability", pa.float64(), nullable=False),
        pa.field("predicted", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("correct", pa.bool_(), nullable=False),
    ]
)
"""One row for each answer, as ``analysis.yaml`` declares it."""

SCORES = pa.schema(
    [
        pa.field("score", pa.string(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),
        pa.field("low", pa.float64()),
        pa.field("high", pa.float64()),
        pa.field("n", pa.int64(), nullable=False),
        pa.field("recipe", pa.string()),
    ]
)
"""One row for each score; the form of every dataset-level measurement. ``recipe`` says how it was made."""


def judge_instances(
    arguments: dict[str, str], *, dataset: pyarrow.dataset.Dataset, evaluation: pyarrow.dataset.Dataset
) -> Iterator[pa.RecordBatch]:
    """Hold each answer against the confirmed diagnosis.

    Args:
        arguments: None are used.
        dataset: Patients: ``_index_`` and ``diagnosis``.
        evaluation: Answers: ``_index_``, ``_replication_``, and one response each with
            ``malignant_probability`` and ``diagnosis``.

    Yields:
        Batches of :data:`INSTANCES`, a row for each answer.

    Raises:
        ValueError: An answer has not exactly one response, belongs to no patient, or is neither malignant nor
            benign.
    """
    patients = dataset.to_table(columns=["_index_", "diagnosis"])
    labels = patients["diagnosis"].combine_chunks()
    known = patients["_index_"].combine_chunks()
    _require(
        pc.is_in(labels, CLASSES),
        known,
        "is neither malignant nor benign in the data set",
    )
    for batch in evaluation.to_batches(columns=["_index_", "_replication_", "responses"]):
        index, responses = batch.column("_index_"), batch.column("responses")
        _require(pc.equal(pc.list_value_length(responses), 1), index, "has not exactly one response")
        rows = pc.index_in(index, value_set=known)
        _require(pc.is_valid(rows), index, "is not in the data set")
        response = pc.list_flatten(responses)
        predicted = pc.struct_field(response, "diagnosis")
        _require(pc.is_in(predicted, CLASSES), index, "was answered neither malignant nor benign")
        label = labels.take(rows)
        yield pa.record_batch(
            [
                index,
                batch.column("_replication_"),
                pc.struct_field(response, "malignant_probability"),
                predicted,
                label,
                pc.equal(predicted, label),
            ],
            schema=INSTANCES,
        )


def summarize_accuracy(
    arguments: dict[str, str], *, instances: pyarrow.dataset.Dataset
) -> Iterator[pa.RecordBatch]:
    """Count: five scores with 95 % intervals, in the order of their weight to a patient.

    A patient's replications are averaged first, so that intervals and ``n`` are over patients.

    Args:
        arguments: None are used.
        instances: What :func:`judge_instances` made.

    Yields:
        One batch of :data:`SCORES`.

    Raises:
        ValueError: There is no malignant or no benign case, so that a score has no value.
    """
    items = {"clusters": "_index_"}
    right = {"outcomes": "correct", **items}
    malignant = {"labels": {"column": "label", "equals": POSITIVE}, **items}
    given = "malignant_probability"
    # Made of columns by name, so that whoever has the rows can make the same numbers again.
    made = {
        "sensitivity": ("rate", right, {"label": POSITIVE}),
        "specificity": ("rate", right, {"label": "benign"}),
        "auc": ("auc", {**malignant, "scores": given}, {}),
        "brier": ("brier", {**malignant, "probabilities": given}, {}),
        "accuracy": ("rate", right, {}),
    }
    rows = []
    for name, (estimator, columns, where) in made.items():
        found = estimate(estimator, instances, columns, input="instances", where=where)
        if found.value is None:
            raise ValueError(f"{name} has no value: the data need both malignant and benign cases")
        rows.append(found.row(name))
    yield pa.RecordBatch.from_pylist(rows, schema=SCORES)


def _require(holds: pa.Array, index: pa.Array, otherwise: str) -> None:
    """Raise naming the first row, by its ``_index_``, for which ``holds`` is not true."""
    wrong = index.filter(pc.invert(pc.fill_null(holds, False)))
    if len(wrong):
        raise ValueError(f"row {wrong[0].as_py()} {otherwise} ({len(wrong)} such rows in this batch)")
