"""Names and labels, for any id and any account."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from dyff_dagster.sessions.kubernetes.names import label_value, labels, object_name, selector

IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", fullmatch=True)
TEXTS = st.text(max_size=300)
NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")


@given(st.sampled_from(["session", "analysis"]), IDS, TEXTS)
def test_a_name_is_one_that_services_and_pods_can_have(prefix: str, entity_id: str, instance: str) -> None:
    name = object_name(prefix, entity_id, instance)
    assert NAME.fullmatch(name)
    assert len(name) <= 63 - len("-xxxxx")  # a Service's name has 63 characters, and a pod of a Job six more


@given(IDS, IDS, TEXTS)
def test_two_entities_have_two_names(one: str, other: str, instance: str) -> None:
    assert (object_name("session", one, instance) == object_name("session", other, instance)) == (
        one == other
    )


@given(IDS, TEXTS, TEXTS)
def test_two_storage_roots_have_two_names(entity_id: str, one: str, other: str) -> None:
    assert (object_name("session", entity_id, one) == object_name("session", entity_id, other)) == (
        one == other
    )


def test_a_name_shows_whose_it_is() -> None:
    assert object_name("session", "wdbc-logreg", "here").startswith("dyff-session-wdbc-logreg-")
    assert object_name("session", "___", "here").count("-") == 2


@given(TEXTS)
def test_a_label_is_one_that_kubernetes_takes(text: str) -> None:
    value = label_value(text)
    assert VALUE.fullmatch(value) and len(value) <= 63
    assert label_value(value) == value


@given(IDS.filter(lambda text: len(text) <= 63 and text[-1].isalnum()))
def test_a_label_that_can_stay_stays(text: str) -> None:
    assert label_value(text) == text


@given(TEXTS, TEXTS)
def test_two_texts_have_two_labels(one: str, other: str) -> None:
    assert (label_value(one) == label_value(other)) == (one == other)


@given(entity_id=IDS, account=TEXTS, run_id=TEXTS)
def test_all_labels_can_be_set(entity_id: str, account: str, run_id: str) -> None:
    found = labels(
        session=object_name("session", entity_id, "here"),
        component="session",
        entity_id=entity_id,
        kind="Evaluation",
        account=account,
        run_id=run_id,
        instance="0" * 64,
    )
    assert all(value and VALUE.fullmatch(value) and len(value) <= 63 for value in found.values())
    assert found["app.kubernetes.io/managed-by"] == "dyff-dagster"


def test_a_selector_chooses_what_is_ours() -> None:
    assert selector() == "app.kubernetes.io/managed-by=dyff-dagster"
    assert selector(session="s", run="r") == (
        "app.kubernetes.io/managed-by=dyff-dagster,dyff-dagster/session=s,dagster/run-id=r"
    )
