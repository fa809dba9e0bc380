"""Waiting until every replica of a session answers, phase by phase, and saying what keeps it."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from dyff_dagster.sessions.kubernetes.api import KubernetesApi, Object
from dyff_dagster.sessions.kubernetes.errors import KubernetesError
from dyff_dagster.sessions.kubernetes.lease import Lease
from dyff_dagster.sessions.kubernetes.logs import LogKeeper
from dyff_dagster.sessions.kubernetes.manifests import SessionPlan
from dyff_dagster.sessions.kubernetes.signals import (
    PHASES,
    Phase,
    View,
    failed_job,
    is_suspended,
    look,
    refusal,
)
from dyff_dagster.sessions.kubernetes.watching import Watched
from dyff_dagster.store import Progress, no_progress

_SECONDS_BETWEEN_EVENTS = 5.0
_SECONDS_FOR_CONFIG = 60.0
"""In which a Secret or a volume that a container needs must have come."""
_SECONDS_UNREACHABLE = 20.0
"""In which something that is ready by the cluster's own word must be reached from here."""
_SECONDS_BETWEEN_LOOKS = 1.0


@dataclass
class Start:
    """A session on its way to answering.

    Args:
        api: The cluster.
        plan: What is started.
        watched: Its Job and pods.
        lease: Told of every phase that is over.
        logs: Keeps what failed pods wrote.
        progress: Told what it waits for.
        clock: Seconds.

    Attributes:
        timings: Seconds that each phase took, by its name, as far as it is over.
    """

    api: KubernetesApi
    plan: SessionPlan
    watched: Watched
    lease: Lease
    logs: LogKeeper
    progress: Progress = no_progress
    clock: Callable[[], float] = time.monotonic
    timings: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._phase: Phase = "admission"
        self._since = self.clock()
        self._told = ""
        self._events: tuple[float, str, bool] = (self.clock() + 1.0, "", False)
        self._config_since: float | None = None
        self._ready_since: dict[str, float] = {}
        self._answering: set[str] = set()

    def wait(self) -> list[View]:
        """Return the replicas once all of them answer.

        Raises:
            KubernetesError: It cannot come to that, or a phase takes longer than it may.
        """
        self.watched.synced()
        while True:
            job = next(iter(self.watched.objects("jobs")), None)
            if job is None:
                raise self._error(f"its Job {self.plan.name} was deleted by somebody else")
            views = [look(pod, self.plan.memory) for pod in self.watched.objects("pods")]
            self.logs.keep(views)
            self._refuse_ended(job, views)
            live = [view for view in views if view.phase is not None]
            self._enter(self._phase_of(live))
            serving = [view for view in live if view.serves]
            if len(serving) >= self.plan.replicas and self._all_answer(serving):
                self._enter("serving")
                return serving[: self.plan.replicas]
            self._tell(job, live)
            self._refuse_hopeless(live)
            self._refuse_late(job, live)
            self.lease.renew_if_due()
            self.watched.wait(_SECONDS_BETWEEN_LOOKS)

    def _phase_of(self, live: Sequence[View]) -> Phase:
        """The phase of the replica that is furthest behind."""
        if len(live) < self.plan.replicas:
            return "admission" if self._phase == "admission" else self._phase
        behind = min((PHASES.index(view.phase) for view in live if view.phase is not None), default=0)
        return PHASES[min(behind, PHASES.index("ready"))]

    def _enter(self, phase: Phase) -> None:
        if PHASES.index(phase) <= PHASES.index(self._phase):
            return
        now = self.clock()
        self.timings[self._phase] = round(self.timings.get(self._phase, 0.0) + now - self._since, 3)
        self._phase, self._since = phase, now
        self.lease.advance()

    def _all_answer(self, serving: Sequence[View]) -> bool:
        """Whether each replica answers from here, too, and not only to the cluster's own probes."""
        port = self.plan.container.port
        for view in serving:
            if view.name in self._answering:
                continue
            since = self._ready_since.setdefault(view.name, self.clock())
            status = _status(view.ip, port)
            if status is not None and status < 500:
                self._answering.add(view.name)
            elif status is None and self.clock() - since >= _SECONDS_UNREACHABLE:
                raise self._error(
                    f"its pod {view.name} is ready, and cannot be reached from here at {view.ip}:{port}: run the "
                    "steps in the cluster, in pods with the label dyff-dagster/client=true"
                )
            else:
                return False
        return True

    def _tell(self, job: Object, live: Sequence[View]) -> None:
        done = sum(view.name in self._answering for view in live)
        slowest = min(live, key=lambda view: PHASES.index(view.phase or "admission"), default=None)
        if is_suspended(job):
            why = "queued" if self.plan.placement.queue else "not armed yet"
        elif slowest is None:
            why = self._why_no_pods() or "its pods are being made"
        else:
            why = slowest.why or "starting"
        if (text := f"{self._phase}: {why}") != self._told:
            self._told = text
            self.progress(f"session {self.plan.name}: {text}", done, self.plan.replicas)

    def _why_no_pods(self) -> str:
        """What the Job's events say, looked at now and then."""
        due, why, _ = self._events
        if self.clock() >= due:
            fields = f"involvedObject.name={self.plan.name},involvedObject.kind=Job"
            found = refusal(self.api.find("events", fields=fields))
            why, quota = found if found is not None else ("", False)
            self._events = (self.clock() + _SECONDS_BETWEEN_EVENTS, why, quota)
        return why

    def _refuse_ended(self, job: Object, views: Sequence[View]) -> None:
        crashed = [view for view in views if view.crashed]
        reason = failed_job(job)
        if reason == "DeadlineExceeded":
            raise self._error(
                f"its session {self.plan.name} reached its deadline before it was ready, in the phase {self._phase}: "
                "give it longer (expires, or lease in the settings)",
                reason="Expired",
            )
        if reason is not None or len(crashed) >= self.plan.settings.crashes:
            self._crashed(crashed[-1] if crashed else None, len(crashed))
        hopeless = [view for view in crashed if view.fatal]
        if hopeless:
            self._crashed(hopeless[-1], len(crashed))

    def _crashed(self, view: View | None, times: int) -> NoReturn:
        if view is None:
            raise self._error("its pods ended one after another, without a word of why")
        log = self.logs.path(view.name)
        sign = self.logs.sign(view.name)
        how = f"; {sign}" if sign else ""
        often = f" ({times} pods ended)" if times > 1 else ""
        raise self._error(
            f"service container of pod {view.name} never came to answer: {view.why}{how}{often}; its log is {log}",
            log=view.name,
        )

    def _refuse_hopeless(self, live: Sequence[View]) -> None:
        for view in live:
            if view.fatal:
                raise self._error(f"{view.why}: correct the image, or the registry's credentials")
        stuck = next((view for view in live if view.misconfigured), None)
        if stuck is None:
            self._config_since = None
            return
        self._config_since = self._config_since or self.clock()
        if self.clock() - self._config_since >= _SECONDS_FOR_CONFIG:
            raise self._error(f"{stuck.why}: create what is missing, or correct the settings")

    def _refuse_late(self, job: Object, live: Sequence[View]) -> None:
        if self._phase == "serving":
            return
        limits = self.plan.settings.timeouts
        allowed = getattr(limits, self._phase)
        if self.clock() - self._since < allowed:
            return
        slowest = min(live, key=lambda view: PHASES.index(view.phase or "admission"), default=None)
        if self._phase == "admission":
            why = self._why_no_pods()
            quota = self._events[2]
            if is_suspended(job):
                why = f"the queue {self.plan.placement.queue} has not admitted it"
            raise self._error(
                f"it got no pods within {allowed} s ({why or 'and nothing says why'}); it asks for "
                f"{self.plan.replicas} × ({self.plan.placement.wanted}, memory {self.plan.memory}): "
                "wait until others have ended, or ask for less",
                reason="QuotaLimit" if quota or is_suspended(job) else None,
            )
        why = slowest.why if slowest is not None else "its pods went away"
        if self._phase == "scheduling":
            raise self._error(
                f"{why} within {allowed} s; each replica asks for {self.plan.placement.wanted}, cpu "
                f"{self.plan.settings.cpu} and memory {self.plan.memory}{self._nodes()}: add such a node, ask for "
                "something else, or wait longer (timeouts.scheduling)"
            )
        if self._phase == "pull":
            raise self._error(
                f"{why}, after {allowed} s: wait longer (timeouts.pull), or look at the image and volumes"
            )
        log = self.logs.keep_now(slowest.name) if slowest is not None else None
        where = f"; its log is {log}" if log is not None else ""
        health = self.plan.container.health or f"port {self.plan.container.port}"
        raise self._error(
            f"its service did not answer on {health} within {allowed} s of its start: it must listen on the port that "
            f"DYFF_PORT and {{port}} say, on all addresses; or wait longer (timeouts.ready){where}",
            log=slowest.name if slowest is not None else None,
        )

    def _nodes(self) -> str:
        """What the nodes have, where we may look."""
        found = self.api.nodes()
        if not found:
            return ""
        shown = []
        for node in found[:6]:
            allocatable = node["status"].get("allocatable") or {}
            gpus = {
                key: value
                for key, value in allocatable.items()
                if "/" in key and not key.startswith("hugepages")
            }
            labels = node["metadata"].get("labels") or {}
            kinds = [value for key, value in labels.items() if "gpu.product" in key or "accelerator" in key]
            has = ", ".join([f"{value} × {key}" for key, value in gpus.items()] + kinds) or "no accelerator"
            shown.append(
                f"{node['metadata']['name']} {has}, cpu {allocatable.get('cpu')}, memory {allocatable.get('memory')}"
            )
        more = f" and {len(found) - 6} more" if len(found) > 6 else ""
        return f"; the nodes have: {'; '.join(shown)}{more}"

    def _error(self, text: str, *, reason: str | None = None, log: str | None = None) -> KubernetesError:
        path = self.logs.path(log) if log is not None else None
        return KubernetesError(
            f"{self.plan.entity_id}: {text}",
            session_id=self.plan.entity_id,
            reason=reason,
            log=path if path is not None and path.exists() else None,
        )


def _status(ip: str, port: int, path: str = "/health") -> int | None:
    """The status of ``GET /health``, None where nothing answers."""
    connection = http.client.HTTPConnection(ip, port, timeout=3.0)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
