"""What every guarded process offers, however it is reached."""

from __future__ import annotations

import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from dyff_dagster.processes.process_table import LINUX, process_entry, process_table

UNKILLABLE_AFTER = 30.0
"""Seconds past the grace after which what SIGKILL does not end (one stuck in a driver) is given up."""


class GuardError(Exception):
    """The guard could not do its work: it did not start, or something outlived SIGKILL."""


class GuardedProcess(ABC):
    """A command under a guard. Leaving it as a context manager terminates it.

    ``pid`` is the command's process id, also that of its session and group, ``identity`` what tells it from
    a later process of that id (see :func:`alive`); ``guard_pid`` is its guard's id.
    """

    pid: int
    identity: str
    guard_pid: int

    @abstractmethod
    def poll(self) -> int | None:
        """The command's exit status, negative for the signal that ended it; None while it runs.

        A command whose guard was killed counts as ended by SIGKILL, which is what happens to it.
        """

    @abstractmethod
    def wait(self, timeout: float | None = None) -> int:
        """Wait for the command's end; its status as in :meth:`poll`.

        Descendants that the command left behind are being ended by the guard at that moment;
        :meth:`terminate` returns when they are gone.

        :param timeout: seconds, None for ever.
        :raises TimeoutError: when it still runs after that.
        """

    @abstractmethod
    def ask_to_end(self) -> None:
        """Tell the guard to end everything, and do not wait for it."""

    @abstractmethod
    def terminate(self) -> None:
        """End the command and all of its descendants: SIGTERM, after the grace SIGKILL.

        Returns once nothing of it is left; on one that is gone already, at once. In a process forked from the
        one that started the command it does nothing.

        :raises GuardError: when something outlived SIGKILL for longer than ``UNKILLABLE_AFTER``.
        """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.terminate()


def terminate_all(processes: Iterable[GuardedProcess]) -> None:
    """Terminate several at the same time, so that their graces do not add up.

    :raises GuardError: as ``terminate`` does, after all were told to end.
    """
    ending = list(processes)
    for process in ending:
        process.ask_to_end()
    for process in ending:
        process.terminate()


def end_session_of(pid: int, started: str) -> None:
    """Kill what is left of a command's session whose guard was itself killed (Linux).

    The kernel killed the command with its guard, but not the command's descendants. Nothing is done where the
    session's id belongs to another process by now. Descendants that had left the session are out of reach.

    :param started: the command's identity, as :func:`dyff_dagster.processes.process_table.identity` gave it.
    """
    if not LINUX:
        return
    first_tick = int(started.rpartition("/")[2])
    end = time.monotonic() + UNKILLABLE_AFTER
    pause = 0.005
    while True:
        leader = process_entry(pid)
        if leader is not None and leader.started != first_tick:
            return
        left = [
            member
            for member, entry in process_table().items()
            if entry.session == pid and entry.started >= first_tick and entry.state not in "ZX"
        ]
        if not left:
            return
        if time.monotonic() > end:
            raise GuardError(f"Processes {left} of a killed guard's command do not end, not even by SIGKILL.")
        for member in left:
            try:
                os.kill(member, signal.SIGKILL)
            except OSError:
                continue
        time.sleep(pause)
        pause = min(2 * pause, 0.25)
