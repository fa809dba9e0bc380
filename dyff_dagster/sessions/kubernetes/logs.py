"""What the pods of a session wrote, kept before they go."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from dyff_dagster.sessions.kubernetes.api import KubernetesApi
from dyff_dagster.sessions.kubernetes.errors import ApiError
from dyff_dagster.sessions.kubernetes.signals import View, sign_in_log

_TRIES = 3
"""To have the log of a pod that has ended."""
_AT_ONCE = 8


class LogKeeper:
    """Writes the logs of pods to files of their own: of those that fail at once, of the others at the end.

    Args:
        api: The cluster.
        directory: Where they go; it is made if need be.
        container: Whose output it is.

    Attributes:
        latest: The log that was kept last, if any was.
    """

    def __init__(self, api: KubernetesApi, directory: Path, container: str = "service") -> None:
        self._api = api
        self._directory = directory
        self._container = container
        self._kept: set[str] = set()
        self._tries: Counter[str] = Counter()
        self._refused = ""
        self.latest: Path | None = None
        self._lock = threading.Lock()

    def path(self, pod: str) -> Path:
        """Where a pod's log lies, or would."""
        return self._directory / f"{pod}.log"

    def keep(self, views: Sequence[View]) -> None:
        """Keep the logs of those that have ended or are about to, each once."""
        for view in views:
            if view.phase is None and view.name not in self._kept and self._tries[view.name] < _TRIES:
                self._tries[view.name] += 1
                if self.keep_now(view.name) is not None:
                    self._kept.add(view.name)

    def keep_now(self, pod: str, *, again: bool = True) -> Path | None:
        """Keep what a pod wrote so far; None where nothing can be had.

        Args:
            pod: Its name.
            again: Also if it has ended and its log was kept then.
        """
        path = self.path(pod)
        if pod in self._kept and not again:
            return path
        # A log that cannot be had or written is no reason for another failure.
        try:
            text = self._api.log(pod, self._container)
        except ApiError as error:
            self._refused = str(error)
            return None
        with suppress(OSError), self._lock:
            if text:
                self._directory.mkdir(parents=True, exist_ok=True)
                path.touch(mode=0o600)
                path.write_text(text, "utf-8")
                self.latest = path
            return path if path.exists() else None
        return None

    def keep_all(self, views: Sequence[View]) -> None:
        """Keep what each wrote so far, several at once: what waits for it costs money."""
        if views:
            with ThreadPoolExecutor(_AT_ONCE) as threads:
                list(threads.map(lambda view: self.keep_now(view.name, again=False), views))

    def where(self, pod: str) -> str:
        """Where a pod's log lies, as a clause; or that there is none, and why."""
        path = self.path(pod)
        if path.exists():
            return f"its log is {path}"
        return f"its log cannot be had ({self._refused})" if self._refused else "it wrote nothing"

    def sign(self, pod: str) -> str:
        """What is known by a pattern in a pod's log, in our own words."""
        try:
            return sign_in_log(self.path(pod).read_text("utf-8", "replace")[-100_000:])
        except OSError:
            return ""
