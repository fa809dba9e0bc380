"""Rows written to one Parquet file, in row groups of a size that reads well, and digested on the way."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dyff_dagster.store import FileDigest
from dyff_dagster.store.digests import Digesting

__all__ = ["ROW_GROUP", "Written", "write_rows"]

ROW_GROUP = 65_536
"""Rows of a row group at most: large enough to compress, small enough to stream."""

GROUP_BYTES = 32 * 1024 * 1024
"""Bytes of a row group, about, where rows are long: images, say."""


_HASHED = 256 * 1024
"""Bytes that are handed to the thread that digests, at least."""


@dataclass(frozen=True)
class Written:
    """What was written: how many rows, and the digests of the file."""

    rows: int
    digest: FileDigest


def write_rows(
    batches: Iterable[pa.RecordBatch],
    schema: pa.Schema,
    target: Path,
    look: Callable[[pa.RecordBatch], object] | None = None,
) -> Written:
    """Write record batches of ``schema``.

    Batches smaller than a row group are put together, larger ones are cut. While one group is compressed and written
    the next is read, so that three are in memory at most.

    Args:
        batches: The rows.
        schema: Their schema.
        target: The file.
        look: Called with each batch, in order, in a thread; what it raises is raised here.
    """
    waiting: list[pa.RecordBatch] = []
    rows = size = written = 0
    with (
        _InTurn() as hashing,
        _HashedFile(target, hashing) as file,
        pq.ParquetWriter(file, schema, compression="zstd") as writer,
        _InTurn() as writing,
        _InTurn() as looking,
    ):

        def flush() -> None:
            nonlocal waiting, rows, size
            if waiting:
                table = pa.Table.from_batches(waiting, schema)
                writing.do(lambda: writer.write_table(table, row_group_size=ROW_GROUP))
            waiting, rows, size = [], 0, 0

        for batch in batches:
            if look is not None:
                looking.do(lambda batch=batch: look(batch))  # type: ignore[misc]
            start = 0
            while start < batch.num_rows:
                piece = batch.slice(start, ROW_GROUP - rows)
                waiting.append(piece)
                start += piece.num_rows
                written += piece.num_rows
                rows += piece.num_rows
                size += piece.nbytes
                if rows >= ROW_GROUP or size >= GROUP_BYTES:
                    flush()
        flush()
        looking.wait()
        writing.wait()
    return Written(written, file.digest())


class _InTurn:
    """Does things in a thread, one after another; whoever brings the next waits for the one before."""

    def __enter__(self) -> _InTurn:
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._last: Future[object] | None = None
        return self

    def do(self, what: Callable[[], object]) -> None:
        self.wait()
        self._last = self._pool.submit(what)

    def wait(self) -> None:
        """Until nothing is left to do."""
        if self._last is not None:
            last, self._last = self._last, None
            last.result()

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(wait=True)


class _HashedFile(io.FileIO):
    """A new file whose digests are taken while it is written, in a thread: neither waits for the other for long."""

    def __init__(self, path: Path, hashing: _InTurn) -> None:
        super().__init__(path, "wb")
        self._hashing = hashing
        self._digesting = Digesting()
        self._waiting: list[bytes] = []
        self._size = 0

    def write(self, data: Any) -> int:
        block = bytes(
            data
        )  # that of the caller, which may write into it afterwards; no copy of what is bytes
        self._waiting.append(block)
        self._size += len(block)
        if self._size >= _HASHED:
            blocks, self._waiting, self._size = self._waiting, [], 0
            self._hashing.do(lambda: self._update(blocks))
        view = memoryview(block)
        while view:
            view = view[super().write(view) :]
        return len(block)

    def digest(self) -> FileDigest:
        """Of all that was written."""
        self._hashing.wait()
        self._update(self._waiting)
        return self._digesting.digest()

    def _update(self, blocks: list[bytes]) -> None:
        for block in blocks:
            self._digesting.update(block)
