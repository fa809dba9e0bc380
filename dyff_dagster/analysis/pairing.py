"""Two systems on the same items: what each of them got there, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dyff_dagster.analysis.errors import AnalysisError
from dyff_dagster.analysis.metrics.texts import Normalization, normalize
from dyff_dagster.analysis.statistics.observations import Numbers

if TYPE_CHECKING:
    import pyarrow.dataset

INDEX, RESPONSES = "_index_", "responses"
_SHOWN = 5
_TIE = 1e-12


class ItemsDoNotPair(AnalysisError):
    """Two systems were not asked the same items, or one of them did not answer all.

    Attributes:
        only_first: Items (``_index_``) that only the first has.
        only_second: Items that only the second has.
    """

    def __init__(self, only_first: Sequence[int], only_second: Sequence[int], names: tuple[str, str]) -> None:
        self.only_first = tuple(only_first)
        self.only_second = tuple(only_second)
        parts = [
            f"{len(items)} only in {name} (_index_ {', '.join(str(item) for item in items[:_SHOWN])}"
            f"{', …' if len(items) > _SHOWN else ''})"
            for items, name in ((self.only_first, names[0]), (self.only_second, names[1]))
            if items
        ]
        super().__init__(
            f"the rows do not pair: {' and '.join(parts)}; compare evaluations of the same data set, or say "
            "unpaired: leave-out where rows may be missing"
        )


@dataclass(frozen=True)
class Side:
    """One system: a number for each item, its replications averaged.

    Attributes:
        items: ``_index_`` of each, ascending.
        values: Shape ``(items,)``.
        outcomes: Whether every single observation was true or false.
    """

    items: NDArray[np.int64]
    values: Numbers
    outcomes: bool


@dataclass(frozen=True)
class Pairs:
    """Both systems on the items that both have.

    Attributes:
        items: ``_index_`` of each, ascending.
        first: The first system's numbers, shape ``(items,)``.
        second: The second's.
        outcomes: Whether all observations are true or false.
        only_first: The numbers of items that only the first has.
        only_second: The numbers of items that only the second has.
        neither: How many items were asked that neither has.
    """

    items: NDArray[np.int64]
    first: Numbers
    second: Numbers
    outcomes: bool
    only_first: Numbers
    only_second: Numbers
    neither: int = 0

    @property
    def asked(self) -> int:
        """How many items were asked, as far as that is known."""
        return len(self.items) + len(self.only_first) + len(self.only_second) + self.neither

    def worst(self, minimum: float, maximum: float) -> tuple[float, float] | None:
        """The mean difference if every missing answer had been the worst or the best that it could be."""
        if not self.asked:
            return None
        known = float((self.second - self.first).sum())
        a, b, width = self.only_first, self.only_second, maximum - minimum
        low = known + float((minimum - a).sum()) + float((b - maximum).sum()) - self.neither * width
        high = known + float((maximum - a).sum()) + float((b - minimum).sum()) + self.neither * width
        return low / self.asked, high / self.asked


def pair(
    first: Side,
    second: Side,
    *,
    names: tuple[str, str] = ("first", "second"),
    leave_out: bool = False,
    asked: NDArray[np.int64] | None = None,
) -> Pairs:
    """Put both on the same items.

    Args:
        first: One system.
        second: The other.
        names: What errors call them.
        leave_out: Whether items that only one has may be left out.
        asked: ``_index_`` of all that was asked, where that is known.

    Raises:
        ItemsDoNotPair: One has items that the other has not, and they may not be left out.
        AnalysisError: There is no item that both have.
    """
    both, at_first, at_second = np.intersect1d(
        first.items, second.items, assume_unique=True, return_indices=True
    )
    only_first = np.setdiff1d(np.arange(len(first.items)), at_first)
    only_second = np.setdiff1d(np.arange(len(second.items)), at_second)
    if not leave_out and (len(only_first) or len(only_second)):
        raise ItemsDoNotPair(first.items[only_first].tolist(), second.items[only_second].tolist(), names)
    if not len(both):
        raise AnalysisError(f"{names[0]} and {names[1]} have no row in common; there is nothing to compare")
    neither = 0
    if asked is not None:
        neither = len(np.setdiff1d(asked, np.union1d(first.items, second.items)))
        if neither and not leave_out:
            raise AnalysisError(
                f"{neither} rows of the data set were answered by neither {names[0]} nor {names[1]}; say unpaired: "
                "leave-out where rows may be missing"
            )
    one, other = first.values[at_first], second.values[at_second]
    # Averages over different replications can differ by rounding alone.
    other = np.where(np.abs(other - one) <= _TIE * np.maximum(1.0, np.abs(one)), one, other)
    return Pairs(
        items=both,
        first=one,
        second=other,
        outcomes=first.outcomes and second.outcomes,
        only_first=first.values[only_first],
        only_second=second.values[only_second],
        neither=neither,
    )


def measured(name: str, rows: pyarrow.dataset.Dataset, field: str) -> Side:
    """One system, from an instance-level measurement.

    Args:
        name: The input's keyword, for errors.
        rows: With ``_index_`` and the field.
        field: A true or false, or a number; ``outer.inner`` for one within a struct.

    Raises:
        AnalysisError: There is no such field, it is neither, or is null somewhere.
    """
    column, items = _column(name, rows, field)
    kind = column.type
    if not (pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise AnalysisError(
            f"{name}: field {field!r} is {kind}; compare a field that is true or false, or a number"
        )
    if column.null_count:
        at = items.filter(pc.is_null(column))[0].as_py()
        raise AnalysisError(
            f"{name}: field {field!r} is null in {column.null_count} rows, first in the row with _index_ {at}; say in "
            "the measurement what such rows count as"
        )
    values = column.cast(pa.float64()).to_numpy()
    if not np.isfinite(values).all():
        at = items[int(np.argmin(np.isfinite(values)))].as_py()
        raise AnalysisError(
            f"{name}: field {field!r} is no finite number, first in the row with _index_ {at}"
        )
    return _side(items, values, pa.types.is_boolean(kind) or bool(np.isin(values, (0.0, 1.0)).all()))


def answered(
    name: str,
    answers: pyarrow.dataset.Dataset,
    prediction: str,
    labels: Mapping[int, Any],
    normalization: Normalization,
) -> Side:
    """One system, from its evaluation: whether the first response of each answer is the label.

    An answer without a response, and a null, are not.

    Args:
        name: The input's keyword, for errors.
        answers: The evaluation's rows.
        prediction: The field of a response; ``outer.inner`` for one within a struct.
        labels: What is expected, by ``_index_``.
        normalization: Of texts, before they are compared.

    Raises:
        AnalysisError: There is no such field, it is of another type than the labels, or an answer is of no row
            of the data set.
    """
    _require(name, answers.schema.names, INDEX)
    _require(name, answers.schema.names, RESPONSES)
    table = answers.to_table(columns=[INDEX, RESPONSES])
    right, items = np.zeros(table.num_rows), table.column(INDEX)
    start = 0
    for batch in table.to_batches():
        responses = batch.column(RESPONSES)
        some = pc.greater(pc.fill_null(pc.list_value_length(responses), 0), 0)
        firsts = pc.list_element(responses.filter(some), 0)
        said = _within(name, firsts, prediction).to_pylist()
        at = start + np.flatnonzero(some.to_numpy(zero_copy_only=False))
        for position, index, one in zip(
            at.tolist(), batch.column(INDEX).filter(some).to_pylist(), said, strict=True
        ):
            right[position] = _is(name, one, labels.get(index, _MISSING), index, normalization)
        start += batch.num_rows
    strangers = [index for index in items.to_pylist() if index not in labels]
    if strangers:
        raise _stranger(name, strangers[0])
    return _side(items, right, True)


def labels_of(name: str, rows: pyarrow.dataset.Dataset, field: str) -> dict[int, Any]:
    """What is expected of each row of a data set, by ``_index_``.

    Raises:
        AnalysisError: There is no such field, or it is null somewhere.
    """
    column, items = _column(name, rows, field)
    if column.null_count:
        at = items.filter(pc.is_null(column))[0].as_py()
        raise AnalysisError(
            f"{name}: field {field!r} is null, first in the row with _index_ {at}; a label is needed in each row"
        )
    return dict(zip(items.to_pylist(), column.to_pylist(), strict=True))


def check_same(
    first: pyarrow.dataset.Dataset, second: pyarrow.dataset.Dataset, fields: Sequence[str]
) -> None:
    """Refuse measurements that say different things of the same item, where that cannot be.

    Args:
        first: One measurement's rows.
        second: The other's.
        fields: Fields that belong to the item and not to the system: its label, its text.

    Raises:
        AnalysisError: There is no such field, or an item has other values there: the data sets differ.
    """
    for field in fields:
        known: dict[int, Any] = {}
        for name, rows in (("first", first), ("second", second)):
            column, items = _column(name, rows, field)
            for index, value in zip(items.to_pylist(), column.to_pylist(), strict=True):
                if known.setdefault(index, value) != value:
                    raise AnalysisError(
                        f"first and second are not of the same data set: field {field!r} is another one in the row "
                        f"with _index_ {index}; compare evaluations of the same data set"
                    )


_MISSING = object()


def _is(name: str, said: Any, expected: Any, index: int, normalization: Normalization) -> bool:
    if expected is _MISSING:
        raise _stranger(name, index)
    if said is None:
        return False
    if isinstance(expected, str) and isinstance(said, str):
        return normalize(said, normalization) == normalize(expected, normalization)
    # In Python 1 is True; an answer of 1 to a yes or no is not.
    both_numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in (said, expected))
    if type(said) is not type(expected) and not both_numbers:
        raise AnalysisError(
            f"{name}: a prediction is of another type ({type(said).__name__}) than the label "
            f"({type(expected).__name__}) in the row with _index_ {index}; compare fields of one type"
        )
    return bool(said == expected)


def _stranger(name: str, index: int) -> AnalysisError:
    return AnalysisError(
        f"{name}: the row with _index_ {index} is not in the data set; compare evaluations of this data set"
    )


def _side(items: pa.ChunkedArray, values: Numbers, outcomes: bool) -> Side:
    found, inverse, count = np.unique(items.to_numpy(), return_inverse=True, return_counts=True)
    sums = np.bincount(inverse.reshape(-1), weights=values, minlength=len(found))
    return Side(items=found, values=sums / count, outcomes=outcomes)


def _column(name: str, rows: pyarrow.dataset.Dataset, field: str) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    _require(name, rows.schema.names, INDEX)
    top = field if field in rows.schema.names else field.partition(".")[0]
    _require(name, rows.schema.names, top)
    # Read at once, so that both are of the same rows.
    table = rows.to_table(columns=list(dict.fromkeys([INDEX, top])))
    column = table.column(top)
    if top != field:
        column = pa.chunked_array(
            [_within(name, chunk, field.partition(".")[2]) for chunk in column.chunks]
            or [_within(name, pa.array([], column.type), field.partition(".")[2])]
        )
    return column, table.column(INDEX)


def _within(name: str, structs: pa.Array, field: str) -> pa.Array:
    for part in field.split("."):
        names = [one.name for one in structs.type] if pa.types.is_struct(structs.type) else []
        _require(name, names, part)
        structs = pc.struct_field(structs, part)
    return structs


def _require(name: str, names: Sequence[str], field: str) -> None:
    if field not in names:
        there = ", ".join(names) if names else "none"
        raise AnalysisError(f"{name} has no field {field!r}; it has: {there}")
