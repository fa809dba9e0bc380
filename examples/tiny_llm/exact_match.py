"""The share of questions whose answer is the expected one, but for case and white space."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.dataset

from dyff_dagster.analysis.statistics import rate


def exact_match(
    arguments: dict[str, str], *, dataset: pyarrow.dataset.Dataset, evaluation: pyarrow.dataset.Dataset
) -> Iterator[pa.RecordBatch]:
    """Yield one row: the share, its 95 % interval over questions, and how many questions there are.

    An answer with several responses is right where its first one is; an empty one (``[]``) is wrong.
    """
    expected = {row["_index_"]: _normal(row["answer"]) for row in dataset.to_table().to_pylist()}
    right, questions = [], []
    for answer in evaluation.to_table().to_pylist():
        first = [response["answer"] for response in answer["responses"][:1]]
        right.append(bool(first) and _normal(first[0]) == expected[answer["_index_"]])
        questions.append(answer["_index_"])
    found = rate(right, clusters=questions)
    yield pa.RecordBatch.from_pydict(
        {
            "score": ["exact_match"],
            "value": pa.array([found.value], pa.float64()),
            "low": pa.array([found.low], pa.float64()),
            "high": pa.array([found.high], pa.float64()),
            "n": [found.n],
        }
    )


def _normal(text: str) -> str:
    return " ".join(text.casefold().split())
