"""A session of the small service, from nothing to an answer and back to nothing."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import pytest

from dyff_dagster.sessions.kubernetes import KubernetesError
from dyff_dagster.sessions.kubernetes.api import KubernetesApi
from tests.kubernetes.cluster_support import Small, left_of_ours


def ask(url: str, headers: dict[str, str], **row: Any) -> Any:
    request = urllib.request.Request(
        url, json.dumps(row).encode(), {"Content-Type": "application/json", **headers}
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)


def test_it_answers_those_who_have_its_token_and_is_gone_afterwards(small: Small) -> None:
    with small.open(small.cluster(), "--check-token") as opened:
        assert ask(opened.urls[0], opened.headers, x=21) == {"y": 42}
        with pytest.raises(urllib.error.HTTPError, match="401"):
            ask(opened.urls[0], {}, x=21)
        there = left_of_ours(small.api)
        assert {name.partition("/")[0] for name in there} == {
            "jobs", "pods", "services", "secrets", "configmaps", "networkpolicies",
        }  # fmt: skip
    assert opened.notes["podSeconds"] > 0


def test_a_namespace_that_is_not_there_is_named(small: Small, cluster_client: Any) -> None:
    cluster = small.cluster(KubernetesApi(cluster_client, "no-such-namespace"))
    with pytest.raises(KubernetesError) as raised, small.open(cluster):
        pass
    assert str(raised.value) == (
        'answers: there is no namespace no-such-namespace on this cluster (namespaces "no-such-namespace" not found): '
        "create it, or name another"
    )
