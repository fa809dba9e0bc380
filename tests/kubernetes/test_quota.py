"""A namespace with a quota of four GPUs, and sessions that ask for two each."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from dyff_dagster.sessions.kubernetes import KubernetesError
from dyff_dagster.sessions.kubernetes.api import KubernetesApi
from tests.kubernetes.cluster_support import RawApi, Small
from tests.kubernetes.test_signals import PATIENT

pytestmark = pytest.mark.usefixtures("all_gpus")


@pytest.fixture
def four_gpus(raw_api: RawApi, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/resourcequotas"
    quota = {"metadata": {"name": "gpus"}, "spec": {"hard": {"requests.nvidia.com/gpu": "4"}}}
    raw_api("POST", path, quota)
    while "hard" not in (raw_api("GET", f"{path}/gpus").get("status") or {}):
        time.sleep(0.1)


def until(condition: Callable[[], Any], seconds: float = 100.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def asks_for_two(small: Small, api: KubernetesApi, name: str, said: list[str], **settings: Any) -> Any:
    cluster = small.cluster(api, **{**PATIENT, **settings})
    return small.open(cluster, entity_id=name, gpus=2, progress=lambda text, *_: said.append(text))


@pytest.mark.usefixtures("four_gpus")
def test_the_third_waits_for_its_turn_or_says_that_its_quota_is_used_up(
    small: Small, cluster_client: Any
) -> None:
    apis = [KubernetesApi(cluster_client, small.namespace) for _ in range(4)]
    came, leave, said = threading.Event(), threading.Event(), []

    def third() -> None:
        with asks_for_two(small, apis[2], "third", said):
            came.set()
            leave.wait(60)

    waiting = threading.Thread(target=third)
    with asks_for_two(small, apis[1], "second", []):
        with asks_for_two(small, apis[0], "first", []):
            waiting.start()
            until(lambda: any("exceeded quota" in text for text in said))
            impatient = asks_for_two(
                small, apis[3], "fourth", [], timeouts={**PATIENT["timeouts"], "admission": 5}
            )
            with pytest.raises(KubernetesError) as raised, impatient:
                pass
            assert raised.value.reason == "QuotaLimit"
            assert not came.is_set()
        assert came.wait(90), said
        leave.set()
        waiting.join(60)
    sentence = str(raised.value)
    assert sentence.startswith("fourth: it got no pods within 5 s (")
    assert (
        "exceeded quota: gpus, requested: requests.nvidia.com/gpu=2, used: requests.nvidia.com/gpu=4"
        in sentence
    )
    assert (
        "it asks for 1 × (2 × nvidia.com/gpu where nvidia.com/gpu.product in (NVIDIA-L4, NVIDIA-L4-SHARED)"
        in sentence
    )
    assert sentence.endswith("wait until others have ended, or ask for less")


@pytest.mark.usefixtures("four_gpus")
def test_replicas_that_the_quota_has_no_room_for_together_do_not_serve_alone(small: Small) -> None:
    cluster = small.cluster(**{**PATIENT, "timeouts": {**PATIENT["timeouts"], "admission": 8}})
    with (
        ExitStack() as stack,
        pytest.raises(KubernetesError, match=r"got no pods within 8 s .*2 × \(3 ×") as raised,
    ):
        stack.enter_context(small.open(cluster, replicas=2, gpus=3))
    assert raised.value.reason == "QuotaLimit"
