"""From which columns upstream each column of a table may come."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import dagster as dg
import pyarrow as pa

from dyff_dagster.catalog import Catalog, fields_read
from dyff_dagster.catalog.derived import REPLICATION, RESPONSE_INDEX, SOURCE_INDEX, field_sources, view_of
from dyff_dagster.schema.platform import Dataset, DyffEntity, Evaluation, Measurement, MeasurementLevel

_KEYS = ("_index_", "_replication_", "_response_index_")

_MOST = 1_000
"""Pairs of columns that go into an event; of wider tables it is left out, since every reader of the page loads it."""


def column_lineage(
    entity: DyffEntity, catalog: Catalog, key_of: Callable[[DyffEntity], dg.AssetKey]
) -> dg.TableColumnLineage | None:
    """The columns that each column of an entity's rows may come from; None where none is known, or far too many.

    An answer may come from every field that its service is sent. What a Method makes of its inputs is its own affair:
    each of its columns may come from each of theirs. Only the keys of rows are known to be those of the inputs.

    Args:
        entity: The entity.
        catalog: Where what it names stands.
        key_of: The key of an entity's asset.
    """
    found: dict[str, list[dg.TableColumnDep]] = {}
    pairs = 0
    for column, upstream in _upstream(entity, catalog):
        deps = [
            dg.TableColumnDep(asset_key=key_of(catalog.get(entity_id)), column_name=name)
            for entity_id, name in dict.fromkeys(upstream)
        ]
        pairs += len(deps)
        if deps:
            found[column] = deps
    return dg.TableColumnLineage(deps_by_column=found) if found and pairs <= _MOST else None


_Column = tuple[str, str]
"""An entity's id, and the name of one of its columns."""


def _upstream(entity: DyffEntity, catalog: Catalog) -> Iterator[tuple[str, Iterable[_Column]]]:
    if isinstance(entity, Evaluation):
        yield from _of_evaluation(entity, catalog)
    elif isinstance(entity, Measurement):
        yield from _of_measurement(entity, catalog)
    elif isinstance(entity, Dataset):
        source = catalog.entities.get((catalog.annotation(entity.id, "from") or "").strip())
        if isinstance(source, Evaluation):
            yield from _of_answers(entity, source, catalog)


def _of_evaluation(entity: Evaluation, catalog: Catalog) -> Iterator[tuple[str, Iterable[_Column]]]:
    dataset = catalog.get_as(entity.dataset, Dataset)
    withheld = catalog.withheld(dataset.id) or frozenset()
    sent = [field for field in dataset.schema_.decode() if field.name not in {"_index_", *withheld}]
    read = fields_read(entity.inferenceSession.inferenceService.interface.inputPipeline, sent)
    yield "_index_", [(dataset.id, "_index_")]
    yield "responses", [(dataset.id, name) for name in read]


def _of_measurement(entity: Measurement, catalog: Catalog) -> Iterator[tuple[str, Iterable[_Column]]]:
    inputs = {item.entity: _schema(catalog.entities.get(item.entity)) for item in entity.inputs}
    columns = [(input_id, schema.names) for input_id, schema in inputs.items() if schema is not None]
    instances = entity.level == MeasurementLevel.Instance
    for name in entity.schema_.decode().names:
        if instances and name in _KEYS:
            yield name, [(input_id, name) for input_id, names in columns if name in names]
        else:
            yield (
                name,
                [(input_id, other) for input_id, names in columns for other in names if other not in _KEYS],
            )


def _of_answers(
    entity: Dataset, evaluation: Evaluation, catalog: Catalog
) -> Iterator[tuple[str, Iterable[_Column]]]:
    asked = catalog.get_as(evaluation.dataset, Dataset)
    declared = entity.schema_.decode()
    view = view_of(evaluation, catalog.annotation(entity.id, "ingest"))
    sources = field_sources(declared, evaluation, view, asked.schema_.decode().names)
    keys = {SOURCE_INDEX: "_index_", REPLICATION: "_replication_", RESPONSE_INDEX: "responses"}
    for name in declared.names:
        if name in sources.asked:
            yield name, [(asked.id, name)]
        elif name in sources.view:
            yield name, [(evaluation.id, "responses")]
        elif name in sources.keys:
            yield name, [(evaluation.id, keys[name])]


def _schema(entity: DyffEntity | None) -> pa.Schema | None:
    if isinstance(entity, Dataset | Measurement):
        return entity.schema_.decode()
    if isinstance(entity, Evaluation):
        return entity.inferenceSession.inferenceService.interface.outputSchema.decode()
    return None
