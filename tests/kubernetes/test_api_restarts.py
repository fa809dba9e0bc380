"""The API server is killed and comes back while sessions start and answer: evaluations complete all the same."""

from __future__ import annotations

import subprocess
import time
from contextlib import ExitStack

import pytest

from dyff_dagster.sessions.kubernetes.names import INSTANCE
from tests import servers
from tests.kubernetes.cluster_support import Small
from tests.kubernetes.endurance_support import make_site, overseen, until
from tests.kubernetes.step_child import child

_SCRIPT = servers.REPOSITORY.parent / "shared" / "cluster" / "cluster"


def restart() -> None:
    """SIGKILL the API server of the cluster that this machine has, and start it again."""
    subprocess.run([_SCRIPT, "restart", "kube-apiserver"], check=True, capture_output=True, timeout=120)


@pytest.mark.alone
def test_evaluations_complete_whose_api_server_is_killed_meanwhile(small: Small) -> None:
    """One that answers, one whose service is not ready yet, and one that has just begun: one restart for all."""
    if not _SCRIPT.exists():
        pytest.skip("the API server of this cluster cannot be killed from here")
    answering = make_site(small, "answering", "--slow", "0.6", rows=60)
    starting = make_site(small, "starting", "--start", "9", rows=10)
    beginning = make_site(small, "beginning", rows=10)
    with overseen(small.api, apart=INSTANCE) as overseer, ExitStack() as stack:
        runs = [stack.enter_context(child(answering.run))]
        until(lambda: len(overseer.serving("doubled")) == 1)
        runs.append(stack.enter_context(child(starting.run)))
        until(lambda: len(overseer.living) == 2)
        runs.append(stack.enter_context(child(beginning.run)))
        time.sleep(1)
        assert answering.store.current("doubled") is None
        restart()
        for run in runs:
            run.succeeded()
        overseer.nothing_lives()
        assert len(overseer.jobs) == 3, "none was made twice"
    for site in (answering, starting, beginning):
        site.check_answers()
