"""The tests on a real cluster: the one that KUBECONFIG names, be it kind, k3d or another that may be used for tests.

Variables: DYFF_TEST_IMAGE is an image with python3 that the nodes have or can pull. DYFF_TEST_KUBERNETES=required
makes a cluster that does not answer a failure instead of a reason to skip. DYFF_TEST_LONG=1 chooses the long variants.
"""

from __future__ import annotations

import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest
from filelock import FileLock

from dyff_dagster.sessions.kubernetes.api import KubernetesApi
from tests import servers
from tests.kubernetes.cluster_support import RawApi, Small, left_of_ours

_HERE = Path(__file__).parent
_SCRIPT = servers.REPOSITORY.parent / "shared" / "cluster" / "cluster"
_IMAGE = "localhost/python:3.11"
_SECONDS_TO_VANISH = 120.0


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.kubernetes)


def _not_here(reason: str) -> NoReturn:
    if os.environ.get("DYFF_TEST_KUBERNETES") == "required":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def cluster_client() -> Any:
    """The official client, connected to the cluster."""
    if not os.environ.get("KUBECONFIG"):
        _not_here("KUBECONFIG is not set: no cluster to test on")
    kubernetes = pytest.importorskip("kubernetes")
    try:
        client = kubernetes.config.new_client_from_config()
        RawApi(client)("GET", "/version")
    except Exception as error:
        _not_here(f"the cluster of KUBECONFIG does not answer: {type(error).__name__}: {str(error)[:200]}")
    return client


@pytest.fixture(scope="session")
def cluster_api(cluster_client: Any) -> KubernetesApi:
    """A connection to the namespace ``default``, in which no test leaves anything."""
    return KubernetesApi(cluster_client, "default")


@pytest.fixture(scope="session")
def raw_api(cluster_client: Any) -> RawApi:
    """Any call to the API server, as the administrator."""
    return RawApi(cluster_client)


@contextmanager
def own_namespace(cluster_client: Any, raw_api: RawApi) -> Iterator[str]:
    """A namespace of its own, in which nothing of ours may be left at the end."""
    name = f"dyff-test-{uuid.uuid4().hex[:10]}"
    raw_api("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    try:
        yield name
        api = KubernetesApi(cluster_client, name)
        end = time.monotonic() + _SECONDS_TO_VANISH
        while (left := left_of_ours(api)) and time.monotonic() < end:
            time.sleep(0.5)
        assert left == [], f"left in {name}"
    finally:
        raw_api("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture
def namespace(cluster_client: Any, raw_api: RawApi) -> Iterator[str]:
    """A namespace of the test's own, in which nothing of ours may be left at the end."""
    with own_namespace(cluster_client, raw_api) as name:
        yield name


@pytest.fixture
def api(cluster_client: Any, namespace: str) -> KubernetesApi:
    """A connection to the test's namespace."""
    return KubernetesApi(cluster_client, namespace)


@pytest.fixture(scope="session")
def python_image(raw_api: RawApi, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image with python3 that pods can use: DYFF_TEST_IMAGE, else one that is built where that can be done."""
    named = os.environ.get("DYFF_TEST_IMAGE")
    if named:
        return named
    with FileLock(tmp_path_factory.getbasetemp().parent / "python-image.lock"):
        nodes = raw_api("GET", "/api/v1/nodes")["items"]
        images = [
            name
            for node in nodes
            for image in node["status"].get("images", ())
            for name in image.get("names") or ()
        ]
        if _IMAGE not in images:
            if not _SCRIPT.exists():
                _not_here(f"no node has {_IMAGE}, and DYFF_TEST_IMAGE names no other image with python3")
            subprocess.run([_SCRIPT, "base-image"], check=True, capture_output=True)
    return _IMAGE


@pytest.fixture
def small(namespace: str, python_image: str, tmp_path: Path, api: KubernetesApi) -> Small:
    """Sessions of a small service in the test's namespace."""
    return Small(namespace, python_image, tmp_path, api)


@pytest.fixture
def all_gpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Every GPU of the cluster, while other files' tests run beside this one."""
    with FileLock(tmp_path_factory.getbasetemp().parent / "all-gpus.lock"):
        yield


@pytest.fixture
def settings_file(small: Small) -> Path:
    """What DYFF_KUBERNETES may name: a lease of 20 s, and nothing that waits longer."""
    return small.settings_file()


@pytest.fixture(scope="session")
def long_run() -> bool:
    """Whether the long variants are asked for (`make test-long`)."""
    return os.environ.get("DYFF_TEST_LONG") == "1"
