"""What Parquet makes of Arrow types: it has no seconds, and dates in days only."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from dyff_dagster.schema.errors import DyffError

__all__ = ["NotStorable", "stored_schema"]


class NotStorable(DyffError):
    """A type that no Parquet file can hold; ``field`` is the field that has it, ``kind`` the type."""

    def __init__(self, field: str, kind: pa.DataType) -> None:
        self.field, self.kind = field, kind
        super().__init__(f"field {field} is {kind}, which Parquet cannot hold: choose another type")


def stored_schema(schema: pa.Schema) -> pa.Schema:
    """The schema that is read from a Parquet file that was written with ``schema``.

    ``timestamp[s]`` comes back as ``timestamp[ms]``, ``time32[s]`` as ``time32[ms]`` and ``date64`` as
    ``date32``, also within lists and structs; every other type as it is.

    Raises:
        NotStorable: a field cannot be written at all.
    """
    fields = []
    for field in schema:
        try:
            # Asked, not listed here: what is restored is for the library to say that writes and reads.
            found = _round_trip(field)
        except (pa.ArrowException, OSError):
            raise NotStorable(field.name, field.type) from None
        fields.append(field if found == field.type else field.with_type(found))
    return pa.schema(fields)


def _round_trip(field: pa.Field) -> pa.DataType:
    buffer = pa.BufferOutputStream()
    pq.ParquetWriter(buffer, pa.schema([field])).close()
    return pq.read_schema(pa.BufferReader(buffer.getvalue())).field(0).type
