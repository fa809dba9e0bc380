"""Some columns of a measurement, with the proof that they are those of its data version.

The content digest is made of digests of each column (:mod:`dyff_dagster.schema.content`). A bundle has the columns
that its scores were made of, in ``rows.arrow`` (an Arrow IPC stream, in the order in which rows are digested,
uncompressed), and of every other column the digests only, in ``rows.json``::

    {"rows": 380, "columns": [["_index_"], ["prompt", ["string", []], ["9f…", "e3…", "0a…"]]]}

A column of one entry is in ``rows.arrow``. Together they make the data version again, so the columns that are
there are proven, and those that are not are not disclosed. (A digest hides what cannot be guessed: whoever knows all
values of a column but a few can try these.)
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from dyff_dagster.audits.bundle.errors import NotABundle
from dyff_dagster.schema.canonical import canonical_json
from dyff_dagster.schema.content import ContentDigest, ContentError, combined_digest, in_order

_BATCH = 1 << 16


def project(table: pa.Table, columns: Iterable[str]) -> tuple[bytes, bytes]:
    """``rows.json`` and ``rows.arrow`` of a table and the columns of it that are shown."""
    table = in_order(table).replace_schema_metadata(None)
    kept = [name for name in table.column_names if name in set(columns)]
    digest = ContentDigest(table.schema)
    for batch in table.to_batches(max_chunksize=_BATCH):
        digest.update(batch)
    said: list[list[Any]] = [
        [name] if name in kept else [name, shape, streams] for name, shape, streams in digest.columns()
    ]
    rows = table.select(kept).combine_chunks()
    buffer = io.BytesIO()
    with pa.ipc.new_stream(buffer, rows.schema) as writer:
        writer.write_table(rows, max_chunksize=_BATCH)
    return canonical_json({"rows": table.num_rows, "columns": said}), buffer.getvalue()


def read_projection(path: Path) -> pa.Table:
    """The columns that are there.

    Raises:
        NotABundle: The file is no Arrow stream, or one of arrays that contradict themselves.
    """
    try:
        with path.open("rb") as file, pa.ipc.open_stream(file) as reader:
            table = reader.read_all()
        # Offsets that lead out of their buffers are a way into this process.
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError, EOFError) as error:
        raise NotABundle(f"{path.name} cannot be read ({type(error).__name__})") from None
    return table


def projected_digest(described: dict[str, Any], table: pa.Table) -> str:
    """The content digest of all columns, of those that are there and of the digests of the others.

    Raises:
        NotABundle: What describes them does not fit the columns that are there.
    """
    digest = ContentDigest(table.schema)
    for batch in table.to_batches():
        digest.update(batch)
    there = {name: (name, shape, streams) for name, shape, streams in digest.columns()}
    try:
        merged = []
        for column in described["columns"]:
            if len(column) == 1:
                merged.append(there.pop(column[0]))
            else:
                name, shape, streams = column
                if name in there:
                    raise ValueError
                merged.append((name, shape, streams))
        if there or described["rows"] != table.num_rows:
            raise ValueError
        return combined_digest(merged, table.num_rows)
    except (KeyError, TypeError, ValueError, ContentError):
        raise NotABundle("rows.json does not describe the columns of rows.arrow") from None
