"""Sessions on a Kubernetes cluster: for the length of a ``with`` block, or until they expire."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from dyff_dagster.schema.platform import InferenceServiceSpec, InferenceSession, InferenceSessionSpec
from dyff_dagster.sessions.errors import SessionError
from dyff_dagster.sessions.hosted import hosted_url, resolve_headers
from dyff_dagster.sessions.kubernetes.api import KubernetesApi
from dyff_dagster.sessions.kubernetes.attaching import running_job, running_of, token_of
from dyff_dagster.sessions.kubernetes.batch import Batch, BatchEnd, Mount, run_batch
from dyff_dagster.sessions.kubernetes.errors import KubernetesError
from dyff_dagster.sessions.kubernetes.lease import Lease
from dyff_dagster.sessions.kubernetes.listing import ClusterSession, shown, why_orphan
from dyff_dagster.sessions.kubernetes.logs import LogKeeper
from dyff_dagster.sessions.kubernetes.manifests import SessionPlan
from dyff_dagster.sessions.kubernetes.names import (
    MANAGED_BY,
    MANAGER,
    labels,
    object_name,
    selector,
)
from dyff_dagster.sessions.kubernetes.planning import ModelFiles, Owner, Sessions, deadline_of
from dyff_dagster.sessions.kubernetes.provisioning import Provisioned, end, provision
from dyff_dagster.sessions.kubernetes.running import Running
from dyff_dagster.sessions.kubernetes.settings import KubernetesSettings
from dyff_dagster.sessions.kubernetes.signals import failed_job
from dyff_dagster.sessions.kubernetes.starting import Start
from dyff_dagster.sessions.kubernetes.tokens import INSTANCE_KEY, token_maker, with_token
from dyff_dagster.sessions.kubernetes.watching import Watched
from dyff_dagster.sessions.session import Session
from dyff_dagster.store import Progress, no_progress


@dataclass(frozen=True)
class Cluster:
    """Sessions on one cluster, for one storage root.

    Args:
        settings: The administrator's.
        store_root: The storage root, on this machine; of one elsewhere, this machine's cache.
        elsewhere: URL of a storage root that is on no disk of this machine.
        environment: Where DYFF_INSTANCE_KEY is.
        connect: Makes the connection; for tests.
    """

    settings: KubernetesSettings
    store_root: Path
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    connect: Callable[[], KubernetesApi] | None = None
    elsewhere: str | None = None
    _apis: list[KubernetesApi] = field(default_factory=list, repr=False)

    @property
    def api(self) -> KubernetesApi:
        """The connection, made when it is first needed."""
        if not self._apis:
            make = self.connect or (
                lambda: KubernetesApi.connect(
                    namespace=self.settings.namespace, context=self.settings.context
                )
            )
            self._apis.append(make())
        return self._apis[0]

    @property
    def plans(self) -> Sessions:
        """Makes plans of sessions."""
        return Sessions(self.settings, self.store_root, self.elsewhere)

    @contextmanager
    def open(
        self,
        session: InferenceSessionSpec,
        owner: Owner,
        *,
        directory: Path,
        model: ModelFiles | None,
        service_digest: str,
        logs: Path,
        headers: Mapping[str, str] | None = None,
        progress: Progress = no_progress,
    ) -> Generator[Session, None, None]:
        """Make a service answer on the cluster for the length of a ``with`` block.

        At its end nothing of it is left, however the block ends. If this very process is killed, the session ends
        with its lease; until then, the next run of the same entity takes it over.

        Args:
            session: Replicas, accelerator, spot, when it expires, and the service.
            owner: Whose it is.
            directory: Of the service's manifest.
            model: Where its model lies in the store, where it has one with files.
            service_digest: Digest of all that decides what it answers.
            logs: Directory for what its pods write.
            headers: Sent with every request; ``${VARIABLE}`` is resolved here.
            progress: Told what it waits for.

        Raises:
            KubernetesError: It cannot run there, or does not come to answer.
        """
        service = session.inferenceService
        resolved = resolve_headers(headers or {}, owner.entity_id)
        if service.runner is None:
            yield Session(owner.entity_id, [hosted_url(service, owner.entity_id)], logs, resolved)
            return
        token_for, known_elsewhere = token_maker(self.plans.name(owner.entity_id), self.environment)
        checks = self.settings.tokenCheck
        plan = self.plans.plan(
            session,
            owner,
            directory=directory,
            model=model,
            service_digest=service_digest,
            nonce="" if known_elsewhere or not checks else token_for(""),
        )
        expires = deadline_of(session.expires, self.api.now(), self.settings, owner.entity_id)
        made = provision(
            self.api,
            plan,
            seconds=self.settings.lease,
            expires=expires,
            token_for=token_for if checks else None,
            progress=progress,
        )
        running, start = self._running(plan, made, service, logs, progress, expires)
        notes: dict[str, Any] = {"session": plan.name, "adopted": made.adopted}
        try:
            running.keep()
            start.wait()
            notes["phases"] = start.timings
            opened = Session(
                owner.entity_id,
                [],
                logs,
                with_token(resolved, made.token),
                moving=running.places,
                notes=notes,
            )
            opened.urls.extend(url for url, _ in running.places(0))
            yield opened
        except SessionError as error:
            error.notes = notes  # also what did not come to answer has cost something
            raise
        finally:
            notes.update(running.end())
            notes["apiCalls"] = self.api.calls

    def start(
        self,
        entity: InferenceSession,
        owner: Owner,
        *,
        directory: Path,
        model: ModelFiles | None,
        service_digest: str,
        logs: Path,
        progress: Progress = no_progress,
    ) -> tuple[ClusterSession, dict[str, float]]:
        """Have a session run until it expires, and return when all of its replicas answer.

        One that runs already, of the same pods and the same service, is taken over. Where it fails, or this process
        is interrupted before it is ready, nothing is left that was not there before.

        Returns:
            The session, and the seconds that each phase of its start took.

        Raises:
            KubernetesError: It cannot run there, does not come to answer, or nobody could know its token.
        """
        token_for, known_elsewhere = token_maker(self.plans.name(entity.id), self.environment)
        if self.settings.tokenCheck and not known_elsewhere:
            raise KubernetesError(
                f"{entity.id}: others than this process must know the session's token: set {INSTANCE_KEY} to a long "
                "random text, the same for every process, or tokenCheck to false",
                session_id=entity.id,
            )
        plan = self.plans.plan(entity, owner, directory=directory, model=model, service_digest=service_digest)
        expires = deadline_of(entity.expires, self.api.now(), self.settings, entity.id)
        made = provision(
            self.api,
            plan,
            seconds=self.settings.lease,
            expires=expires,
            token_for=token_for if self.settings.tokenCheck else None,
            shared=True,
            progress=progress,
        )
        running, start = self._running(plan, made, entity.inferenceService, logs, progress, expires)
        try:
            running.keep()
            start.wait()
            start.lease.extend_to(expires)
        except BaseException:
            # Others may be using one that was there before, which ends when it would have ended.
            if made.adopted:
                running.leave()
            else:
                running.end()
            raise
        running.leave()
        job = self.api.get("jobs", plan.name)
        if job is None:
            raise KubernetesError(
                f"{entity.id}: its session was ended as soon as it was ready", session_id=entity.id
            )
        return shown(self.api, job, ready=plan.replicas), start.timings

    @contextmanager
    def attach(
        self,
        entity: InferenceSession,
        *,
        service_digest: str,
        logs: Path,
        headers: Mapping[str, str] | None = None,
        progress: Progress = no_progress,
    ) -> Generator[Session, None, None]:
        """Use a session that runs already; it goes on when the block is done.

        Raises:
            KubernetesError: It was not started, has ended, or runs a service that has changed since.
        """
        name = self.plans.name(entity.id)
        resolved = resolve_headers(headers or {}, entity.id)
        job = running_job(self.api, name, entity, service_digest)
        token = token_of(job, entity.id, self.environment) if self.settings.tokenCheck else None
        running = running_of(self.api, job, entity, self.settings, logs, progress)
        try:
            running.watched.synced()
            running.keep()
            yield Session(
                entity.id,
                [url for url, _ in running.places(0)],
                logs,
                with_token(resolved, token),
                moving=running.places,
            )
        finally:
            running.leave()

    def run(
        self,
        owner: Owner,
        *,
        command: Sequence[str],
        environment: Mapping[str, str],
        cwd: Path,
        mounts: Sequence[Mount],
        seconds: int,
        memory: str,
        log: Path,
        tick: Callable[[], None],
    ) -> BatchEnd:
        """Run a command in a locked-down pod that sees some directories of the storage root, and wait for its end.

        Args:
            owner: Whose it is.
            command: The command line; the image is ``images.project``.
            environment: All variables that it gets.
            cwd: Where it runs.
            mounts: Directories below the storage root.
            seconds: After which it is ended.
            memory: Limit, as a Kubernetes quantity.
            log: Where its output goes.
            tick: Called twice a second meanwhile.

        Raises:
            KubernetesError: No volume or image is set, or the pod cannot be started.
        """
        name = object_name("analysis", owner.entity_id, self.plans.instance)
        batch = Batch(
            name=name,
            entity_id=owner.entity_id,
            labels=labels(
                session=name,
                component="analysis",
                entity_id=owner.entity_id,
                kind=owner.kind,
                account=owner.account,
                run_id=owner.run_id,
                instance=self.plans.instance,
            ),
            command=command,
            environment=environment,
            cwd=cwd,
            mounts=mounts,
            seconds=seconds,
            memory=memory,
        )
        return run_batch(self.api, batch, self.settings, self.store_root, log, tick)

    def token(self, entity_id: str) -> str | None:
        """The token of an entity's session; None where there is none, or others could not know it."""
        token_for, known = token_maker(self.plans.name(entity_id), self.environment)
        job = self.api.get("jobs", self.plans.name(entity_id))
        return (
            token_for(job["metadata"]["uid"])
            if job is not None and known and self.settings.tokenCheck
            else None
        )

    def terminate(self, entity_id: str) -> bool:
        """End the session of an entity, with all that belongs to it; whether there was one that ran.

        One that is ending already is waited for, and counts: whoever began it may not have lived to say so.

        Raises:
            KubernetesError: It does not go.
        """
        name = self.plans.name(entity_id)
        job = self.api.get("jobs", name)
        if job is None or (job["metadata"].get("labels") or {}).get(MANAGED_BY) != MANAGER:
            return False
        end(self.api, name, job["metadata"]["uid"], wait=self.settings.grace + 30.0)
        return failed_job(job) is None

    def sessions(self) -> list[ClusterSession]:
        """All sessions of this storage root, those that have just ended included."""
        return [shown(self.api, job) for job in self.api.find("jobs", self._ours)]

    def reap(
        self, run_is_over: Callable[[str], bool | None], dry: bool = False
    ) -> list[tuple[ClusterSession, str]]:
        """End the sessions of this storage root that nobody needs any more.

        One that somebody has changed since we looked, as a run does that takes it over, is left alone.

        Args:
            run_is_over: Whether a Dagster run has ended; None for one that is not known.
            dry: Only say which.

        Returns:
            Each that was ended, and why.

        Raises:
            KubernetesError: The cluster refuses.
        """
        found = [
            (session, why)
            for session in self.sessions()
            if (why := why_orphan(session, self.api.now(), run_is_over))
        ]
        if dry:
            return found
        return [
            (session, why)
            for session, why in found
            if self.api.delete("jobs", session.name, uid=session.uid, version=session.version)
        ]

    def session(self, entity_id: str) -> ClusterSession | None:
        """The session of an entity, or None."""
        job = self.api.get("jobs", self.plans.name(entity_id))
        return None if job is None else shown(self.api, job)

    @property
    def _ours(self) -> str:
        return selector(component="session", instance=self.plans.instance[:16])

    def _running(
        self,
        plan: SessionPlan,
        made: Provisioned,
        service: InferenceServiceSpec,
        logs: Path,
        progress: Progress,
        expires: datetime,
    ) -> tuple[Running, Start]:
        watched = Watched(self.api, selector(session=plan.name), "jobs", "pods")
        lease = Lease(self.api, plan.name, made.uid, self.settings.lease, expires, self.settings.maxLifetime)
        keeper = LogKeeper(self.api, logs)
        running = Running(
            api=self.api,
            owner=plan.entity_id,
            name=plan.name,
            uid=made.uid,
            endpoint=service.interface.endpoint,
            port=plan.container.port,
            memory=plan.memory,
            gpus=plan.placement.gpus,
            watched=watched,
            lease=lease,
            logs=keeper,
            grace=self.settings.grace,
            patience=self.settings.lease,
            progress=progress,
        )
        return running, Start(self.api, plan, watched, lease, keeper, progress, adopted=made.adopted)
