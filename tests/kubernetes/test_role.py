"""The Role that deploy/ gives to steps: it is what is needed, to the last verb, also for taking a session over."""

from __future__ import annotations

import re
import urllib.request
from datetime import timedelta
from typing import Any

import pytest
import yaml

from dyff_dagster.sessions.kubernetes import KubernetesError, Owner
from dyff_dagster.sessions.kubernetes.api import KubernetesApi
from dyff_dagster.sessions.kubernetes.names import selector
from dyff_dagster.sessions.kubernetes.provisioning import provision
from dyff_dagster.sessions.kubernetes.signals import look
from dyff_dagster.sessions.kubernetes.tokens import token_maker
from tests.kubernetes.cluster_support import KEY, RawApi, Small, evaluation
from tests.kubernetes.deployment_support import DEPLOY, until
from tests.kubernetes.test_rights import RIGHTS, client_of

TO_TAKE_OVER = [
    ("", "configmaps", "get"),
    ("", "services", "get"),
    ("networking.k8s.io", "networkpolicies", "get"),
]
"""What is needed besides where an earlier run left a session: whether what is there is that session's."""


def granted() -> list[tuple[str, str, str]]:
    roles = yaml.safe_load_all((DEPLOY / "cluster" / "roles.yaml").read_text())
    rules = next(role["rules"] for role in roles if role["metadata"]["name"] == "sessions")
    return [
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    ]


def test_it_allows_what_is_needed_and_nothing_else() -> None:
    assert sorted(granted()) == sorted([*RIGHTS, *TO_TAKE_OVER])


def left_by_a_crash(small: Small, entity_id: str) -> None:
    """A session all of whose objects are there, and nobody who uses it."""
    cluster = small.cluster(lease=60)
    plan = cluster.plans.plan(
        evaluation(id=entity_id).inferenceSession,
        Owner(entity_id, "Evaluation", "acme", "run-of-a-test"),
        directory=small.code,
        model=None,
        service_digest="digest of ()",
    )
    token_for, _ = token_maker(plan.name, {"DYFF_INSTANCE_KEY": KEY})
    expires = small.api.now() + timedelta(seconds=300)
    provision(small.api, plan, seconds=60, expires=expires, token_for=token_for)
    # A pod that is deleted while its container is just being made is only ended half a minute later.
    until(
        "a pod that serves",
        50,
        lambda: any(look(pod).serves for pod in small.api.find("pods", selector(session=plan.name))),
    )


def test_under_it_a_session_that_was_left_is_taken_over(
    small: Small, raw_api: RawApi, cluster_client: Any
) -> None:
    left_by_a_crash(small, "left")
    client = client_of(raw_api, small.namespace, "steps", granted())
    cluster = small.cluster(KubernetesApi(client, small.namespace), lease=60)
    with small.open(cluster, entity_id="left") as session:
        request = urllib.request.Request(session.urls[0], b'{"x": 21}', dict(session.headers), method="POST")
        with urllib.request.urlopen(request) as response:
            assert response.status == 200
    assert session.notes["adopted"] is True


@pytest.mark.parametrize("right", TO_TAKE_OVER, ids=lambda right: f"{right[2]} {right[1]}")
def test_one_that_is_missing_is_named(
    small: Small, raw_api: RawApi, cluster_client: Any, right: tuple[str, str, str]
) -> None:
    left_by_a_crash(small, "left")
    client = client_of(raw_api, small.namespace, "steps", [item for item in granted() if item != right])
    cluster = small.cluster(KubernetesApi(client, small.namespace), lease=60)
    with pytest.raises(KubernetesError) as caught, small.open(cluster, entity_id="left"):
        pass
    said = rf"may not get {right[1]} in the namespace \S+: add the verb get on {right[1]} to"
    assert re.search(said, str(caught.value))
    assert small.api.delete("jobs", cluster.plans.name("left"), grace=0)
