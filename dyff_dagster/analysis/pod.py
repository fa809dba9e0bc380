"""An analysis shut in: in a pod without network or credentials, that sees its inputs and can write its output alone.

The pod sees the same directories under the same paths as a process of this machine would, mounted from the volume
that the storage root lies on: inputs and modules read-only, its scratch directory and its output writable.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

from dyff_dagster.analysis.child import pass_on, variables
from dyff_dagster.analysis.errors import AnalysisTimeout, OutOfMemory
from dyff_dagster.analysis.jobs import Job, Outcome
from dyff_dagster.analysis.limits import Limits
from dyff_dagster.schema.resources import quantity_value
from dyff_dagster.sessions.kubernetes import Cluster, Mount, Owner
from dyff_dagster.store import Progress


@dataclass(frozen=True)
class PodWorker:
    """Does jobs in pods of a cluster; called as :func:`~dyff_dagster.analysis.child.work` is.

    Attributes:
        cluster: Where.
        owner: Whose analysis it is, for labels.
    """

    cluster: Cluster
    owner: Owner

    def __call__(self, job: Job, log: Path, limits: Limits, progress: Progress) -> Outcome:
        """Do a job in a pod of its own, and return how it ended; nothing of the pod is left.

        Args:
            job: The job, written down below the storage root.
            log: Where the pod's output goes.
            limits: What it may take; where no memory is stated, the administrator's default holds.
            progress: Told of cells and rows as they come.

        Raises:
            AnalysisTimeout: It took too long.
            OutOfMemory: It held too much.
            KubernetesError: The pod cannot be started.
        """
        settings = self.cluster.settings
        told = 0

        def tick() -> None:
            nonlocal told
            told = pass_on(job.progress, told, progress)

        output = job.output.resolve()
        seen = {path.resolve() for path in job.root.iterdir()} - {output}
        environment = variables(job)
        for directory in (job.scratch, output):
            _give(directory, settings.user)
        memory = settings.analysisMemory if limits.memory is None else str(limits.memory)
        seconds = (
            settings.maxLifetime if limits.seconds is None else min(limits.seconds, settings.maxLifetime)
        )
        ended = self.cluster.run(
            self.owner,
            command=["python3", "-X", "faulthandler", "-m", "dyff_dagster.analysis.worker", str(job.path)],
            environment=environment,
            cwd=job.scratch,
            mounts=[
                Mount(job.scratch, writable=True),
                Mount(output, writable=True),
                *(Mount(path) for path in sorted(seen)),
            ],
            seconds=max(1, math.ceil(seconds)),
            memory=memory,
            log=log,
            tick=tick,
        )
        tick()
        if ended.timed_out:
            raise AnalysisTimeout(job.analysis_id, seconds, limits.more_seconds, str(log))
        if ended.out_of_memory:
            most = int(quantity_value(memory))
            raise OutOfMemory(job.analysis_id, most, most, limits.more_memory, str(log))
        outcome = Outcome.read(job.outcome)
        if outcome is None:
            return Outcome(
                error=f"{job.analysis_id}: its pod ended before it was done: {ended.why or 'without a word'}"
            )
        return outcome


def _give(directory: Path, user: int) -> None:
    """Let the pod's user write below a directory."""
    if os.geteuid() == user:
        return
    for path in (directory, *directory.rglob("*")):
        if path.is_symlink():
            continue
        if os.geteuid() == 0:
            os.chown(path, user, user)
        else:
            path.chmod(0o777 if path.is_dir() else 0o666)
