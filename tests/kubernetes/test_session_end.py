"""The end of a session: whatever fails about it, it ends, and what failed before is what is told."""

from __future__ import annotations

from typing import Any

import pytest

from dyff_dagster.sessions.kubernetes import ApiError, watching
from dyff_dagster.sessions.kubernetes.api import KubernetesApi, Object
from dyff_dagster.sessions.kubernetes.signals import parse_time
from tests.kubernetes.cluster_support import Small
from tests.kubernetes.endurance_support import overseen, until


class Faulty(KubernetesApi):
    """Refuses what it is told to.

    Attributes:
        refuses: Names of its methods.
        counts: How often each was refused.
    """

    def __init__(self, client: Any, namespace: str, *refuses: str) -> None:
        super().__init__(client, namespace)
        self.refuses = set(refuses)
        self.counts: dict[str, int] = {}

    def _refuse(self, name: str) -> None:
        if name in self.refuses:
            self.counts[name] = self.counts.get(name, 0) + 1
            raise ApiError(f"no {name} here", 403, "Forbidden")

    def log(self, *arguments: Any, **options: Any) -> str:
        self._refuse("log")
        return super().log(*arguments, **options)

    def delete(self, *arguments: Any, **options: Any) -> bool:
        self._refuse("delete")
        return super().delete(*arguments, **options)

    def _list(self, *arguments: Any) -> Object:
        self._refuse("watch")
        return super()._list(*arguments)


def test_what_failed_before_is_what_is_told_and_the_lease_ends_what_cannot_be_deleted(
    small: Small, cluster_client: Any
) -> None:
    api = Faulty(cluster_client, small.namespace, "delete")
    with overseen(small.api) as overseer:
        notes: dict[str, Any] = {}
        with pytest.raises(ZeroDivisionError, match="the first"), small.open(small.cluster(api)) as opened:
            notes = opened.notes
            raise ZeroDivisionError("the first")
        assert "ends with its lease" in notes["left"]
        assert overseer.living
        overseer.nothing_lives()


@pytest.mark.parametrize("refused", ["log", "watch"])
def test_a_session_is_ended_also_by_those_who_see_nothing_of_it(
    small: Small, cluster_client: Any, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    """As where a Role lost a verb, or a node with its kubelet: the others' lease is long, this is no expiry."""
    monkeypatch.setattr(watching, "_SECONDS_REFUSED", 0.0)
    api = Faulty(cluster_client, small.namespace)
    with overseen(small.api) as overseer:
        with small.open(small.cluster(api, lease=250)) as opened:
            api.refuses.add(refused)
            if refused == "watch":
                # The watches that there are end within a minute; what is asked next meets the refusal.
                while not api.counts:
                    opened.moving(0)
        assert api.counts
        overseer.nothing_lives()
        (job,) = overseer.sessions_of("answers")
        assert job["metadata"]["deletionTimestamp"]


@pytest.mark.usefixtures("all_gpus")
def test_pods_that_are_replaced_are_counted_until_they_end(small: Small) -> None:
    """GPU seconds are what people pay for: a pod that was deleted costs nothing from then on."""
    with overseen(small.api) as overseer:
        with small.open(small.cluster(), replicas=2, gpus=1) as opened:
            first = overseer.serving("answers")[0]
            small.api.delete("pods", first)
            until(lambda: first not in overseer.serving("answers") and len(opened.moving(0)) == 2)
        overseer.nothing_lives()
        lives = []
        for uid, pod in overseer.pods.items():
            begun = parse_time(pod["status"]["startTime"])
            assert begun is not None
            lives.append((overseer.ended[uid] - begun).total_seconds())
    assert len(lives) == 3
    # Each moment is known to about two seconds, by the watch.
    assert opened.notes["podSeconds"] == pytest.approx(sum(lives), abs=2.5 * len(lives))
    assert opened.notes["gpuSeconds"] == opened.notes["podSeconds"]
