"""From a score to the rows that it rests on, and from a row to what was asked and what was answered.

A number can be looked into only if somebody can see what it was counted from. The rows that pulled a score down
(or, where less is better, up) are listed, the worst first, with the question and each answer to it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dyff_dagster.analysis.display import table_frame
from dyff_dagster.analysis.errors import AnalysisError
from dyff_dagster.schema.ids import replication_id

if TYPE_CHECKING:
    import pyarrow.dataset

Order = Literal["lowest", "highest"]

INDEX, REPLICATION, RESPONSES = "_index_", "_replication_", "responses"

_SHORT = 200
"""Characters of a cell that are shown at once; what is longer is folded."""

_BEGINNING = 120
"""Characters of it that are seen while it is folded."""

_BELOW = 4
"""Fields that stand below each other; more of them stand one after another."""

_REPLICATIONS = 1_000
"""How far replications are counted to find out which is which."""

_LONGEST = 4_000
"""Characters of one value that are shown at all."""


@dataclass(frozen=True)
class Answer:
    """An answer to a row, in the replications that had it."""

    replications: tuple[str, ...]
    fields: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class TracedRow:
    """A row of the data set.

    Attributes:
        index: Its ``_index_``.
        outcome: Mean of what its answers came to.
        answers: How many there are.
        asked: Fields of the row, by name; None: they are not shown.
        answered: The answers, each different one once; None: they are not shown.
    """

    index: int
    outcome: float
    answers: int
    asked: Mapping[str, Any] | None = None
    answered: tuple[Answer, ...] | None = None


@dataclass(frozen=True)
class Trace:
    """The rows that a score rests on.

    Attributes:
        outcome: Name of what was counted.
        boolean: Whether it is true or false.
        order: Which rows come first.
        total: How many rows there are.
        concerned: How many of them could be listed: of a boolean those that are not as they should be.
        rows: Those that are.
    """

    outcome: str
    boolean: bool
    order: Order
    total: int
    concerned: int
    rows: tuple[TracedRow, ...]


def with_questions(trace: Trace, dataset: pyarrow.dataset.Dataset, fields: Sequence[str] | None) -> Trace:
    """A trace with what was asked in its rows: the fields named, by default all.

    Raises:
        AnalysisError: The data set has no such field.
    """
    asked = questions_of(dataset, [row.index for row in trace.rows], fields)
    return replace(trace, rows=tuple(replace(row, asked=asked.get(row.index, {})) for row in trace.rows))


def with_answers(trace: Trace, evaluation: pyarrow.dataset.Dataset, evaluation_id: str) -> Trace:
    """A trace with what was answered in its rows."""
    said = answers_of(evaluation, [row.index for row in trace.rows], evaluation_id)
    return replace(trace, rows=tuple(replace(row, answered=said.get(row.index, ())) for row in trace.rows))


def caption_of(trace: Trace, score: str, where: Mapping[str, Any]) -> str:
    """What the table of a trace shows, in a sentence or two."""
    having = " and ".join(f"{name} {_text(value)}" for name, value in where.items())
    rests = f"{score} rests on {trace.total:,} rows{f' with {having}' if having else ''}."
    if trace.boolean:
        never = "true" if trace.order == "lowest" else "false"
        found = f" In {trace.concerned:,} of them {trace.outcome} is not always {never}"
        if not trace.concerned:
            return f"{rests}{found}."
        more = f"; {len(trace.rows):,} of these are shown" if trace.concerned > len(trace.rows) else ""
        return f"{rests}{found}{more}."
    return f"{rests} The {len(trace.rows):,} with the {trace.order} {trace.outcome} are shown."


def trace_rows(
    instances: pyarrow.dataset.Dataset,
    *,
    outcome: str,
    where: Mapping[str, Any],
    order: Order = "lowest",
    limit: int = 20,
) -> Trace:
    """Which rows a score rests on, and which of them moved it the most.

    Args:
        instances: What each answer came to: ``_index_`` and ``outcome``, true or false or a number.
        outcome: The field that was averaged.
        where: Values that rows must have, by field.
        order: Whether the lowest outcomes come first or the highest; of a boolean only rows are listed that are
            not all true (``lowest``) or not all false.
        limit: Rows that are listed at most.

    Raises:
        AnalysisError: A field is not there, or ``outcome`` is neither a truth value nor a number.
    """
    for name in (INDEX, outcome, *where):
        if name not in instances.schema.names:
            raise AnalysisError(
                f"there is no field {name!r} to trace a score by; there are: {', '.join(instances.schema.names)}"
            )
    kind = instances.schema.field(outcome).type
    if not (pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise AnalysisError(
            f"field {outcome!r} is neither a truth value nor a number, so no score rests on it"
        )
    kept = pc.is_valid(pc.field(outcome))
    for name, value in where.items():
        kept = kept & (pc.field(name) == value)
    table = instances.to_table(columns=[INDEX, outcome], filter=kept)
    index = table[INDEX].to_numpy()
    values = pc.cast(table[outcome], pa.float64()).to_numpy()
    items, item = np.unique(index, return_inverse=True)
    answers = np.bincount(item, minlength=len(items))
    means = np.bincount(item, values, minlength=len(items)) / np.maximum(answers, 1)
    sign = 1.0 if order == "lowest" else -1.0
    ranked = np.lexsort((items, sign * means))
    boolean = pa.types.is_boolean(kind)
    if boolean:
        ranked = ranked[(means < 1)[ranked] if order == "lowest" else (means > 0)[ranked]]
    rows = tuple(TracedRow(int(items[at]), float(means[at]), int(answers[at])) for at in ranked[:limit])
    return Trace(outcome, boolean, order, len(items), len(ranked), rows)


def questions_of(
    dataset: pyarrow.dataset.Dataset, rows: Sequence[int], fields: Sequence[str] | None
) -> dict[int, dict[str, Any]]:
    """What was asked in some rows: the fields named, by default all but ``_index_``.

    Raises:
        AnalysisError: The data set has no such field.
    """
    names = [name for name in dataset.schema.names if name != INDEX] if fields is None else list(fields)
    if missing := [name for name in names if name not in dataset.schema.names]:
        raise AnalysisError(
            f"the data set has no field {missing[0]!r}; it has: {', '.join(dataset.schema.names)}"
        )
    found = dataset.to_table(columns=[INDEX, *names], filter=pc.field(INDEX).isin(list(rows)))
    return {row.pop(INDEX): row for row in found.to_pylist()}


def answers_of(
    evaluation: pyarrow.dataset.Dataset, rows: Sequence[int], evaluation_id: str
) -> dict[int, tuple[Answer, ...]]:
    """What was answered in some rows, each different answer once, with the replications that gave it.

    Args:
        evaluation: The answers.
        rows: The rows, by ``_index_``.
        evaluation_id: ID of the Evaluation, by which its replications are numbered.
    """
    columns = [INDEX, REPLICATION, RESPONSES]
    found = evaluation.to_table(columns=columns, filter=pc.field(INDEX).isin(list(rows))).to_pylist()
    names = {row[REPLICATION] for row in found}
    numbers = _numbers(names, evaluation_id)
    grouped: dict[int, dict[str, tuple[list[str], tuple[Mapping[str, Any], ...]]]] = {}
    for row in sorted(found, key=lambda row: int(numbers[row[REPLICATION]])):
        responses = tuple(
            {name: value for name, value in response.items() if name != "_response_index_"}
            for response in row[RESPONSES]
        )
        same = grouped.setdefault(row[INDEX], {})
        same.setdefault(_text(responses), ([], responses))[0].append(numbers[row[REPLICATION]])
    return {
        index: tuple(Answer(tuple(replications), responses) for replications, responses in same.values())
        for index, same in grouped.items()
    }


def trace_table(trace: Trace, caption: str) -> str:
    """The rows of a trace as an HTML table; a sentence where there are none.

    Args:
        trace: The rows.
        caption: What the table shows.
    """
    if not trace.rows:
        return f'<p class="dyff-more">{escape(caption)}</p>'
    asked, answered = trace.rows[0].asked is not None, trace.rows[0].answered is not None
    columns = ["Row", trace.outcome, *(["Asked"] if asked else []), *(["Answered"] if answered else [])]
    widths = ("dyff-narrow", "dyff-narrow", "dyff-asked" if asked else "", "")
    head = "".join(
        f'<th scope="col" class="{width}">{escape(name)}</th>'
        for name, width in zip(columns, widths, strict=False)
    )
    lines = []
    for row in trace.rows:
        cells = [
            f'<th scope="row">{_label("Row")}{row.index}</th>',
            f"<td>{_label(trace.outcome)}{escape(_outcome(row, trace.boolean))}</td>",
        ]
        if row.asked is not None:
            cells.append(f"<td>{_label('Asked')}{fields_cell([row.asked])}</td>")
        if row.answered is not None:
            cells.append(f"<td>{_label('Answered')}{answers_cell(row.answered)}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    table = (
        f'<table class="dyff-trace"><caption>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    )
    return table_frame(table, caption, 0)


def answers_cell(answers: Sequence[Answer]) -> str:
    """Answers in a cell: one that all replications gave, or each with the replications that gave it."""
    if len(answers) == 1:
        return fields_cell(answers[0].fields)
    return "".join(
        f"<div>Replication {escape(', '.join(answer.replications))}: {fields_cell(answer.fields)}</div>"
        for answer in answers
    )


def answers_text(answers: Sequence[Answer], longest: int = 300) -> str:
    """Answers in a line, cut where it is longer than ``longest`` characters."""
    lines = []
    for answer in answers:
        pairs = [(name, _text(value)) for item in answer.fields for name, value in item.items()]
        line = pairs[0][1] if len(pairs) == 1 else "; ".join(f"{name} {value}" for name, value in pairs)
        lines.append(line if len(answers) == 1 else f"{', '.join(answer.replications)}: {line}")
    text = " | ".join(lines)
    return text if len(text) <= longest else f"{text[:longest].rstrip()} …"


def fields_cell(objects: Sequence[Mapping[str, Any]]) -> str:
    """Objects in a cell: short ones field below field, many fields as running text, long ones folded."""
    if not objects:
        return "nothing"
    pairs = [(name, _text(value)) for item in objects for name, value in item.items()]
    if len(pairs) == 1:
        shown, line = _value(pairs[0][1]), pairs[0][1]
    else:
        between = "<br>" if len(pairs) <= _BELOW or any(len(value) > _SHORT for _, value in pairs) else "; "
        shown = between.join(f"<i>{escape(name)}</i> {_value(value)}" for name, value in pairs)
        line = "; ".join(f"{name} {value}" for name, value in pairs)
    if len(line) <= _SHORT:
        return f'<span class="dyff-cut">{shown}</span>'
    beginning = escape(line[:_BEGINNING].rstrip())
    return f'<details><summary>{beginning} …</summary><div class="dyff-cut">{shown}</div></details>'


def _numbers(names: Set[str], evaluation_id: str) -> dict[str, str]:
    """Replications as people count them, from 1."""
    known = {replication_id(evaluation_id, number): str(number + 1) for number in range(_REPLICATIONS)}
    if names <= known.keys():
        return {name: known[name] for name in names}
    return {name: str(number) for number, name in enumerate(sorted(names), start=1)}


def _label(name: str) -> str:
    """A column's name beside each value, for narrow screens, where the columns stand below each other."""
    return f'<span class="dyff-label">{escape(name)}</span> '


def _outcome(row: TracedRow, boolean: bool) -> str:
    if boolean:
        return f"{round(row.outcome * row.answers)} of {row.answers}"
    return f"{row.outcome:.4g}"


def _value(text: str) -> str:
    return escape(text if len(text) <= _LONGEST else f"{text[:_LONGEST]} … ({len(text):,} characters in all)")


def _text(value: Any) -> str:
    """A value for people."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "–"
    return json.dumps(value, ensure_ascii=False, default=_text)
