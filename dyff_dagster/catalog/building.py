"""Documents turned into entities: kinds, ids, labels, annotations, the short form, pydantic's checks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic

from dyff_dagster.catalog.annotations import check_keys
from dyff_dagster.catalog.blanks import find_blanks
from dyff_dagster.catalog.coercions import check_coercions
from dyff_dagster.catalog.documents import Document, spelling_of
from dyff_dagster.catalog.entries import Entry, Findings, problem_at
from dyff_dagster.catalog.families import Families, NoSuchMember
from dyff_dagster.catalog.files import NoFiles, find_artifacts
from dyff_dagster.catalog.problems import Location, Origin, suggestion
from dyff_dagster.catalog.references import UNKNOWN_KIND, describe_bad_reference, raw_references
from dyff_dagster.catalog.shipped import files_directory, is_shipped, unknown_module
from dyff_dagster.catalog.short_form import ShortForm
from dyff_dagster.catalog.validation import problems_of, put_in_quotes
from dyff_dagster.catalog.yaml_reader import is_unusual_number
from dyff_dagster.schema.annotations import PREFIX
from dyff_dagster.schema.ids import IdError, check_id
from dyff_dagster.schema.platform import SYSTEM_ATTRIBUTES, Documentation, DyffEntity, Entities, entity_class
from dyff_dagster.schema.platform import UnknownKindError as UnknownKind

_KINDS = [str(kind) for kind in Entities if kind not in (Entities.Account, Entities.Analysis)]

# What is embedded must be there first: models in services, services in sessions, sessions in evaluations.
_LATER = {"InferenceService": 1, "InferenceSession": 2, "Measurement": 2, "SafetyCase": 2, "Evaluation": 3}


@dataclass(slots=True)
class _Pending:
    document: Document
    kind: str
    entity_id: str


class Builder:
    """Builds the entities of a catalog, one that embeds another after it.

    :param manifests: paths of the files that hold manifests; no Module takes them for its own.
    :param unread: ids that stand in files that cannot be read; whoever refers to them is not to blame.
    """

    def __init__(self, findings: Findings, manifests: Iterable[Path], unread: Iterable[str] = ()) -> None:
        self.findings = findings
        self.manifests = manifests
        self._resolved: frozenset[Path] | None = None
        self.known: dict[str, str] = dict.fromkeys(unread, UNKNOWN_KIND)
        self.families = Families(self.known)
        self.entries: dict[str, Entry] = {}
        self.documentation: dict[str, Documentation] = {}
        self._origins: dict[str, Origin] = {}
        self._entities: dict[str, DyffEntity] = {}

    def build(self, documents: Iterable[Document]) -> None:
        """Build everything; what is wrong goes into the findings, what is right into ``entries``."""
        pending: list[_Pending] = []
        documentation: list[Document] = []
        for document in documents:
            if self._has_blanks(document):
                continue
            if document.value.get("kind") == Entities.Documentation:
                documentation.append(document)
                continue
            found = self._identify(document)
            if found is not None:
                pending.append(found)
                if found.kind == Entities.Family:
                    self.families.add(found.entity_id, document.value)
        short_form = ShortForm(self.known, self._entities)
        for item in sorted(pending, key=lambda item: _LATER.get(item.kind, 0)):
            self._entity(item, short_form)
        for document in documentation:
            self._documentation(document)

    def _report(self, document: Document, entity_id: str | None) -> Callable[[Location, str], None]:
        def report(location: Location, message: str) -> None:
            self.findings.problems.append(
                problem_at(document.path, document.place, location, message, entity_id)
            )

        return report

    def _has_blanks(self, document: Document) -> bool:
        """Whether a template was not filled in; nothing else is said of it, nor of what refers to it."""
        blanks = find_blanks(document.value) if "<" in document.marks else []
        if not blanks:
            return False
        entity_id = document.value.get("id")
        report = self._report(document, entity_id if isinstance(entity_id, str) else None)
        for location, words in blanks:
            report(location, f"is a blank that is not filled in yet: {words}")
        if isinstance(entity_id, str):
            self.known.setdefault(entity_id, UNKNOWN_KIND)
        return True

    def _identify(self, document: Document) -> _Pending | None:
        """The kind and id of a document, or None after noting why it has none."""
        data: dict[str, Any] = document.value
        entity_id = data.get("id")
        report = self._report(document, entity_id if isinstance(entity_id, str) else None)
        kind = data.get("kind")
        if not isinstance(kind, str):
            report(
                ("kind",), "is missing; write one of " + ", ".join(_KINDS) if kind is None else "must be text"
            )
            return None
        try:
            entity_class(kind)
        except UnknownKind:
            report(("kind",), f"there is no kind '{kind}'; {suggestion(kind, _KINDS)}")
            # What refers to it is not to blame.
            if isinstance(entity_id, str):
                self.known.setdefault(entity_id, UNKNOWN_KIND)
            return None
        if entity_id is None:
            report(("id",), "is missing")
            return None
        if not isinstance(entity_id, str):
            spelling = spelling_of(document.place, ("id",))
            if spelling is None or not is_unusual_number(spelling):  # else it was told when it was read
                report(("id",), "must be text" if spelling is None else put_in_quotes(spelling))
            return None
        try:
            check_id(entity_id)
        except IdError as error:
            report(("id",), str(error))
            self.known.setdefault(entity_id, UNKNOWN_KIND)
            return None
        if entity_id in self._origins:
            report(
                ("id",),
                f"'{entity_id}' is used twice, first at {self._origins[entity_id]}; rename one of them",
            )
            return None
        self._origins[entity_id] = Origin(document.path, document.line)
        self.known[entity_id] = kind
        return _Pending(document, kind, entity_id)

    def _entity(self, item: _Pending, short_form: ShortForm) -> None:
        document = item.document
        report = self._report(document, item.entity_id)
        before = len(self.findings.problems)
        data = self._without_system_fields(item)
        places: dict[str, Location] = {}
        data = _labels_and_annotations(document, data, places, report)
        family_references: dict[str, str] = {}
        resolved = True
        if "@" in document.marks:
            data, family_references, resolved = self.families.in_document(item.kind, data, places, report)
        check_coercions(entity_class(item.kind), data, report)
        short_schema = "arrowSchema" not in data["schema"] if isinstance(data.get("schema"), dict) else False
        data, whole = short_form.expand(item.kind, data, report)
        found = self._find_artifacts(item, data, report)
        entity: DyffEntity | None = None
        try:
            entity = entity_class(item.kind).model_validate(data)
        except pydantic.ValidationError as error:
            self.findings.problems.extend(problems_of(document, item.entity_id, error))
        if entity is None or not whole or not resolved or len(self.findings.problems) > before:
            # It is no entity to be checked further, but what can be said of its text is said now.
            self._check_text(item, data, places, report)
            return
        self._entities[item.entity_id] = entity
        self.entries[item.entity_id] = Entry(
            entity,
            document.path,
            document.path.parent,
            document.place,
            places,
            short_schema=item.kind == "Dataset" and short_schema,
            artifacts_found=found,
            family_references=family_references,
        )

    def _check_text(
        self,
        item: _Pending,
        data: dict[str, Any],
        places: dict[str, Location],
        report: Callable[[Location, str], None],
    ) -> None:
        labels = data.get("labels")
        annotations = data.get("annotations")
        pairs = [
            (annotation["key"], annotation["value"])
            for annotation in (annotations if isinstance(annotations, list) else [])
            if isinstance(annotation, dict)
            and isinstance(annotation.get("key"), str)
            and isinstance(annotation.get("value"), str)
        ]
        check_keys(item.kind, labels if isinstance(labels, dict) else {}, pairs, places, report)
        for reference in raw_references(item.kind, data):
            message = describe_bad_reference(reference.id, reference.kinds, self.known)
            if message is not None:
                report(reference.location, message)

    def _without_system_fields(self, item: _Pending) -> dict[str, Any]:
        data = dict(item.document.value)
        if item.kind == Entities.Family:
            data = self._without_times_of_members(item, data)
        for name in sorted(SYSTEM_ATTRIBUTES & data.keys()):
            # A Revision's time is what it is about.
            if item.kind == "Revision" and name == "creationTime":
                continue
            if data.pop(name) is not None:
                self._warn_of_system_field(item, (name,))
        return data

    def _without_times_of_members(self, item: _Pending, data: dict[str, Any]) -> dict[str, Any]:
        members = data.get("members")
        if isinstance(members, dict):
            data["members"] = dict(members)
            for name, member in members.items():
                if isinstance(member, dict) and "creationTime" in member:
                    kept = {field: value for field, value in member.items() if field != "creationTime"}
                    data["members"][name] = kept
                    if member["creationTime"] is not None:
                        self._warn_of_system_field(item, ("members", name, "creationTime"))
        return data

    def _warn_of_system_field(self, item: _Pending, location: Location) -> None:
        message = "is assigned by the system and is not read from a manifest; leave it out"
        document = item.document
        self.findings.warnings.append(
            problem_at(document.path, document.place, location, message, item.entity_id)
        )

    def _find_artifacts(
        self, item: _Pending, data: dict[str, Any], report: Callable[[Location, str], None]
    ) -> bool:
        if item.kind not in ("Dataset", "Module") or data.get("artifacts") is not None:
            return False
        listed = data.get("annotations")
        annotations = {
            annotation["key"]: annotation["value"]
            for annotation in (listed if isinstance(listed, list) else [])
            if isinstance(annotation, dict)
            and isinstance(annotation.get("key"), str)
            and isinstance(annotation.get("value"), str)
        }
        if item.kind == "Dataset" and f"{PREFIX}from" in annotations:
            data["artifacts"] = [{"path": "data.parquet"}]  # the one file that ingesting writes
            return True
        named = annotations.get(f"{PREFIX}files", ".")
        try:
            if Path(named).is_absolute():  # refused with the other checks; not walked through before
                raise NoFiles(
                    "cannot be found, because the annotation 'dyff-dagster/files' is no relative path"
                )
            directory = files_directory(item.document.path.parent, named)
            if is_shipped(named) and not directory.is_dir():
                raise NoFiles(f"cannot be found: the annotation 'dyff-dagster/files' {unknown_module()}")
            data["artifacts"] = find_artifacts(item.kind, directory, self._is_manifest)
        except NoFiles as error:
            report(("artifacts",), str(error))
            data["artifacts"] = [{"path": "data.parquet"}]
        return True

    def _is_manifest(self, path: Path) -> bool:
        if self._resolved is None:  # only Modules that do not list their files need it
            self._resolved = frozenset(manifest.resolve() for manifest in self.manifests)
        return path.resolve() in self._resolved

    def _documentation(self, document: Document) -> None:
        data = dict(document.value)
        data.pop("kind")
        target = data.pop("entity", None)
        report = self._report(document, target if isinstance(target, str) else None)
        if not isinstance(target, str):
            report(("entity",), "must be the id of the entity that this documents")
            return
        if "@" in target:
            try:
                target = self.families.resolve(target)
            except NoSuchMember as error:
                if error.message is not None and not error.loop:
                    report(("entity",), error.message)
                return
        if target not in self.known:
            report(
                ("entity",), f"there is no entity '{target}' in the catalog; {suggestion(target, self.known)}"
            )
            return
        if target in self.documentation:
            report(("entity",), f"'{target}' is documented twice; keep one")
            return
        try:
            self.documentation[target] = Documentation.model_validate(data)
        except pydantic.ValidationError as error:
            self.findings.problems.extend(problems_of(document, target, error))


def _labels_and_annotations(
    document: Document,
    data: dict[str, Any],
    places: dict[str, Location],
    report: Callable[[Location, str], None],
) -> dict[str, Any]:
    """``data`` with labels as a mapping and annotations as a list, whichever of the two was written."""
    labels = data.get("labels")
    if isinstance(labels, dict):
        data["labels"] = {
            key: None if value is None else _text(document, ("labels", key), value, report)
            for key, value in labels.items()
        }
    elif isinstance(labels, list) and all(isinstance(item, dict) and "key" in item for item in labels):
        data["labels"] = {}
        for index, item in enumerate(labels):
            for name in item.keys() - {"key", "value"}:
                report(("labels", index, name), f"Label has no field '{name}'; it has: key, value")
            if item["key"] in data["labels"]:
                report(("labels", index, "key"), f"the label '{item['key']}' stands twice; keep one")
            elif isinstance(item["key"], str):
                data["labels"][item["key"]] = item.get("value")
    annotations = data.get("annotations")
    if isinstance(annotations, dict):
        data["annotations"] = []
        for key, value in annotations.items():
            places[key] = ("annotations", key)
            text = _text(document, ("annotations", key), value, report)
            data["annotations"].append({"key": key, "value": text})
    elif isinstance(annotations, list):
        for index, item in enumerate(annotations):
            if isinstance(item, dict) and isinstance(item.get("key"), str):
                places.setdefault(item["key"], ("annotations", index, "value"))
    return data


def _text(document: Document, location: Location, value: Any, report: Callable[[Location, str], None]) -> str:
    """The text of a label's or annotation's value; numbers, true and false as they are spelled."""
    if isinstance(value, str):
        return value
    spelling = spelling_of(document.place, location)
    if spelling is None and isinstance(value, bool | int | float):  # JSON has no unquoted text
        return str(value).lower() if isinstance(value, bool) else str(value)
    if (
        spelling is not None
        and (not isinstance(value, bool) or spelling in ("true", "false"))
        and value is not None
    ):
        return spelling
    if spelling is not None and value is not None:
        report(location, put_in_quotes(spelling))
    elif value is None:
        report(location, "has no value; write one, or '' for none")
    else:
        report(location, "must be text; put JSON in single quotes")
    return ""
