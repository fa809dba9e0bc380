"""A session on the cluster while it is used: its replicas as they come and go, its lease, and its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from dyff_dagster.sessions.hosted import endpoint_url
from dyff_dagster.sessions.kubernetes.api import KubernetesApi, Object
from dyff_dagster.sessions.kubernetes.errors import ApiError, KubernetesError
from dyff_dagster.sessions.kubernetes.lease import Lease
from dyff_dagster.sessions.kubernetes.logs import LogKeeper
from dyff_dagster.sessions.kubernetes.signals import (
    View,
    belongs_to,
    ended,
    failed_job,
    lives,
    look,
    parse_time,
    started,
)
from dyff_dagster.sessions.kubernetes.watching import Watched
from dyff_dagster.store import Progress, no_progress

_SECONDS_BETWEEN_LOOKS = 1.0
_SECONDS_BEFORE_END = 10.0
"""Before its deadline what a session wrote is kept: at the deadline its pods are deleted, with their logs."""
_SECONDS_TO_END = 30.0
"""More than its grace, in which a session must be gone once it was deleted."""


@dataclass(frozen=True)
class ClusterReplica:
    """One pod of a session."""

    running: Running
    name: str
    ip: str
    port: int

    @property
    def base_url(self) -> str:
        """Scheme, host and port."""
        host = f"[{self.ip}]" if ":" in self.ip else self.ip
        return f"http://{host}:{self.port}"

    def check(self) -> None:
        """Raise SessionError when the pod serves no more."""
        view = self.running.view(self.name)
        if view is None or view.phase is None:
            why = view.why if view is not None and view.why else "it was removed"
            log = self.running.logs.path(self.name)
            raise KubernetesError(
                f"{self.running.owner}: replica {self.name} answers no more: {why}; "
                f"{self.running.logs.where(self.name)}",
                session_id=self.running.owner,
                log=log if log.exists() else None,
            )

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of its log."""
        with suppress(ApiError, OSError):
            path = self.running.logs.keep_now(self.name)
            if path is not None:
                text = path.read_text("utf-8", "replace").splitlines()[-lines:]
                return f"{path}:\n" + "\n".join(text) if text else ""
        return ""


@dataclass
class Running:
    """A session that answers.

    Args:
        api: The cluster.
        owner: Whose it is, for messages.
        name: Of the session.
        uid: Its Job's.
        endpoint: Path that requests go to.
        port: Where the service listens.
        memory: Its limit, for messages.
        gpus: GPUs of each replica.
        watched: Its Job and pods.
        lease: Who is told of answers; None for a session that others own.
        logs: Where logs go.
        grace: Seconds that pods get to end.
        patience: Seconds without any replica after which it is given up.
        progress: Told of replicas that go and come.
    """

    api: KubernetesApi
    owner: str
    name: str
    uid: str
    endpoint: str
    port: int
    memory: str
    gpus: int
    watched: Watched
    lease: Lease | None
    logs: LogKeeper
    grace: int
    patience: int
    progress: Progress = no_progress
    _answered: int = 0
    _pods: dict[str, Object] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _told: set[str] = field(default_factory=set)
    _gone_at: dict[str, datetime] = field(default_factory=dict)
    _empty_since: float | None = None

    def keep(self) -> None:
        """Begin to renew its lease and to keep the logs of pods that fail, until it is ended."""
        # What looks after pods may wait for a node that is lost; the lease may not.
        for work in (self._renew, self._keep):
            name = f"{work.__name__.strip('_')}-{self.name}"
            threading.Thread(target=work, name=name, daemon=True).start()

    def places(self, answered: int) -> list[tuple[str, ClusterReplica]]:
        """Where requests may go now: (URL, replica). Called a few times a second while it is used.

        Args:
            answered: Answers so far; more of them than at the last call prolong its life.

        Raises:
            KubernetesError: It has ended.
        """
        if answered > self._answered:
            self._answered = answered
            if self.lease is not None:
                self.lease.advance()
        self._check()
        views = self._views()
        replicas = [
            ClusterReplica(self, view.name, view.ip, self.port) for view in views if view.serves and view.ip
        ]
        self._refuse_deserted(views, bool(replicas))
        return [(endpoint_url(replica.base_url, self.endpoint), replica) for replica in replicas]

    def view(self, pod: str) -> View | None:
        """What a pod says of itself now; None where it is gone."""
        return next((view for view in self._views() if view.name == pod), None)

    def end(self) -> dict[str, Any]:
        """Keep the logs, delete it, and wait until its pods are gone.

        It is no error that it does not go at once: what it has answered is worth no less, another failure must not
        be hidden, and its lease ends it. Whoever reads the notes is told.

        Returns:
            What it took, ``podSeconds`` and with accelerators ``gpuSeconds``; and ``left`` where it was still there at
            the end.
        """
        self._stop.set()
        notes: dict[str, Any] = {}
        try:
            with suppress(KubernetesError):
                self.logs.keep_all(self._views())
            self.api.delete("jobs", self.name, uid=self.uid)
            with suppress(ApiError):
                if not self._gone(self.grace + _SECONDS_TO_END):
                    notes["left"] = f"{self.name} was deleted, and its pods are slow to end"
        except KubernetesError as error:
            notes["left"] = f"{self.name} could not be ended and ends with its lease: {error}"
        finally:
            self.watched.close()
        notes.update(self._taken())
        if "left" in notes:
            self.progress(f"{self.owner}: the session {notes['left']}", None, None)
        return notes

    def _gone(self, seconds: float) -> bool:
        """Whether its pods end within some seconds; that they are forgotten may take the cluster longer."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            jobs = [job for job in self.watched.objects("jobs") if job["metadata"]["uid"] == self.uid]
            self._views()  # which notices when pods end
            pods = [pod for pod in self.watched.objects("pods") if lives(pod) and belongs_to(pod, self.uid)]
            if not pods and all(job["metadata"].get("deletionTimestamp") for job in jobs):
                return True
            self.watched.wait(1.0)
        return False

    def leave(self) -> None:
        """Use it no more; it goes on."""
        self._stop.set()
        self.watched.close()

    def _views(self) -> list[View]:
        pods = {pod["metadata"]["name"]: pod for pod in self.watched.objects("pods")}
        self._pods |= pods
        living = {name for name, pod in pods.items() if lives(pod)}
        for name in self._pods.keys() - living - self._gone_at.keys():
            self._gone_at[name] = self.api.now()
        return [look(pod, self.memory) for pod in pods.values()]

    def _check(self) -> None:
        job = next((job for job in self.watched.objects("jobs") if job["metadata"]["uid"] == self.uid), None)
        if job is None or job["metadata"].get("deletionTimestamp"):
            raise KubernetesError(
                f"{self.owner}: the session {self.name} was ended by somebody: start it again, which goes on where "
                "this stopped",
                session_id=self.owner,
                reason="TerminateCommand",
            )
        reason = failed_job(job)
        if reason == "DeadlineExceeded":
            raise KubernetesError(
                f"{self.owner}: the session {self.name} has ended at its deadline: start it again, which goes on where "
                "this stopped, or give it longer",
                session_id=self.owner,
                reason="Expired",
            )
        if reason is not None:
            views = [view for view in self._views() if view.phase is None]
            last = views[-1] if views else None
            log = self.logs.keep_now(last.name, again=False) if last is not None else None
            why = (
                f"the last one, {last.name}: {last.why}; {self.logs.where(last.name)}"
                if last is not None
                else "and nothing says why"
            )
            raise KubernetesError(
                f"{self.owner}: the pods of session {self.name} ended again and again ({why})",
                session_id=self.owner,
                log=log,
            )

    def _refuse_deserted(self, views: Sequence[View], served: bool) -> None:
        """Where others keep it alive, or a queue holds it back, no lease would end the wait for a replica."""
        if served or self._empty_since is None:
            self._empty_since = None if served else time.monotonic()
        elif time.monotonic() - self._empty_since >= self.patience:
            why = next((view.why for view in views if view.phase is not None and view.why), "it has no pods")
            raise KubernetesError(
                f"{self.owner}: no replica of session {self.name} has answered for {self.patience} s ({why}): look at "
                "it, and start this again, which goes on where it stopped",
                session_id=self.owner,
            )

    def _renew(self) -> None:
        """Until it is ended: renew the lease."""
        while self.lease is not None and not self._stop.wait(_SECONDS_BETWEEN_LOOKS):
            self.lease.renew_if_due()

    def _keep(self) -> None:
        """Until it is ended: keep the logs of pods that end."""
        last_kept = False
        while not self._stop.wait(_SECONDS_BETWEEN_LOOKS):
            try:
                views = self._views()
                self.logs.keep(views)
                for view in views:
                    if view.phase is None and view.name not in self._told:
                        self._told.add(view.name)
                        self.progress(f"replica {view.name} answers no more: {view.why}", None, None)
                near = self._seconds_left() <= _SECONDS_BEFORE_END
                if near and not last_kept:
                    self.logs.keep_all(views)
                last_kept = near
            except Exception:  # noqa: S112 - whoever uses it is told by `places`, and a line that cannot be shown is no reason
                continue

    def _seconds_left(self) -> float:
        for job in self.watched.objects("jobs"):
            begun = parse_time((job.get("status") or {}).get("startTime"))
            if begun is not None:
                limit = float(job["spec"].get("activeDeadlineSeconds") or 0)
                return limit - (self.api.now() - begun).total_seconds()
        return float("inf")

    def _taken(self) -> dict[str, Any]:
        """Pod and GPU seconds, from the node's taking a pod in to its end, or now."""
        seconds = 0.0
        now = self.api.now()
        for name, pod in list(self._pods.items()):
            begun = started(pod)
            if begun is not None:
                over = ended(pod) or self._gone_at.get(name) or now
                seconds += max(0.0, (over - begun).total_seconds())
        taken = {"podSeconds": round(seconds, 1)}
        return {**taken, "gpuSeconds": round(seconds * self.gpus, 1)} if self.gpus else taken
