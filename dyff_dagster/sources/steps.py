"""Extractor steps: how the files of a DataSource become the rows of a Dataset.

- ``load``: appends the rows of the files that fit ``name``, a pattern of paths, in the order of their names. ``type``
  says what they are read as (``csv``, ``json``, ``jsonl``, ``parquet``, ``image``, ``text``); without it their suffix
  does. A ``{field}`` in the pattern becomes a field.
- ``rename``: calls the field ``name`` as ``type`` says. ``a.b`` is the field ``b`` of the object ``a``, taken out of
  it.
- ``join``: adds the fields of that one row of the files ``name`` that has the same value in the field ``type``, or,
  with ``OWN=THEIRS``, in a field of another name.
- ``explode``: makes a row of each element of the list ``name``, or of several lists of one length, comma separated.

Rows stream through in batches. Of a file that is joined its keys are in memory, and its rows on disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from dyff_dagster.catalog.ingest import KINDS, kind_of
from dyff_dagster.schema.platform import ExtractorStep
from dyff_dagster.sources.errors import IngestError
from dyff_dagster.sources.patterns import Pattern, PatternError
from dyff_dagster.sources.raw_files import RawFile, Wanted, read_files

_MOST_ROWS = 65_536

Batches = Iterator[pa.RecordBatch]


@dataclass(frozen=True)
class Extraction:
    """Files, and what is done with them.

    Attributes:
        owner: Id of the data set, for messages.
        files: Paths by name.
        steps: What is done, in order; the first one is a load.
        scratch: A directory for what is too large for memory.
    """

    owner: str
    files: Mapping[str, Path]
    steps: Sequence[ExtractorStep]
    scratch: Path

    @property
    def lacks_nothing(self) -> bool:
        """Whether a field that no row has is null in each of them: JSON leaves out what is null."""
        loads = [(number, step) for number, step in enumerate(self.steps, 1) if step.action == "load"]
        kinds = {kind for number, step in loads for kind, _ in self._matching(step, number, step.type)}
        return kinds <= {"json", "jsonl"}

    def batches(self, types: Mapping[str, pa.DataType]) -> Batches:
        """The rows after all steps.

        Args:
            types: The fields that the result must have, with the types that they are to get: JSON is read into them,
                other files are as they are.

        Raises:
            IngestError: A file, a field or a partner is missing, or a file cannot be read.
        """
        alone = all(step.action == "load" for step in self.steps)
        names = {"_index_", *types}
        for step in reversed(self.steps):
            names |= _read_by(step)
        # What is only loaded has the types that it is to get; what goes through steps has its own until the end.
        wanted: Wanted = {"_index_": pa.int64(), **types} if alone else dict.fromkeys(sorted(names))
        rows: Batches = iter(())
        for number, step in enumerate(self.steps, 1):
            if step.action == "load":
                rows = _chained(rows, self._load(step, number, wanted))
            elif step.action == "rename":
                rows = self._rename(rows, step, number)
            elif step.action == "explode":
                rows = self._explode(rows, step, number)
            else:
                rows = self._join(rows, step, number, wanted)
        return rows

    def _load(self, step: ExtractorStep, number: int, wanted: Wanted) -> Batches:
        for kind, files in self._matching(step, number, step.type):
            for _, _, batch in read_files(kind, files, wanted, self._error):
                yield batch

    def _matching(
        self, step: ExtractorStep, number: int, kind: str | None
    ) -> list[tuple[str, list[RawFile]]]:
        """The files that a step names, by what they are read as, each by name."""
        text = step.name or "**"
        try:
            pattern = Pattern(text)
        except PatternError as error:
            raise self._failed(number, str(error)) from None
        found: dict[str, list[RawFile]] = {}
        for name in sorted(self.files):
            captured = pattern.captures(name)
            if captured is None:
                continue
            as_what = kind or kind_of(name)
            if as_what is None:
                if step.name is None:
                    continue  # a README among the data
                suffixes = ", ".join(suffix for suffixes in KINDS.values() for suffix in suffixes)
                raise self._failed(
                    number, f"{name} has none of the suffixes {suffixes}: say with type what it is read as"
                )
            found.setdefault(as_what, []).append(RawFile(name, self.files[name], captured))
        if not found:
            shown = ", ".join(sorted(self.files)[:5])
            raise self._failed(number, f"no file of its data source fits {text}: there are {shown}")
        return list(found.items())

    def _rename(self, rows: Batches, step: ExtractorStep, number: int) -> Batches:
        old, new = str(step.name), str(step.type)
        first, *inner = old.split(".")
        for batch in rows:
            whole = old in batch.schema.names
            column = self._column(batch, old if whole else first, number)
            for name in [] if whole else inner:
                if not pa.types.is_struct(column.type) or column.type.get_field_index(name) < 0:
                    raise self._failed(number, f"{old} is no field: {first} is {_kind(column.type)}")
                column = pc.struct_field(column, name)
            names = list(batch.schema.names)
            columns = list(batch.columns)
            if whole or not inner or new == first:
                place = names.index(old if whole else first)
                del names[place], columns[place]
            if new in names:
                raise self._failed(number, f"there is a field {new} already: give {old} another name")
            yield pa.RecordBatch.from_arrays([*columns, column], names=[*names, new])

    def _explode(self, rows: Batches, step: ExtractorStep, number: int) -> Batches:
        fields = [name.strip() for name in str(step.name).split(",")]
        for batch in rows:
            lists = {name: self._column(batch, name, number) for name in fields}
            for name, column in lists.items():
                if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
                    raise self._failed(
                        number, f"field {name} is {_kind(column.type)}, and only lists have elements"
                    )
            counts = [pc.fill_null(pc.list_value_length(column), 0) for column in lists.values()]
            if any(not count.equals(counts[0]) for count in counts):
                raise self._failed(
                    number, f"the lists {', '.join(fields)} of a row are not of the same length"
                )
            # A list may hold the elements of thousands of rows: as few rows at a time as make a batch.
            for start, count in _spans(counts[0].to_pylist()):
                piece = batch.slice(start, count)
                parents = pc.list_parent_indices(piece.column(fields[0]))
                columns = [
                    pc.list_flatten(column) if name in lists else column.take(parents)
                    for name, column in zip(piece.schema.names, piece.columns, strict=True)
                ]
                # Numbers of rows would stand several times: what comes out is numbered anew.
                kept = [
                    (name, column)
                    for name, column in zip(piece.schema.names, columns, strict=True)
                    if name != "_index_"
                ]
                yield pa.RecordBatch.from_arrays(
                    [column for _, column in kept], names=[name for name, _ in kept]
                )

    def _join(self, rows: Batches, step: ExtractorStep, number: int, wanted: Wanted) -> Batches:
        own, _, theirs = str(step.type).partition("=")
        theirs = theirs or own
        keys, table = self._other(step, number, theirs, wanted)
        done = 0
        for batch in rows:
            column = _as_text(self._column(batch, own, number))
            places = pc.index_in(column, value_set=keys)
            if places.null_count:
                row = done + pc.index(places.is_null(), True).as_py()
                raise self._failed(
                    number,
                    f"row {row} has no partner in {step.name}, where {theirs} would have to be what its {own} is",
                )
            partners = table.take(places).combine_chunks().to_batches()
            done += batch.num_rows
            names = list(batch.schema.names)
            columns = list(batch.columns)
            for name in table.schema.names:
                if name in names and name in wanted:
                    raise self._failed(
                        number,
                        f"{step.name} has a field {name}, and so have the rows: rename that of the rows before",
                    )
                if name not in names and partners:
                    names.append(name)
                    columns.append(partners[0].column(name))
            yield pa.RecordBatch.from_arrays(columns, names=names)

    def _other(self, step: ExtractorStep, number: int, key: str, wanted: Wanted) -> tuple[pa.Array, pa.Table]:
        """Keys of what is joined, in memory, and its rows, mapped from disk."""
        path = self.scratch / f"joined-{number}.arrow"
        keys: list[pa.Array] = []
        writer: pa.RecordBatchFileWriter | None = None
        schema: pa.Schema | None = None
        try:
            for kind, files in self._matching(step, number, None):
                for file, _, batch in read_files(kind, files, wanted, self._error):
                    keys.append(_as_text(self._column(batch, key, number)))
                    names = [name for name in batch.schema.names if name not in (key, "_index_")]
                    batch = batch.select(names)
                    if writer is None:
                        schema = batch.schema
                        writer = pa.ipc.new_file(str(path), schema)
                    elif not batch.schema.equals(schema):
                        raise self._failed(number, f"{file.name} has other fields than the files before it")
                    writer.write_batch(batch)
        finally:
            if writer is not None:
                writer.close()
        values = pa.chunked_array(keys, pa.string()).combine_chunks() if keys else pa.array([], pa.string())
        if writer is None:
            raise self._failed(number, f"{step.name} has no rows to join")
        if pc.count_distinct(values, mode="all").as_py() != len(values):
            raise self._failed(
                number, f"{key} stands twice in {step.name}: there it must be another in each row"
            )
        return values, pa.ipc.open_file(pa.memory_map(str(path))).read_all()

    def _column(self, batch: pa.RecordBatch, name: str, number: int) -> pa.Array:
        if batch.schema.names.count(name) != 1:
            known = ", ".join(batch.schema.names)
            raise self._failed(number, f"there is no one field {name}: the rows have {known}")
        return batch.column(name)

    def _failed(self, number: int, problem: str) -> IngestError:
        return IngestError(f"{self.owner}: step {number} of dyff-dagster/ingest: {problem}")

    @property
    def _error(self) -> type[IngestError]:
        owner = self.owner

        class Named(IngestError):
            def __init__(self, message: str) -> None:
                super().__init__(f"{owner}: {message}")

        return Named


def _read_by(step: ExtractorStep) -> set[str]:
    """Names of the fields that a step reads."""
    if step.action == "rename":
        old = str(step.name)
        return {old, old.split(".")[0]}
    if step.action == "explode":
        return {name.strip() for name in str(step.name).split(",")}
    if step.action == "join":
        own, _, theirs = str(step.type).partition("=")
        return {own, theirs or own}
    return set()


def _spans(counts: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Runs of rows whose lists hold some ten thousand elements together."""
    start = elements = 0
    for row, count in enumerate(counts):
        elements += count
        if elements >= _MOST_ROWS:
            yield start, row + 1 - start
            start, elements = row + 1, 0
    if start < len(counts):
        yield start, len(counts) - start


def _as_text(column: pa.Array) -> pa.Array:
    """Keys as text, so that a number in a CSV file is the number in a JSON file."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
    return column.cast(pa.string())


def _kind(kind: pa.DataType) -> str:
    return "an object" if pa.types.is_struct(kind) else "a list" if pa.types.is_list(kind) else str(kind)


def _chained(first: Batches, second: Batches) -> Batches:
    yield from first
    yield from second
