"""The time that a session has left, and who may prolong it: only work that goes on."""

from __future__ import annotations

import threading
import time
from datetime import datetime, timedelta

from dyff_dagster.sessions.kubernetes.api import KubernetesApi
from dyff_dagster.sessions.kubernetes.errors import ApiError
from dyff_dagster.sessions.kubernetes.signals import failed_job, parse_time


class Lease:
    """Renews the deadline of a session's Job, if since the last renewal something has come of it.

    Something is: a phase of its start is over, or an answer has arrived. A run that hangs renews nothing, and what
    it pays for ends.

    Args:
        api: The cluster.
        name: The Job's.
        uid: The Job's.
        seconds: From each renewal on.
        expires: Never past this.
        most: Seconds that it may live in all, however often it was taken over.
    """

    def __init__(
        self, api: KubernetesApi, name: str, uid: str, seconds: int, expires: datetime | None, most: int
    ) -> None:
        self._api, self._name, self._uid = api, name, uid
        self._seconds, self._expires, self._most = seconds, expires, most
        self._lock = threading.Lock()
        self._advances = self._renewed_at = 0
        self._next = time.monotonic() + self._pause
        self.renewals = 0

    @property
    def _pause(self) -> float:
        """Seconds between two renewals."""
        return max(1.0, self._seconds / 4)

    def advance(self) -> None:
        """Something has come of it."""
        with self._lock:
            self._advances += 1

    def renew_if_due(self) -> None:
        """Renew it if there is a reason to, and it is time; a failure to do so is tried again next time."""
        with self._lock:
            if time.monotonic() < self._next or self._advances == self._renewed_at:
                return
            advances = self._advances
        try:
            self._renew()
        except ApiError:
            with self._lock:
                self._next = time.monotonic() + max(1.0, self._pause / 30)
            return
        with self._lock:
            self._renewed_at = advances
            self._next = time.monotonic() + self._pause

    def extend_to(self, moment: datetime) -> None:
        """Let it run until then; for a session that somebody asked for until then, once it is ready.

        Raises:
            ApiError: The API server refuses.
        """
        job = self._api.get("jobs", self._name)
        begun = None if job is None else parse_time((job.get("status") or {}).get("startTime"))
        if begun is not None:
            limit = min(self._most, max(1, int((moment - begun).total_seconds())))
            self._api.patch("jobs", self._name, {"spec": {"activeDeadlineSeconds": limit}})

    def _renew(self) -> None:
        job = self._api.get("jobs", self._name)
        if job is None or job["metadata"]["uid"] != self._uid or failed_job(job) is not None:
            return
        begun = parse_time((job.get("status") or {}).get("startTime"))
        if begun is None:
            return  # a queue holds it back: its time does not run
        deadline = self._api.now() + timedelta(seconds=self._seconds)
        if self._expires is not None:
            deadline = min(deadline, self._expires)
        limit = min(self._most, int((deadline - begun).total_seconds()))
        if limit > job["spec"].get("activeDeadlineSeconds", 0):
            self._api.patch("jobs", self._name, {"spec": {"activeDeadlineSeconds": limit}})
            self.renewals += 1
