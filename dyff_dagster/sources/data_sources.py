"""DataSources: raw files from a directory, a web server, a data set on the Hugging Face Hub, or a record of Zenodo."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from dyff_dagster.catalog.origins import (
    HubOrigin,
    OriginFault,
    ZenodoOrigin,
    is_url,
    parse_hub,
    parse_url,
    parse_zenodo,
)
from dyff_dagster.schema.platform import DataSource, DataSources
from dyff_dagster.sources import hub, web, zenodo
from dyff_dagster.sources.errors import SourceError
from dyff_dagster.sources.hub import Repository
from dyff_dagster.sources.hub_cache import cache_of, fetch_files, snapshot
from dyff_dagster.store import Draft, FileDigest, Inputs, Progress, Store
from dyff_dagster.store.paths import PathOutside, resolve_inside

T = TypeVar("T")

COMMIT = "commit"
RECORD = "record"
CONTENT = "content"
"""Names among a version's inputs of what its files are of: a commit, a record's files, a URL's content."""


@dataclass
class TakenData:
    """Files in a draft: their digests, and what is known of where they come from."""

    digests: dict[str, FileDigest] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)


def is_remote(entity: DataSource) -> bool:
    """Whether a DataSource's files come from elsewhere."""
    return entity.sourceKind != DataSources.upload or is_url(entity.source)


def _repository(entity: DataSource) -> tuple[Repository, HubOrigin]:
    origin = _read(entity, parse_hub)
    return Repository(origin.name, "dataset", entity.id), origin


def _read(entity: DataSource, parse: Callable[[str], T]) -> T:
    if not entity.source:
        raise SourceError(f"{entity.id}: it names no source: say where its files are")
    try:
        return parse(entity.source)
    except OriginFault as error:
        raise SourceError(f"{entity.id}: its source {error}") from None


def source_inputs(entity: DataSource, recorded: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a remote DataSource stands for now, by digest; the net is asked only where that can change.

    Args:
        entity: The DataSource.
        recorded: What its last version was made from: taken for what it stands for now, and the net is not asked.

    Raises:
        SourceError: It does not exist, or cannot be read.
    """
    if entity.sourceKind == DataSources.huggingface:
        repository, wanted = _repository(entity)
        if recorded is not None and COMMIT in recorded and not hub.is_commit(wanted.revision):
            return {COMMIT: recorded[COMMIT]}
        return {COMMIT: hub.commit_of(repository, wanted.revision)}
    if entity.sourceKind == DataSources.zenodo:
        if recorded is not None and RECORD in recorded:
            return {RECORD: recorded[RECORD]}
        record = zenodo.record_of(entity.id, _read(entity, parse_zenodo))
        return {RECORD: f"{record.number}:{record.digest}"}
    page = _read(entity, parse_url)
    if page.checksum is not None and page.checksum[0] == "sha256":
        return {CONTENT: page.checksum[1]}
    if recorded is not None and CONTENT in recorded:
        return {CONTENT: recorded[CONTENT]}
    # A server that does not say whether its file has changed may have changed it.
    return {CONTENT: web.stands_for(entity.id, page).mark or uuid.uuid4().hex}


def take_data(
    entity: DataSource, store: Store, draft: Draft, inputs: Inputs, progress: Progress
) -> TakenData:
    """Put a remote DataSource's files into a draft.

    Raises:
        SourceError: A file cannot be had, or is not what its source says.
    """
    if entity.sourceKind == DataSources.huggingface:
        return _from_the_hub(entity, store, draft, inputs, progress)
    if entity.sourceKind == DataSources.zenodo:
        return _from_zenodo(entity, store, draft, inputs, progress)
    return _from_the_web(entity, store, draft, progress)


def downloads_of(store: Store) -> Path:
    """Where files from the web lie while, and after, they come."""
    return cache_of(store).parent.parent / "downloads"


def _from_the_hub(
    entity: DataSource, store: Store, draft: Draft, inputs: Inputs, progress: Progress
) -> TakenData:
    repository, wanted = _repository(entity)
    commit = inputs.extras.get(COMMIT) or hub.commit_of(repository, wanted.revision)
    allow = [wanted.pattern or "*.parquet"]
    try:
        files = hub.files_of(repository, commit, allow, None)
    except hub.NoFiles as error:
        raise SourceError(
            f"{entity.id}: none of the {error.listed} files of {repository} at {wanted.revision} is {allow[0]}: "
            "name files as ORG/NAME@REVISION/PATTERN, or the revision refs/convert/parquet where the Hub made Parquet "
            "of them"
        ) from None
    cache = cache_of(store)
    fetched = fetch_files(repository, commit, files, cache, progress)
    snapshot(repository, commit, allow, None, fetched, cache)
    taken = TakenData(notes={"repository": repository.name, "revision": commit})
    if wanted.revision != commit:
        taken.notes["requestedRevision"] = wanted.revision
    for item in fetched:
        _place(entity, draft, item.file.path, item.path, item.digest, taken)
    return taken


def _from_zenodo(
    entity: DataSource, store: Store, draft: Draft, inputs: Inputs, progress: Progress
) -> TakenData:
    wanted = _read(entity, parse_zenodo)
    number, _, digest = inputs.extras.get(RECORD, "").partition(":")
    record = zenodo.record_of(entity.id, ZenodoOrigin(number or wanted.record, wanted.pattern))
    if digest and record.digest != digest:
        raise SourceError(
            f"{entity.id}: record {record.number} of Zenodo changed while it was read: run it again"
        )
    taken = TakenData(notes={"doi": record.doi, "record": record.number, "title": record.title})
    if record.licence:
        taken.notes["licence"] = record.licence
    for file in record.files:
        path, found = web.fetch_url(
            entity.id,
            file.url,
            Path(file.name).name,
            downloads_of(store),
            progress,
            headers=zenodo.headers_for(file.url),
            size=file.size,
            checksum=file.checksum,
        )
        _place(entity, draft, file.name, path, found, taken)
    return taken


def _from_the_web(entity: DataSource, store: Store, draft: Draft, progress: Progress) -> TakenData:
    page = _read(entity, parse_url)
    stands = web.stands_for(entity.id, page)
    path, digest = web.fetch_url(
        entity.id,
        page.url,
        page.name,
        downloads_of(store),
        progress,
        size=stands.size,
        checksum=page.checksum,
        stands=stands,
    )
    taken = TakenData(notes={"url": web.shown(page.url)})
    _place(entity, draft, page.name, path, digest, taken)
    return taken


def _place(
    entity: DataSource, draft: Draft, name: str, path: Path, digest: FileDigest, taken: TakenData
) -> None:
    """Show a file that was fetched in the draft, under its name."""
    try:
        target = resolve_inside(draft.path, name)
    except PathOutside as error:
        raise SourceError(f"{entity.id}: {error}") from error
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)
    taken.digests[name] = digest
