"""Waiting until every replica of a session answers, phase by phase, and saying what keeps it."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NoReturn

from dyff_dagster.sessions.kubernetes.api import KubernetesApi, Object
from dyff_dagster.sessions.kubernetes.errors import ApiError, KubernetesError
from dyff_dagster.sessions.kubernetes.lease import Lease
from dyff_dagster.sessions.kubernetes.logs import LogKeeper
from dyff_dagster.sessions.kubernetes.manifests import SessionPlan
from dyff_dagster.sessions.kubernetes.names import ASKED
from dyff_dagster.sessions.kubernetes.signals import (
    PHASES,
    Phase,
    View,
    failed_job,
    is_suspended,
    look,
    refusal,
    unprepared,
)
from dyff_dagster.sessions.kubernetes.watching import Watched
from dyff_dagster.store import Progress, no_progress

_SECONDS_BETWEEN_EVENTS = 5.0
_SECONDS_BETWEEN_NUDGES = 10.0
_SECONDS_FOR_CONFIG = 60.0
"""In which a Secret or a volume that a container needs must have come."""
_SECONDS_UNREACHABLE = 20.0
"""In which something that is ready by the cluster's own word must be reached from here."""
_SECONDS_BETWEEN_LOOKS = 1.0
_RETURNS = 3
"""To its queue, after which a start is given up."""


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
        adopted: Whether an earlier run left it: pods that have ended by now are no failures of this start.

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
    adopted: bool = False
    timings: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._phase: Phase = "admission"
        self._since = self.clock()
        self._told = ""
        self._events_due = self.clock() + 1.0
        self._events: dict[str, list[Object]] = {}
        self._may_not = ""
        self._nudge_due = self.clock() + _SECONDS_BETWEEN_NUDGES
        self._earlier: set[str] = set()
        self._returns = 0
        self._config_since: float | None = None
        self._ready_since: dict[str, float] = {}
        self._answering: set[str] = set()
        self._status: int | None = None

    def wait(self) -> list[View]:
        """Return the replicas once all of them answer.

        Raises:
            KubernetesError: It cannot come to that, or a phase takes longer than it may.
        """
        try:
            return self._wait()
        except ApiError as error:
            raise self._error(str(error), reason=error.reason) from None

    def _wait(self) -> list[View]:
        # Who renews its lease must be allowed to; better to know it now than at its deadline.
        self.api.get("jobs", self.plan.name)
        self.watched.synced()
        if self.adopted:
            self._earlier = {view.name for view in self._views() if view.phase is None}
        while True:
            job = next(iter(self.watched.objects("jobs")), None)
            if job is None:
                raise self._error(f"its Job {self.plan.name} was deleted by somebody else")
            views = self._views()
            self.logs.keep(views)
            self._refuse_ended(job, views)
            live = [self._looked_into(view) for view in views if view.phase is not None]
            if is_suspended(job) and not live:
                self._taken_back()
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

    def _views(self) -> list[View]:
        return [look(pod, self.plan.memory) for pod in self.watched.objects("pods")]

    def _looked_into(self, view: View) -> View:
        """A view of a pod that has a node, with what its events say of volumes that it waits for."""
        if self._phase != "pull" or view.phase != "pull" or view.fatal or view.misconfigured:
            return view
        if self.clock() - self._since < _SECONDS_BETWEEN_EVENTS:
            return view
        found = unprepared(self._events_of("Pod", view.name))
        if found is None:
            return view
        return replace(view, why=f"its pod cannot be prepared ({found[0]})", misconfigured=found[1])

    def _events_of(self, kind: str, name: str) -> list[Object]:
        """Events of an object, looked at now and then; none where we may not read events."""
        if self.clock() >= self._events_due:
            self._events_due = self.clock() + _SECONDS_BETWEEN_EVENTS
            try:
                self._events[name] = self.api.find(
                    "events", fields=f"involvedObject.name={name},involvedObject.kind={kind}"
                )
            except ApiError as error:
                if error.status != 403:
                    raise
                self._may_not = str(error)
        return self._events.get(name, [])

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

    def _taken_back(self) -> None:
        """A queue that let it run holds it back again: it waits anew, and its time does not run meanwhile."""
        if self._phase == "admission":
            return
        now, queue = self.clock(), self.plan.placement.queue
        self.timings[self._phase] = round(self.timings.get(self._phase, 0.0) + now - self._since, 3)
        self._phase, self._since = "admission", now
        self._returns += 1
        if self._returns >= _RETURNS:
            raise self._error(
                f"{f'the queue {queue}' if queue else 'somebody'} let it run and held it back again, {self._returns} "
                "times, before it was ready, as Kueue does with pods that take longer than its waitForPodsReady: have "
                "that set longer, or have it start faster, with its image and model where its nodes are"
            )

    def _all_answer(self, serving: Sequence[View]) -> bool:
        """Whether each replica answers from here, too, and not only to the cluster's own probes."""
        port = self.plan.container.port
        for view in serving:
            if view.name in self._answering:
                continue
            since = self._ready_since.setdefault(view.name, self.clock())
            self._status = status = _status(view.ip, port)
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
            why = self._why_no_pods()[0] or "its pods are being made"
        else:
            why = slowest.why or (f"it answers {self._status}" if self._status else "starting")
        if (text := f"{self._phase}: {why}") != self._told:
            self._told = text
            self.progress(f"session {self.plan.name}: {text}", done, self.plan.replicas)

    def _why_no_pods(self) -> tuple[str, bool]:
        """What the Job's events say, and whether a quota is the reason."""
        found = refusal(self._events_of("Job", self.plan.name))
        if found is None:
            return self._may_not, False
        if self.clock() >= self._nudge_due:
            # What refuses its pods may have gone, and Kubernetes itself tries again after up to six minutes: a change
            # of the Job makes it try now.
            self._nudge_due = self.clock() + _SECONDS_BETWEEN_NUDGES
            asked = self.api.now().isoformat(timespec="seconds")
            self.api.patch("jobs", self.plan.name, {"metadata": {"annotations": {ASKED: asked}}})
        return found

    def _refuse_ended(self, job: Object, views: Sequence[View]) -> None:
        reason = failed_job(job)
        if reason == "DeadlineExceeded":
            kept = self.logs.latest
            raise self._error(
                f"its session {self.plan.name} reached its deadline before it was ready, in the phase {self._phase}: "
                f"give it longer (expires, or lease in the settings){f'; its log is {kept}' if kept else ''}",
                reason="Expired",
                log=None if kept is None else kept.stem,
            )
        gone = [view for view in views if view.phase is None and view.name not in self._earlier]
        # One that ends with status 0 before it was ready serves nobody either.
        ended = [view for view in gone if not view.disrupted]
        if reason is not None:
            self._crashed(gone[-1] if gone else None, len(gone))
        if len(ended) >= self.plan.settings.crashes:
            self._crashed(ended[-1], len(ended))
        hopeless = [view for view in ended if view.fatal]
        if hopeless:
            self._crashed(hopeless[-1], len(ended))

    def _crashed(self, view: View | None, times: int) -> NoReturn:
        if view is None:
            raise self._error("its pods ended one after another, without a word of why")
        sign = self.logs.sign(view.name)
        how = f"; {sign}" if sign else ""
        often = f" ({times} pods ended)" if times > 1 else ""
        raise self._error(
            f"service container of pod {view.name} never came to answer: {view.why}{how}{often}; "
            f"{self.logs.where(view.name)}",
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
            why, quota = self._why_no_pods()
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
        if slowest is None:
            raise self._error(f"its pods went away, and no others came within {allowed} s")
        self.logs.keep_now(slowest.name)
        health, port = self.plan.container.health, self.plan.container.port
        path = health or "/health"
        status = _status(slowest.ip, port, path) if slowest.ip else None
        if status is not None:
            what = (
                f"its service answers GET {path} with {status}, {allowed} s after its start: that must be "
                f"{'200' if health else 'below 500'} once it is ready"
            )
        else:
            what = (
                f"its service did not answer on {health or f'port {port}'} within {allowed} s of its start: it must "
                "listen on the port that DYFF_PORT and {port} say, on all addresses"
            )
        where = self.logs.where(slowest.name)
        raise self._error(f"{what}; or wait longer (timeouts.ready); {where}", log=slowest.name)

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
