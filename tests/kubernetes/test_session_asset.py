"""InferenceSessions as assets: they outlive their step, are shared, and end when they expire or are told to."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dyff_dagster.sessions.kubernetes.signals import failed_job, parse_time
from dyff_dagster.store import local_path
from tests import servers
from tests.kubernetes.cluster_support import Small, left_of_ours
from tests.kubernetes.endurance_support import (
    Overseer,
    Site,
    make_site,
    overseen,
    until,
)
from tests.kubernetes.step_child import child

ROWS, REPLICATIONS = 40, 2

MANIFESTS = """
kind: InferenceSession
id: standing
account: acme
inferenceService: doubler
replicas: {replicas}
expires: {expires}
---
kind: Evaluation
id: first
account: acme
dataset: rows
replications: 2
workersPerReplica: 2
inferenceSessionReference: standing
---
kind: Evaluation
id: second
account: acme
dataset: rows
replications: 2
workersPerReplica: 2
inferenceSessionReference: standing
"""


def site_with_session(small: Small, seconds: float, *arguments: str, replicas: int = 1, **more: Any) -> Site:
    """A site with a session that expires in some seconds, and two evaluations that share it."""
    expires = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
    return make_site(
        small,
        "site",
        *arguments,
        rows=ROWS,
        replications=REPLICATIONS,
        assets=("datasets/rows", "inferencesessions/standing"),
        manifests=MANIFESTS.format(expires=expires, replicas=replicas),
        **more,
    )


def names(overseer: Overseer) -> set[str]:
    return {pod["metadata"]["name"] for pod in overseer.living}


def test_two_evaluations_share_a_session_which_survives_both_and_ends_when_it_expires(small: Small) -> None:
    site = site_with_session(small, 100, "--slow", "0.05", replicas=2)
    with overseen(small.api) as overseer:
        with child(site.run) as starting:
            shown = starting.succeeded().metadata["standing"]
        expires = datetime.fromisoformat(shown["dyff/expires"])
        pods = set(overseer.serving("standing"))
        assert len(pods) == 2
        with child(site.run) as starting:
            assert starting.succeeded().metadata["standing"]["dyff/session"] == shown["dyff/session"]
        with (
            child(site.with_(assets=("evaluations/first",))) as first,
            child(site.with_(assets=("evaluations/second",))) as second,
        ):
            first.succeeded()
            second.succeeded()
        assert names(overseer) == pods, "the session was not the same one all the time"
        (job,) = overseer.sessions_of("standing")
        begun = parse_time(job["status"]["startTime"])
        assert begun is not None
        assert abs(begun + timedelta(seconds=job["spec"]["activeDeadlineSeconds"]) - expires) < timedelta(
            seconds=2
        )
        # Nothing of Dagster's is alive any more.
        overseer.nothing_lives(150)
        assert failed_job(overseer.sessions_of("standing")[0]) == "DeadlineExceeded"
        until(lambda: left_of_ours(small.api) == [])
    for entity in ("first", "second"):
        site.check_answers(entity)


def test_a_session_that_is_terminated_ends_and_what_uses_it_keeps_its_answers(small: Small) -> None:
    site = site_with_session(small, 280, "--slow", "1")  # 40 seconds for all answers
    evaluation = site.with_(assets=("evaluations/first",))
    terminate = servers.command("dyff-dagster", "terminate", "standing")
    with overseen(small.api) as overseer:
        with child(site.run) as starting:
            starting.succeeded()
        with child(evaluation) as asking:
            until(lambda: list(local_path(site.store.working("first")).glob("parts/*/*.parquet")))
            said = servers.run(terminate, site.run.catalog, site.environment()).stdout
            assert "standing: ended" in said
            assert overseer.living == []
            failed = asking.failed()
        assert "TerminateCommand" in failed.said, failed.said
        assert "start it again" in failed.said
        until(lambda: small.api.find("jobs") == [])
        assert "no session runs" in servers.run(terminate, site.run.catalog, site.environment()).stdout
        with child(evaluation) as asking:
            assert "no session of it runs" in asking.failed().said
        with child(site.run) as starting:
            starting.succeeded()
        with child(evaluation) as asking:
            shown = asking.succeeded().metadata["first"]
        servers.run(terminate, site.run.catalog, site.environment())
        overseer.nothing_lives()
    site.check_answers("first")
    assert shown["dyff/takenUp"] > 0


def test_a_termination_that_was_cut_short_is_noted_when_it_is_said_again(small: Small) -> None:
    """Whoever ended the session died before Dagster was told, and the cluster has forgotten it since."""
    site = site_with_session(small, 280)
    status = servers.command("dyff-dagster", "status", "standing", "--json")
    terminate = servers.command("dyff-dagster", "terminate", "standing")

    def told() -> tuple[str, str | None]:
        (entity,) = json.loads(servers.run(status, site.run.catalog, site.environment()).stdout)
        return entity["status"], entity["reason"]

    with overseen(small.api) as overseer:
        with child(site.run) as starting:
            starting.succeeded()
        (job,) = overseer.sessions_of("standing")
        small.api.delete("jobs", job["metadata"]["name"], uid=job["metadata"]["uid"])
        overseer.nothing_lives()
        until(lambda: small.api.find("jobs") == [])
        assert told() == ("Admitted", None)
        assert "no session runs" in servers.run(terminate, site.run.catalog, site.environment()).stdout
        assert told() == ("Terminated", "TerminateCommand")


def test_a_shared_session_without_a_replica_is_not_waited_for_until_it_expires(
    small: Small, raw_api: Any
) -> None:
    """Its pod is gone, and a quota lets no other come: the session itself lives on for minutes."""
    site = site_with_session(small, 280, "--slow", "1")  # 40 seconds for all answers
    with overseen(small.api) as overseer:
        with child(site.run) as starting:
            starting.succeeded()
        raw_api(
            "POST",
            f"/api/v1/namespaces/{small.namespace}/resourcequotas",
            {"metadata": {"name": "nothing"}, "spec": {"hard": {"pods": "0"}}},
        )
        with child(site.with_(assets=("evaluations/first",))) as asking:
            time.sleep(6)
            small.api.delete("pods", overseer.serving("standing")[0])
            said = asking.failed().said
        assert "no replica of session" in said
        assert "20 s" in said
        servers.run(
            servers.command("dyff-dagster", "terminate", "standing"), site.run.catalog, site.environment()
        )
        overseer.nothing_lives()


@pytest.mark.parametrize("key", ["", "another key"])
def test_a_session_is_not_attached_to_by_those_who_cannot_know_its_token(small: Small, key: str) -> None:
    site = site_with_session(small, 280)
    with overseen(small.api) as overseer:
        with child(site.with_(key="")) as starting:
            assert "DYFF_INSTANCE_KEY" in starting.failed().said
        assert overseer.sessions_of("standing") == []
        with child(site.run) as starting:
            starting.succeeded()
        with child(site.with_(assets=("evaluations/first",), key=key)) as asking:
            said = asking.failed().said
        assert "DYFF_INSTANCE_KEY" in said or "no session of it runs" in said
        servers.run(
            servers.command("dyff-dagster", "terminate", "standing"), site.run.catalog, site.environment()
        )
        overseer.nothing_lives()
