"""A against B: the comparison that ships with the package, as functions that a Method names.

A Method says ``pythonFunction: {fullyQualifiedName: dyff_dagster.analysis.comparison.compare}`` and lists no
module. Its inputs are ``first`` and ``second``: instance-level Measurements of two Evaluations of one data set; or
the two Evaluations themselves, with the data set as ``dataset``. A difference is ``second`` less ``first``.

These arguments are known; a Method declares those that it wants to give.

=================  ===========================================================================================
``field``          Measurements: the field that is compared, true or false (``correct``) or a number
``same``           Measurements: fields, comma separated, that belong to the item and so must be equal in both
``prediction``     Evaluations: the field of a response that is held against the label
``label``          Evaluations: the field of the data set that says what is right
``normalization``  Evaluations: of texts, ``none`` (default), ``whitespace``, ``casefold`` or ``squad``
``test``           ``auto`` (default), ``mcnemar``, ``sign``, ``wilcoxon``, ``permutation`` or ``t``
``unpaired``       ``refuse`` (default), or ``leave-out``: rows that one side lacks are left out and counted
``level``          of the intervals, 0.95; with another one, declare the field ``level: float64`` too
``minimum``        Measurements of numbers: the least that one can be, for the worst-case bounds
``maximum``        the greatest
``seed``           of permutations, 0
=================  ===========================================================================================
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np
import pyarrow as pa

from dyff_dagster.analysis.errors import AnalysisError
from dyff_dagster.analysis.metrics.texts import Normalization
from dyff_dagster.analysis.pairing import INDEX, Pairs, answered, check_same, labels_of, measured, pair
from dyff_dagster.analysis.statistics.differences import paired_shares
from dyff_dagster.analysis.statistics.estimate import Estimate
from dyff_dagster.analysis.statistics.means import mean_of_items
from dyff_dagster.analysis.statistics.observations import check_level
from dyff_dagster.analysis.statistics.power import detectable_paired_difference
from dyff_dagster.analysis.statistics.proportions import share_of_items
from dyff_dagster.analysis.statistics.significance import PairedTest, compare_items

if TYPE_CHECKING:
    import pyarrow.dataset

SCORES = pa.schema(
    [
        pa.field("score", pa.string(), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("low", pa.float64()),
        pa.field("high", pa.float64()),
        pa.field("n", pa.int64(), nullable=False),
        pa.field("asked", pa.int64()),
        pa.field("worst_low", pa.float64()),
        pa.field("worst_high", pa.float64()),
    ]
)
"""Schema of what :func:`compare` yields; with intervals of another level than 0.95 there is a field ``level`` too."""

ROWS = pa.schema(
    [
        pa.field(INDEX, pa.int64(), nullable=False),
        pa.field("first", pa.float64(), nullable=False),
        pa.field("second", pa.float64(), nullable=False),
        pa.field("difference", pa.float64(), nullable=False),
        pa.field("flip", pa.string(), nullable=False),
    ]
)
"""Schema of what :func:`compare_rows` yields."""

GAINED, LOST, SAME = "gained", "lost", "same"

USUAL_LEVEL = 0.95

_BATCH = 65_536


@dataclass(frozen=True)
class Settings:
    """Arguments of a comparison, read; the module's table says what they mean."""

    field: str | None = None
    same: tuple[str, ...] = ()
    prediction: str | None = None
    label: str | None = None
    normalization: Normalization = "none"
    test: PairedTest = "auto"
    leave_out: bool = False
    level: float = 0.95
    minimum: float | None = None
    maximum: float | None = None
    seed: int = 0

    @classmethod
    def read(cls, arguments: Mapping[str, str]) -> Settings:
        """From an analysis's arguments.

        Raises:
            AnalysisError: One is unknown, or is not in the form that it must have.
        """
        unknown = sorted(set(arguments) - {*_WORDS, *_NUMBERS, "field", "same", "prediction", "label"})
        if unknown:
            raise AnalysisError(
                f"a comparison has no argument {unknown[0]!r}; it knows field, same, prediction, label, "
                f"{', '.join([*_WORDS, *_NUMBERS])}"
            )
        for name, choices in _WORDS.items():
            if name in arguments and arguments[name] not in choices:
                raise AnalysisError(
                    f"argument {name} is {arguments[name]!r}; it must be one of {', '.join(choices)}"
                )
        numbers = {name: _number(name, arguments[name]) for name in _NUMBERS if name in arguments}
        check_level("argument level", numbers.get("level", 0.95))
        return cls(
            field=arguments.get("field"),
            same=tuple(part.strip() for part in arguments.get("same", "").split(",") if part.strip()),
            prediction=arguments.get("prediction"),
            label=arguments.get("label"),
            normalization=cast("Normalization", arguments.get("normalization", "none")),
            test=cast("PairedTest", arguments.get("test", "auto")),
            leave_out=arguments.get("unpaired") == "leave-out",
            level=numbers.get("level", 0.95),
            minimum=numbers.get("minimum"),
            maximum=numbers.get("maximum"),
            seed=int(numbers.get("seed", 0)),
        )


_WORDS = {
    "normalization": get_args(Normalization),
    "test": get_args(PairedTest),
    "unpaired": ("refuse", "leave-out"),
}
_NUMBERS = ("level", "minimum", "maximum", "seed")


def compare(
    arguments: Mapping[str, str],
    *,
    first: pyarrow.dataset.Dataset,
    second: pyarrow.dataset.Dataset,
    dataset: pyarrow.dataset.Dataset | None = None,
) -> Iterator[pa.RecordBatch]:
    """Compare two systems on the same items: effect, p-value, both systems, and how many items flipped.

    The scores, all over items, replications averaged first:

    - ``effect``: mean of ``second`` less ``first``; of outcomes with Tango's score interval, of numbers with
      Student's t. Where rows were left out, ``asked`` counts them too, and ``worst_low`` and ``worst_high`` are
      what the effect could have been with them.
    - ``p_value``: two-sided, that there is no difference (:func:`~dyff_dagster.analysis.statistics.paired_test`).
    - ``first``, ``second``: each system on the items that both have.
    - ``gained``, ``lost``: how many items came out better, and worse, with the second.
    - ``detectable``: the difference that so many items would have shown in four of five cases.

    Args:
        arguments: As the module says.
        first: One system.
        second: The other.
        dataset: The data set, where the two are Evaluations.

    Yields:
        One batch of :data:`SCORES`, with ``level`` where intervals are not of 95 %.

    Raises:
        AnalysisError: Arguments or inputs do not fit, rows do not pair, or data sets differ.
    """
    settings = Settings.read(arguments)
    rows = list(scores_of(pair_inputs(settings, first, second, dataset), settings).items())
    # Whoever reads an interval takes it for one of 95 %, unless it says otherwise.
    usual = settings.level == USUAL_LEVEL
    schema = SCORES if usual else SCORES.append(pa.field("level", pa.float64()))
    yield pa.RecordBatch.from_pylist(
        [
            {
                "score": name,
                "value": one.value,
                "low": one.low,
                "high": one.high,
                "n": one.n,
                "asked": one.asked,
                "worst_low": one.worst_low,
                "worst_high": one.worst_high,
                **({} if usual else {"level": one.level}),
            }
            for name, one in rows
        ],
        schema=schema,
    )


def compare_rows(
    arguments: Mapping[str, str],
    *,
    first: pyarrow.dataset.Dataset,
    second: pyarrow.dataset.Dataset,
    dataset: pyarrow.dataset.Dataset | None = None,
) -> Iterator[pa.RecordBatch]:
    """Both systems on each item, side by side, and whether it flipped.

    ``flip`` is ``gained`` where the second has more, ``lost`` where it has less, else ``same``. At level Instance
    every row must be there; with ``unpaired: leave-out`` declare level Dataset.

    Args:
        arguments: As for :func:`compare`; ``test``, ``level`` and ``seed`` have no effect.
        first: One system.
        second: The other.
        dataset: The data set, where the two are Evaluations.

    Yields:
        Batches of :data:`ROWS`, in the order of ``_index_``.

    Raises:
        AnalysisError: As :func:`compare`.
    """
    pairs = pair_inputs(Settings.read(arguments), first, second, dataset)
    difference = pairs.second - pairs.first
    flip = np.where(difference > 0, GAINED, np.where(difference < 0, LOST, SAME))
    table = pa.Table.from_arrays(
        [
            pa.array(pairs.items, pa.int64()),
            pa.array(pairs.first),
            pa.array(pairs.second),
            pa.array(difference),
            pa.array(flip.tolist(), pa.string()),
        ],
        schema=ROWS,
    )
    yield from table.to_batches(max_chunksize=_BATCH)


def pair_inputs(
    settings: Settings,
    first: pyarrow.dataset.Dataset,
    second: pyarrow.dataset.Dataset,
    dataset: pyarrow.dataset.Dataset | None = None,
) -> Pairs:
    """Both systems on the same items, from Measurements or from Evaluations.

    Raises:
        AnalysisError: Arguments or inputs do not fit, rows do not pair, or data sets differ.
    """
    if dataset is None:
        if settings.field is None:
            raise AnalysisError(
                "a comparison of Measurements needs the argument field, the field that is compared; one of "
                "Evaluations needs the input dataset, and the arguments prediction and label"
            )
        check_same(first, second, settings.same)
        sides = [measured(n, rows, settings.field) for n, rows in (("first", first), ("second", second))]
        return pair(*sides, leave_out=settings.leave_out)
    if settings.prediction is None or settings.label is None:
        raise AnalysisError(
            "a comparison of Evaluations needs the arguments prediction, a field of the response, and label, a field "
            "of the data set"
        )
    labels = labels_of("dataset", dataset, settings.label)
    sides = [
        answered(name, rows, settings.prediction, labels, settings.normalization)
        for name, rows in (("first", first), ("second", second))
    ]
    return pair(*sides, leave_out=settings.leave_out, asked=np.array(sorted(labels), dtype=np.int64))


def scores_of(pairs: Pairs, settings: Settings) -> dict[str, Estimate]:
    """The scores of a comparison by name, as :func:`compare` explains them.

    Raises:
        AnalysisError: The test does not fit the data.
    """
    n, level = len(pairs.items), settings.level
    difference = pairs.second - pairs.first
    if pairs.outcomes:
        effect = paired_shares(pairs.first, pairs.second, level)
        sides = [share_of_items(side, level) for side in (pairs.first, pairs.second)]
    else:
        effect = mean_of_items(difference, level)
        sides = [
            mean_of_items(side, level, settings.minimum, settings.maximum)
            for side in (pairs.first, pairs.second)
        ]
    significance = compare_items(pairs.first, pairs.second, test=settings.test, seed=settings.seed)
    detectable = detectable_paired_difference(pairs.first, pairs.second, level=level)
    return {
        "effect": _with_missing(effect, pairs, settings),
        "p_value": Estimate(significance.p, None, None, n, significance.method, level),
        "first": sides[0],
        "second": sides[1],
        GAINED: Estimate(float((difference > 0).sum()), None, None, n, "count", level),
        LOST: Estimate(float((difference < 0).sum()), None, None, n, "count", level),
        "detectable": Estimate(detectable, None, None, n, "noncentral t", level),
    }


def _with_missing(effect: Estimate, pairs: Pairs, settings: Settings) -> Estimate:
    if pairs.asked == len(pairs.items):
        return effect
    minimum, maximum = (0.0, 1.0) if pairs.outcomes else (settings.minimum, settings.maximum)
    parts: dict[str, Any] = {**vars(effect), "asked": pairs.asked}
    if minimum is not None and maximum is not None:
        worst = pairs.worst(minimum, maximum)
        if worst is not None:
            parts["worst_low"], parts["worst_high"] = worst
    return Estimate(**parts)


def _number(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not np.isfinite(number) or (name == "seed" and (number < 0 or number != int(number))):
        kind = "a whole number from 0 on" if name == "seed" else "a finite number"
        raise AnalysisError(f"argument {name} is {text!r}; it must be {kind}")
    return number
