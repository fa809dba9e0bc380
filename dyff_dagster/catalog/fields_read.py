"""Which fields of its rows a pipeline of adapters may read or pass on."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from dyff_dagster.catalog.pipelines import follow_pipeline
from dyff_dagster.catalog.shapes import shape_of_rows
from dyff_dagster.schema.platform import SchemaAdapter


def fields_read(pipeline: Sequence[SchemaAdapter] | None, fields: Sequence[pa.Field]) -> tuple[str, ...]:
    """The names of those fields, in their order, that may have a part in what comes out of a pipeline.

    A field has none where the pipeline works the same without it, and nothing of that name comes out. What cannot be
    known is taken for possible.
    """
    names = [field.name for field in fields]
    if not pipeline:
        return tuple(names)
    whole = follow_pipeline(pipeline, shape_of_rows(fields))
    if whole.fault is not None:
        return tuple(names)

    def has_part(name: str) -> bool:
        # Withheld it would be missed; not there at all, it would be missing from what comes out, however deep.
        withheld = follow_pipeline(pipeline, shape_of_rows(fields, [name]))
        if withheld.fault is not None or any(doubt.field == name for doubt in withheld.doubts):
            return True
        without = follow_pipeline(pipeline, shape_of_rows([field for field in fields if field.name != name]))
        return without.shape != whole.shape

    if whole.shape.open:
        return tuple(names)
    return tuple(name for name in names if has_part(name))
