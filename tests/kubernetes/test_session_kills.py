"""Steps that are killed while they have a session on the cluster: it ends, and no answer is lost."""

from __future__ import annotations

import random
import time
from contextlib import ExitStack

import pytest

from dyff_dagster.sessions.kubernetes.signals import failed_job
from tests.kubernetes.cluster_support import Small
from tests.kubernetes.endurance_support import Site, local_digest, make_site, overseen, until
from tests.kubernetes.step_child import child

ROWS, REPLICATIONS = 60, 2


def test_killed_again_and_again_it_leaves_nothing_alive_and_comes_to_the_same(
    small: Small, long_run: bool
) -> None:
    """SIGKILL at any moment: some runs come at once and take over what is there, some after the lease."""
    kills = 50 if long_run else 5
    chance = random.Random(20)
    expected = local_digest(small.directory / "local", ROWS, REPLICATIONS)
    site = make_site(small, "site", "--slow", "0.25", rows=ROWS, replications=REPLICATIONS)
    before = 0
    with overseen(small.api) as overseer:
        for number in range(kills):
            with child(site.run) as process:
                time.sleep(chance.uniform(0.5, 14))
                process.kill()
            assert site.durable >= before or site.store.current("doubled") is not None
            before = site.durable
            if number % 2:
                overseer.nothing_lives()
                for job in overseer.sessions_of("doubled"):
                    assert failed_job(job) == "DeadlineExceeded" or job["metadata"].get("deletionTimestamp")
        metadata = site.materialize()
        if not metadata["dyff/reused"]:
            assert metadata["dyff/takenUp"] == before
        overseer.nothing_lives()
        assert site.check_answers() == expected


CALLS = 14
"""A session is provisioned, and its pods are waited for, in so many calls."""


@pytest.mark.parametrize("at_once", [True, False])
def test_killed_between_any_two_steps_of_provisioning_it_is_gone_on_with(small: Small, at_once: bool) -> None:
    chance = random.Random(7)
    expected = local_digest(small.directory / "local", 12, 1)
    sites: list[Site] = []
    with overseen(small.api) as overseer:
        for number in range(1, CALLS + 1):
            site = make_site(small, f"site-{number}", rows=12, replications=1)
            sites.append(site)
            with child(site.with_(dies_at_call=number, before=chance.random() < 0.5)) as process:
                assert process.outcome() is None
                if at_once:
                    site.materialize()
                    assert site.check_answers() == expected
        overseer.nothing_lives()
        if not at_once:
            with ExitStack() as stack:
                for site in sites:
                    stack.enter_context(child(site.run)).succeeded()
                    assert site.check_answers() == expected
        overseer.nothing_lives()
    until(lambda: small.api.find("jobs") == [])
