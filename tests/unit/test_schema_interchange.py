"""Families, histories and revisions change their form for 0.46 and back; what is lost is said."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from dyff_dagster.schema.base import DyffEntity
from dyff_dagster.schema.interchange import InterchangeError, full_form, read_entity, write_entity
from dyff_dagster.schema.newer import held_fields
from dyff_dagster.schema.platform import UnknownKindError, entity_class

MOMENT = datetime(2025, 1, 31, 12, tzinfo=UTC)
AUDIT = {"kind": "Audit", "id": "a1", "account": "a", "auditProcedure": "p", "inferenceService": "s"}


def entity(data: dict[str, Any]) -> DyffEntity:
    return entity_class(data["kind"]).model_validate(data)


def family(**member: Any) -> DyffEntity:
    made = {"name": "v1", "family": "f", "resource": "d1", **member}
    return entity(
        {
            "kind": "Family",
            "id": "f",
            "account": "a",
            "memberKind": "Dataset",
            "documentation": {"title": "Data"},
            "members": {"v1": made},
        }
    )


def history() -> dict[str, Any]:
    times = {"r2": "2025-02-01T00:00:00Z", "r1": "2025-01-01T00:00:00Z"}
    return {
        "kind": "History",
        "id": "h",
        "account": "a",
        "latest": "r2",
        "revisions": {name: {"creationTime": time} for name, time in times.items()},
    }


def test_a_family_has_its_page_in_its_metadata_and_its_members_by_kind() -> None:
    written = write_entity(family(), "0.46", created=MOMENT)
    assert written.lost == ()
    assert written.data["metadata"] == {"documentation": {"title": "Data"}}
    assert "documentation" not in written.data
    assert written.data["members"]["v1"] == {
        "name": "v1",
        "family": "f",
        "entity": {"kind": "Dataset", "id": "d1"},
        "creationTime": "2025-01-31T12:00:00Z",
    }


def test_a_family_comes_back() -> None:
    made = family(creationTime=MOMENT).model_copy(update={"status": "Ready", "creationTime": MOMENT})
    read = read_entity(write_entity(made, "0.46").data)
    assert (read.entity, read.lost, held_fields(read.entity)) == (made, (), {})


def test_a_member_of_another_kind_than_its_family_loses_it_and_that_is_said() -> None:
    data = write_entity(family(), "0.46", created=MOMENT).data
    data["members"]["v1"]["entity"]["kind"] = "Model"
    assert read_entity(data).lost == (
        "f: members.v1 is of kind Model, in a family of Dataset: the kind is lost",
    )


def test_a_long_description_is_cut_and_that_is_said() -> None:
    written = write_entity(family(description="x" * 300), "0.46")
    assert len(written.data["members"]["v1"]["description"]) == 280
    assert written.lost == ("f: members.v1.description is cut: 0.46 takes 280 characters",)


def test_a_history_is_a_list_there_oldest_first() -> None:
    data = write_entity(entity(history()), "0.46", history_of="d1").data
    assert data["historyOf"] == "d1"
    assert [item["id"] for item in data["revisions"]] == ["r1", "r2"]
    assert data["latest"] == {
        "id": "r2",
        "creationTime": "2025-02-01T00:00:00Z",
        "previousRevision": "r1",
    }


def test_a_history_that_was_read_from_there_needs_nothing_to_go_back() -> None:
    data = write_entity(entity(history()), "0.46", history_of="d1", created=MOMENT).data
    read = read_entity(data).entity
    assert read.model_copy(update={"status": None, "creationTime": None}) == entity(history())
    assert write_entity(read, "0.46").data == data


def test_a_history_that_does_not_say_of_what_is_refused() -> None:
    with pytest.raises(InterchangeError, match=r"h: historyOf: is what 0\.46 demands"):
        write_entity(entity(history()), "0.46")


def revision(**snapshot: Any) -> dict[str, Any]:
    return {
        "kind": "Revision",
        "id": "r1",
        "account": "a",
        "creationTime": "2025-01-01T00:00:00Z",
        "entity": {**AUDIT, **snapshot},
    }


def test_a_revision_is_a_snapshot_there_with_a_status_of_its_own() -> None:
    data = write_entity(entity(revision()), "0.46").data
    assert data["revisionOf"] == "a1"
    assert data["data"]["format"] == "Snapshot"
    assert data["data"]["snapshot"]["creationTime"] == "2025-01-01T00:00:00Z"
    made = entity(revision(status="Created", creationTime="2025-01-01T00:00:00Z"))
    assert read_entity(data).entity == made.model_copy(update={"status": "Created"})


def test_a_revision_that_is_a_patch_is_refused() -> None:
    data = write_entity(entity(revision()), "0.46").data
    data["data"] = {"format": "JsonMergePatch", "jsonMergePatch": "{}"}
    with pytest.raises(InterchangeError, match="r1: data: holds a patch and no snapshot"):
        read_entity(data)


def test_a_revision_of_something_else_than_its_snapshot_is_refused() -> None:
    data = {**write_entity(entity(revision()), "0.46").data, "revisionOf": "other"}
    with pytest.raises(InterchangeError, match="revisionOf: names 'other', and the snapshot is of 'a1'"):
        read_entity(data)


def test_a_revision_of_a_history_is_refused_there() -> None:
    data = revision()
    data["entity"] = history()
    with pytest.raises(InterchangeError, match=r"r1: entity: is a History, and 0\.46 keeps no revisions"):
        write_entity(entity(data), "0.46")


@pytest.mark.parametrize("kind", ["Challenge", "Team", "Curve"])
def test_a_kind_of_the_newer_schema_gets_one_sentence(kind: str) -> None:
    with pytest.raises(InterchangeError) as caught:
        read_entity({"kind": kind, "id": "x"})
    assert str(caught.value) == (
        f"x: a {kind} is of dyff-schema 0.46 only, and there is nothing here to make of it: leave it out"
    )


def test_a_kind_that_nobody_knows_is_told_as_ever() -> None:
    with pytest.raises(UnknownKindError, match="did you mean 'Audit'"):
        read_entity({"kind": "Audits", "id": "x"})


def test_a_label_without_value_is_written_empty_and_that_is_said() -> None:
    written = write_entity(entity({**AUDIT, "labels": {"tier": None, "b": "c"}}), "0.46")
    assert written.data["labels"] == {"tier": "", "b": "c"}
    assert written.lost == ("a1: labels.tier has no value, and 0.46 needs one: it is written empty",)


def test_what_the_older_schema_does_not_know_is_left_out_and_that_is_said() -> None:
    made = entity({**AUDIT, "metadata": {"revision": "r"}})
    written = write_entity(made, "0.12")
    assert "metadata" not in written.data
    assert written.lost == ("a1: metadata is lost: dyff-schema 0.12 has no such field",)
    assert write_entity(made, "0.46").data["metadata"] == {"revision": "r"}


def test_the_full_form_tells_entities_apart_by_what_they_hold() -> None:
    assert full_form(entity({**AUDIT, "message": "m"})) != full_form(entity(AUDIT))
