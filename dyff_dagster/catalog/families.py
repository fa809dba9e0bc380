"""``FAMILY@MEMBER`` wherever an id may stand: resolved when a catalog is loaded, and remembered.

No id holds an ``@``, so the two cannot be taken for each other. What goes into an entity is the id that the
member stands for: whoever moves a member to another entity changes the specification of exactly those that
refer to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from pydantic import BaseModel

from dyff_dagster.catalog.entries import Entry, Findings
from dyff_dagster.catalog.problems import Location, format_location, suggestion
from dyff_dagster.catalog.references import MEMBER_KINDS, METHOD_INPUT_KINDS, UNKNOWN_KIND, with_article
from dyff_dagster.schema.annotations import PREFIX
from dyff_dagster.schema.platform import DyffEntity, Family

_ANALYSIS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("method", ("Method",)),
    ("method.modules.*", ("Module",)),
    ("method.implementation.jupyterNotebook.notebookModule", ("Module",)),
    ("inputs.*.entity", METHOD_INPUT_KINDS),
    ("scope.evaluation", ("Evaluation",)),
    ("scope.inferenceService", ("InferenceService",)),
    ("scope.dataset", ("Dataset",)),
    ("scope.model", ("Model",)),
)

_PLACES: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "Audit": (("auditProcedure", ("AuditProcedure",)), ("inferenceService", ("InferenceService",))),
    "AuditProcedure": (("requirements.*.dataset", ("Dataset",)),),
    "Evaluation": (
        ("dataset", ("Dataset",)),
        ("inferenceSessionReference", ("InferenceSession",)),
        ("inferenceSession.inferenceService", ("InferenceService",)),
        ("inferenceSession.inferenceService.model", ("Model",)),
    ),
    "InferenceService": (("model", ("Model",)),),
    "InferenceSession": (("inferenceService", ("InferenceService",)), ("inferenceService.model", ("Model",))),
    "Measurement": _ANALYSIS,
    "Method": (
        ("modules.*", ("Module",)),
        ("implementation.jupyterNotebook.notebookModule", ("Module",)),
    ),
    "Report": (
        ("evaluation", ("Evaluation",)),
        ("dataset", ("Dataset",)),
        ("inferenceService", ("InferenceService",)),
        ("model", ("Model",)),
        ("modules.*", ("Module",)),
    ),
    "SafetyCase": _ANALYSIS,
}
"""Where references stand, by kind: a path (``*``: every item), and the kinds of which one is wanted there.

What stands at a path is an id, or a mapping with the ``id`` of what is embedded."""

_FROM_KINDS = ("DataSource", "Evaluation")


class NoSuchMember(Exception):
    """A ``FAMILY@MEMBER`` that stands for nothing.

    Its message says what is wrong, and is None where the fault is the family's own: that is told where the
    family is written.
    """

    def __init__(self, message: str | None, *, loop: bool = False) -> None:
        self.message = message
        self.loop = loop
        super().__init__(message)


class _Members(NamedTuple):
    kind: str | None
    resources: Mapping[str, str | None]


class Families:
    """The families of a catalog, by id.

    :param known: the kind of every id of the catalog. A reference that stands for nothing is added to it
        under :data:`~dyff_dagster.catalog.references.UNKNOWN_KIND`, so that it is told once.
    """

    def __init__(self, known: MutableMapping[str, str]) -> None:
        self._known = known
        self._families: dict[str, _Members] = {}

    def add(self, family_id: str, data: Mapping[str, Any] | Family) -> None:
        """Take a family in, in whatever form it is written; what is wrong with it is told elsewhere."""
        kind = _child(data, "memberKind")
        members = _child(data, "members")
        resources: dict[str, str | None] = {}
        for name, member in members.items() if isinstance(members, Mapping) else ():
            resource = member if isinstance(member, str) else _child(member, "resource")
            resources[str(name)] = resource if isinstance(resource, str) else None
        self._families[family_id] = _Members(str(kind) if isinstance(kind, str) else None, resources)

    def resolve(self, text: str, kinds: Sequence[str] | None = None) -> str:
        """The id that ``text``, a ``FAMILY@MEMBER``, stands for.

        :param kinds: of which kinds the entity may be; None: of any.
        :raises NoSuchMember: there is no such thing, or it is of another kind.
        """
        return self._resolve(text, kinds, ())

    def _resolve(self, text: str, kinds: Sequence[str] | None, seen: tuple[str, ...]) -> str:
        if text in seen:
            walk = " → ".join([*seen, text])
            raise NoSuchMember(f"stands for itself: {walk}; name an entity in one of them", loop=True)
        family_id, _, name = text.partition("@")
        if not family_id or not name or "@" in name:
            raise NoSuchMember(f"'{text}' is neither an id nor FAMILY@MEMBER; write it as in wdbc@held-out")
        family = self._families.get(family_id)
        if family is None:
            raise NoSuchMember(self._no_family(family_id))
        if family.kind not in MEMBER_KINDS:
            raise NoSuchMember(None)
        if kinds is not None and family.kind not in kinds:
            wanted = with_article(" or ".join(kinds))
            raise NoSuchMember(
                f"'{text}' is {with_article(family.kind)}, as all of '{family_id}' are; name {wanted}"
            )
        if name not in family.resources:
            hint = suggestion(name, family.resources)
            raise NoSuchMember(f"the Family '{family_id}' has no member '{name}'; {hint}")
        resource = family.resources[name]
        if resource is not None and "@" in resource:
            try:
                resource = self._resolve(resource, (family.kind,), (*seen, text))
            except NoSuchMember as error:
                raise error if error.loop else NoSuchMember(None) from None
        if resource is None or self._known.get(resource) != family.kind:
            raise NoSuchMember(None)
        return resource

    def _no_family(self, family_id: str) -> str | None:
        kind = self._known.get(family_id)
        if kind is None:
            hint = suggestion(family_id, self._families)
            return f"there is no Family '{family_id}' in the catalog; {hint}"
        if kind in (UNKNOWN_KIND, "Family"):
            return None
        return f"'{family_id}' is {with_article(kind)} and no Family; write its id without '@'"

    def in_document(
        self,
        kind: str,
        data: dict[str, Any],
        places: Mapping[str, Location],
        report: Callable[[Location, str], None],
    ) -> tuple[dict[str, Any], dict[str, str], bool]:
        """``data`` with ids instead of ``FAMILY@MEMBER``, what stood there, by field, and whether all of it is.

        :param data: a manifest, with its annotations as a list; it is not changed.
        :param places: where the annotation of a key stands.
        :param report: is told what is wrong; the reference is left as it was.
        """
        found: dict[str, str] = {}
        resolved, whole = self._rewritten(kind, data, places, report, found)
        return resolved, found, whole

    def in_entity(self, entry: Entry, findings: Findings) -> Entry | None:
        """The same for an entity that was made in Python; None where a member stands for nothing."""
        found: dict[str, str] = {}

        def report(location: Location, message: str) -> None:
            findings.error(entry, location, message)

        kind, places = entry.entity.kind, entry.annotation_places
        entity, whole = self._rewritten(kind, entry.entity, places, report, found)
        if not whole:
            return None
        return replace(entry, entity=entity, family_references=found) if found else entry

    def _rewritten(
        self,
        kind: str,
        data: Any,
        places: Mapping[str, Location],
        report: Callable[[Location, str], None],
        found: dict[str, str],
    ) -> tuple[Any, bool]:
        whole = True

        def resolved(kinds: Sequence[str] | None, location: Location, text: str) -> str:
            nonlocal whole
            if "@" not in text:
                return text
            try:
                resource = self.resolve(text, kinds)
            except NoSuchMember as error:
                whole = False
                self._known.setdefault(text, UNKNOWN_KIND)
                # A loop is the fault of the families in it.
                if error.message is not None and (kind == "Family" or not error.loop):
                    report(location, error.message)
                return text
            found[format_location(location)] = text
            return resource

        for path, kinds in _places_of(kind, data):
            data = _at(data, path, (), partial(resolved, kinds))
        data = _with_annotation(data, PREFIX + "from", places, partial(resolved, _FROM_KINDS))
        return data, whole


def _places_of(kind: str, data: Any) -> Iterator[tuple[Sequence[str], Sequence[str] | None]]:
    for path, kinds in _PLACES.get(kind, ()):
        yield path.split("."), kinds
    if kind == "Family":
        # A member may stand for another family's member. The short form is the member's id alone.
        member_kind = _child(data, "memberKind")
        wanted = (str(member_kind),) if member_kind in MEMBER_KINDS else None
        members = _child(data, "members")
        for name, member in members.items() if isinstance(members, Mapping) else ():
            yield ("members", name) if isinstance(member, str) else ("members", name, "resource"), wanted


def _child(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        return value.get(name)
    return getattr(value, name, None) if isinstance(value, BaseModel) else None


def _at(value: Any, path: Sequence[str], location: Location, change: Callable[[Location, str], str]) -> Any:
    """``value`` with the text at ``path`` changed; what holds it is copied, and only where it does change."""
    if not path:
        if isinstance(value, str):
            return change(location, value)
        return _at(value, ("id",), location, change) if _child(value, "id") is not None else value
    name, rest = path[0], path[1:]
    if name == "*":
        if not isinstance(value, list):
            return value
        items = [_at(item, rest, (*location, index), change) for index, item in enumerate(value)]
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    child = _child(value, name)
    if child is None:
        return value
    changed = _at(child, rest, (*location, name), change)
    if changed is child:
        return value
    return _replaced(value, name, changed)


def _with_annotation(
    data: Any, key: str, places: Mapping[str, Location], change: Callable[[Location, str], str]
) -> Any:
    listed = _child(data, "annotations")
    if not isinstance(listed, list):
        return data
    for index, item in enumerate(listed):
        text = _child(item, "value")
        if _child(item, "key") != key or not isinstance(text, str) or "@" not in text:
            continue
        changed = change(places.get(key, ("annotations", key)), text.strip())
        items = list(listed)
        if isinstance(item, BaseModel):
            items[index] = item.model_copy(update={"value": changed})
        else:
            items[index] = {**item, "value": changed}
        return _replaced(data, "annotations", items)
    return data


def _replaced(value: Any, name: str, child: Any) -> Any:
    """A copy of a mapping or model with one field changed."""
    if isinstance(value, BaseModel):
        return value.model_copy(update={name: child})
    return {**value, name: child}


def member_of(entities: Mapping[str, DyffEntity], text: str) -> str:
    """The id that ``text``, a ``FAMILY@MEMBER``, stands for in a catalog without faults.

    :raises NoSuchMember: there is no such thing.
    """
    families = Families({entity_id: entity.kind for entity_id, entity in entities.items()})
    for entity in entities.values():
        if isinstance(entity, Family):
            families.add(entity.id, entity)
    return families.resolve(text)


def in_entities(
    entries: Mapping[str, Entry], known: MutableMapping[str, str], findings: Findings
) -> dict[str, Entry]:
    """Entities that were made in Python, with ids instead of ``FAMILY@MEMBER``.

    Those in which a member stands for nothing are left out: there is nothing more to be said of them.
    """
    families = Families(known)
    for entry in entries.values():
        if isinstance(entry.entity, Family):
            families.add(entry.id, entry.entity)
    resolved = {entity_id: families.in_entity(entry, findings) for entity_id, entry in entries.items()}
    return {entity_id: entry for entity_id, entry in resolved.items() if entry is not None}
