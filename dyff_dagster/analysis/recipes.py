"""Numbers that say which rows they were made of, and by what, so that somebody else can make them again.

An estimator knows its name and its settings (:class:`~dyff_dagster.analysis.statistics.Estimate` carries them);
it cannot know where its arrays came from. :func:`estimate` does: it reads the arrays out of an input, calls the
estimator and keeps all of it. As it is recorded (``.dyff/estimators.json`` of the analysis, by score; or in the
column ``recipe`` of a data-set-level measurement, as text)::

    {"name": "dyff_dagster.analysis.statistics.rate",
     "parameters": {"level": 0.95},
     "rows": {"input": "instances",
              "columns": {"outcomes": "correct", "clusters": "_index_"},
              "where": {"label": "malignant"}}}

``input`` is a keyword of the analysis. A column is a field's name (``answer.label`` for one within a struct), or
``{"column": NAME, "equals": VALUE}``, which is true where it is. ``where`` keeps the rows in which every field
named has the value given. Rows are read in the order in which they are digested, so how they lie in files makes
no difference. ``rows`` is null where an analysis said by what a number was made, and not of what.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from dyff_dagster.analysis.errors import AnalysisError
from dyff_dagster.analysis.records import ESTIMATORS
from dyff_dagster.analysis.statistics import Estimate
from dyff_dagster.schema.content import in_order, sort_keys

if TYPE_CHECKING:
    import pyarrow.dataset

MODULES = (
    "dyff_dagster.analysis.statistics",
    "dyff_dagster.analysis.metrics",
    "dyff_dagster.analysis.recipes",
)
"""Where estimators are that a recorded number may name; nothing else is ever called."""

QUOTED = "dyff_dagster.analysis.recipes.quoted"
"""A score taken over from a measurement; not made of observations."""

_SCALARS = (str, bool, int, float, type(None))

Column = str | Mapping[str, Any]
Scalar = str | bool | int | float


@dataclass(frozen=True)
class Rows:
    """Where arrays come from.

    Attributes:
        input: Keyword of the analysis's input.
        columns: By argument of the estimator, the column that it gets.
        where: Values that rows must have, by field.

    Raises:
        AnalysisError: A part of it has no such form.
    """

    input: str
    columns: Mapping[str, Column]
    where: Mapping[str, Scalar] = field(default_factory=dict)

    def __post_init__(self) -> None:
        fine = isinstance(self.input, str) and isinstance(self.columns, Mapping) and bool(self.columns)
        fine = fine and isinstance(self.where, Mapping)
        if not (
            fine
            and all(isinstance(name, str) and _is_column(column) for name, column in self.columns.items())
            and all(isinstance(name, str) and _is_scalar(value) for name, value in self.where.items())
        ):
            raise AnalysisError(
                "the rows of an estimate are given as an input's keyword, columns {ARGUMENT: FIELD} or "
                "{ARGUMENT: {'column': FIELD, 'equals': VALUE}}, and where {FIELD: VALUE}"
            )

    @property
    def fields(self) -> frozenset[str]:
        """Every field that is read, as it is written here."""
        read = {column if isinstance(column, str) else column["column"] for column in self.columns.values()}
        return frozenset(read | set(self.where))


@dataclass(frozen=True)
class Derivation:
    """How a number was made.

    Attributes:
        name: Dotted name of the estimator.
        parameters: Its settings, seeds among them.
        rows: What it was made of; None where that was not said.
    """

    name: str
    parameters: Mapping[str, Any]
    rows: Rows | None = None

    def to_json(self) -> dict[str, Any]:
        """As it is recorded."""
        rows = self.rows and {
            "input": self.rows.input,
            "columns": {
                name: item if isinstance(item, str) else dict(item)
                for name, item in self.rows.columns.items()
            },
            "where": dict(self.rows.where),
        }
        return {"name": self.name, "parameters": dict(self.parameters), "rows": rows}

    @classmethod
    def from_json(cls, data: Any) -> Derivation:
        """The inverse of :meth:`to_json`.

        Raises:
            AnalysisError: It does not have this form.
        """
        try:
            name, parameters, rows = data["name"], data["parameters"], data["rows"]
            fine = isinstance(name, str) and isinstance(parameters, dict)
            fine = fine and all(isinstance(value, _SCALARS) for value in parameters.values())
            if not fine or set(data) != {"name", "parameters", "rows"}:
                raise TypeError
            return cls(name, parameters, None if rows is None else Rows(**rows))
        except (TypeError, KeyError):
            raise AnalysisError(
                "an estimator is recorded as {'name', 'parameters': {NAME: number or word}, "
                "'rows': {'input', 'columns', 'where'}}, and this one is not"
            ) from None


@dataclass(frozen=True)
class TracedEstimate(Estimate):
    """An estimate that knows of what it was made.

    Attributes:
        derivation: How.
    """

    derivation: Derivation | None = field(default=None, compare=False, repr=False)

    def row(self, score: str) -> dict[str, Any]:
        """As a row of a data-set-level measurement: ``score, value, low, high, n`` and ``recipe``."""
        return {
            "score": score,
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "n": self.n,
            "recipe": None if self.derivation is None else as_text(self.derivation),
        }


def derivation_of(made: Estimate) -> Derivation | None:
    """How an estimate was made, as far as it knows: of what it was made only a :class:`TracedEstimate` does."""
    if isinstance(made, TracedEstimate):
        return made.derivation
    return None if made.recipe is None else Derivation(made.recipe.name, made.recipe.parameters)


def as_text(derivation: Derivation) -> str:
    """What stands in the column ``recipe``."""
    return json.dumps(derivation.to_json(), sort_keys=True, allow_nan=False)


def estimate(
    estimator: str,
    rows: pa.Table | pyarrow.dataset.Dataset,
    columns: Mapping[str, Column],
    *,
    input: str,
    where: Mapping[str, Scalar] | None = None,
    **parameters: Any,
) -> TracedEstimate:
    """Make an estimate of columns of an input, which can be made again by whoever has the rows.

    Args:
        estimator: Name of a function in ``analysis.statistics`` or ``analysis.metrics`` (``rate``), or ``quoted``,
            which takes a score over from a data-set-level measurement; or the dotted name of one of them.
        rows: The input's rows.
        columns: Which column each of the estimator's arrays is.
        input: The input's keyword.
        where: Values that rows must have, by field.
        parameters: The estimator's settings: numbers, words, yes or no.

    Raises:
        AnalysisError: There is no such estimator or column, a column has nulls, or what the estimator raises.
    """
    derivation = Derivation(_dotted(estimator), parameters, Rows(input, columns, where or {}))
    made = replay(derivation, rows)
    if made.recipe is not None:
        # With the defaults that were in force: a later release may have others.
        settings = {name: value for name, value in made.recipe.parameters.items() if name not in columns}
        derivation = Derivation(made.recipe.name, settings, derivation.rows)
    parts = {name: getattr(made, name) for name in Estimate.__dataclass_fields__}
    return TracedEstimate(**parts, derivation=derivation)


def replay(derivation: Derivation, rows: pa.Table | pyarrow.dataset.Dataset) -> Estimate:
    """Make a recorded number again.

    Nothing is called but estimators of this package, by :data:`MODULES`, and their settings are numbers and words.

    Raises:
        AnalysisError: The estimator is none of this package's, it has other settings or columns, or what it
            raises itself.
    """
    function = find_estimator(derivation.name)
    if derivation.rows is None:
        raise AnalysisError(f"{derivation.name}: it is not said of which rows the number was made")
    expected = inspect.signature(function).parameters
    for name in (*derivation.rows.columns, *derivation.parameters):
        if name not in expected:
            raise AnalysisError(
                f"{derivation.name} has no argument {name!r}; there are: {', '.join(expected)}"
            )
    if twice := set(derivation.rows.columns) & set(derivation.parameters):
        raise AnalysisError(f"{derivation.name}: {min(twice)} is given both as a column and as a setting")
    if unlike := [name for name, value in derivation.parameters.items() if not isinstance(value, _SCALARS)]:
        raise AnalysisError(
            f"{derivation.name}: {unlike[0]} is no number, word, or yes or no; give data as a column"
        )
    try:
        arrays = _arrays(derivation.rows, rows, nulls=derivation.name == QUOTED)
        made = function(**arrays, **derivation.parameters)
    except (TypeError, ValueError, ArithmeticError, LookupError, pa.ArrowException) as error:
        raise AnalysisError(
            f"{derivation.name} cannot be made of these columns and settings ({type(error).__name__})"
        ) from error
    if not isinstance(made, Estimate):
        raise AnalysisError(f"{derivation.name} makes no single estimate; report its parts one by one")
    return made


def find_estimator(name: str) -> Callable[..., Any]:
    """The estimator of that dotted name.

    Raises:
        AnalysisError: It is none of this package's.
    """
    module, _, symbol = name.rpartition(".")
    if module in MODULES:
        found = importlib.import_module(module)
        public = ("quoted",) if module == __name__ else getattr(found, "__all__", ())
        function = getattr(found, symbol, None) if symbol in public else None
        if inspect.isfunction(function):
            return function
    raise AnalysisError(f"{name!r} is no estimator of this release of dyff-dagster")


def quoted(value: list[Any], low: list[Any], high: list[Any], n: list[Any]) -> Estimate:
    """A score as a data-set-level measurement has it, taken over by the page that reports it.

    Args:
        value: The column ``value`` of the one row, as its ``low``, ``high`` and ``n``.
        low: Lower bounds.
        high: Upper bounds.
        n: Observations.

    Raises:
        AnalysisError: There is not exactly one row.
    """
    if len(value) != 1:
        raise AnalysisError(f"a quoted score is one row, and {len(value)} rows have this name")
    return Estimate(value[0], low[0], high[0], n[0] if n[0] is not None else 0, "quoted")


def read_derivations(directory: Path) -> dict[str, Derivation]:
    """How an analysis's scores were made, as far as it said so.

    Raises:
        AnalysisError: The file is not in the form that this package writes.
    """
    try:
        data = json.loads((directory / ESTIMATORS).read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError, OSError) as error:
        raise AnalysisError(f"{ESTIMATORS} of the analysis is no JSON") from error
    if not isinstance(data, dict):
        raise AnalysisError(f"{ESTIMATORS} of the analysis is not in the form {{NAME: ESTIMATOR}}")
    return {name: Derivation.from_json(item) for name, item in data.items()}


def top_level(name: str, names: list[str]) -> str:
    """The column in which a field lies, ``answer`` for ``answer.label``."""
    return name if name in names else name.partition(".")[0]


def _arrays(rows: Rows, data: pa.Table | pyarrow.dataset.Dataset, nulls: bool) -> dict[str, Any]:
    names = list(data.schema.names)
    wanted = sorted({top_level(name, names) for name in rows.fields} | set(sort_keys(data.schema)))
    for name in wanted:
        if name not in names:
            raise AnalysisError(
                f"the input {rows.input} has no field {name!r}; there are: {', '.join(names)}"
            )
    table = in_order(data.select(wanted) if isinstance(data, pa.Table) else data.to_table(columns=wanted))
    for name, value in rows.where.items():
        table = table.filter(_equals(_column(table, name), name, value))
    made: dict[str, Any] = {}
    for argument, column in rows.columns.items():
        name = column if isinstance(column, str) else column["column"]
        array = _column(table, name)
        if not isinstance(column, str):
            array = _equals(array, name, column["equals"])
        if nulls:
            made[argument] = array.to_pylist()
            continue
        if array.null_count:
            raise AnalysisError(
                f"the field {name!r} of the input {rows.input} is null in {array.null_count} rows; leave them out with "
                "where, or say in the measurement what they count as"
            )
        made[argument] = array.to_numpy()
    return made


def _column(table: pa.Table, name: str) -> pa.ChunkedArray:
    if name in table.column_names:
        column = table.column(name)
    else:
        first, *rest = name.split(".")
        try:
            column = pc.struct_field(table.column(first), rest)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, TypeError):
            raise AnalysisError(f"there is no field {name!r}") from None
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _equals(column: pa.ChunkedArray, name: str, value: Scalar) -> pa.ChunkedArray:
    try:
        return pc.fill_null(pc.equal(column, pa.scalar(value, column.type)), False)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        raise AnalysisError(
            f"the field {name!r} is {column.type}, and what it is to equal is of another type"
        ) from None


def _dotted(name: str) -> str:
    if "." in name:
        return name
    for module in MODULES:
        if importlib.util.find_spec(module) is None:
            continue
        try:
            find_estimator(f"{module}.{name}")
        except AnalysisError:
            continue
        return f"{module}.{name}"
    raise AnalysisError(f"{name!r} is no estimator: take a function of dyff_dagster.analysis.statistics")


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | bool | int | float)


def _is_column(column: Any) -> bool:
    if isinstance(column, str):
        return True
    return (
        isinstance(column, Mapping)
        and set(column) == {"column", "equals"}
        and isinstance(column["column"], str)
        and _is_scalar(column["equals"])
    )
