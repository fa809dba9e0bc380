"""Revisions: what an entity said, each time that it said something else; who had it computed, and when.

They lie beside the versions::

    ROOT/ID/.dyff/revisions/00000001.json   the Revisions of the platform, in order; none is ever changed
    ROOT/ID/.dyff/history.json              the platform's History of them, for other tools

A revision is made by exclusive creation of the next number, so two writers never make the same change twice.
An entity that is committed has all that a revision needs in its commit: where a crash kept one from being
written, readers see it all the same, and the next writer makes up for it.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from upath import UPath

from dyff_dagster.schema.annotations import PREFIX
from dyff_dagster.schema.ids import check_id, namespaced_id
from dyff_dagster.schema.platform import DyffEntity, History, Revision
from dyff_dagster.schema.statuses import success_status
from dyff_dagster.store.differences import specification
from dyff_dagster.store.errors import StoreError
from dyff_dagster.store.filesystem import Filesystem
from dyff_dagster.store.held import held_parts, with_held

HELD = "held"
"""Name of the annotation with what the entity holds for dyff-schema 0.46, as JSON; only where there is some."""

_OCCASION = ("number", "user", "run", "commit", "commits-seen")

RECORDED = (*_OCCASION, HELD)
"""Names of a Revision's annotations, without the prefix: who, and on which occasion (see RecordedRevision)."""

_LONGEST_NAME = 200


@dataclass(frozen=True)
class RecordedRevision:
    """An entity as it was from some moment on.

    Attributes:
        entity_id: The entity.
        number: 1 for the first revision of this entity, then counting up.
        created: When it was recorded, or, of an entity that is computed, when it was committed (UTC).
        user: Who had it computed: DYFF_USER, else the login name.
        run_id: The Dagster run, or an empty string.
        commit: The commit with which it was recorded, as ``ID/NUMBER``. Of an entity that is only declared it
            is the commit of what was computed from it. May be empty.
        seen: How many commits the entity itself had by then.
        entity: The entity in its wire form, with the creationTime that it got when it was first recorded.
        held: What it holds for dyff-schema 0.46 (see ``store.held``); empty for most.
    """

    entity_id: str
    number: int
    created: datetime
    user: str
    run_id: str
    commit: str
    seen: int
    entity: Mapping[str, Any]
    held: Mapping[str, Any] = field(default_factory=dict)

    @property
    def whole(self) -> dict[str, Any]:
        """The entity with what it holds for 0.46 in its place: what two revisions are compared by."""
        return with_held(self.entity, self.held)

    @property
    def id(self) -> str:
        """The Revision's own id, which follows from the entity's and the number."""
        return namespaced_id(self.entity_id, f"revision/{self.number}")

    def to_json(self) -> dict[str, Any]:
        """The platform's Revision, in its wire form. Who and why are annotations: the page has no field for it."""
        said: dict[str, object] = dict(
            zip(_OCCASION, (self.number, self.user, self.run_id, self.commit, self.seen), strict=True)
        )
        if self.held:
            said[HELD] = json.dumps(self.held, sort_keys=True)
        return {
            "schemaVersion": "0.1",
            "kind": "Revision",
            "id": self.id,
            "account": self.entity["account"],
            "labels": {},
            "annotations": [{"key": PREFIX + name, "value": str(value)} for name, value in said.items()],
            "status": success_status("Revision"),
            "reason": None,
            "creationTime": self.created.isoformat(),
            "entity": dict(self.entity),
        }

    @classmethod
    def from_json(cls, text: bytes, number: int, where: str) -> RecordedRevision:
        """Read a stored Revision.

        Args:
            text: The stored JSON.
            number: The number in the file's name.
            where: Name of the file, for errors.

        Raises:
            StoreError: It is no Revision of ours.
        """
        try:
            data = json.loads(text)
            said = {item["key"].removeprefix(PREFIX): item["value"] for item in data["annotations"]}
            return cls(
                entity_id=data["entity"]["id"],
                number=number,
                created=datetime.fromisoformat(data["creationTime"]),
                user=said["user"],
                run_id=said["run"],
                commit=said["commit"],
                seen=int(said["commits-seen"]),
                entity=data["entity"],
                held=dict(json.loads(said.get(HELD, "{}"))),
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise StoreError(
                f"{where} is no Revision that this project wrote ({type(error).__name__}); it was damaged from "
                "outside: restore it, or remove it together with those of higher numbers"
            ) from error

    def revision(self) -> Revision:
        """As the platform's type, which holds what the entity held."""
        return Revision.model_validate({**self.to_json(), "entity": self.whole})


class Revisions:
    """The revisions of all entities of a store.

    Args:
        files: The filesystem that the store is on.
        root: The store's root.
    """

    def __init__(self, files: Filesystem, root: UPath) -> None:
        self._files = files
        self._root = root

    def of(self, entity_id: str) -> list[RecordedRevision]:
        """Every revision of an entity, the first one first; nothing is written.

        Raises:
            StoreError: One of them is damaged.
        """
        stored = [self._read(entity_id, number) for number in self._numbers(entity_id)]
        return stored + self._pending(entity_id, stored[-1] if stored else None)

    def history(self, entity_id: str) -> History | None:
        """The platform's History of an entity, or None where there is no revision."""
        revisions = self.of(entity_id)
        return History.model_validate(_history(revisions)) if revisions else None

    def record(self, entity: DyffEntity, *, run_id: str = "", commit: str = "") -> RecordedRevision | None:
        """Add a revision, unless the entity says what the latest one says.

        For entities that are only declared, once something that was computed from them is committed, and for
        those whose version is taken over although their manifest says something new that changes no result.

        Args:
            entity: The entity.
            run_id: The Dagster run, if there is one.
            commit: The commit on whose occasion it is recorded, as ``ID/NUMBER``.

        Returns:
            The latest revision; None for a Revision, of which there are none.
        """
        if isinstance(entity, Revision):
            return None
        while True:
            seen = max(
                self._commit_numbers(entity.id), default=0
            )  # one that is made meanwhile is still to see
            self.catch_up(entity.id)
            latest = self._latest(entity.id)
            now = datetime.now(UTC)
            resource = wire_form(entity, latest.entity if latest else None, now)
            held = held_parts(entity)
            if latest is not None and specification(latest.whole) == specification(with_held(resource, held)):
                return latest
            made = RecordedRevision(
                entity_id=entity.id,
                number=latest.number + 1 if latest else 1,
                created=now,
                user=current_user(),
                run_id=run_id,
                commit=commit,
                seen=seen,
                entity=resource,
                held=held,
            )
            with contextlib.suppress(FileExistsError):  # another writer was first: look again
                self._create(made)
                return made

    def catch_up(self, entity_id: str) -> None:
        """Write the revisions that commits call for and that are not there; called after each commit."""
        while pending := self._pending(entity_id, self._latest(entity_id)):
            with contextlib.suppress(FileExistsError):
                self._create(pending[0])
        self._publish(entity_id)

    def _pending(self, entity_id: str, latest: RecordedRevision | None) -> list[RecordedRevision]:
        """The revisions after ``latest`` that the commits call for.

        Looks at the newest commits only, as far back as they differ from ``latest``: usually at one.
        """
        found: list[dict[str, Any]] = []
        known = None if latest is None else specification(latest.whole)
        for number in reversed(self._commit_numbers(entity_id)):
            if latest is not None and number <= latest.seen:
                break
            record = self._read_commit(entity_id, number)
            if _specification_of(record) == known:
                break
            found.append(record)
        revisions: list[RecordedRevision] = []
        number = 0 if latest is None else latest.number
        for record in reversed(found):
            if (said := _specification_of(record)) == known:
                continue
            known = said
            number += 1
            revisions.append(
                RecordedRevision(
                    entity_id=entity_id,
                    number=number,
                    created=datetime.fromisoformat(record["committed"]),
                    user=record.get("by", ""),
                    run_id=record["run"],
                    commit=f"{entity_id}/{record['sequence']}",
                    seen=record["sequence"],
                    entity=record["resource"],
                    held=record.get("held", {}),
                )
            )
        return revisions

    def _create(self, revision: RecordedRevision) -> None:
        path = self._path(revision.entity_id, revision.number)
        self._files.create(path, json.dumps(revision.to_json(), indent=1).encode())
        self._publish(revision.entity_id)

    def _publish(self, entity_id: str) -> None:
        """Bring the copy for other tools up to date. Only revisions that are written are in it."""
        numbers = self._numbers(entity_id)
        if not numbers:
            return
        path = self._directory(entity_id) / "history.json"
        newest = namespaced_id(entity_id, f"revision/{numbers[-1]}")
        with contextlib.suppress(FileNotFoundError, ValueError, KeyError, TypeError):
            if json.loads(self._files.read(path))["latest"] == newest:
                return
        history = _history([self._read(entity_id, number) for number in numbers])
        self._files.put(path, json.dumps(history, indent=1).encode())

    def _latest(self, entity_id: str) -> RecordedRevision | None:
        numbers = self._numbers(entity_id)
        return self._read(entity_id, numbers[-1]) if numbers else None

    def _read(self, entity_id: str, number: int) -> RecordedRevision:
        path = self._path(entity_id, number)
        return RecordedRevision.from_json(self._files.read(path), number, str(path))

    def _read_commit(self, entity_id: str, number: int) -> dict[str, Any]:
        path = self._directory(entity_id) / "commits" / f"{number:08d}.json"
        try:
            record: dict[str, Any] = json.loads(self._files.read(path))
            _ = record["resource"]["account"], record["sequence"], record["run"], record["committed"]
            return record
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise StoreError(
                f"{path} is no commit record ({type(error).__name__}); "
                "it was damaged from outside: restore it, or remove the entity's directory to compute it again"
            ) from error

    def _directory(self, entity_id: str) -> UPath:
        return self._root / check_id(entity_id) / ".dyff"

    def _path(self, entity_id: str, number: int) -> UPath:
        return self._directory(entity_id) / "revisions" / f"{number:08d}.json"

    def _numbers(self, entity_id: str) -> list[int]:
        return _numbers_in(self._files, self._directory(entity_id) / "revisions")

    def _commit_numbers(self, entity_id: str) -> list[int]:
        return _numbers_in(self._files, self._directory(entity_id) / "commits")


def _specification_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the author of a commit's entity said."""
    return specification(with_held(record["resource"], record.get("held", {})))


def wire_form(entity: DyffEntity, before: Mapping[str, Any] | None, now: datetime) -> dict[str, Any]:
    """The entity as it is stored: with a status, and with the times that the system assigns.

    Args:
        entity: The entity.
        before: What is stored of it already; times that were assigned once stay.
        now: The time for what is new.
    """
    resource: dict[str, Any] = json.loads(entity.model_dump_json())
    before = before or {}
    resource["creationTime"] = before.get("creationTime") or now.isoformat()
    resource["status"] = success_status(entity.kind)
    resource["reason"] = None
    if entity.kind == "Family":
        known = before.get("members") or {}
        for name, member in resource["members"].items():
            old = known.get(name) or {}
            kept = old.get("creationTime") if old.get("resource") == member["resource"] else None
            member["creationTime"] = kept or now.isoformat()
    return resource


def current_user(environment: Mapping[str, str] = os.environ) -> str:
    """Who has this computed: DYFF_USER, else the login name, else the number of the account."""
    name = environment.get("DYFF_USER", "").strip()
    if not name:
        try:
            name = getpass.getuser()
        except (KeyError, OSError, ImportError):  # a container often has a number and no name
            name = f"uid {os.getuid()}"
    return "".join(character for character in name if character.isprintable())[:_LONGEST_NAME]


def _history(revisions: list[RecordedRevision]) -> dict[str, Any]:
    """The platform's History, in its wire form."""
    latest = revisions[-1]
    return {
        "schemaVersion": "0.1",
        "kind": "History",
        "id": namespaced_id(latest.entity_id, "history"),
        "account": latest.entity["account"],
        "labels": {},
        "annotations": [],
        "status": success_status("History"),
        "reason": None,
        "creationTime": revisions[0].created.isoformat(),
        "latest": latest.id,
        "revisions": {item.id: {"creationTime": item.created.isoformat()} for item in revisions},
    }


def _numbers_in(files: Filesystem, directory: UPath) -> list[int]:
    names = files.names(directory)
    return sorted(int(name[:-5]) for name in names if name.endswith(".json") and name[:-5].isdigit())
