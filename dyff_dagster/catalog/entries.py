"""What the checks of a catalog pass around: an entity with its place, and the list of findings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dyff_dagster.catalog.documents import Branch, Place, Plain, line_of
from dyff_dagster.catalog.problems import Location, Origin, Problem, format_location
from dyff_dagster.catalog.shipped import files_directory
from dyff_dagster.schema.annotations import PREFIX
from dyff_dagster.schema.platform import DyffEntity


@dataclass(slots=True)
class Entry:
    """One entity of a catalog, and where and how it was written down.

    ``path`` is None for an entity made in Python; ``directory`` is what its relative paths start from.
    ``annotation_places`` says where the annotation of a key stands. ``short_schema`` is True where a
    Dataset's schema was written in the short form. ``artifacts_found`` is True where the artifacts were not
    written down but found among the files. ``family_references`` says in which fields ``FAMILY@MEMBER`` stood, and
    which.
    """

    entity: DyffEntity
    path: Path | None
    directory: Path
    place: Place
    annotation_places: Mapping[str, Location]
    short_schema: bool = False
    artifacts_found: bool = False
    family_references: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The entity's id."""
        return self.entity.id

    @property
    def origin(self) -> Origin:
        """Where the entity is written down."""
        return Origin(self.path, 0 if self.path is None else line_of(self.place, ()))

    def annotations(self) -> dict[str, str]:
        """This project's annotations of the entity, by name without the prefix."""
        return {
            annotation.key[len(PREFIX) :]: annotation.value
            for annotation in self.entity.annotations
            if annotation.key.startswith(PREFIX)
        }

    def annotation(self, name: str) -> str | None:
        """The value of one of this project's annotations, or None."""
        key = PREFIX + name
        return next((item.value for item in self.entity.annotations if item.key == key), None)

    def files(self) -> Path:
        """The directory of the entity's files: annotation ``files``, by default the manifest's own."""
        return files_directory(self.directory, self.annotation("files"))


@dataclass(slots=True)
class Findings:
    """Problems and warnings in the order they are found."""

    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def error(self, entry: Entry, location: Location, message: str) -> None:
        """Note something that makes the catalog unusable."""
        self.problems.append(self._at(entry, location, message))

    def warn(self, entry: Entry, location: Location, message: str) -> None:
        """Note something that its author should know, and that does no harm."""
        self.warnings.append(self._at(entry, location, message))

    def annotation_error(self, entry: Entry, name: str, message: str) -> None:
        """Note what is wrong with the annotation ``dyff-dagster/NAME``."""
        key = PREFIX + name
        self.error(entry, entry.annotation_places.get(key, ("annotations", key)), message)

    def _at(self, entry: Entry, location: Location, message: str) -> Problem:
        return problem_at(entry.path, entry.place, location, message, entry.entity.id)


def problem_at(
    path: Path | None, place: Place, location: Location, message: str, entity_id: str | None
) -> Problem:
    """A problem of the value at ``location``, named as the file writes it.

    Where the file has the short form (``model: ID``), a location of the whole form (``model.id``) is
    shortened to what stands there.
    """
    line = None if path is None else line_of(place, location)
    if path is not None:
        location = as_written(place, location)
    return Problem(path, line, format_location(location), message, entity_id)


def as_written(place: Place, location: Location) -> Location:
    """``location`` without the steps below a scalar, which the file cannot have."""
    here: Place = place
    for depth, step in enumerate(location):
        if isinstance(here, int | Plain):
            return location[:depth]
        if not isinstance(here, Branch) or step not in here.children:
            return location
        here = here.children[step]
    return location
