"""The lease of a session: only work that goes on prolongs it, and nothing goes past ``expires`` or ``maxLifetime``."""

from __future__ import annotations

import os
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dyff_dagster.sessions.kubernetes import api as api_module
from dyff_dagster.sessions.kubernetes.api import KubernetesApi
from dyff_dagster.sessions.kubernetes.signals import failed_job, parse_time
from tests.kubernetes.cluster_support import Small
from tests.kubernetes.endurance_support import LEASE, Overseer, local_digest, make_site, overseen, until
from tests.kubernetes.step_child import child

ROWS, REPLICATIONS = 30, 2


def ended_at_its_deadline(overseer: Overseer) -> bool:
    return [failed_job(job) for job in overseer.sessions_of("doubled")] == ["DeadlineExceeded"]


def test_a_service_that_answers_nothing_loses_its_session_though_its_step_lives(small: Small) -> None:
    site = make_site(small, "site", "--hang-after", "6", rows=ROWS, settings={"keepFinished": 60})
    with overseen(small.api) as overseer, child(site.run) as process:
        said = process.failed().said
        assert "Expired" in said, said
        assert "ended at its deadline" in said
        overseer.nothing_lives(30)
        # It may be prolonged once for each phase that is over and once for the six answers, and then no more.
        (job,) = overseer.sessions_of("doubled")
        assert overseer.deadlines[job["metadata"]["uid"]] < 3 * LEASE
    assert site.durable == 6


def test_a_step_that_stands_still_loses_its_session_and_says_so_when_it_goes_on(small: Small) -> None:
    site = make_site(small, "site", "--slow", "0.5", rows=ROWS, replications=REPLICATIONS)
    with overseen(small.api) as overseer:
        with child(site.run) as process:
            until(lambda: overseer.serving("doubled"))
            time.sleep(3)
            os.kill(process.pid, signal.SIGSTOP)
            try:
                overseer.nothing_lives()
            finally:
                os.kill(process.pid, signal.SIGCONT)
            said = process.failed().said
        assert "start it again, which goes on where this stopped" in said, said
        kept = site.durable
        assert 0 < kept < ROWS * REPLICATIONS
        assert site.materialize()["dyff/takenUp"] == kept
        overseer.nothing_lives()
    assert site.check_answers() == local_digest(small.directory / "local", ROWS, REPLICATIONS)


def test_a_session_lives_for_as_long_as_answers_come(small: Small) -> None:
    """More than two leases; each answer takes seconds, so that nothing but answers can have prolonged it."""
    site = make_site(small, "site", "--slow", "4", rows=11, replications=1, workers=1)
    with overseen(small.api) as overseer, child(site.run) as process:
        process.succeeded()
        (job,) = overseer.sessions_of("doubled")
        assert overseer.deadlines[job["metadata"]["uid"]] > 2 * LEASE
        overseer.nothing_lives()
    site.check_answers()


def test_no_session_lives_longer_than_it_may_and_the_evaluation_goes_on_in_the_next(small: Small) -> None:
    most = 26
    site = make_site(
        small,
        "site",
        "--slow",
        "1",
        rows=ROWS,
        replications=1,
        workers=1,
        settings={"maxLifetime": most, "keepFinished": 60},
    )
    runs, kept = 0, 0
    with overseen(small.api) as overseer:
        while site.store.current("doubled") is None:
            with child(site.run) as process:
                said = process.outcome()
            assert said is not None
            runs += 1
            assert said.success or "Expired" in said.said, said.said
            assert said.success or site.durable > kept
            kept = site.durable
            overseer.nothing_lives()
        assert runs > 1
        assert max(overseer.deadlines.values()) <= most
    site.check_answers()


def test_no_session_of_an_evaluation_outlives_its_expiry(small: Small) -> None:
    expires = datetime.now(UTC) + timedelta(seconds=45)
    site = make_site(
        small,
        "site",
        "--slow",
        "1",
        rows=200,
        workers=1,
        expires=expires.isoformat(),
        settings={"keepFinished": 60},
    )
    with overseen(small.api) as overseer:
        with child(site.run) as process:
            assert "Expired" in process.failed().said
        overseer.nothing_lives(30)
        (job,) = overseer.sessions_of("doubled")
        begun = parse_time(job["status"]["startTime"])
        assert begun is not None
        assert begun + timedelta(seconds=overseer.deadlines[job["metadata"]["uid"]]) <= expires
        with child(site.run) as process:
            said = process.failed().said
        assert "give it a later 'expires'" in said
        assert len(overseer.sessions_of("doubled")) == 1
    assert site.durable > 0


@pytest.mark.parametrize("minutes", [-7, 7])
def test_a_clock_that_is_wrong_by_minutes_gives_no_session_more_or_less_time(
    small: Small, monkeypatch: pytest.MonkeyPatch, minutes: int, cluster_client: Any
) -> None:
    """Deadlines are measured by the API server's clock."""

    class Wrong(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + timedelta(minutes=minutes)

    monkeypatch.setattr(api_module, "datetime", Wrong)
    api = KubernetesApi(cluster_client, small.namespace)
    expires = datetime.now(UTC) + timedelta(seconds=120)
    with overseen(small.api) as overseer:
        with small.open(small.cluster(api), expires=expires.isoformat()) as opened:
            assert abs(api.now() - datetime.now(UTC)) < timedelta(seconds=5)
            # Answers, one after another, for as long as it would live without them.
            for number in range(1, LEASE + 2):
                time.sleep(1)
                assert opened.moving(number)
            (job,) = overseer.sessions_of("answers")
            begun = parse_time(job["status"]["startTime"])
            assert begun is not None
            lease = overseer.deadlines[job["metadata"]["uid"]]
            assert LEASE < lease < 3 * LEASE
            assert begun + timedelta(seconds=lease) <= expires
        assert opened.notes["podSeconds"] < 60
        overseer.nothing_lives(30)


def test_every_pod_has_a_deadline_of_its_own_that_its_node_keeps(small: Small) -> None:
    """Should the whole control plane be away."""
    with small.open(small.cluster(maxLifetime=77)):
        (pod,) = small.api.find("pods")
        assert pod["spec"]["activeDeadlineSeconds"] == 77 + 60


def test_a_full_disk_does_not_end_a_session(small: Small) -> None:
    """Logs cannot be written where a file is in their way; the lease is renewed and the session ended all the same."""
    logs = small.logs("answers")
    logs.parent.mkdir(parents=True, exist_ok=True)
    Path(logs).write_text("in the way")
    with overseen(small.api) as overseer:
        with small.open(small.cluster(), replicas=2) as opened:
            small.api.delete("pods", overseer.serving("answers")[0])
            for number in range(1, 12):
                time.sleep(1)
                opened.moving(number)
            (job,) = overseer.sessions_of("answers")
            assert overseer.deadlines[job["metadata"]["uid"]] > LEASE
        assert "left" not in opened.notes
        overseer.nothing_lives(10)
