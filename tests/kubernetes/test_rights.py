"""What is said where the steps' service account lacks a right: who may not do what, and what would help."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from dyff_dagster.sessions.kubernetes import KubernetesError
from dyff_dagster.sessions.kubernetes.api import KubernetesApi
from tests.kubernetes.cluster_support import RawApi, Small
from tests.kubernetes.conftest import own_namespace
from tests.kubernetes.test_signals import PATIENT, left_of

RIGHTS = [
    ("batch", "jobs", "create"),
    ("batch", "jobs", "get"),
    ("batch", "jobs", "list"),
    ("batch", "jobs", "watch"),
    ("batch", "jobs", "patch"),
    ("batch", "jobs", "delete"),
    ("", "pods", "list"),
    ("", "pods", "watch"),
    ("", "pods/log", "get"),
    ("", "events", "list"),
    ("", "secrets", "create"),
    ("", "configmaps", "create"),
    ("", "services", "create"),
    ("networking.k8s.io", "networkpolicies", "create"),
]
"""All that a session needs: (API group, resource, verb)."""


def client_of(raw: RawApi, namespace: str, name: str, rights: list[tuple[str, str, str]]) -> Any:
    """A client of a service account that has these rights and no others."""
    import kubernetes

    rules = [{"apiGroups": [group], "resources": [kind], "verbs": [verb]} for group, kind, verb in rights]
    accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    roles = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    raw("POST", accounts, {"metadata": {"name": name}})
    raw("POST", f"{roles}/roles", {"metadata": {"name": name}, "rules": rules})
    raw("POST", f"{roles}/rolebindings", {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
    })  # fmt: skip
    token = raw("POST", f"{accounts}/{name}/token", {"spec": {"expirationSeconds": 3600}})["status"]["token"]
    configuration = kubernetes.client.Configuration()
    kubernetes.config.load_kube_config(client_configuration=configuration)
    configuration.api_key = {"authorization": f"Bearer {token}"}
    configuration.refresh_api_key_hook = None
    configuration.cert_file = configuration.key_file = None
    client = kubernetes.client.ApiClient(configuration)
    api = KubernetesApi(client, namespace)
    while not api.may(rights[0][2], rights[0][1]):
        time.sleep(0.1)
    return client


@dataclass
class Outcome:
    error: KubernetesError | None
    answered: bool
    left: list[str]
    account: str


def try_without(small: Small, raw: RawApi, client: Any, right: tuple[str, str, str] | None) -> Outcome:
    _, resource, verb = right or ("", "nothing", "lacks")
    name = f"{verb}-{resource.replace('/', '-')}"
    rights = [item for item in RIGHTS if item != right]
    api = KubernetesApi(client_of(raw, small.namespace, name, rights), small.namespace)
    cluster = small.cluster(api, **{**PATIENT, "crashes": 1})
    # What needs events or logs to be explained is a session that fails.
    arguments = ("--fail", "3", "--say", "something") if resource == "pods/log" else ()
    error, answered = None, False
    try:
        with small.open(cluster, *arguments, entity_id=name):
            answered = True
    except KubernetesError as raised:
        error = raised
    admin = KubernetesApi(client, small.namespace)
    session = cluster.plans.name(name)
    job = admin.get("jobs", session)
    left = [] if job is None or "deletionTimestamp" in job["metadata"] else [f"jobs/{session}"]
    admin.delete("jobs", session)
    return Outcome(error, answered, left + left_of(admin, session), name)


@pytest.fixture(scope="module")
def outcomes(
    cluster_client: Any, raw_api: RawApi, python_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[Any, Outcome]]:
    """All of them at once."""
    directory = tmp_path_factory.mktemp("rights")
    with own_namespace(cluster_client, raw_api) as namespace, ThreadPoolExecutor(5) as pool:
        small = Small(namespace, python_image, directory, KubernetesApi(cluster_client, namespace))
        _ = small.code
        futures = {
            right: pool.submit(try_without, small, raw_api, cluster_client, right)
            for right in (None, *RIGHTS)
        }
        yield {right: future.result() for right, future in futures.items()}


def test_these_rights_are_enough(outcomes: dict[Any, Outcome]) -> None:
    assert outcomes[None].error is None
    assert outcomes[None].answered
    assert outcomes[None].left == []


@pytest.mark.parametrize("right", RIGHTS, ids=lambda right: f"{right[2]} {right[1]}")
def test_a_right_that_is_missing_is_named(outcomes: dict[Any, Outcome], right: tuple[str, str, str]) -> None:
    _, resource, verb = right
    found = outcomes[right]
    print(found.error, found.answered, found.left)
    if resource == "events":  # they explain what goes wrong, and nothing does
        assert found.answered and found.error is None
        return
    account = f'User "system:serviceaccount:[^"]+:{found.account}"'
    who = "we" if right == ("batch", "jobs", "delete") else account
    may_not = rf"{who} may not {verb} {resource} in the namespace \S+: add the verb {verb} on {resource} to"
    said = f"{found.account}: .*{may_not}"
    assert re.search(said, str(found.error)), str(found.error)
    assert not found.answered
    assert found.left == []
