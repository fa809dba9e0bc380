"""Replicas that end while an evaluation uses them: others come, and the answers are the same."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.kubernetes.cluster_support import Small
from tests.kubernetes.endurance_support import kill_service, local_digest, make_site, overseen, until
from tests.kubernetes.step_child import child

ROWS, REPLICATIONS = 60, 2


@pytest.mark.parametrize(
    ("replicas", "how", "client_processes"),
    [
        (2, "deleted", 1),
        (2, "killed", 1),
        (1, "deleted", 1),
        (1, "killed", 1),
        (2, "killed", 2),
        (1, "deleted", 2),
    ],
)
def test_a_replica_that_ends_is_replaced_and_the_answers_are_the_same(
    small: Small, cluster_client: Any, replicas: int, how: str, client_processes: int
) -> None:
    site = make_site(
        small,
        "site",
        "--slow",
        "0.25" if replicas == 1 else "0.5",
        rows=ROWS,
        replications=REPLICATIONS,
        replicas=replicas,
    )
    with overseen(small.api) as overseer, child(site.with_(client_processes=client_processes)) as process:
        first = until(lambda: len(overseer.serving("doubled")) == replicas and overseer.serving("doubled"))
        time.sleep(2)  # in the middle of its answers, of which there are eight seconds
        if how == "deleted":
            assert small.api.delete("pods", first[0])
        else:
            kill_service(cluster_client, small.namespace, first[0])
        assert site.store.current("doubled") is None
        # The others, where there are any, may answer all that is left before it is replaced.
        until(lambda: first[0] not in overseer.serving("doubled"))
        metadata = process.succeeded().metadata["doubled"]
        if replicas == 1:
            pods = {pod["metadata"]["name"] for pod in overseer.pods.values()}
            assert len(pods) > 1
        overseer.nothing_lives()
    assert site.check_answers() == local_digest(small.directory / "local", ROWS, REPLICATIONS)
    # What was in flight there is asked again, and nothing else.
    assert metadata["dyff/requests"] - metadata["dyff/retries"] == ROWS * REPLICATIONS
    session = metadata["dyff/session"]
    assert session["adopted"] is False
    assert len(overseer.sessions_of("doubled")) == 1
