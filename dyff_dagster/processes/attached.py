"""Starting a guarded process, and the owner's end of its pipes."""

from __future__ import annotations

import io
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, overload

from dyff_dagster.processes import guard as guard_program
from dyff_dagster.processes.detached import DetachedProcess
from dyff_dagster.processes.environment import clean_environment
from dyff_dagster.processes.guarded import UNKILLABLE_AFTER, GuardedProcess, GuardError, end_session_of


@overload
def start_guarded(
    command: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    stdout: Path,
    stderr: Path,
    deadline: datetime | None = None,
    detached: Literal[False] = False,
    grace: float = 5.0,
    state: Path | None = None,
    memory: int | None = None,
) -> AttachedProcess: ...


@overload
def start_guarded(
    command: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    stdout: Path,
    stderr: Path,
    deadline: datetime | None = None,
    detached: Literal[True],
    grace: float = 5.0,
    state: Path | None = None,
    memory: int | None = None,
) -> DetachedProcess: ...


def start_guarded(
    command: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    stdout: Path,
    stderr: Path,
    deadline: datetime | None = None,
    detached: bool = False,
    grace: float = 5.0,
    state: Path | None = None,
    memory: int | None = None,
) -> GuardedProcess:
    """Start a command under a guard that ends it, and all that it starts, when its time has come.

    That is: when this process dies in whatever way (SIGKILL included), when ``terminate`` is called, when the
    returned object is garbage, when the deadline passes, when the guard gets SIGTERM. Signals that a terminal
    sends to this process's group reach neither the guard nor the command: both have sessions of their own.

    :param command: program and arguments; a program without a slash is looked up in the PATH of ``env``.
    :param env: the whole environment of the command; see :func:`clean_environment`.
    :param stdout: a file the output is appended to, made with mode 0600; ``stderr`` may be the same one.
    :param deadline: when to end it at the latest, by the wall clock, with a time zone.
    :param detached: let it outlive this process, until its deadline; needs ``deadline`` and ``state``.
        For one that must not outlive this process until it has proved itself, give ``state`` without
        ``detached`` and call :meth:`AttachedProcess.release` later.
    :param grace: seconds between SIGTERM and SIGKILL.
    :param memory: bytes that the command and all that it starts may hold together; with more they are killed at once,
        and :attr:`AttachedProcess.exceeded` says so. Looked at some 20 times a second; beside that no single process
        may reserve more than twice as much, or 8 GiB more. Linux only: elsewhere it is not kept.
    :param state: a file in which the guard keeps what :func:`adopt` needs to find it again.
    :raises OSError: as exec would: FileNotFoundError for a missing program or directory, PermissionError.
    :raises GuardError: when the guard itself does not start.
    :raises ValueError: for a deadline without a time zone, or a detached process without deadline or state.
    """
    if deadline is not None and deadline.tzinfo is None:
        raise ValueError("The deadline of a guarded process needs a time zone.")
    if (detached or state is not None) and deadline is None:
        raise ValueError("A process that may outlive its owner needs a deadline.")
    if detached and state is None:
        raise ValueError("A detached process needs a state file, by which it is found again.")
    config = {
        "command": [os.fspath(token) for token in command],
        "cwd": str(cwd.absolute()),
        "env": dict(env),
        "stdout": str(stdout.absolute()),
        "stderr": str(stderr.absolute()),
        "deadline": None if deadline is None else deadline.timestamp(),
        "grace": grace,
        "state": None if state is None else str(state.absolute()),
        "memory": memory,
        "owner": os.getpid(),
    }
    process = AttachedProcess(config)
    return process.release() if detached else process


class AttachedProcess(GuardedProcess):
    """A guarded process that dies with this process, or with this object. Made by :func:`start_guarded`.

    ``exceeded`` is how many bytes it held when it was killed for holding more than it may; None where it was not.
    """

    exceeded: int | None = None

    def __init__(self, config: dict[str, Any]) -> None:
        self._config = config
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._buffer = b""
        self._exit: int | None = None
        self._gone = False
        self._released = False
        # As file objects from the first moment on, so that an exception anywhere below, KeyboardInterrupt
        # included, closes them: without its control pipe a guard ends everything.
        control_reader, self._control = _pipe()
        self._report, report_writer = _pipe()
        try:
            with control_reader, report_writer:
                self._guard = _start_guard(control_reader.fileno(), report_writer.fileno())
            self._write(json.dumps(config).encode() + b"\n")
            first = self._next_message()
            if first is None:
                raise GuardError(f"The guard of {config['command'][0]!r} did not start.")
            if "errno" in first:
                raise OSError(first["errno"], first["strerror"], first["filename"])
        except BaseException as error:
            self._control.close()
            self._report.close()
            if isinstance(error, OSError | GuardError) and hasattr(self, "_guard"):
                self._guard.wait()  # it is about to end by itself
            raise
        self.pid = first["pid"]
        self.guard_pid = first["guard"]
        self.identity = first["identity"]

    def poll(self) -> int | None:
        """The command's exit status so far; see :meth:`GuardedProcess.poll`."""
        with self._lock:
            self._listen(0)
            return self._exit

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the command's end; see :meth:`GuardedProcess.wait`."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            with self._lock:
                # In slices, so that another thread that polls or terminates gets its turn.
                self._listen(0.2 if end is None else max(0.0, min(0.2, end - time.monotonic())))
                if self._exit is not None:
                    return self._exit
            if end is not None and time.monotonic() >= end:
                raise TimeoutError(f"Process {self.pid} still runs after {timeout} s.")

    def ask_to_end(self) -> None:
        """Tell the guard to end everything, and do not wait for it."""
        if not self._gone and not self._released and os.getpid() == self._owner:
            self._write(b"T")
            self._control.close()

    def terminate(self) -> None:
        """End everything and return when it is gone; see :meth:`GuardedProcess.terminate`."""
        if os.getpid() != self._owner:
            return
        self.ask_to_end()
        end = time.monotonic() + self._config["grace"] + UNKILLABLE_AFTER
        while not self._gone:
            with self._lock:
                self._listen(0.2)
            if time.monotonic() > end:
                raise GuardError(f"Process {self.pid} does not end, not even by SIGKILL.")

    def release(self) -> DetachedProcess:
        """Let it outlive this process; from now on it lives until its deadline or until it is terminated.

        The returned object takes this one's place; this one must not be used any more.

        :raises GuardError: when it has ended already.
        :raises ValueError: when it was started without a state file.
        """
        if self._config["state"] is None:
            raise ValueError("Only a process with a state file can be released.")
        with self._lock:
            self._write(b"R")
            while not self._released and not self._gone:
                self._listen(None)
            if not self._released:
                raise GuardError(f"Process {self.pid} has ended with status {self._exit}.")
            self._gone = True
        self._guard.wait()
        self._control.close()
        self._report.close()
        return DetachedProcess(Path(self._config["state"]))

    def _write(self, data: bytes) -> None:
        # A guard that is gone has closed its end; what became of it is read from its report.
        with suppress(BrokenPipeError, ValueError):
            view = memoryview(data)
            while view:
                view = view[self._control.write(view) or 0 :]

    def _next_message(self) -> dict[str, Any] | None:
        while b"\n" not in self._buffer:
            chunk = self._report.read(4096)
            if not chunk:
                return None
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def _listen(self, timeout: float | None) -> None:
        """Take in at most one batch of messages; the lock is held. ``timeout`` in seconds, None for ever."""
        if self._gone or self._released:
            return
        if b"\n" not in self._buffer:
            poll = select.poll()
            poll.register(self._report.fileno(), select.POLLIN)
            if not poll.poll(None if timeout is None else timeout * 1000):
                return
        message = self._next_message()
        while message is not None:
            self._exit = message.get("exit", self._exit)
            self.exceeded = message.get("memory", self.exceeded)
            self._released = self._released or "released" in message
            if "gone" in message:
                self._finish()
                return
            if b"\n" not in self._buffer:
                return
            message = self._next_message()
        # The pipe ended without a word: the guard was killed, and the kernel killed the command with it.
        end_session_of(self.pid, self.identity)
        if self._exit is None:
            self._exit = -signal.SIGKILL
        self._finish()

    def _finish(self) -> None:
        self._gone = True
        self._guard.wait()
        self._control.close()
        self._report.close()


def _start_guard(control: int, report: int) -> subprocess.Popen[bytes]:
    # -I and -S: no user's or site's start-up code; the guard must start fast and hold nothing.
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-B", guard_program.__file__, str(control), str(report)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env=clean_environment(),
        pass_fds=(control, report),
        start_new_session=True,
    )


def _pipe() -> tuple[io.FileIO, io.FileIO]:
    reader, writer = os.pipe()
    return io.FileIO(reader, "rb"), io.FileIO(writer, "wb")
