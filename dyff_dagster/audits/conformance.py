"""Does a committed version have the schema that its manifest declares? Read off the files, not off the promise."""

from __future__ import annotations

import pyarrow as pa

from dyff_dagster.evaluation.part import CLASS
from dyff_dagster.schema.annotations import annotation
from dyff_dagster.schema.arrow import decode_schema, open_dataset
from dyff_dagster.schema.parquet import DatasetPathError
from dyff_dagster.schema.platform import Dataset, DyffEntity, Evaluation, Measurement
from dyff_dagster.sources.stored_types import stored_schema
from dyff_dagster.store import Commit


def schema_fault(entity: DyffEntity, commit: Commit) -> str:
    """What keeps the version's rows from having the declared schema, as one clause; empty where nothing does.

    Args:
        entity: A Dataset, Evaluation or Measurement; other kinds have no rows, and no fault.
        commit: The version.
    """
    declared = _declared(entity)
    if declared is None:
        return ""
    try:
        found = open_dataset(commit.path).schema
    except DatasetPathError:
        return f"there are no files any more in {commit.path}"
    except (OSError, ValueError, pa.ArrowException) as error:
        return f"the files in {commit.path} cannot be read as Parquet ({type(error).__name__})"
    for column in stored_schema(declared):
        position = found.get_field_index(column.name)
        if position < 0:
            return f"the field {column.name} is declared and not there"
        if found.field(position).type != column.type:
            return f"the field {column.name} is {found.field(position).type} and declared as {column.type}"
    surplus = [name for name in found.names if declared.get_field_index(name) < 0]
    return f"the field {surplus[0]} is there and not declared" if surplus else ""


def _declared(entity: DyffEntity) -> pa.Schema | None:
    if isinstance(entity, Dataset | Measurement):
        return decode_schema(entity.schema_.arrowSchema)
    if isinstance(entity, Evaluation):
        interface = entity.inferenceSession.inferenceService.interface
        schema = decode_schema(interface.outputSchema.arrowSchema)
        # Where classes of errors are accepted as answers, the class travels with each answer.
        return schema.append(pa.field(CLASS, pa.string())) if annotation(entity, "accept") else schema
    return None
