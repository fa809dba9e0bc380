"""What the pods of a session wrote, kept before they go."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from dyff_dagster.sessions.kubernetes.api import KubernetesApi
from dyff_dagster.sessions.kubernetes.errors import ApiError
from dyff_dagster.sessions.kubernetes.signals import View, sign_in_log


class LogKeeper:
    """Writes the logs of pods to files of their own: of those that fail at once, of the others at the end.

    Args:
        api: The cluster.
        directory: Where they go; it is made if need be.
    """

    def __init__(self, api: KubernetesApi, directory: Path) -> None:
        self._api = api
        self._directory = directory
        self._kept: set[str] = set()
        self._lock = threading.Lock()

    def path(self, pod: str) -> Path:
        """Where a pod's log lies, or would."""
        return self._directory / f"{pod}.log"

    def keep(self, views: Sequence[View]) -> None:
        """Keep the logs of those that have ended or are about to, each once."""
        for view in views:
            if view.phase is None and view.name not in self._kept:
                self.keep_now(view.name)

    def keep_now(self, pod: str, *, again: bool = True) -> Path | None:
        """Keep what a pod wrote so far; None where nothing can be had.

        Args:
            pod: Its name.
            again: Also if that was done before.
        """
        with self._lock:
            if pod in self._kept and not again:
                return self.path(pod)
            try:
                text = self._api.log(pod)
            except ApiError:
                return None  # a log that cannot be had is no reason for another failure
            self._kept.add(pod)
            if not text:
                return self.path(pod) if self.path(pod).exists() else None
            self._directory.mkdir(parents=True, exist_ok=True)
            path = self.path(pod)
            path.touch(mode=0o600)
            path.write_text(text, "utf-8")
            return path

    def sign(self, pod: str) -> str:
        """What is known by a pattern in a pod's log, in our own words."""
        try:
            return sign_in_log(self.path(pod).read_text("utf-8", "replace")[-100_000:])
        except OSError:
            return ""
