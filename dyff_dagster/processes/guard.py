# ruff: noqa: PTH100, PTH105, PTH120, PTH123
# No pathlib: importing it would be a good part of what the start of a guard costs.
"""The guard: a program that starts one command and sees to it that nothing of it is left behind.

It is run as ``python -I -S guard.py CONTROL REPORT``, two pipe descriptors, imports the standard library and
the module beside it alone, and reads what to do as one line of JSON from CONTROL (never from its command line, which
every user of the machine can read). It then ends the command, with all of its descendants, when

* CONTROL reaches its end or the owner's process is gone: the owner died, in whatever way;
* ``T`` arrives on CONTROL, or SIGTERM, SIGINT or SIGHUP arrives at the guard;
* the deadline passes;
* all of them together hold more memory than they may (Linux); or
* the command itself has ended and left descendants behind.

``R`` on CONTROL releases it from its owner; from then on only the deadline and SIGTERM count. REPORT carries
one JSON object a line: ``{"pid", "identity", "guard", "guard_identity"}`` or ``{"errno", "strerror",
"filename"}`` at the start, ``{"released": true}``, ``{"memory": bytes}`` where there is too much of it,
``{"exit": status}``, and ``{"gone": true}`` at the end.

On Linux the guard is a child subreaper (prctl(2)), so that no descendant escapes by a double fork or setsid,
and the command is bound to the guard's life by PR_SET_PDEATHSIG, so that it dies even if the guard is killed.
Elsewhere the command's process group is what is ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or __name__ != "__main__":
    from dyff_dagster.processes.process_table import LINUX, descendants, identity, memory_below, process_group
else:
    # The last place, where it hides nothing; -I leaves it out.
    sys.path.append(os.path.dirname(os.path.abspath(__file__)))
    from process_table import LINUX, descendants, identity, memory_below, process_group

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

LOOK = 0.05
"""Seconds between two looks at memory; more where a look takes long, so that looking takes a twentieth at most."""
BACKSTOP = 8 << 30
"""Bytes that one process may reserve beyond the limit, at least: allocators reserve more than they use."""


def write_atomically(path: str, content: dict[str, Any]) -> None:
    """Replace a JSON file as a whole, so that a reader sees the old one or the new one."""
    temporary = f"{path}.{os.getpid()}.tmp"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(content, file)
    os.replace(temporary, path)


def _prctl() -> Callable[[int, int], int]:
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)

    def call(option: int, value: int) -> int:
        return int(library.prctl(option, value, 0, 0, 0))

    return call


class Guard:
    """One command under guard, from its start until nothing of it is left."""

    def __init__(self, config: dict[str, Any], control: int, report: int) -> None:
        self.config = config
        self.control: int | None = control
        self.report = report
        self.reason: str | None = None
        self.exit: int | None = None
        self.pid = 0
        self.subreaper = False
        self.next_look = 0.0
        self.above = False
        self.state: dict[str, Any] = {}
        self.prctl = _prctl() if LINUX else None
        self.wake, wake_writer = os.pipe()
        os.set_blocking(self.wake, False)
        os.set_blocking(wake_writer, False)
        signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
        # Having handlers of our own also means that the command gets the default ones, whatever the owner
        # ignored: a signal that is ignored stays ignored over exec, a handled one does not.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, self._told)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])

    def _told(self, number: int, _frame: object) -> None:
        self.reason = self.reason or "told to end"

    def run(self, received: bytes) -> None:
        """Start the command and stay until it and all of its descendants are gone."""
        if self.prctl is not None:
            self.subreaper = self.prctl(PR_SET_CHILD_SUBREAPER, 1) == 0
        try:
            self.start()
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            self.say(
                errno=getattr(error, "errno", None) or 0,
                strerror=getattr(error, "strerror", None) or str(error),
                filename=getattr(error, "filename", None) or self.config["command"][0],
            )
            return
        try:
            if received:
                self.obey(received)
            self.watch()
        finally:
            self.reason = self.reason or "its guard failed"
            self.sweep()
            self.save(gone=True)
            self.say(gone=True)

    def start(self) -> None:
        """Start the command in a session of its own, its output going to files only its owner may read."""
        out, err = (
            os.open(self.config[name], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            for name in ("stdout", "stderr")
        )
        guard = os.getpid()

        def die_with_the_guard() -> None:
            if self.prctl is not None:
                self.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
                if os.getppid() != guard:  # it was killed before the line above could take effect
                    os._exit(127)
                if (limit := self.config["memory"]) is not None:
                    # One huge request fails where it is made, however seldom the guard gets to look.
                    most, hard = limit + max(limit, BACKSTOP), resource.getrlimit(resource.RLIMIT_DATA)[1]
                    if hard == resource.RLIM_INFINITY or most < hard:
                        resource.setrlimit(resource.RLIMIT_DATA, (most, most))

        # The guard has one thread, so that nothing can hold a lock that the code before exec would need.
        self.command = subprocess.Popen(
            self.config["command"],
            cwd=self.config["cwd"],
            env=self.config["env"],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
            close_fds=True,
            preexec_fn=die_with_the_guard,
        )
        os.close(out)
        os.close(err)
        self.pid = self.command.pid
        who = {
            "pid": self.pid,
            "identity": identity(self.pid),
            "guard": guard,
            "guard_identity": identity(guard),
        }
        self.save(
            **who,
            deadline=self.config["deadline"],
            grace=self.config["grace"],
            exit=None,
            ended=None,
            reason=None,
            gone=False,
        )
        self.say(**who)

    def watch(self) -> None:
        """Wait for a reason to end."""
        poll = select.poll()
        poll.register(self.wake, select.POLLIN)
        owner = self._owner_descriptor()
        if self.control is not None:
            poll.register(self.control, select.POLLIN)
            if owner is not None:
                poll.register(owner, select.POLLIN)
        while self.reason is None:
            # Never long: the deadline is by the clock on the wall, which a sleeping machine does not stop.
            ready = {descriptor for descriptor, _ in poll.poll(self._pause() * 1000)}
            self._drain()
            control = self.control
            if control is not None and control in ready:
                if orders := os.read(control, 4096):
                    self.obey(orders)
                else:
                    self.reason = self.reason or "its owner is gone"
                if self.control is None:
                    poll.unregister(control)
                    if owner is not None:
                        poll.unregister(owner)
            elif control is not None and (owner in ready or (owner is None and not self._owner_lives())):
                self.reason = self.reason or "its owner is gone"
            self.reap()
            self.look_at_memory()
            if self._patience() <= 0:
                self.reason = self.reason or "its deadline passed"

    def look_at_memory(self) -> None:
        """End everything at once where it holds more than it may, seen twice in a row."""
        limit, began = self.config["memory"], time.monotonic()
        if limit is None or not LINUX or self.reason is not None or began < self.next_look:
            return
        held = memory_below(os.getpid(), limit)
        self.next_look = began + max(LOOK, 20 * (time.monotonic() - began))
        if held > limit and self.above:
            self.reason = "its memory passed the limit"
            self.config["grace"] = 0.0  # in which it would take still more
            self.say(memory=held)
        self.above = held > limit

    def obey(self, orders: bytes) -> None:
        """Follow what came by the control pipe since it was last read."""
        if b"T" in orders:
            self.reason = self.reason or "told to end"
        elif b"R" in orders and self.control is not None and self.reason is None:
            os.close(self.control)
            self.control = None
            self.say(released=True)

    def _patience(self) -> float:
        deadline = self.config["deadline"]
        return 1.0 if deadline is None else max(0.0, min(1.0, deadline - time.time()))

    def _pause(self) -> float:
        if self.config["memory"] is None or not LINUX:
            return self._patience()
        return max(0.0, min(self._patience(), self.next_look - time.monotonic()))

    def _owner_descriptor(self) -> int | None:
        # The pipe alone does not do: a process that the owner forked without exec holds it open too.
        try:
            return os.pidfd_open(self.config["owner"])
        except (AttributeError, OSError):
            return None

    def _owner_lives(self) -> bool:
        try:
            os.kill(self.config["owner"], 0)
        except PermissionError:
            return True
        except OSError:
            return False
        return True

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self.wake, 4096)

    def reap(self) -> bool:
        """Collect the dead; whether any of the living (or of those still to be collected) is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return self._group_lives()
            if pid == 0:
                return True
            if pid == self.pid:
                self.exit = os.waitstatus_to_exitcode(status)
                self.command.returncode = self.exit
                self.reason = self.reason or "it ended by itself"
                self.save(exit=self.exit, ended=time.time(), reason=self.reason)
                self.say(exit=self.exit)

    def _group_lives(self) -> bool:
        if self.subreaper:
            return False  # a subreaper without children has no descendants
        try:
            os.killpg(self.pid, 0)
        except OSError:
            return False
        return True

    def sweep(self) -> None:
        """End everything: SIGTERM, the grace, SIGKILL until nothing is left."""
        end = time.monotonic() + self.config["grace"]
        if self.reap():
            self._signal_all(signal.SIGTERM)
            self._signal_all(signal.SIGCONT)  # a stopped process sees its SIGTERM only when it goes on
        while self.reap() and (rest := end - time.monotonic()) > 0:
            self._rest(min(rest, 0.5))
        pause = 0.01
        while self.reap():
            self._signal_all(signal.SIGKILL)
            self._rest(pause)
            pause = min(2 * pause, 0.25)

    def _rest(self, seconds: float) -> None:
        select.select([self.wake], [], [], seconds)
        self._drain()

    def _signal_all(self, number: int) -> None:
        # Until it is collected, which is ours to do, nobody else can have the command's pid or group.
        if self.exit is None or not self.subreaper:
            with contextlib.suppress(OSError):
                os.killpg(self.pid, number)
        if LINUX:
            for pid in descendants(os.getpid()):
                if self.exit is None and process_group(pid) == self.pid:
                    continue  # had it with its group
                with contextlib.suppress(OSError):
                    os.kill(pid, number)

    def save(self, **changes: Any) -> None:
        """Write the state file, where one was asked for."""
        self.state.update(changes)
        if self.config["state"] is not None:
            # A directory that someone removed must not keep the guard from its duty.
            with contextlib.suppress(OSError):
                write_atomically(self.config["state"], self.state)

    def say(self, **message: Any) -> None:
        """Tell the owner, if it still listens."""
        with contextlib.suppress(OSError):
            os.write(self.report, json.dumps(message).encode() + b"\n")


def main(arguments: list[str]) -> None:
    """Read the configuration, step away from the owner if asked to, and guard."""
    control, report = int(arguments[0]), int(arguments[1])
    os.set_inheritable(control, False)
    os.set_inheritable(report, False)
    received = b""
    while b"\n" not in received:
        chunk = os.read(control, 65536)
        if not chunk:
            return  # the owner died before it had said what to do
        received += chunk
    line, _, orders = received.partition(b"\n")
    config = json.loads(line)
    if config["state"] is not None:
        # Whoever may outlive its owner must not be the owner's child: nobody would collect it.
        if os.fork():
            os._exit(0)
        os.setsid()
    os.chdir("/")
    Guard(config, control, report).run(orders)


if __name__ == "__main__":
    main(sys.argv[1:])
    os._exit(0)
