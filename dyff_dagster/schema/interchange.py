"""Entities as dyff-schema 0.12 and 0.46 write and read them.

0.12 has the types of the page, so its form is ours. 0.46 demands a status and a time of creation, has fields
besides (``schema.newer``), and writes families, histories and revisions in another way:

====================  ======================================  ==============================================
what                  0.12 and here                           0.46
====================  ======================================  ==============================================
a family's member     ``resource``: an id                     ``entity``: kind and id
a family's page       ``documentation``                       ``metadata.documentation``
a history             revisions by id; ``latest``: an id      a list, oldest first, each with its id and the
                                                              revision before it; ``historyOf``
a revision            ``entity``                              ``data.snapshot``, or a patch; ``revisionOf``
====================  ======================================  ==============================================

Every function says what was lost on the way, in sentences, and prints nothing.
"""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ValidationError
from pydantic_core import to_jsonable_python

from dyff_dagster.schema.base import DyffEntity
from dyff_dagster.schema.enumerations import InferenceServiceRunnerKind
from dyff_dagster.schema.errors import DyffError
from dyff_dagster.schema.families import Family
from dyff_dagster.schema.newer import held_fields
from dyff_dagster.schema.platform import entity_class
from dyff_dagster.schema.revisions import History, Revision
from dyff_dagster.schema.services import InferenceServiceRunner

__all__ = [
    "NEWER_KINDS",
    "InterchangeError",
    "ReadEntity",
    "SchemaName",
    "WrittenEntity",
    "full_form",
    "read_entity",
    "to_page_form",
    "write_entity",
]

SchemaName = Literal["0.12", "0.46"]

NEWER_KINDS = frozenset(
    {
        "Challenge",
        "Concern",
        "Curve",
        "Hazard",
        "OCIArtifact",
        "Pipeline",
        "PipelineRun",
        "Quota",
        "Score",
        "Submission",
        "Team",
        "UseCase",
    }
)
"""Kinds that 0.46 added. The page has no type for them."""

_DESCRIPTION = 280  # of a family's member, in characters


class InterchangeError(DyffError):
    """An entity that cannot be read or written.

    ``entity_id`` is its id, None where it has none; ``faults`` are (place, problem), all of them.
    """

    def __init__(self, entity_id: str | None, faults: list[tuple[tuple[str | int, ...], str]]) -> None:
        self.entity_id, self.faults = entity_id, faults
        said = "; ".join(
            f"{'.'.join(map(str, place))}: {problem}" if place else problem for place, problem in faults
        )
        super().__init__(f"{entity_id}: {said}" if entity_id else said)


@dataclass(frozen=True)
class ReadEntity:
    """An entity that was read, and what of it was ``lost``: one sentence each."""

    entity: DyffEntity
    lost: tuple[str, ...] = ()


@dataclass(frozen=True)
class WrittenEntity:
    """An entity as a JSON object, and what of it was ``lost``: one sentence each."""

    data: dict[str, Any]
    lost: tuple[str, ...] = ()


def read_entity(data: Mapping[str, Any]) -> ReadEntity:
    """Read an entity from the JSON object that 0.12 or 0.46 wrote.

    Raises:
        InterchangeError: it is of no kind of the page, a field is unknown or not as it must be (all such
            faults are told), or it is a revision that holds a patch only.
    """
    identity = data.get("id")
    entity_id = identity if isinstance(identity, str) else None
    lost: list[str] = []
    plain = to_page_form(data, lost)
    try:
        entity = entity_class(str(plain["kind"])).model_validate(plain)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False, include_input=False)
        raise InterchangeError(entity_id, [_fault(dict(detail)) for detail in details]) from None
    return ReadEntity(entity, tuple(lost))


def _fault(detail: dict[str, Any]) -> tuple[tuple[str | int, ...], str]:
    if detail["type"] == "missing":
        return detail["loc"], "is missing"
    return detail["loc"], str(detail["msg"]).removeprefix("Value error, ").replace("Input should", "must", 1)


def to_page_form(data: Mapping[str, Any], lost: list[str]) -> dict[str, Any]:
    """Return an entity's JSON object in the form of the page, whichever it was in; ``data`` stays as it is.

    What cannot be kept goes into ``lost``. Fields that 0.46 added stay where they are.

    Raises:
        InterchangeError: it is of no kind of the page, or it is a revision that holds a patch only.
    """
    made = dict(data)
    kind, identity = made.get("kind"), made.get("id")
    entity_id = identity if isinstance(identity, str) else None
    if not isinstance(kind, str):
        said = "is missing" if kind is None else "must be text"
        raise InterchangeError(entity_id, [(("kind",), f"{said}; it says what the entity is")])
    if kind in NEWER_KINDS:
        message = (
            f"a {kind} is of dyff-schema 0.46 only, and there is nothing here to make of it: leave it out"
        )
        raise InterchangeError(entity_id, [((), message)])
    entity_class(kind)
    if kind == "Family":
        _family_from_newer(made, lost)
    elif kind == "History" and isinstance(made.get("revisions"), list):
        _history_from_newer(made)
    elif kind == "Revision" and "data" in made and "entity" not in made:
        _revision_from_newer(made, lost)
    return made


def _family_from_newer(made: dict[str, Any], lost: list[str]) -> None:
    metadata = made.get("metadata")
    if isinstance(metadata, dict) and metadata.get("documentation") and "documentation" not in made:
        metadata = dict(metadata)
        made["documentation"] = metadata.pop("documentation")
        made["metadata"] = metadata
    members = made.get("members")
    if not isinstance(members, dict):
        return
    made["members"] = {}
    for name, member in members.items():
        if isinstance(member, dict) and isinstance(member.get("entity"), dict) and "resource" not in member:
            member = dict(member)
            entity = member.pop("entity")
            member["resource"] = entity.get("id")
            if entity.get("kind") != made.get("memberKind"):
                lost.append(
                    f"{made.get('id')}: members.{name} is of kind {entity.get('kind')}, in a family of "
                    f"{made.get('memberKind')}: the kind is lost"
                )
        made["members"][name] = member


def _history_from_newer(made: dict[str, Any]) -> None:
    if isinstance(made.get("latest"), dict):
        made["latest"] = made["latest"].get("id")
    revisions = made["revisions"]
    # What is no revision is left for the type to refuse.
    if all(isinstance(item, dict) and isinstance(item.get("id"), str) for item in revisions):
        made["revisions"] = {
            item["id"]: {key: value for key, value in item.items() if key != "id"} for item in revisions
        }


def _revision_from_newer(made: dict[str, Any], lost: list[str]) -> None:
    data = made.pop("data")
    snapshot = data.get("snapshot") if isinstance(data, dict) else None
    if not isinstance(snapshot, dict):
        message = "holds a patch and no snapshot, and cannot be read by itself: leave it out"
        raise InterchangeError(made.get("id"), [(("data",), message)])
    about = made.pop("revisionOf", None)
    if about is not None and about != snapshot.get("id"):
        message = f"names '{about}', and the snapshot is of '{snapshot.get('id')}'"
        raise InterchangeError(made.get("id"), [(("revisionOf",), message)])
    made["entity"] = to_page_form(snapshot, lost)


def write_entity(
    entity: DyffEntity,
    schema: SchemaName,
    *,
    status: str = "Created",
    created: datetime | None = None,
    history_of: str | None = None,
) -> WrittenEntity:
    """Return ``entity`` as the JSON object that ``schema`` reads.

    Args:
        entity: What is written.
        schema: ``0.12`` or ``0.46``.
        status: Status of an entity that has none, which 0.46 demands.
        created: Time of creation of one that has none, which 0.46 demands; default: now.
        history_of: For a History that was not read from 0.46: the id of the entity that it is of.

    Raises:
        InterchangeError: the schema cannot hold it.
    """
    lost: list[str] = []
    if schema == "0.12":
        _find_unknown_to_older(entity, entity.id, (), lost)
        return WrittenEntity(json.loads(entity.model_dump_json()), tuple(lost))
    moment = (created or datetime.now(UTC)).astimezone(UTC)
    return WrittenEntity(_to_newer(entity, status, moment, history_of, lost), tuple(lost))


def _find_unknown_to_older(value: Any, entity_id: str, place: tuple[str, ...], lost: list[str]) -> None:
    if isinstance(value, BaseModel):
        if isinstance(value, InferenceServiceRunner) and value.kind == InferenceServiceRunnerKind.CONTAINER:
            message = "'container' came with dyff-schema 0.46; export it with --schema 0.46"
            raise InterchangeError(entity_id, [((*place, "kind"), message)])
        lost += [
            f"{entity_id}: {'.'.join((*place, name))} is lost: dyff-schema 0.12 has no such field"
            for name in held_fields(value)
        ]
        for name, field in type(value).model_fields.items():
            _find_unknown_to_older(getattr(value, name), entity_id, (*place, field.alias or name), lost)
    elif isinstance(value, dict):
        for key, item in value.items():
            _find_unknown_to_older(item, entity_id, (*place, str(key)), lost)
    elif isinstance(value, list):
        for position, item in enumerate(value):
            _find_unknown_to_older(item, entity_id, (*place, str(position)), lost)


def _to_newer(
    entity: DyffEntity, status: str, moment: datetime, history_of: str | None, lost: list[str]
) -> dict[str, Any]:
    made: dict[str, Any] = full_form(entity)
    made.setdefault("status", status)
    made.setdefault("creationTime", to_jsonable_python(moment))
    for key, value in entity.labels.items():
        if value is None:
            made["labels"][key] = ""
            lost.append(f"{entity.id}: labels.{key} has no value, and 0.46 needs one: it is written empty")
    if isinstance(entity, Family):
        _family_to_newer(entity, made, lost)
    elif isinstance(entity, History):
        _history_to_newer(entity, made, history_of)
    elif isinstance(entity, Revision):
        if isinstance(entity.entity, History):
            message = "is a History, and 0.46 keeps no revisions of histories: leave it out"
            raise InterchangeError(entity.id, [(("entity",), message)])
        del made["entity"]
        snapshot = _to_newer(entity.entity, status, entity.creationTime, None, lost)
        made["revisionOf"] = entity.entity.id
        made["data"] = {"format": "Snapshot", "snapshot": snapshot}
    return made


def _family_to_newer(family: Family, made: dict[str, Any], lost: list[str]) -> None:
    documentation = made.pop("documentation")
    if documentation:
        made["metadata"] = {**made.get("metadata", {}), "documentation": documentation}
    for name, member in made["members"].items():
        member["entity"] = {"kind": str(family.memberKind), "id": member.pop("resource")}
        member.setdefault("creationTime", made["creationTime"])
        if len(member.get("description", "")) > _DESCRIPTION:
            member["description"] = member["description"][: _DESCRIPTION - 1] + "…"
            lost.append(
                f"{family.id}: members.{name}.description is cut: 0.46 takes {_DESCRIPTION} characters"
            )


def _history_to_newer(history: History, made: dict[str, Any], history_of: str | None) -> None:
    about = made.get("historyOf", history_of)
    if about is None:
        message = "is what 0.46 demands, and the history does not say it: read its latest Revision as well"
        raise InterchangeError(history.id, [(("historyOf",), message)])
    if history.latest not in history.revisions:
        message = f"'{history.latest}' is none of the revisions"
        raise InterchangeError(history.id, [(("latest",), message)])
    made["historyOf"] = about
    # In the order of their times; what was made at one time stays as it stands.
    order = sorted(history.revisions, key=lambda name: history.revisions[name].creationTime)
    revisions = [{"id": name, **made["revisions"][name]} for name in order]
    if not any("previousRevision" in item for item in revisions):
        for earlier, later in itertools.pairwise(revisions):
            later["previousRevision"] = earlier["id"]
    made["revisions"] = revisions
    made["latest"] = next(copy.deepcopy(item) for item in revisions if item["id"] == history.latest)


def full_form(value: Any) -> Any:
    """Return the wire form of a model with what it holds for 0.46, and without fields that are None.

    Two entities with the same full form are the same, held fields included.
    """
    if isinstance(value, BaseModel):
        made = {
            field.alias or name: full_form(getattr(value, name))
            for name, field in type(value).model_fields.items()
            if getattr(value, name) is not None
        }
        made.update(copy.deepcopy(held_fields(value)))
        return made
    if isinstance(value, dict):
        return {str(key): full_form(item) for key, item in value.items()}
    if isinstance(value, list):
        return [full_form(item) for item in value]
    return to_jsonable_python(value)
