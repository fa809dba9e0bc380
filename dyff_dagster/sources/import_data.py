"""CSV, JSON Lines or Parquet made into a Dataset: Parquet with ``_index_``, and its manifest.

A file is read twice, once to learn its types and once to write, and never held in memory whole. An error
names the row or line and the field and never shows what stands there.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from dyff_dagster.schema.annotations import PREFIX
from dyff_dagster.schema.arrow_text import ArrowTextError, format_schema
from dyff_dagster.schema.base import closest
from dyff_dagster.schema.errors import DyffError
from dyff_dagster.schema.ids import check_id
from dyff_dagster.sources.errors import SourceError
from dyff_dagster.sources.gathering import Gathered, gathered
from dyff_dagster.sources.readers import INDEX, RowReader, open_rows
from dyff_dagster.sources.row_groups import write_rows
from dyff_dagster.store import Progress, no_progress

__all__ = ["ImportRefused", "ImportedData", "import_data"]

_LABEL_NAMES = frozenset(
    (
        *("label", "labels", "target", "targets", "answer", "answers", "y", "class", "classes", "diagnosis"),
        *("ground_truth", "groundtruth", "gold", "truth", "solution", "outcome", "correct", "correct_answer"),
        *("expected", "expected_answer", "expected_output", "reference_answer", "ideal"),
    )
)


class ImportRefused(DyffError):
    """A file cannot become a Dataset as it is, or must not be without a further word."""


@dataclass(frozen=True)
class ImportedData:
    """What an import wrote: the manifest, the Parquet file, its rows, and its Arrow schema with ``_index_``."""

    manifest: Path
    parquet: Path
    rows: int
    schema: pa.Schema


def import_data(
    source: str | Path,
    *,
    id: str | None = None,
    account: str,
    name: str | None = None,
    withhold: Sequence[str] | None = None,
    out: Path,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> ImportedData:
    """Write ``OUT/ID/data.parquet`` and ``OUT/ID/dataset.yaml`` from one file, or several that are read as one.

    Args:
        source: ``*.csv``, ``*.jsonl``, ``*.ndjson`` or ``*.parquet``; a directory or an archive of such files; or where
            they lie elsewhere: a URL, ``hf:ORG/NAME@REVISION/PATTERN``, ``zenodo:DOI/files/PATTERN``. A column
            ``_index_`` is kept where its numbers are unique integers; without one the rows are numbered from 0.
        id: The Dataset's id, by default made from the file's name.
        account: Who the Dataset belongs to.
        name: The Dataset's name, by default the file's.
        withhold: Fields that no service may see. None says nothing about it, and is refused where a field's
            name looks like a label; an empty list says that there are none.
        out: The directory of data sets.
        overwrite: Replace an import that is there already.
        progress: Told how far a download is.

    Returns:
        What was written. A crash leaves the directory as it was, or the new rows beside the old manifest.

    Raises:
        ImportRefused: The file cannot be read or typed, ``_index_`` is no key, a withheld field is not
            there, a label is not mentioned, the account is empty, or there is an import of that id already.
        IdError: ``id`` is no possible id.
    """
    out = Path(out)
    dataset_id = check_id(_id_from(source) if id is None else id)
    if not account.strip() or not account.isprintable():
        raise ImportRefused("the account is empty or has control characters; name who owns the data set")
    target = out / dataset_id
    if not overwrite:
        for existing in (target / "dataset.yaml", target / "data.parquet"):
            if existing.exists():
                raise ImportRefused(
                    f"{existing} is there already; import under another id, or say --overwrite"
                )
    with tempfile.TemporaryDirectory(prefix="dyff-import-") as unpacked:
        try:
            with gathered(source, Path(unpacked), progress) as found:
                try:
                    return _import(found, dataset_id, account, name, withhold, out)
                except ImportRefused as error:
                    raise ImportRefused(found.named(str(error))) from None
        except SourceError as error:
            raise ImportRefused(str(error)) from None


def _import(
    found: Gathered,
    dataset_id: str,
    account: str,
    name: str | None,
    withhold: Sequence[str] | None,
    out: Path,
) -> ImportedData:
    source = found.label
    if len(found.files) == 1:
        source = found.files[0] if found.origin is None else found.label
        reader = open_rows(found.files[0], ImportRefused)
    else:
        reader = open_rows(source, ImportRefused, found.files)
    fields = [field.name for field in reader.schema if field.name != INDEX]
    if not fields and not reader.schema.names[1:] and next(reader.batches(), None) is None:
        raise ImportRefused(f"{source} has no rows; there would be nothing to evaluate")
    if not fields:
        raise ImportRefused(f"{source} has no fields besides {INDEX}; a data set needs one")
    withheld = _withheld(source, fields, withhold)
    try:
        types = {name: text for name, text in format_schema(reader.schema).items() if name != INDEX}
    except ArrowTextError as error:
        raise ImportRefused(f"{source}: {error}; convert the column to a plain type first") from None

    target = out / dataset_id
    out.mkdir(parents=True, exist_ok=True)
    # On the same disk as its final place, so that a rename moves it there whole; hidden from catalogs.
    scratch = Path(tempfile.mkdtemp(prefix=f".{dataset_id}.import-", dir=out))
    try:
        rows = _write_parquet(reader, scratch / "data.parquet")
        _check_written(source, reader.schema, scratch / "data.parquet")
        if rows == 0:
            raise ImportRefused(f"{source} has no rows; there would be nothing to evaluate")
        annotations = {f"{PREFIX}withhold": ", ".join(withheld)}
        if found.origin is not None:
            annotations["imported-from"] = found.origin
        manifest = {
            "kind": "Dataset",
            "id": dataset_id,
            "account": account,
            "name": found.label.stem if name is None else name,
            "annotations": annotations,
            "artifacts": [{"path": "data.parquet"}],
            "schema": {"arrow": types},
        }
        text = yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True, width=100)
        _write_synced(scratch / "dataset.yaml", text.encode())
        _publish(scratch, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return ImportedData(target / "dataset.yaml", target / "data.parquet", rows, reader.schema)


def _id_from(source: str | Path) -> str:
    stem = Path(str(source).partition("#")[0].partition("?")[0]).stem.split("*")[0]
    text = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:128]
    if not text:
        raise ImportRefused(f"no id can be made from the name of {source}; say --id ID")
    return text


def _withheld(source: Path, fields: Sequence[str], withhold: Sequence[str] | None) -> list[str]:
    if withhold is None:
        suspects = [name for name in fields if _is_label(name)]
        if suspects:
            shown = ", ".join(suspects)
            raise ImportRefused(
                f"{source}: {shown} may be what a service is to find out; "
                f"say --withhold {','.join(suspects)} to keep it from every service, or --withhold '' to send it"
            )
        return []
    chosen = [name.strip() for name in withhold if name.strip()]
    for name in chosen:
        if name not in fields:
            near = closest(name, fields)
            hint = f"did you mean '{near}'?" if near else "it has: " + ", ".join(fields[:20])
            raise ImportRefused(f"{source} has no field '{name}' to withhold; {hint}")
        if "," in name:
            raise ImportRefused(
                f"{source}: the field '{name}' has a comma in its name; rename it to withhold it"
            )
    return list(dict.fromkeys(chosen))


def _is_label(name: str) -> bool:
    return re.sub(r"[\s-]+", "_", name.strip()).lower() in _LABEL_NAMES


def _write_parquet(reader: RowReader, path: Path) -> int:
    rows = write_rows(reader.batches(), reader.schema, path).rows
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())
    return rows


def _check_written(source: Path, schema: pa.Schema, path: Path) -> None:
    """The manifest says what the schema is, so the file must say the same, or it could never be taken in."""
    found = pq.read_schema(path)
    for field in schema:
        kind = found.field(field.name).type
        if kind != field.type:
            raise ImportRefused(
                f"{source}: the column {field.name} is {field.type} and becomes {kind} in Parquet; "
                "convert it to another type first"
            )


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _publish(scratch: Path, target: Path) -> None:
    """Put the two files in place, the manifest last; an old one stays until the new one takes its place."""
    try:
        if not target.exists():
            scratch.chmod(0o755)  # mkdtemp's is private
            scratch.rename(target)
            return
        (scratch / "data.parquet").replace(target / "data.parquet")
        (scratch / "dataset.yaml").replace(target / "dataset.yaml")
    except OSError as error:
        raise ImportRefused(f"{target} cannot be written: {error.strerror}") from error
