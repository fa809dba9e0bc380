"""The files that Datasets, Modules, DataSources and Models are made of: found, and checked to be there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath

from dyff_dagster.catalog.entries import Entry, Findings
from dyff_dagster.catalog.origins import OriginFault, is_url, not_read, parse_hub, parse_url, parse_zenodo
from dyff_dagster.catalog.problems import suggestion
from dyff_dagster.catalog.reachable import is_directory, is_file, shown
from dyff_dagster.catalog.shipped import is_shipped, unknown_module
from dyff_dagster.schema.platform import (
    Artifact,
    Dataset,
    DataSource,
    DataSources,
    Evaluation,
    Method,
    Model,
    Module,
)
from dyff_dagster.store.paths import PathOutside, resolve_inside

MAX_FOUND = 10_000
"""More files than this are not taken up by themselves: the directory is hardly the one that was meant."""


class NoFiles(Exception):
    """No artifacts could be found; the text says why, and what to do."""


def find_artifacts(kind: str, directory: Path, is_manifest: Callable[[Path], bool]) -> list[Artifact]:
    """The files that a Dataset or Module without ``artifacts`` is made of, sorted by path.

    For a Dataset ``*.parquet``, at any depth; for a Module every regular file that is not hidden, not in a
    ``__pycache__`` and not a manifest.

    :raises NoFiles: there are none, too many, or no such directory.
    """
    if not is_directory(directory):
        raise NoFiles(
            f"there is no directory {shown(directory)}; correct the annotation 'dyff-dagster/files'"
        )
    found: list[str] = []
    for path in _files_below(directory):
        if kind == "Dataset" and path.suffix != ".parquet":
            continue
        if kind == "Module" and is_manifest(path):
            continue
        found.append(path.relative_to(directory).as_posix())
        if len(found) > MAX_FOUND:
            raise NoFiles(
                f"{directory} holds more than {MAX_FOUND} files; list the artifacts, or name a narrower "
                "directory with the annotation 'dyff-dagster/files'"
            )
    if not found:
        what = "*.parquet file" if kind == "Dataset" else "file"
        raise NoFiles(
            f"there is no {what} in {directory}; list the artifacts, or name their directory with the "
            "annotation 'dyff-dagster/files'"
        )
    return [Artifact(path=path) for path in sorted(found)]


def _files_below(directory: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(directory):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__pycache__")
        for name in names:
            path = Path(folder, name)
            if not name.startswith(".") and is_file(path):
                yield path


def check_files(entry: Entry, findings: Findings) -> None:
    """Note paths that leave their directory, and files that are not there."""
    entity = entry.entity
    named = entry.annotation("files")
    if named is not None:
        if PurePath(named).is_absolute():
            findings.annotation_error(
                entry, "files", "must be relative to the manifest, not an absolute path"
            )
            return
        if is_shipped(named) and not is_directory(entry.files()):
            findings.annotation_error(entry, "files", unknown_module())
            return
        if not is_directory(entry.files()):
            findings.annotation_error(entry, "files", f"there is no directory {shown(entry.files())}")
            return
    if isinstance(entity, Dataset | Module):
        made = isinstance(entity, Dataset) and entry.annotation("from") is not None
        for index, artifact in enumerate(entity.artifacts):
            location = ("artifacts",) if entry.artifacts_found else ("artifacts", index, "path")
            message = _wrong_file(entry.files(), artifact.path, must_exist=not made)
            if message is not None:
                findings.error(entry, location, message)
    elif isinstance(entity, Evaluation):
        imported = entry.annotation("imported")
        message = None if imported is None else _wrong_file(entry.directory, imported, must_exist=True)
        if message is not None:
            findings.annotation_error(entry, "imported", message)
    elif isinstance(entity, DataSource) and (
        entity.sourceKind != DataSources.upload or is_url(entity.source)
    ):
        message = _wrong_origin(entity)
        if message is not None:
            findings.error(entry, ("source",), message)
    elif isinstance(entity, DataSource):
        message = not_read(entity.source) or _wrong_file(
            entry.files(), entity.source or ".", must_exist=True, directory=True
        )
        if message is not None:
            findings.error(entry, ("source",), message)
    elif isinstance(entity, Model) and entity.artifact.huggingFaceCache is not None:
        # Its snapshot path becomes a directory of the store.
        try:
            resolve_inside(entry.directory, entity.artifact.huggingFaceCache.snapshot_path())
        except PathOutside as error:
            findings.error(entry, ("artifact", "huggingFaceCache"), str(error))


def _wrong_origin(entity: DataSource) -> str | None:
    """What is wrong with how a source that lies elsewhere is written; nobody is asked whether it is there."""
    parsers: dict[str, Callable[[str], object]] = {
        DataSources.huggingface: parse_hub,
        DataSources.zenodo: parse_zenodo,
        DataSources.upload: parse_url,
    }
    parse = parsers.get(entity.sourceKind)
    if parse is None:
        return None  # which kinds there are is said where the kind stands
    try:
        parse(entity.source or "")
    except OriginFault as error:
        return str(error)
    return None


def _wrong_file(root: Path, path: str, *, must_exist: bool, directory: bool = False) -> str | None:
    try:
        target = resolve_inside(root, path)
    except PathOutside as error:
        return str(error)
    if not must_exist or is_file(target) or (directory and is_directory(target)):
        return None
    if is_directory(target):
        return f"'{path}' is a directory in {root}; list its files"
    return f"there is no file '{path}' in {root}"


def check_notebook(entry: Entry, method: Method, module: Entry | None, findings: Findings) -> None:
    """Note a notebook that leaves its Module, or is not among its artifacts."""
    notebook = method.implementation.jupyterNotebook
    if notebook is None or module is None or not isinstance(module.entity, Module):
        return
    location = ("implementation", "jupyterNotebook", "notebookPath")
    try:
        resolve_inside(module.files(), notebook.notebookPath)
    except PathOutside as error:
        findings.error(entry, location, str(error))
        return
    artifacts = [PurePath(artifact.path) for artifact in module.entity.artifacts]
    if PurePath(notebook.notebookPath) not in artifacts:
        known = [path.as_posix() for path in artifacts]
        findings.error(
            entry,
            location,
            f"'{notebook.notebookPath}' is no artifact of module '{module.id}'; "
            f"{suggestion(notebook.notebookPath, known)}",
        )
