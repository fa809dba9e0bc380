"""Whether an instance-level measurement has each row that it must have, once.

Rows mostly come in the order of those that they are about. Then both are read side by side, in the memory of
a few batches. Otherwise they are compared some two million at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from dyff_dagster.analysis.errors import AnalysisError
from dyff_dagster.analysis.in_turn import INDEX, REPLICATION, RESPONSE, keys_in_turn, number_of
from dyff_dagster.schema.ids import replication_id
from dyff_dagster.schema.parquet import open_dataset
from dyff_dagster.schema.platform import Measurement, MethodInputKind
from dyff_dagster.store import Completeness

if TYPE_CHECKING:
    import pyarrow.dataset

EXAMPLES = 5
MOST_REPLICATIONS = 100
"""Replications whose numbers examples name; of later ones they show the id."""
MOST_AT_ONCE = 2_000_000
"""Rows that are compared at once."""


def check_completeness(
    entity: Measurement, rows: pyarrow.dataset.Dataset, input_paths: Mapping[str, Path]
) -> Completeness:
    """Compare the rows of a measurement with those that it is about.

    These are the rows of its Evaluation, where it has one as an input (that of its scope first); else of its
    Dataset; else of a Measurement with an ``_index_``. With ``_replication_`` in both, each pair is expected;
    otherwise each index. ``_response_index_`` may tell several results of one row apart. Where no input has
    an ``_index_``, only doubled rows can be found.

    Args:
        entity: The measurement.
        rows: What was computed.
        input_paths: Directories of the inputs' versions, by entity id.

    Raises:
        AnalysisError: Its schema has no ``_index_``.
    """
    names = rows.schema.names
    if INDEX not in names:
        raise AnalysisError(
            f"{entity.id}: the schema of an instance-level measurement must have the field _index_: int64, "
            "so that it is known which row a result belongs to"
        )
    about, expected = _expected(entity, input_paths)
    keys = [INDEX]
    if REPLICATION in names and (expected is None or REPLICATION in expected.schema.names):
        keys.append(REPLICATION)
    parts = [name for name in (REPLICATION, RESPONSE) if name in names and name not in keys]
    if REPLICATION not in parts:
        runs = keys_in_turn(rows, [*keys, *parts], once=True)
        if runs is not None and (expected is None or runs == keys_in_turn(expected, keys, once=False)):
            return Completeness(expected=number_of(runs), answered=number_of(runs))
    found = [_compare(rows, expected, keys, parts, share) for share in _shares(rows, expected)]
    kinds = [
        _examples([getattr(part, kind).first for part in found], about)
        for kind in ("missing", "doubled", "unexpected")
    ]
    return Completeness(
        expected=sum(part.expected for part in found),
        answered=sum(part.answered for part in found),
        missing=sum(part.missing.number for part in found),
        duplicated=sum(part.doubled.number for part in found),
        unexpected=sum(part.unexpected.number for part in found),
        examples=tuple(example for examples in kinds for example in examples)[:EXAMPLES],
    )


def _expected(
    entity: Measurement, input_paths: Mapping[str, Path]
) -> tuple[str, pyarrow.dataset.Dataset | None]:
    """The input whose rows are to be there: its id and its data."""
    kinds = {item.keyword: item.kind for item in entity.method.inputs}
    order = [
        (MethodInputKind.Evaluation, entity.scope.evaluation),
        (MethodInputKind.Dataset, entity.scope.dataset),
        (MethodInputKind.Measurement, None),
    ]
    for kind, in_scope in order:
        candidates = [item.entity for item in entity.inputs if kinds.get(item.keyword) == kind]
        for candidate in sorted(candidates, key=lambda name: name != in_scope):
            dataset = open_dataset(input_paths[candidate])
            if INDEX in dataset.schema.names:
                return candidate, dataset
    return "", None


@dataclass(frozen=True)
class _Keys:
    """How many keys there are, and the first few of them."""

    number: int
    first: pa.Table

    @classmethod
    def of(cls, table: pa.Table) -> _Keys:
        return cls(table.num_rows, _first(table))


@dataclass(frozen=True)
class _Compared:
    """What was found of a share of the rows."""

    expected: int
    answered: int
    missing: _Keys
    doubled: _Keys
    unexpected: _Keys


def _shares(
    rows: pyarrow.dataset.Dataset, expected: pyarrow.dataset.Dataset | None
) -> Iterator[pc.Expression | None]:
    """Filters that each let a share of the rows through, by the last digits of their index."""
    most = max(dataset.count_rows() for dataset in (rows, expected) if dataset is not None)
    number = 1
    while number * MOST_AT_ONCE < most:
        number *= 2
    if number == 1 or not pa.types.is_signed_integer(rows.schema.field(INDEX).type):
        yield None
        return
    index = pc.field(INDEX)
    digits = pc.bit_wise_and(index.cast(pa.int64()), pa.scalar(number - 1, pa.int64()))
    for share in range(number):
        yield (digits == share) if share else (digits == share) | index.is_null()


def _compare(
    rows: pyarrow.dataset.Dataset,
    expected: pyarrow.dataset.Dataset | None,
    keys: list[str],
    parts: list[str],
    share: pc.Expression | None,
) -> _Compared:
    """Compare a share of the rows, in whatever order they are."""
    found = rows.to_table(columns=[*keys, *parts], filter=share)
    wanted = found.slice(0, 0) if expected is None else expected.to_table(columns=keys, filter=share)
    wanted = _as(wanted.select(keys), found.schema)
    names = _names(found, wanted)
    found, wanted = _numbered(found, names), _distinct(_numbered(wanted, names), keys)
    doubled = _distinct(_more_than_once(found, [*keys, *parts]), keys)
    present = _distinct(found, keys)
    if expected is None:
        wanted = present
    missing = wanted.join(present, keys, join_type="left anti")
    unexpected = present.join(wanted, keys, join_type="left anti")
    doubled_of_wanted = doubled.join(wanted, keys, join_type="left semi").num_rows
    return _Compared(
        expected=wanted.num_rows,
        answered=wanted.num_rows - missing.num_rows - doubled_of_wanted,
        **{
            name: _Keys.of(_named(table, names))
            for name, table in (("missing", missing), ("doubled", doubled), ("unexpected", unexpected))
        },
    )


def _distinct(table: pa.Table, keys: list[str]) -> pa.Table:
    return table.group_by(keys).aggregate([]).select(keys)


def _more_than_once(table: pa.Table, keys: list[str]) -> pa.Table:
    counted = table.group_by(keys).aggregate([([], "count_all")])
    return counted.filter(pc.greater(counted["count_all"], 1))


def _as(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The same keys in the types of the measurement, so that they can be compared."""
    return table.cast(pa.schema([pa.field(name, schema.field(name).type) for name in table.column_names]))


def _names(*tables: pa.Table) -> pa.Array | None:
    """Every replication that is named somewhere, so that numbers can be compared: texts take long."""
    columns = [table.column(REPLICATION) for table in tables if REPLICATION in table.column_names]
    if not columns:
        return None
    chunks = [pc.unique(column).cast(columns[0].type) for column in columns]
    return pc.unique(pa.chunked_array(chunks, columns[0].type))


def _numbered(table: pa.Table, names: pa.Array | None) -> pa.Table:
    if names is None or REPLICATION not in table.column_names:
        return table
    numbers = pc.index_in(table.column(REPLICATION), value_set=names, skip_nulls=True)
    return table.set_column(table.column_names.index(REPLICATION), REPLICATION, numbers)


def _named(table: pa.Table, names: pa.Array | None) -> pa.Table:
    if names is None or REPLICATION not in table.column_names:
        return table
    replications = pc.take(names, table.column(REPLICATION))
    return table.set_column(table.column_names.index(REPLICATION), REPLICATION, replications)


def _first(table: pa.Table) -> pa.Table:
    return table.sort_by([(name, "ascending") for name in table.column_names]).slice(0, EXAMPLES)


def _examples(tables: list[pa.Table], evaluation: str) -> tuple[str, ...]:
    first = _first(pa.concat_tables(tables)).to_pylist()
    ids = {row[REPLICATION] for row in first if REPLICATION in row}
    # Replications are named by ids that derive from their numbers, and people count them.
    numbers = (
        {replication_id(evaluation, number): number for number in range(MOST_REPLICATIONS)} if ids else {}
    )
    return tuple(
        f"row {row[INDEX]}"
        + (f", replication {numbers.get(row[REPLICATION], row[REPLICATION])}" if REPLICATION in row else "")
        for row in first
    )
