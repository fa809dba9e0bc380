"""Steps that are killed while they have a session on the cluster: it ends, and no answer is lost."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TypeVar

from dyff_dagster.sessions.kubernetes.names import INSTANCE
from dyff_dagster.sessions.kubernetes.signals import failed_job
from tests.kubernetes.cluster_support import Small
from tests.kubernetes.endurance_support import Site, local_digest, make_site, overseen, until
from tests.kubernetes.step_child import child

T = TypeVar("T")

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


CALLS = 8
"""The Job, its Secret, ConfigMap, NetworkPolicy and Service, its arming, and the first looks at it."""


def test_killed_between_any_two_steps_of_provisioning_it_is_gone_on_with(
    small: Small, long_run: bool
) -> None:
    """Half of the next runs come at once, the others after the lease."""
    chance = random.Random(7)
    expected = local_digest(small.directory / "local", 12, 1)
    cases = [(number, before) for number in range(1, CALLS + 1) for before in (False, True)]
    sites: list[tuple[Site, int, bool]] = []
    for number, before in cases if long_run else chance.sample(cases, 6):
        site = make_site(small, f"site-{number}-{before}", rows=12, replications=1)
        sites.append((site, number, before))
    with overseen(small.api, apart=INSTANCE) as overseer:
        for at_once in (True, False):
            some = sites[::2] if at_once else sites[1::2]
            for several in batched(some, 3):
                with ExitStack() as stack:
                    dying = [
                        stack.enter_context(child(site.with_(dies_at_call=number, before=before)))
                        for site, number, before in several
                    ]
                    assert [each.outcome() for each in dying] == [None] * len(dying)
            if not at_once:
                overseer.nothing_lives()
            for several in batched(some, 3):
                with ExitStack() as stack:
                    runs = [stack.enter_context(child(site.run)) for site, *_ in several]
                    for each, (site, *_) in zip(runs, several, strict=True):
                        each.succeeded()
                        assert site.check_answers() == expected
        overseer.nothing_lives()
    until(lambda: small.api.find("jobs") == [])


def batched(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
