"""Every sort of session as the API server takes it: nothing refused, and nothing dropped that it should know."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kubernetes.cluster_support import RawApi
from tests.unit.session_plans import every_plan
from tests.unit.test_sessions_kubernetes_manifests import SORTS, objects

ROOTS = {
    "Job": ("/apis/batch/v1", "jobs"),
    "Secret": ("/api/v1", "secrets"),
    "ConfigMap": ("/api/v1", "configmaps"),
    "Service": ("/api/v1", "services"),
    "NetworkPolicy": ("/apis/networking.k8s.io/v1", "networkpolicies"),
}
SINCE = {
    ".spec.suspend": 21,
    ".spec.podFailurePolicy": 26,
    ".spec.podReplacementPolicy": 28,
}
"""Fields of a Job, and the minor version of Kubernetes that keeps them."""


def dropped(sent: Any, kept: Any, where: str = "") -> Iterator[str]:
    """Where what was sent is not what is kept; the server may add what it likes."""
    if isinstance(sent, dict) and isinstance(kept, dict):
        for key, value in sent.items():
            if key not in kept:
                if value not in ({}, [], None, ""):
                    yield f"{where}.{key}"
            else:
                yield from dropped(value, kept[key], f"{where}.{key}")
    elif isinstance(sent, list) and isinstance(kept, list) and len(sent) == len(kept):
        for at, (one, other) in enumerate(zip(sent, kept, strict=True)):
            yield from dropped(one, other, f"{where}[{at}]")
    elif sent != kept:
        yield f"{where} ({sent!r} is {kept!r})"


@pytest.mark.parametrize("sort", SORTS)
def test_the_server_keeps_what_is_sent(raw_api: RawApi, namespace: str, tmp_path: Path, sort: str) -> None:
    minor = int(re.sub(r"\D.*", "", raw_api("GET", "/version")["minor"]))
    lost: list[str] = []
    for kind, item in objects(every_plan(tmp_path)[sort]).items():
        root, plural = ROOTS[kind]
        path = f"{root}/namespaces/{namespace}/{plural}"
        kept = raw_api("POST", path, item, dryRun="All", fieldValidation="Strict")
        lost += [f"{kind}{where}" for where in dropped(item, kept)]
    assert sorted(lost) == sorted(f"Job{field}" for field, since in SINCE.items() if minor < since)
