"""Whether an instance-level measurement has each row that it must have, once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset

from dyff_dagster.analysis.errors import AnalysisError
from dyff_dagster.schema.ids import replication_id
from dyff_dagster.schema.parquet import open_dataset
from dyff_dagster.schema.platform import Measurement, MethodInputKind
from dyff_dagster.store import Completeness

INDEX, REPLICATION, RESPONSE = "_index_", "_replication_", "_response_index_"
EXAMPLES = 5
MOST_REPLICATIONS = 100
"""Replications whose numbers examples name; of later ones they show the id."""


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
    found = rows.to_table(columns=[*keys, *parts])
    doubled = _distinct(_more_than_once(found, [*keys, *parts]), keys)
    present = _distinct(found, keys)
    if expected is None:
        number = present.num_rows
        return Completeness(
            expected=number,
            answered=number - doubled.num_rows,
            duplicated=doubled.num_rows,
            examples=_examples(doubled, about),
        )
    wanted = _distinct(_as(expected.to_table(columns=keys), present.schema), keys)
    missing = wanted.join(present, keys, join_type="left anti")
    unexpected = present.join(wanted, keys, join_type="left anti")
    return Completeness(
        expected=wanted.num_rows,
        answered=wanted.num_rows
        - missing.num_rows
        - doubled.join(wanted, keys, join_type="left semi").num_rows,
        missing=missing.num_rows,
        duplicated=doubled.num_rows,
        unexpected=unexpected.num_rows,
        examples=(_examples(missing, about) + _examples(doubled, about) + _examples(unexpected, about))[
            :EXAMPLES
        ],
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


def _distinct(table: pa.Table, keys: list[str]) -> pa.Table:
    return table.group_by(keys).aggregate([]).select(keys)


def _more_than_once(table: pa.Table, keys: list[str]) -> pa.Table:
    counted = table.group_by(keys).aggregate([([], "count_all")])
    return counted.filter(pc.greater(counted["count_all"], 1))


def _as(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The same keys in the types of the measurement, so that they can be compared."""
    return table.cast(pa.schema([pa.field(name, schema.field(name).type) for name in table.column_names]))


def _examples(table: pa.Table, evaluation: str) -> tuple[str, ...]:
    first = table.sort_by([(name, "ascending") for name in table.column_names]).slice(0, EXAMPLES).to_pylist()
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
