"""A catalog: one checked graph of entities."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from dyff_dagster.catalog.annotations import withheld_fields
from dyff_dagster.catalog.building import Builder
from dyff_dagster.catalog.checks import check_entries
from dyff_dagster.catalog.entries import Entry, Findings, problem_at
from dyff_dagster.catalog.families import NoSuchMember, in_entities, member_of
from dyff_dagster.catalog.graph import downstream_of, in_order
from dyff_dagster.catalog.loading import catalog_attribute, collection_paused, manifest_files
from dyff_dagster.catalog.problems import CatalogError, EntityNotFound, Origin, Problem, suggestion
from dyff_dagster.catalog.reading import read_documents
from dyff_dagster.catalog.references import upstream as upstream_of
from dyff_dagster.catalog.requirements import Candidates, candidates_of
from dyff_dagster.catalog.shipped import files_directory
from dyff_dagster.schema.ids import IdError, check_id
from dyff_dagster.schema.platform import Documentation, DyffEntity

E = TypeVar("E", bound=DyffEntity)


class Catalog:
    """The entities of an audit, checked as a whole and never changed afterwards.

    Make one from Python objects, or read one with :meth:`load`. Both check everything there is to check and
    report all problems at once.

    Example::

        catalog = Catalog.load("examples/breast_cancer")
        for entity_id, entity in catalog.entities.items():
            print(entity.kind, entity_id, catalog.upstream(entity_id))
    """

    def __init__(self, entities: Iterable[DyffEntity], base: Path | str = Path()) -> None:
        """Check entities that were made in Python.

        :param base: the directory that their ``dyff-dagster/files`` annotations are relative to.
        :raises CatalogError: with everything that is wrong.
        """
        findings = Findings()
        entries: dict[str, Entry] = {}
        known: dict[str, str] = {}
        for entity in entities:
            try:
                check_id(entity.id)
            except IdError as error:
                findings.problems.append(problem_at(None, 0, ("id",), str(error), entity.id))
                continue
            if entity.id in known:
                kinds = f"{known[entity.id]} and {entity.kind}"
                message = f"'{entity.id}' is used twice ({kinds}); rename one of them"
                findings.problems.append(problem_at(None, 0, ("id",), message, entity.id))
                continue
            known[entity.id] = entity.kind
            entries[entity.id] = Entry(entity, None, Path(base), 0, {})
        self._finish(in_entities(entries, known, findings), known, {}, findings)

    @classmethod
    def load(cls, source: Path | str) -> Catalog:
        """Read a catalog.

        :param source: a directory or file of manifests; a ``.py`` file, or the dotted name of a module, with
            an attribute ``catalog``. A path that exists goes before a module of the same name.
        :raises CatalogError: with everything that is wrong.
        """
        if source == "":  # pathlib takes it for the working directory, which nobody has named
            message = (
                "the name of the catalog is empty; name a directory or a file of manifests, "
                "or '.' for this directory"
            )
            raise CatalogError([Problem(None, None, "", message)])
        path = Path(source)
        try:
            there = path.exists()
            regular = path.is_dir() or path.is_file()
        except OSError as error:
            message = f"cannot be read: {error.strerror or 'unknown error'}"
            raise CatalogError([Problem(path, None, "", message)]) from None
        if there and not regular:
            message = "is a pipe or a device; name a directory or a file of manifests"
            raise CatalogError([Problem(path, None, "", message)])
        if path.suffix == ".py" and path.is_file():
            return cls._of_module(path)
        if there:
            with collection_paused():
                return cls._of_manifests(path)
        if isinstance(source, str) and all(part.isidentifier() for part in source.split(".")):
            return cls._of_module(source)
        raise CatalogError([Problem(path, None, "", "there is no such file or directory")])

    @classmethod
    def _of_module(cls, source: Path | str) -> Catalog:
        found = catalog_attribute(source)
        if not isinstance(found, Catalog):
            path = source if isinstance(source, Path) else None
            where = "" if path is not None else f"module {source}: "
            message = f"{where}`catalog` is of type {type(found).__name__}; make it a dyff_dagster.Catalog"
            raise CatalogError([Problem(path, None, "", message)])
        return found

    @classmethod
    def _of_manifests(cls, source: Path) -> Catalog:
        findings = Findings()
        documents = []
        manifests = []
        unread: set[str] = set()
        for path in manifest_files(source, findings.problems):
            read = read_documents(path, findings.problems, unread)
            if read:
                manifests.append(path)
                documents += read
        builder = Builder(findings, manifests, unread)
        builder.build(documents)
        if not builder.known and not findings.problems:
            findings.problems.append(
                Problem(source, None, "", "holds no manifests: *.yaml, *.yml or *.json files with a `kind`")
            )
        catalog = cls.__new__(cls)
        catalog._finish(builder.entries, builder.known, builder.documentation, findings)
        return catalog

    def _finish(
        self,
        entries: Mapping[str, Entry],
        known: Mapping[str, str],
        documentation: Mapping[str, Documentation],
        findings: Findings,
    ) -> None:
        check_entries(entries, known, findings)
        upstream = upstream_of(entries)
        order = in_order(entries, upstream, findings)
        if findings.problems:
            raise CatalogError(_in_file_order(findings.problems))
        self._entities = MappingProxyType({entity_id: entries[entity_id].entity for entity_id in order})
        self._upstream = {entity_id: upstream[entity_id] for entity_id in order}
        self._downstream = downstream_of(self._upstream)
        self._origins = {entity_id: entries[entity_id].origin for entity_id in order}
        self._directories = {entity_id: entries[entity_id].directory for entity_id in order}
        self._annotations = {entity_id: entries[entity_id].annotations() for entity_id in order}
        self._family_references = {
            entity_id: MappingProxyType(dict(entries[entity_id].family_references)) for entity_id in order
        }
        self._candidates = candidates_of(entries)
        self._documentation = MappingProxyType(dict(documentation))
        self._warnings = tuple(_in_file_order(findings.warnings))

    @property
    def entities(self) -> Mapping[str, DyffEntity]:
        """Every entity by id, dependencies before what waits for them, ties by kind and then id."""
        return self._entities

    @property
    def documentation(self) -> Mapping[str, Documentation]:
        """What ``kind: Documentation`` documents say, by the id of the entity they are about."""
        return self._documentation

    @property
    def warnings(self) -> list[Problem]:
        """What the authors of the manifests should know, and what did not keep the catalog from loading."""
        return list(self._warnings)

    def __len__(self) -> int:
        return len(self._entities)

    def __contains__(self, entity_id: object) -> bool:
        return entity_id in self._entities

    def __repr__(self) -> str:
        return f"<Catalog of {len(self)} entities>"

    def get(self, entity_id: str) -> DyffEntity:
        """The entity with this id.

        :raises EntityNotFound: there is none; the text names the id most like it.
        """
        self._require(entity_id)
        return self._entities[entity_id]

    def id_of(self, name: str) -> str:
        """The id that ``name`` stands for: an id for itself, ``FAMILY@MEMBER`` for the member's.

        :raises EntityNotFound: there is no such entity or member; the text names the one most like it.
        """
        if "@" not in name:
            self._require(name)
            return name
        try:
            return member_of(self._entities, name)
        except NoSuchMember as error:
            raise EntityNotFound(name, str(error)) from None

    def get_as(self, entity_id: str, kind: type[E]) -> E:
        """The entity with this id, which must be of the type ``kind``.

        :raises EntityNotFound: there is none, or it is of another kind.
        """
        entity = self.get(entity_id)
        if not isinstance(entity, kind):
            raise EntityNotFound(entity_id, f"'{entity_id}' is of kind {entity.kind}, not {kind.__name__}")
        return entity

    def upstream(self, entity_id: str) -> tuple[str, ...]:
        """The ids that the entity's work waits for: its ``dependencies()``, each once, and what CONTRACT adds.

        :raises EntityNotFound: there is no such entity.
        """
        self._require(entity_id)
        return self._upstream[entity_id]

    def downstream(self, entity_id: str) -> tuple[str, ...]:
        """The ids whose work waits for this entity, in the catalog's order.

        :raises EntityNotFound: there is no such entity.
        """
        self._require(entity_id)
        return self._downstream[entity_id]

    def origin(self, entity_id: str) -> Origin:
        """The file and line where the entity's document begins.

        :raises EntityNotFound: there is no such entity.
        """
        self._require(entity_id)
        return self._origins[entity_id]

    def directory(self, entity_id: str) -> Path:
        """The directory of the entity's manifest, or ``base`` for one that was made in Python.

        :raises EntityNotFound: there is no such entity.
        """
        self._require(entity_id)
        return self._directories[entity_id]

    def files(self, entity_id: str) -> Path:
        """The directory of the entity's files: annotation ``files``, by default :meth:`directory`.

        :raises EntityNotFound: there is no such entity.
        """
        self._require(entity_id)
        return files_directory(self._directories[entity_id], self._annotations[entity_id].get("files"))

    def annotation(self, entity_id: str, name: str) -> str | None:
        """The value of the annotation ``dyff-dagster/NAME``, or None.

        :raises EntityNotFound: there is no such entity.
        """
        self._require(entity_id)
        return self._annotations[entity_id].get(name)

    def family_references(self, entity_id: str) -> Mapping[str, str]:
        """Where the entity's author wrote ``FAMILY@MEMBER``, and which, by field.

        The entity itself holds the id that the member stands for. ``{"dataset": "wdbc@held-out"}``.

        :raises EntityNotFound: there is no such entity.
        """
        self._require(entity_id)
        return self._family_references[entity_id]

    def candidates(self, audit_id: str) -> tuple[Candidates, ...]:
        """What an Audit's procedure requires, in its order, and which Reports and Measurements can meet it.

        :raises EntityNotFound: there is no such entity.
        """
        self._require(audit_id)
        return self._candidates.get(audit_id, ())

    def withheld(self, entity_id: str) -> frozenset[str] | None:
        """The fields of a Dataset that no service may see, or None where its manifest does not say.

        :raises EntityNotFound: there is no such entity.
        """
        said = self.annotation(entity_id, "withhold")
        return None if said is None else frozenset(withheld_fields(said))

    def _require(self, entity_id: str) -> None:
        if entity_id not in self._entities:
            hint = suggestion(entity_id, self._entities)
            raise EntityNotFound(entity_id, f"there is no entity '{entity_id}' in the catalog; {hint}")


def _in_file_order(problems: Sequence[Problem]) -> list[Problem]:
    """Sorted by file and line, each once; those made in Python come first, in the order they were found."""
    unique = dict.fromkeys(problems)
    return sorted(unique, key=lambda problem: (str(problem.path or ""), problem.line or 0))
