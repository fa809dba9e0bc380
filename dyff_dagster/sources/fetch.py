"""DataSource, Dataset, Model and Module: each from where its manifest says it lives."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from dyff_dagster.schema.platform import (
    Artifact,
    Dataset,
    DataSource,
    DyffEntity,
    Model,
    ModelSourceKinds,
    Module,
)
from dyff_dagster.sources.dataset import ingest_file, store_dataset
from dyff_dagster.sources.errors import SourceError
from dyff_dagster.store import Commit, Draft, Facts, Inputs, Progress, Store, no_progress
from dyff_dagster.store.digests import digest_file, list_files, tree_digest
from dyff_dagster.store.paths import PathOutside, resolve_inside


def fingerprint(entity: DyffEntity, files: Path) -> dict[str, str]:
    """Digests of the local files that :func:`fetch` would read for an entity, by name.

    Args:
        entity: A DataSource, Dataset, Model or Module; anything else reads no local files.
        files: The directory of its files (annotation ``dyff-dagster/files``).

    Returns:
        ``{"files": SHA-256}``, or nothing where no local file is read.

    Raises:
        SourceError: A file that the manifest names is not there.
    """
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
    with store.draft(entity.id) as draft:
        if isinstance(entity, Dataset):
            if source is not None:
                data_version, facts = ingest_file(entity, _only_file(entity, source), draft.path, progress)
            else:
                _copy(_local_files(entity, files), draft, progress)
                data_version, facts = store_dataset(entity, draft.path, progress)
        else:
            prefix = _snapshot_path(entity)
            _copy(_local_files(entity, files), draft, progress, prefix)
            digests = {name: digest_file(draft.path / name) for name in list_files(draft.path)}
            data_version = tree_digest(digests)
            facts = Facts(
                notes={"fileCount": len(digests), "bytes": sum(digest.size for digest in digests.values())}
            )
        return draft.commit(
            entity=entity, data_version=data_version, inputs=inputs, facts=facts, run_id=run_id
        )


def _snapshot_path(entity: DyffEntity) -> str:
    """Where the files of a Model lie within its version; nothing for other kinds."""
    cache = entity.artifact.huggingFaceCache if isinstance(entity, Model) else None
    return cache.snapshot_path() if cache is not None else ""


def _local_files(entity: DyffEntity, files: Path) -> dict[str, Path]:
    """Relative name → path of every local file that the entity is made of."""
    if isinstance(entity, Dataset):
        if _annotation(entity, "from") is not None:
            return {}
        return _artifacts(entity, entity.artifacts, files)
    if isinstance(entity, Module):
        return _artifacts(entity, entity.artifacts, files)
    if isinstance(entity, DataSource):
        if entity.sourceKind != "upload":
            raise SourceError(
                f"{entity.id}: data sources of kind {entity.sourceKind!r} cannot be fetched by this release: "
                "download the files and use sourceKind upload with source: PATH"
            )
        return _tree(entity, files, entity.source or ".")
    if isinstance(entity, Model):
        if entity.source.kind == ModelSourceKinds.Mock:
            return {}
        if entity.source.kind != ModelSourceKinds.Upload:
            raise SourceError(
                f"{entity.id}: models from {entity.source.kind.value} cannot be fetched by this release: "
                "download the files and use source kind Upload with the annotation dyff-dagster/files"
            )
        return _tree(entity, files, ".")
    return {}


def _annotation(entity: DyffEntity, name: str) -> str | None:
    key = f"dyff-dagster/{name}"
    return next((annotation.value for annotation in entity.annotations if annotation.key == key), None)


def _artifacts(entity: DyffEntity, artifacts: Sequence[Artifact], files: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for artifact in artifacts:
        path = _inside(entity, files, artifact.path)
        if not path.is_file():
            raise SourceError(
                f"{entity.id}: its artifact {artifact.path} is not in {files}: "
                "correct the path, or point the annotation dyff-dagster/files at the directory that holds it"
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
    names = [name for name in list_files(root) if not any(part.startswith(".") for part in name.split("/"))]
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


def _only_file(entity: Dataset, source: Path) -> Path:
    ingest = _annotation(entity, "ingest")
    if ingest and json.loads(ingest) not in ({}, None):
        raise SourceError(
            f"{entity.id}: archives and extractor steps cannot be read by this release: "
            "unpack the source, and remove the annotation dyff-dagster/ingest",
            reason="IngestFailed",
        )
    names = [name for name in list_files(source) if not name.startswith(".")]
    if len(names) != 1:
        raise SourceError(
            f"{entity.id}: its data source holds {len(names)} files, and without extractor steps it must be one: "
            "name a single CSV, JSON Lines or Parquet file as the source",
            reason="IngestFailed",
        )
    return source / names[0]
