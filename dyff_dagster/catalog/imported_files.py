"""The files of imported entities: found beside the entity, then referred to or copied."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from dyff_dagster.schema.annotations import PREFIX
from dyff_dagster.schema.platform import (
    Annotation,
    Dataset,
    DataSource,
    DyffEntity,
    Model,
    ModelSourceKinds,
    Module,
)
from dyff_dagster.store import LinkInTheWay, refuse_links, replacing
from dyff_dagster.store.paths import PathOutside, resolve_inside

__all__ = ["FilesMissing", "place_files"]

_FILES, _FROM = f"{PREFIX}files", f"{PREFIX}from"
_COPIES = "files"


class FilesMissing(Exception):
    """Files of an entity are not there; ``place`` is the field that names them, the text says which."""

    def __init__(self, place: str, message: str) -> None:
        self.place = place
        super().__init__(message)


def place_files(
    entity: DyffEntity,
    data: Path,
    target: Path,
    *,
    copy: bool,
    made: dict[Path, bytes | None] | None = None,
) -> DyffEntity:
    """Return ``entity`` with the annotation that says where its files are, if it has files.

    Args:
        entity: The entity.
        data: The directory that its files lie in.
        target: The directory of its manifest, in that of the catalog.
        copy: Copy the files to ``target/files``; else the annotation leads to ``data``.
        made: Gets the files that are copied, with what they replaced.

    Raises:
        FilesMissing: a file that it names is not there, or its path leads out of ``data``.
        LinkInTheWay: a copy would be written through a symbolic link.
    """
    directory, names = _files_of(entity, data)
    others = [item for item in entity.annotations if item.key != _FILES]
    if not names:
        # Another catalog's directory is not here; an entity without files needs none.
        return entity.model_copy(update={"annotations": others})
    if copy:
        where = _COPIES
        for name in names:
            copied = target / _COPIES / name
            if copied.is_symlink():
                raise LinkInTheWay(copied)
            refuse_links(copied, target.parent)
            if made is not None:
                made.setdefault(copied, copied.read_bytes() if copied.is_file() else None)
            with (directory / name).open("rb") as source, replacing(copied, target.parent) as stream:
                shutil.copyfileobj(source, stream)
    else:
        where = Path(os.path.relpath(directory.resolve(), target.resolve())).as_posix()
    annotations = [*others, Annotation(key=_FILES, value=where)]
    return entity.model_copy(update={"annotations": annotations})


def _files_of(entity: DyffEntity, data: Path) -> tuple[Path, list[str]]:
    """The directory of an entity's files and their names in it; no names where it has none of its own."""
    if isinstance(entity, Dataset | Module):
        if any(item.key == _FROM for item in entity.annotations):
            return data, []  # made here, not brought along
        return data, _artifacts(entity, data)
    if isinstance(entity, DataSource) and entity.sourceKind == "upload" and entity.source:
        inside = _inside(data, entity.source, "source")
        if not inside.exists():
            raise FilesMissing("source", f"there is no '{entity.source}' in {data}; put it there")
        if inside.is_file():
            return data, [entity.source]
        return data, [Path(entity.source, name).as_posix() for name in _below(inside)]
    if isinstance(entity, Model) and entity.source.kind == ModelSourceKinds.Upload:
        cache = entity.artifact.huggingFaceCache
        if cache is not None:
            snapshot = _inside(data, cache.snapshot_path(), "artifact.huggingFaceCache")
            return snapshot, _below(snapshot)
    return data, []


def _artifacts(entity: Dataset | Module, data: Path) -> list[str]:
    names = [artifact.path for artifact in entity.artifacts]
    missing = [name for name in names if not _inside(data, name, "artifacts").is_file()]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise FilesMissing(
            "artifacts", f"there is no file '{missing[0]}'{more} in {data}; put its files beside the entity"
        )
    return names


def _below(directory: Path) -> list[str]:
    found = [path for path in directory.rglob("*") if path.is_file()]
    names = [path.relative_to(directory) for path in found]
    return sorted(name.as_posix() for name in names if not any(part.startswith(".") for part in name.parts))


def _inside(data: Path, path: str, place: str) -> Path:
    try:
        return resolve_inside(data, path)
    except PathOutside as error:
        raise FilesMissing(place, str(error)) from None
