"""A session that an earlier run left: taken over where it is the same, ended where it is not, never two at once."""

from __future__ import annotations

from typing import Any

import pytest

from dyff_dagster.sessions.kubernetes.api import KubernetesApi
from dyff_dagster.sessions.kubernetes.names import RUN
from dyff_dagster.sessions.kubernetes.planning import Sessions
from tests.kubernetes.cluster_support import KEY, Small
from tests.kubernetes.endurance_support import Overseer, Site, make_site, overseen, until
from tests.kubernetes.step_child import child

ROWS = 30


def left_by_a_killed_run(site: Site, overseer: Overseer) -> str:
    """The uid of a session whose run was killed while it answered."""
    with child(site.run) as process:
        until(lambda: overseer.serving("doubled"))
        until(lambda: (site.store.entity_ids() and site.durable) or overseer.sessions_of("doubled"))
        process.kill()
    (job,) = overseer.sessions_of("doubled")
    return str(job["metadata"]["uid"])


def uids(overseer: Overseer) -> list[str]:
    return [job["metadata"]["uid"] for job in overseer.sessions_of("doubled")]


def test_the_same_session_is_taken_over_and_belongs_to_the_new_run(small: Small) -> None:
    site = make_site(small, "site", "--slow", "0.4", "--check-token", rows=ROWS)
    with overseen(small.api) as overseer:
        uid = left_by_a_killed_run(site, overseer)
        shown = site.materialize()
        assert shown["dyff/session"]["adopted"] is True
        assert uids(overseer) == [uid]
        assert len(overseer.pods) == 1, "its pod was taken over with it"
        run_ids = {job["metadata"]["labels"][RUN] for job in overseer.jobs.values()}
        commit = site.store.current("doubled")
        assert commit is not None
        assert run_ids == {commit.run_id}
        overseer.nothing_lives()
    site.check_answers()


@pytest.mark.parametrize(
    "what", ["the service's code", "replicas", "no instance key, so that nobody knows its token"]
)
def test_one_that_does_not_fit_is_ended_before_there_is_another(small: Small, what: str) -> None:
    keyless = what.startswith("no instance key")
    key = "" if keyless else KEY
    site = make_site(small, "site", "--slow", "0.4", "--check-token", rows=ROWS, key=key, replicas=1)
    with overseen(small.api) as overseer:
        uid = left_by_a_killed_run(site, overseer)
        if what == "replicas":
            manifest = site.run.catalog / "audit.yaml"
            manifest.write_text(manifest.read_text().replace("replicas: 1", "replicas: 2"))
            assert "replicas: 2" in manifest.read_text()
        elif not keyless:
            program = site.run.catalog / "serve.py"
            program.write_text(program.read_text() + "\n# changed\n")
        shown = site.materialize()
        assert shown["dyff/session"]["adopted"] is False
        first, second = uids(overseer)
        assert first == uid != second
        overseer.nothing_lives()
    site.check_answers()


def test_a_job_of_that_name_that_is_not_ours_is_left_alone_and_told_of(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(small, "site", rows=ROWS)
    monkeypatch.setenv("DYFF_INSTANCE_KEY", KEY)
    name = Sessions(small.settings(), site.run.storage).name("doubled")
    template = {
        "containers": [{"name": "other", "image": small.image, "command": ["sleep", "3600"]}],
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
    }
    made = small.api.create(
        "jobs",
        {"metadata": {"name": name}, "spec": {"parallelism": 0, "template": {"spec": template}}},
    )
    with child(site.run) as process:
        said = process.failed().said
    assert f"has a Job {name} that is not ours: remove it" in said
    found = small.api.get("jobs", name)
    assert found is not None
    assert found["metadata"]["uid"] == made["metadata"]["uid"]
    assert not found["metadata"].get("deletionTimestamp")
    assert small.api.delete("jobs", name)


class LostAnswers(KubernetesApi):
    """As where the API server is restarted just after it did what was asked: the answer to each creation is lost."""

    def __init__(self, client: Any, namespace: str) -> None:
        super().__init__(client, namespace)
        self.lost: list[str] = []

    def _once(self, method: str, path: str, *rest: Any) -> Any:
        answer = super()._once(method, path, *rest)
        if method == "POST" and path not in self.lost:
            from dyff_dagster.sessions.kubernetes import ApiError

            self.lost.append(path)
            raise ApiError("the connection broke", 0)
        return answer


def test_what_was_made_though_nobody_heard_of_it_is_not_taken_for_anothers(
    small: Small, cluster_client: Any
) -> None:
    api = LostAnswers(cluster_client, small.namespace)
    with overseen(small.api) as overseer:
        with small.open(small.cluster(api), "--check-token") as opened:
            assert opened.notes["adopted"] is False
            assert len(opened.moving(0)) == 1
        made = {path.rpartition("/")[2] for path in api.lost if f"/namespaces/{small.namespace}/" in path}
        assert made == {"jobs", "secrets", "configmaps", "networkpolicies", "services"}
        assert len(overseer.sessions_of("answers")) == 1
        overseer.nothing_lives()


class Interrupted(BaseException):
    """As a signal is."""


class InterruptedApi(KubernetesApi):
    """Interrupts the process at its n-th call, before it is sent or when it was answered."""

    def __init__(self, client: Any, namespace: str, number: int, *, before: bool) -> None:
        super().__init__(client, namespace)
        self.number, self.before = number, before

    def _once(self, *arguments: Any) -> Any:
        due = self.calls + 1 == self.number
        if due and self.before:
            self.calls += 1
            raise Interrupted
        answer = super()._once(*arguments)
        if due:
            raise Interrupted
        return answer


@pytest.mark.parametrize("before", [True, False])
def test_a_start_that_is_interrupted_leaves_nothing(small: Small, cluster_client: Any, before: bool) -> None:
    """At each call in turn, and not first when its lease ends."""
    with overseen(small.api) as overseer:
        # The first asks what time it is, then come the Job, four objects of its own, and its arming.
        for number in range(2, 8):
            api = InterruptedApi(cluster_client, small.namespace, number, before=before)
            with pytest.raises(Interrupted):
                small.open(small.cluster(api, lease=250), entity_id=f"answers-{number}").__enter__()
        until(lambda: not overseer.living, f"alive: {overseer.living}", 40)
        assert all(job["metadata"].get("deletionTimestamp") for job in small.api.find("jobs"))
