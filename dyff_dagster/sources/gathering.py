"""The files that ``dyff-dagster import-data`` is pointed at, fetched and out of their archives."""

from __future__ import annotations

import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dyff_dagster.catalog.ingest import ARCHIVES, kind_of
from dyff_dagster.catalog.origins import is_url, not_read
from dyff_dagster.schema.canonical import sha256_text
from dyff_dagster.schema.platform import ArchiveFormat, DataSource, DataSources
from dyff_dagster.sources import data_sources
from dyff_dagster.sources.archives import unpack
from dyff_dagster.sources.errors import SourceError
from dyff_dagster.sources.hub_cache import users_cache
from dyff_dagster.sources.local_files import files_below
from dyff_dagster.store import Inputs, Progress, Store, local_path

_KINDS = {"hf": DataSources.huggingface, "zenodo": DataSources.zenodo, "doi": DataSources.zenodo}


@dataclass(frozen=True)
class Gathered:
    """Files of one kind, read as one.

    Attributes:
        label: What they are called in messages: the file, or what was asked for.
        files: Where they lie, by name.
        origin: Where they come from, pinned, where that is not this disk.
        root: A directory that they lie in for as long as they are read, and not longer.
    """

    label: Path
    files: list[Path]
    origin: str | None = None
    root: Path | None = None

    def named(self, message: str) -> str:
        """A message without the directories that these files lie in for the moment."""
        return message if self.root is None else message.replace(f"{self.root}/", "")


@contextmanager
def gathered(source: str | Path, scratch: Path, progress: Progress) -> Generator[Gathered, None, None]:
    """Have the files of a source at hand for the length of a block.

    Args:
        source: A file, an archive or a directory on this disk; a URL; ``hf:ORG/NAME@REVISION/PATTERN``;
            ``zenodo:DOI/files/PATTERN``.
        scratch: An empty directory for what is unpacked.
        progress: Told how far it is.

    Raises:
        SourceError: There is no such source, it cannot be read, or its files are of several kinds.
    """
    text = str(source)
    prefix, _, rest = text.partition(":")
    if is_url(text):
        kind, rest = DataSources.upload, text
    elif prefix in _KINDS and not Path(text).exists():
        kind = _KINDS[prefix]
    elif (fault := not_read(text)) is not None:
        raise SourceError(f"{text} {fault}", "FetchFailed")
    else:
        path = Path(source)
        files = {path.name: path}
        if path.is_dir():
            files = {name: path / name for name in files_below(path)}
        found = _of_one_kind(path, _unpacked(files, scratch, progress))
        yield Gathered(path, found, root=scratch if found[0].is_relative_to(scratch) else None)
        return
    with _fetched(kind, rest, progress) as (root, files, origin):
        label = Path(text.partition("#")[0].partition("?")[0])
        found = _of_one_kind(label, _unpacked(files, scratch, progress))
        yield Gathered(label, found, origin, scratch if found[0].is_relative_to(scratch) else root)


@contextmanager
def _fetched(
    kind: DataSources, source: str, progress: Progress
) -> Generator[tuple[Path, dict[str, Path], str], None, None]:
    """A remote source's files, in a store that lasts as long as the block; what was downloaded stays in its cache."""
    store = Store(users_cache().parent / "dyff-dagster")
    entity = DataSource(
        id=f"import-{sha256_text(source)[:16]}", account="-", name=source, sourceKind=kind, source=source
    )
    try:
        with store.lock(entity.id, wait=5.0), store.draft(entity.id) as draft:
            inputs = Inputs(spec="", extras=data_sources.source_inputs(entity))
            taken = data_sources.take_data(entity, store, draft, inputs, progress)
            pinned = taken.notes.get("revision") or taken.notes.get("record") or ""
            name = taken.notes.get("repository") or taken.notes.get("doi") or taken.notes.get("url") or source
            yield (
                draft.path,
                {name: draft.path / name for name in taken.digests},
                f"{name}@{pinned}" if pinned else name,
            )
    except SourceError as error:
        raise SourceError(str(error).replace(f"{entity.id}: ", "", 1), error.reason) from None
    finally:
        shutil.rmtree(local_path(store.directory(entity.id)), ignore_errors=True)


def _unpacked(files: dict[str, Path], scratch: Path, progress: Progress) -> dict[str, Path]:
    """The files, those out of archives among them; what an archive is its suffix says."""
    formats = []
    for name in files:
        lower = name.lower()
        form = max((form for form in ARCHIVES if lower.endswith(f".{form}")), key=len, default=None)
        if form is not None:
            formats.append(ArchiveFormat(name=name, format=form))
    if not formats:
        return files
    return unpack("import-data", files, formats, scratch, max_bytes=None, progress=progress)


def _of_one_kind(label: Path, files: dict[str, Path]) -> list[Path]:
    tables = {name: kind for name in sorted(files) if (kind := kind_of(name)) in ("csv", "jsonl", "parquet")}
    if not tables and len(files) == 1:
        return list(files.values())  # the reader says what is wrong with it
    if len(set(tables.values())) != 1:
        what = "files of several kinds" if tables else "no CSV, JSON Lines or Parquet file"
        raise SourceError(
            f"{label} holds {what}: write a DataSource and a Dataset, whose dyff-dagster/ingest says what to load",
            "IngestFailed",
        )
    return [files[name] for name in tables]
