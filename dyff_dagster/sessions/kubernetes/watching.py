"""What is on the cluster, as the API server tells it: one watch for each kind of object, in a thread of its own."""

from __future__ import annotations

import threading
import time
from typing import Self

from dyff_dagster.sessions.kubernetes.api import KubernetesApi, Object
from dyff_dagster.sessions.kubernetes.errors import ApiError

_SECONDS_BETWEEN_WATCHES = 1.0
_SECONDS_REFUSED = 60.0
"""In which an API server that has let us look must do so again."""


class Watched:
    """The objects of some kinds that a selector chooses, kept up to date until it is closed.

    Args:
        api: The cluster.
        labels: Label selector.
        kinds: Plurals of the kinds.
    """

    def __init__(self, api: KubernetesApi, labels: str, *kinds: str) -> None:
        self._api = api
        self._labels = labels
        self._objects: dict[str, dict[str, Object]] = {kind: {} for kind in kinds}
        self._synced: set[str] = set()
        self._changed = threading.Condition()
        self._changes = 0
        self._error: ApiError | None = None
        self._closed = False
        for kind in kinds:
            threading.Thread(target=self._follow, args=(kind,), name=f"watch-{kind}", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Look no longer. The threads end with their connections."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def synced(self) -> None:
        """Wait until what was there at the beginning is known.

        Raises:
            ApiError: The API server refuses, or stays away.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._error or len(self._synced) == len(self._objects))
            if self._error is not None:
                raise self._error

    def objects(self, kind: str) -> list[Object]:
        """Those that there are, oldest first.

        Raises:
            ApiError: The API server has refused. While it is away, what was there last stands.
        """
        with self._changed:
            if self._error is not None:
                raise self._error
            found = list(self._objects[kind].values())
        return sorted(
            found, key=lambda item: (item["metadata"]["creationTimestamp"], item["metadata"]["name"])
        )

    def wait(self, seconds: float) -> None:
        """Return at the next change, or after some seconds."""
        with self._changed:
            before = self._changes
            self._changed.wait_for(lambda: self._changes != before or self._error or self._closed, seconds)

    def _follow(self, kind: str) -> None:
        refused_since: float | None = None
        while not self._closed:
            try:
                self._once(kind)
                refused_since = None
            except ApiError as error:
                # What is away comes back, and those who use what is watched have deadlines of their own. One that
                # has just come back may not know yet what we may do.
                refused = not error.passing
                refused_since = (refused_since or time.monotonic()) if refused else None
                if kind not in self._synced or (
                    refused_since is not None and time.monotonic() - refused_since >= _SECONDS_REFUSED
                ):
                    with self._changed:
                        self._error = error
                        self._changed.notify_all()
                    return
            # The server ended it, or the connection broke: not to be begun again in a loop that never rests.
            time.sleep(_SECONDS_BETWEEN_WATCHES)

    def _once(self, kind: str) -> None:
        fresh: dict[str, Object] = {}
        listed = False
        for what, item in self._api.watch(kind, self._labels):
            if self._closed:
                return
            with self._changed:
                if what == "SYNCED":
                    listed = True
                    self._objects[kind] = fresh
                    self._synced.add(kind)
                elif what == "DELETED":
                    fresh.pop(item["metadata"]["uid"], None)
                else:
                    fresh[item["metadata"]["uid"]] = item
                if listed:
                    self._changes += 1
                    self._changed.notify_all()
