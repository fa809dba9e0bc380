"""Rows of a committed version, some at a time, for people who want to see what a number rests on.

Of a file its footer is read and, of one row group after the other, what is shown: never the whole.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dyff_dagster.analysis.templating import environment
from dyff_dagster.schema.parquet import filesystem_of
from dyff_dagster.store import Column, Commit

if TYPE_CHECKING:
    import pyarrow.parquet as pq
    from upath import UPath

PAGE_ROWS = 50
"""Rows on a page, at most."""

CELL = 400
"""Characters of a value that are shown; of the others their number is."""

_HELD_BYTES = 4 << 20
"""Bytes of rows that are decoded at once, going by a row group's mean: a row may hold images."""

_HELD_ROWS = 4096


@dataclass(frozen=True)
class Cell:
    """A value as it is shown: its text, how many characters were left out, and whether it is a number."""

    text: str
    left_out: int = 0
    number: bool = False


@dataclass(frozen=True)
class RowPage:
    """Some rows of a table.

    Attributes:
        columns: Its columns.
        rows: The cells of each row that is shown.
        first: Number of the first of them, from 0.
        total: How many the table has.
        held: How many a page of rows like these holds.
    """

    columns: tuple[Column, ...]
    rows: list[list[Cell]] = field(default_factory=list)
    first: int = 0
    total: int = 0
    held: int = PAGE_ROWS

    @property
    def last(self) -> int:
        """Number of the last row that is shown, counted from 1."""
        return self.first + len(self.rows)

    @property
    def before(self) -> int | None:
        """Where the page before begins; None on the first one."""
        return max(0, self.first - self.held) if self.first else None

    @property
    def after(self) -> int | None:
        """Where the next page begins; None on the last one."""
        return self.last if self.rows and self.last < self.total else None

    @property
    def end(self) -> int:
        """Where the last page begins."""
        return max(0, self.total - self.held)


def has_rows(commit: Commit) -> bool:
    """Whether a version is a table whose rows can be shown."""
    return commit.facts.rows is not None and bool(row_files(commit))


def row_files(commit: Commit) -> list[str]:
    """The files that hold a version's rows, in their order; hidden ones hold something else."""
    return sorted(
        name
        for name in commit.files
        if name.endswith(".parquet") and not any(part.startswith(".") for part in PurePosixPath(name).parts)
    )


def read_rows(
    files: Sequence[tuple[str, UPath]], columns: Sequence[Column], total: int, first: int
) -> RowPage | None:
    """The rows from ``first`` on that fit on a page; None where there is no such row.

    Args:
        files: The files by name, in order; directories named ``key=value`` are columns.
        columns: The table's columns.
        total: How many rows it has.
        first: Number of the first row, from 0.
    """
    if total == 0 and first == 0:
        return RowPage(tuple(columns))
    shown: list[list[Cell]] = []
    held = PAGE_ROWS
    for keys, batch, limit in _batches(files, first):
        held = min(held, limit)
        piece = batch.slice(0, held - len(shown))
        found = {name: _values(piece.column(name)) for name in piece.schema.names}
        for number in range(piece.num_rows):
            values = {**keys, **{name: column[number] for name, column in found.items()}}
            shown.append([_cell(values.get(column.name)) for column in columns])
        if len(shown) >= held:
            break
    return RowPage(tuple(columns), shown, first, total, held) if shown else None


def _batches(
    files: Sequence[tuple[str, UPath]], first: int
) -> Iterator[tuple[Mapping[str, str], pa.RecordBatch, int]]:
    """Batches from a row on, each with its directory's keys and how many rows like its own a page holds."""
    skip = first
    for name, path in files:
        with _open(path) as file:
            if skip >= file.metadata.num_rows:
                skip -= file.metadata.num_rows
                continue
            keys = dict(part.split("=", 1) for part in PurePosixPath(name).parts[:-1] if "=" in part)
            for number in range(file.metadata.num_row_groups):
                group = file.metadata.row_group(number)
                if skip >= group.num_rows:
                    skip -= group.num_rows
                    continue
                mean = max(1, group.total_byte_size // group.num_rows)
                size = min(_HELD_ROWS, max(1, _HELD_BYTES // mean))
                for batch in file.iter_batches(size, row_groups=[number], use_threads=False):
                    if skip >= batch.num_rows:
                        skip -= batch.num_rows
                        continue
                    yield keys, batch.slice(skip), min(PAGE_ROWS, size)
                    skip = 0


def _open(path: UPath) -> pq.ParquetFile:
    import pyarrow.parquet as pq

    fs, name = filesystem_of(path)
    # Pages of a column chunk are read as they are needed, and not the chunk at once.
    return pq.ParquetFile(fs.open_input_file(name), buffer_size=1 << 16, pre_buffer=False)


def _values(column: pa.Array) -> list[Any]:
    """The values of a column; one that Python has no value for is text that says so."""
    if pa.types.is_temporal(column.type) and not pa.types.is_duration(column.type):
        # Python's times end with the year 9999 and with microseconds.
        with suppress(pa.ArrowException):
            column = column.cast(pa.string())
    with suppress(ValueError, OverflowError):
        return list(column.to_pylist())
    return [_value(scalar) for scalar in column]


def _value(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except (ValueError, OverflowError):
        return "(cannot be shown)"


def _cell(value: Any) -> Cell:
    if value is None:
        return Cell("–")
    if isinstance(value, bool):
        return Cell("true" if value else "false")
    if isinstance(value, int):
        return Cell(str(value), number=True)
    if isinstance(value, float):
        return Cell(repr(value) if math.isfinite(value) else str(value), number=True)
    if isinstance(value, list | dict | tuple):
        text = json.dumps(value, ensure_ascii=False, default=_plain)
    else:
        text = _plain(value)
    return Cell(text[:CELL], max(0, len(text) - CELL))


def _plain(value: Any) -> str:
    return f"({len(value):,} bytes)" if isinstance(value, bytes) else str(value)


def render_rows(page: RowPage, commit: Commit, title: str) -> str:
    """A page of rows as HTML, every value escaped.

    Args:
        page: The rows.
        commit: The version that they are of.
        title: What the entity is called.
    """
    return (
        environment()
        .get_template("rows.html.j2")
        .render(
            page=page,
            commit=commit,
            title=title,
            kicker=f"{commit.kind} · rows",
            links=_links(commit),
        )
    )


def _links(commit: Commit) -> list[tuple[str, str]]:
    """What else there is to read of the version."""
    found = []
    if commit.facts.page:
        found.append(("Its page", "./"))
    if commit.facts.notebook:
        found.append(("The executed notebook", "notebook"))
    return found
