"""Identifiers."""

from __future__ import annotations

import re
import uuid

import pytest

from dyff_dagster.schema.errors import DyffError
from dyff_dagster.schema.ids import check_id, generate_entity_id, namespaced_id, null_id, replication_id

PARENT = "a" * 32


def test_new_id_is_32_hexadecimal_digits_and_new() -> None:
    assert re.fullmatch(r"[0-9a-f]{32}", generate_entity_id())
    assert generate_entity_id() != generate_entity_id()


def test_null_id_is_32_zeros() -> None:
    assert null_id() == "0" * 32


def test_namespaced_id_is_the_references() -> None:
    # Computed with dyff-schema 0.46.17.
    assert namespaced_id(PARENT, "0") == "6cfacfd3b60050f5a38717c726922690"


def test_replication_id_is_the_namespaced_id_of_its_number() -> None:
    assert replication_id(PARENT, 0) == "6cfacfd3b60050f5a38717c726922690"
    assert replication_id(PARENT, 1) == namespaced_id(PARENT, "1")
    assert replication_id(PARENT, 1) != replication_id(PARENT, 0)


def test_readable_parent_stands_for_a_uuid_of_its_own() -> None:
    parent = uuid.uuid5(uuid.NAMESPACE_URL, "dyff:wdbc-logreg")
    assert namespaced_id("wdbc-logreg", "0") == uuid.uuid5(parent, "0").hex


def test_replications_count_from_zero() -> None:
    with pytest.raises(ValueError, match="count from 0"):
        replication_id(PARENT, -1)


@pytest.mark.parametrize("text", ["a", "A.b_c-d", "0" * 128, PARENT])
def test_id_is_accepted(text: str) -> None:
    assert check_id(text) == text


@pytest.mark.parametrize("text", ["", ".a", "-a", "_a", "a/b", "a b", "a\n", "0" * 129, "ä", "a:b", "../a"])
def test_id_is_refused(text: str) -> None:
    with pytest.raises(DyffError, match="is no possible id"):
        check_id(text)
