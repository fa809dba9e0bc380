"""Entities of the reference into a catalog: its local storage root, or JSON of entities, to manifests.

The reference's local platform keeps an entity as ``ROOT/ID/.KIND.json`` (kind in lower case) with its files
beside it and its documentation in ``.documentation.json``; so does the published view of our own store.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dyff_dagster.catalog.catalog import Catalog
from dyff_dagster.catalog.documents import Document, SyntaxFault
from dyff_dagster.catalog.imported_files import FilesMissing, place_files
from dyff_dagster.catalog.json_reader import read_json
from dyff_dagster.catalog.problems import CatalogError, Problem, format_location
from dyff_dagster.catalog.shortening import manifest_of
from dyff_dagster.schema.annotations import is_reserved
from dyff_dagster.schema.errors import DyffError
from dyff_dagster.schema.ids import IdError, check_id
from dyff_dagster.schema.interchange import InterchangeError, full_form, read_entity
from dyff_dagster.schema.platform import DyffEntity
from dyff_dagster.schema.statuses import EntityStatus
from dyff_dagster.store import LinkInTheWay, replacing

__all__ = ["Imported", "import_entities"]

_DOCUMENTATION = ".documentation.json"
_TEXTS = ("title", "summary", "fullPage")


@dataclass(frozen=True)
class Imported:
    """What an import made.

    Attributes:
        manifests: The files that were written.
        entities: Kinds by id.
        warnings: What was left out or lost, and what the author of the catalog should know; one sentence each.
    """

    manifests: tuple[Path, ...]
    entities: Mapping[str, str]
    warnings: tuple[str, ...]


@dataclass(slots=True)
class _Found:
    """An entity, the file that it was read from, and the directory where its own files lie."""

    entity: DyffEntity
    file: Path
    data: Path
    documentation: dict[str, Any] | None = None


@dataclass(slots=True)
class _Import:
    out: Path
    overwrite: bool
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    found: dict[str, _Found] = field(default_factory=dict)
    before: dict[Path, bytes | None] = field(default_factory=dict)
    folders: set[Path] = field(default_factory=set)

    def problem(self, path: Path, message: str, place: str = "", entity_id: str | None = None) -> None:
        self.problems.append(Problem(path, None, place, message, entity_id))


def import_entities(
    source: Path | str, out: Path | str, *, overwrite: bool = False, copy: bool = False
) -> Imported:
    """Write manifests for the entities at ``source`` into the catalog at ``out``, one directory an entity.

    The manifests are read again before anything is said to be done: what stands in ``out`` afterwards is a
    catalog that ``validate`` accepts, and its entities are those that were read, less what the system
    assigns. Where that cannot be had, ``out`` is left as it was.

    Args:
        source: A storage root of the reference's local platform (or one entity's directory in it), a file
            with an entity as JSON or a list of them, or a directory of such files.
        out: The directory of the catalog. It is made if it is not there.
        overwrite: Replace manifests that are there already.
        copy: Copy the files of data sets, modules, models and sources; else they are referred to where they
            lie.

    Raises:
        CatalogError: with everything that is wrong.
        OSError: something cannot be read or written.
    """
    task = _Import(Path(out), overwrite)
    _read_all(Path(source), task)
    placed: dict[str, DyffEntity] = {}
    for entity_id, found in task.found.items():
        manifest = task.out / entity_id / f"{found.entity.kind.lower()}.yaml"
        link = next((place for place in (manifest, manifest.parent) if place.is_symlink()), None)
        if link is not None:
            task.problem(link, str(LinkInTheWay(link)).removeprefix(f"{link} "), "", entity_id)
        elif manifest.exists() and not overwrite:
            task.problem(manifest, "is there already; say --overwrite to replace it", "", entity_id)
        try:
            placed[entity_id] = place_files(found.entity, found.data, task.out / entity_id, copy=False)
        except FilesMissing as error:
            task.problem(found.file, str(error), error.place, entity_id)
    if task.problems:
        raise CatalogError(task.problems)
    task.folders = {folder for folder in (task.out, *(task.out / name for name in placed)) if folder.exists()}
    try:
        if copy:
            placed = {
                entity_id: place_files(
                    found.entity, found.data, task.out / entity_id, copy=True, made=task.before
                )
                for entity_id, found in task.found.items()
            }
        _write_all(task, placed)
    except BaseException:
        _undo(task)
        raise
    manifests = tuple(
        path for path in task.before if path.suffix == ".yaml" and path.parent.parent == task.out
    )
    kinds = {entity_id: entity.kind for entity_id, entity in placed.items()}
    return Imported(manifests, kinds, tuple(task.warnings))


def _read_all(source: Path, task: _Import) -> None:
    files = _entity_files(source)
    if not files:
        message = "holds no entities: neither ID/.KIND.json, as a storage root has them, nor *.json files"
        task.problem(source, message if source.exists() else "is not there; name a file or a directory")
    for path in files:
        for document in _documents(path, task):
            _take(document, path, task)


def _entity_files(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    hidden = [*source.glob(".*.json"), *source.glob("*/.*.json")]
    found = sorted(path for path in hidden if path.name != _DOCUMENTATION and path.is_file())
    if found:
        return found
    walked: list[Path] = []
    for folder, folders, names in os.walk(source):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        walked += [Path(folder, name) for name in sorted(names) if name.lower().endswith(".json")]
    return [path for path in walked if not path.name.startswith(".")]


def _documents(path: Path, task: _Import) -> list[Document]:
    try:
        return list(read_json(path, path.read_text("utf-8-sig"), task.problems))
    except SyntaxFault as fault:
        place = format_location(fault.location)
        task.problems.append(Problem(path, fault.line, place, fault.message))
    except UnicodeDecodeError:
        task.problem(path, "is no UTF-8 text")
    return []


def _take(document: Document, path: Path, task: _Import) -> None:
    value = document.value
    if not isinstance(value, dict):
        task.problem(path, "must be an entity, or a list of them: objects with a kind and an id")
        return
    if value.get("status") == EntityStatus.deleted:
        task.warnings.append(f"{path}: '{value.get('id')}' is deleted and was left out")
        return
    try:
        read = read_entity(value)
        check_id(read.entity.id)
    except InterchangeError as error:
        for place, message in error.faults:
            task.problem(path, message, format_location(place), error.entity_id)
        return
    except IdError as error:
        task.problem(path, str(error), "id")
        return
    except DyffError as error:  # a kind that no schema has
        task.problem(path, str(error), "kind")
        return
    entity = _without_reserved(_without_assigned(read.entity), task)
    if entity.id in task.found:
        message = f"'{entity.id}' was read already, from {task.found[entity.id].file}"
        task.problem(path, message, "id", entity.id)
        return
    task.warnings += read.lost
    documentation = _documentation_of(path, entity.id, task) if path.name.startswith(".") else None
    task.found[entity.id] = _Found(entity, path, path.parent, documentation)


def _without_assigned(entity: DyffEntity) -> DyffEntity:
    kept = manifest_of(entity, {}, short=False)
    if isinstance(kept.get("annotations"), dict):
        kept["annotations"] = [{"key": key, "value": value} for key, value in kept["annotations"].items()]
    return type(entity).model_validate(kept)


def _without_reserved(entity: DyffEntity, task: _Import) -> DyffEntity:
    """Labels and annotations under dyff.io are the platform's, and no catalog may have them."""
    gone = [key for key in entity.labels if is_reserved(key)]
    gone += [annotation.key for annotation in entity.annotations if is_reserved(annotation.key)]
    if not gone:
        return entity
    task.warnings.append(f"{entity.id}: left out, being reserved for the platform: {', '.join(gone)}")
    labels = {key: value for key, value in entity.labels.items() if not is_reserved(key)}
    annotations = [item for item in entity.annotations if not is_reserved(item.key)]
    return entity.model_copy(update={"labels": labels, "annotations": annotations})


def _documentation_of(path: Path, entity_id: str, task: _Import) -> dict[str, Any] | None:
    beside = path.with_name(_DOCUMENTATION)
    if not beside.is_file():
        return None
    for document in _documents(beside, task):
        if isinstance(document.value, dict):
            texts = {name: document.value[name] for name in _TEXTS if document.value.get(name)}
            if texts:
                return {"kind": "Documentation", "entity": entity_id, **texts}
    return None


def _write_all(task: _Import, placed: Mapping[str, DyffEntity]) -> None:
    """Write the manifests in the short form, read them again, and write out in full those that came to differ."""
    for entity_id in placed:
        _write(task, placed, entity_id, short=True)
    catalog = _loaded(task)
    differ = [name for name, entity in placed.items() if not _same(catalog, entity)]
    if differ:
        for entity_id in differ:
            _write(task, placed, entity_id, short=False)
        catalog = _loaded(task)
        left = [placed[name] for name in differ if not _same(catalog, placed[name])]
        if left:
            message = "cannot be written as a manifest without loss; please report it, with the entity"
            raise CatalogError(
                [Problem(task.found[entity.id].file, None, "", message, entity.id) for entity in left]
            )
    written = {path.resolve() for path in task.before}
    task.warnings += [
        str(warning)
        for warning in catalog.warnings
        if warning.path is not None and warning.path.resolve() in written
    ]


def _same(catalog: Catalog, entity: DyffEntity) -> bool:
    return entity.id in catalog and bool(full_form(catalog.get(entity.id)) == full_form(entity))


def _write(task: _Import, placed: Mapping[str, DyffEntity], entity_id: str, *, short: bool) -> None:
    documents = [manifest_of(placed[entity_id], placed, short=short)]
    documentation = task.found[entity_id].documentation
    if documentation is not None:
        documents.append(documentation)
    path = task.out / entity_id / f"{placed[entity_id].kind.lower()}.yaml"
    if path not in task.before:
        task.before[path] = path.read_bytes() if path.exists() else None
    # In full, every unusual character is written as its number.
    text = yaml.safe_dump_all(documents, sort_keys=False, allow_unicode=short, width=100)
    with replacing(path, task.out) as stream:
        stream.write(text.encode())


def _loaded(task: _Import) -> Catalog:
    """The catalog as it now is.

    Raises:
        CatalogError: it is refused. What is wrong with an imported entity is said of the file that it came
            from: the manifest will not be there.
    """
    if not task.found:
        return Catalog([])
    try:
        return Catalog.load(task.out)
    except CatalogError as error:
        told = []
        for problem in error.problems:
            found = task.found.get(problem.entity_id or "")
            if found is not None and problem.path in task.before:
                problem = Problem(found.file, None, problem.field, problem.message, problem.entity_id)
            told.append(problem)
        raise CatalogError(told) from None


def _undo(task: _Import) -> None:
    for path, content in task.before.items():
        if content is None:
            path.unlink(missing_ok=True)
        else:
            with replacing(path, task.out) as stream:
                stream.write(content)
    folders = {folder for path in task.before for folder in path.parents}
    for folder in sorted(folders, reverse=True):
        ours = folder.is_relative_to(task.out) and folder not in task.folders
        if ours and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
