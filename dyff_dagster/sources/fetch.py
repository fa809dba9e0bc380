"""DataSource, Dataset, Model and Module: each from where its manifest says it lives."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from dyff_dagster.catalog.ingest import Ingest, IngestFault, parse_ingest
from dyff_dagster.catalog.origins import not_read
from dyff_dagster.schema.annotations import annotation
from dyff_dagster.schema.platform import (
    Artifact,
    Dataset,
    DataSource,
    DyffEntity,
    Model,
    ModelSourceKinds,
    Module,
)
from dyff_dagster.sources import data_sources, models
from dyff_dagster.sources.dataset import ingest_files, store_dataset
from dyff_dagster.sources.errors import IngestError, SourceError
from dyff_dagster.sources.local_files import files_below, hidden
from dyff_dagster.store import Commit, Draft, Facts, FileDigest, Inputs, Progress, Store, no_progress
from dyff_dagster.store.digests import digest_file, list_files, tree_digest
from dyff_dagster.store.paths import PathOutside, resolve_inside


def fingerprint(entity: DyffEntity, files: Path, recorded: Mapping[str, str] | None = None) -> dict[str, str]:
    """What :func:`fetch` would read for an entity, by name: digests of local files, or what a remote source stands for.

    The net is asked only where a source can stand for something else tomorrow: a branch, a DOI, a URL without a
    checksum. A commit stands for itself.

    Args:
        entity: A DataSource, Dataset, Model or Module; anything else reads nothing.
        files: The directory of its files (annotation ``dyff-dagster/files``).
        recorded: What the last version was made from, by name. What a remote source stood for then is taken for what it
            stands for now, and the net is not asked.

    Returns:
        ``{"files": SHA-256}`` of local files, ``{"commit": …}`` of a repository, ``{"record": …}`` of Zenodo,
        ``{"content": …}`` of a URL, or nothing where nothing is read.

    Raises:
        SourceError: A file that the manifest names is not there, or a remote source cannot be read.
    """
    if isinstance(entity, Model) and models.is_remote(entity):
        if recorded is not None and models.COMMIT in recorded and models.moves(entity):
            return {models.COMMIT: recorded[models.COMMIT]}
        return {models.COMMIT: models.model_commit(entity)}
    if isinstance(entity, DataSource) and data_sources.is_remote(entity):
        return data_sources.source_inputs(entity, recorded)
    paths = _local_files(entity, files)
    if not paths:
        return {}
    return {"files": tree_digest({name: digest_file(path) for name, path in paths.items()})}


def fetch(
    entity: DataSource | Dataset | Model | Module,
    store: Store,
    *,
    inputs: Inputs,
    files: Path,
    source: Path | None = None,
    progress: Progress = no_progress,
    run_id: str = "",
) -> Commit:
    """Bring an entity's bytes into the store and commit them.

    Args:
        entity: What to fetch.
        store: Where to.
        inputs: What the result is made from, recorded with it.
        files: The directory of its local files.
        source: For a Dataset made from a DataSource: the directory of that one's committed version.
        progress: Told how far it is.
        run_id: Recorded with the commit.

    Raises:
        SourceError: A file is missing or is not what the manifest says; nothing was committed.
    """
    digests: dict[str, FileDigest] = {}
    with store.draft(entity.id) as draft:
        if isinstance(entity, Dataset):
            if source is not None:
                with store.draft(entity.id) as scratch:
                    data_version, facts, digests = ingest_files(
                        entity, _raw_files(source), _ingest(entity), draft.path, scratch.path, progress
                    )
            else:
                _copy(_local_files(entity, files), draft, progress)
                data_version, facts = store_dataset(entity, draft.path, progress)
        elif isinstance(entity, Model):
            taken = models.Taken()
            if models.is_remote(entity):
                taken = models.take_model(entity, store, draft, inputs, progress)
            else:
                _copy(_local_files(entity, files), draft, progress, models.snapshot_path(entity))
            digests = _digests(draft, taken.digests)
            data_version = tree_digest(digests)
            facts = models.model_facts(entity, draft.path, digests, taken.notes)
        else:
            notes = {}
            if isinstance(entity, DataSource) and data_sources.is_remote(entity):
                data = data_sources.take_data(entity, store, draft, inputs, progress)
                digests, notes = data.digests, data.notes
            else:
                _copy(_local_files(entity, files), draft, progress)
            digests = _digests(draft, digests)
            data_version = tree_digest(digests)
            size = sum(digest.size for digest in digests.values())
            facts = Facts(notes={**notes, "fileCount": len(digests), "bytes": size})
        return draft.commit(
            entity=entity,
            data_version=data_version,
            inputs=inputs,
            facts=facts,
            run_id=run_id,
            digests=digests,
        )


def _digests(draft: Draft, known: Mapping[str, FileDigest]) -> dict[str, FileDigest]:
    """The digests of a draft's files; those that were taken on the way are not taken again."""
    return {name: known.get(name) or digest_file(draft.path / name) for name in list_files(draft.path)}


def _local_files(entity: DyffEntity, files: Path) -> dict[str, Path]:
    """Relative name → path of every local file that the entity is made of."""
    if isinstance(entity, Dataset):
        if annotation(entity, "from") is not None:
            return {}
        return _artifacts(entity, entity.artifacts, files)
    if isinstance(entity, Module):
        return _artifacts(entity, entity.artifacts, files)
    if isinstance(entity, DataSource):
        if (fault := not_read(entity.source)) is not None:
            raise SourceError(f"{entity.id}: its source {fault}")
        return _tree(entity, files, entity.source or ".")
    if isinstance(entity, Model):
        if entity.source.kind == ModelSourceKinds.Mock:
            return {}
        return _tree(entity, files, ".")
    return {}


def _artifacts(entity: DyffEntity, artifacts: Sequence[Artifact], files: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for artifact in artifacts:
        path = _inside(entity, files, artifact.path)
        if not path.is_file():
            raise SourceError(
                f"{entity.id}: its artifact {artifact.path} is not in {files}: "
                "correct the path, or point the annotation dyff-dagster/files at the directory that holds it",
                "DataSourceMissing" if isinstance(entity, Dataset) else "FetchFailed",
            )
        declared = artifact.digest.md5
        if declared and declared != digest_file(path).md5:
            raise SourceError(
                f"{entity.id}: the MD5 digest of its artifact {artifact.path} is not {declared}: "
                "the file changed, or the manifest names another one"
            )
        found[artifact.path] = path
    return found


def _tree(entity: DyffEntity, files: Path, path: str) -> dict[str, Path]:
    """The file ``path``, or every file below the directory ``path`` but hidden ones."""
    root = files.resolve() if path == "." else _inside(entity, files, path)
    if root.is_file():
        return {root.name: root}
    if not root.is_dir():
        raise SourceError(f"{entity.id}: there is no {path} in {files}: correct the path in its manifest")
    try:
        names = files_below(root)
    except SourceError as error:
        raise SourceError(f"{entity.id}: {error}", error.reason) from None
    if not names:
        raise SourceError(
            f"{entity.id}: the directory {root} is empty: put the files there, or name another one"
        )
    return {name: _inside(entity, root, name) for name in names}


def _inside(entity: DyffEntity, directory: Path, path: str) -> Path:
    try:
        return resolve_inside(directory, path)
    except PathOutside as error:
        raise SourceError(f"{entity.id}: {error}") from error


def _copy(paths: Mapping[str, Path], draft: Draft, progress: Progress, prefix: str = "") -> None:
    for done, (name, path) in enumerate(paths.items(), 1):
        target = draft.path / prefix / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        progress("copying files", done, len(paths))


def _ingest(entity: Dataset) -> Ingest:
    try:
        return parse_ingest(annotation(entity, "ingest"))
    except IngestFault as error:
        raise IngestError(f"{entity.id}: the annotation dyff-dagster/ingest {error}") from None


def _raw_files(source: Path) -> dict[str, Path]:
    """The files of a DataSource's version by name, hidden ones left out."""
    return {name: source / name for name in list_files(source) if not hidden(name)}
