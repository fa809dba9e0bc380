"""How far a judge of replies can be believed: its verdicts held against the answer key, which it never saw."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.dataset

from dyff_dagster.analysis.statistics import rate

SCORES = pa.schema(
    [
        pa.field("score", pa.string(), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("low", pa.float64()),
        pa.field("high", pa.float64()),
        pa.field("n", pa.int64(), nullable=False),
    ]
)


def agreement(
    arguments: dict[str, str], *, replies: pyarrow.dataset.Dataset, verdicts: pyarrow.dataset.Dataset
) -> Iterator[pa.RecordBatch]:
    """Yield four shares with 95 % intervals over questions: replies to one question are no independent trials.

    Args:
        arguments: None are used.
        replies: One row for each reply: ``reply``, the answer's ``key``, and in ``_source_index_`` the question.
        verdicts: The judge's answers, one for each reply: ``verdict``, ``right`` or ``wrong``.
    """
    rows = {row["_index_"]: row for row in replies.to_table().to_pylist()}
    questions, label, verdict = [], [], []
    for judged in verdicts.to_table().to_pylist():
        row = rows[judged["_index_"]]
        questions.append(row["_source_index_"])
        label.append(_normal(row["key"]) in _normal(row["reply"]))
        verdict.append(judged["responses"][0]["verdict"] == "right")
    # Whose label is right, and whose is wrong: a judge that says yes to everything must not look good.
    yield pa.RecordBatch.from_pylist(
        [
            _share("agreement", [a == b for a, b in zip(label, verdict, strict=True)], questions),
            _share("judged_right", verdict, questions),
            _share("accepts_right", *_where(label, True, verdict, questions)),
            _share("accepts_wrong", *_where(label, False, verdict, questions)),
        ],
        schema=SCORES,
    )


def _share(name: str, outcomes: Sequence[bool], questions: Sequence[int]) -> dict[str, object]:
    found = rate(outcomes, clusters=questions)
    return {"score": name, "value": found.value, "low": found.low, "high": found.high, "n": found.n}


def _where(
    label: Sequence[bool], wanted: bool, verdict: Sequence[bool], questions: Sequence[int]
) -> tuple[list[bool], list[int]]:
    chosen = [(v, q) for truth, v, q in zip(label, verdict, questions, strict=True) if truth == wanted]
    return [v for v, _ in chosen], [q for _, q in chosen]


def _normal(text: str) -> str:
    return " ".join(text.casefold().split())
