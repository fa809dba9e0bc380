"""A guarded process that has outlived the one that started it, found again by its guard's state file."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dyff_dagster.processes.guarded import UNKILLABLE_AFTER, GuardedProcess, GuardError, end_session_of
from dyff_dagster.processes.process_table import alive, identity


def adopt(state: Path) -> DetachedProcess | None:
    """The process whose guard keeps this state file, whether or not it still runs; None without such a file.

    :raises GuardError: when the file is not a guard's.
    """
    try:
        return DetachedProcess(state)
    except FileNotFoundError:
        return None


class DetachedProcess(GuardedProcess):
    """A process known by its guard's state file; see :func:`adopt`."""

    def __init__(self, state: Path) -> None:
        self.state = state
        content = self._read()
        try:
            self.pid = int(content["pid"])
            self.guard_pid = int(content["guard"])
            self.identity = str(content["identity"])
            self.guard_identity = str(content["guard_identity"])
            self.deadline = datetime.fromtimestamp(content["deadline"], UTC)
            self._grace = float(content["grace"])
        except (KeyError, TypeError, ValueError):
            raise GuardError(f"{state} is not the state file of a guard.") from None

    def poll(self) -> int | None:
        """The command's exit status so far; see :meth:`GuardedProcess.poll`."""
        if not self._guard_lives():
            # Read after looking: the guard writes its last word before it goes.
            recorded = self._read_or_nothing().get("exit")
            return -signal.SIGKILL if recorded is None else int(recorded)
        recorded = self._read_or_nothing().get("exit")
        return None if recorded is None else int(recorded)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the command's end; see :meth:`GuardedProcess.wait`."""
        end = None if timeout is None else time.monotonic() + timeout
        pause = 0.005
        while (status := self.poll()) is None:
            if end is not None and time.monotonic() >= end:
                raise TimeoutError(f"Process {self.pid} still runs after {timeout} s.")
            time.sleep(pause)
            pause = min(2 * pause, 0.1)
        return status

    def ask_to_end(self) -> None:
        """Tell the guard to end everything, and do not wait for it."""
        _signal(self.guard_pid, self.guard_identity, signal.SIGTERM)

    def terminate(self) -> None:
        """End everything and return when it is gone; see :meth:`GuardedProcess.terminate`."""
        self.ask_to_end()
        end = time.monotonic() + self._grace + UNKILLABLE_AFTER
        pause = 0.005
        while self._guard_lives():
            if time.monotonic() > end:
                raise GuardError(f"Process {self.pid} does not end, not even by SIGKILL.")
            time.sleep(pause)
            pause = min(2 * pause, 0.1)
        if not self._read_or_nothing().get("gone"):
            end_session_of(self.pid, self.identity)

    def ended(self) -> tuple[datetime, str] | None:
        """When and why the command ended, as its guard recorded it; None while it runs, or if the guard was killed."""
        content = self._read_or_nothing()
        if content.get("ended") is None:
            return None
        return datetime.fromtimestamp(content["ended"], UTC), str(content.get("reason"))

    def _guard_lives(self) -> bool:
        return alive(self.guard_pid, self.guard_identity)

    def _read(self) -> dict[str, Any]:
        try:
            content = json.loads(self.state.read_text(encoding="utf-8"))
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise GuardError(f"{self.state} is not the state file of a guard.")
        return content

    def _read_or_nothing(self) -> dict[str, Any]:
        try:
            content = self._read()
        except (OSError, GuardError):
            return {}
        # Another session may have taken the directory over since.
        return content if content.get("guard_identity") == self.guard_identity else {}


def _signal(pid: int, expected: str, number: signal.Signals) -> None:
    """Send a signal to the process of that identity and to no other that may have its pid by now."""
    with suppress(ProcessLookupError, PermissionError):
        try:
            descriptor = os.pidfd_open(pid)
        except (AttributeError, OSError):
            if identity(pid) == expected:
                os.kill(pid, number)
            return
        try:
            # The descriptor is taken first, so that what it stands for is what was looked at.
            if identity(pid) == expected:
                signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)
