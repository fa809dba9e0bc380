# ruff: noqa: PTH105, PTH115, PTH123, PTH208
# No pathlib: importing it would be a good part of what the start of a guard costs.
"""The guard: a program that starts one command and sees to it that nothing of it is left behind.

It is run as ``python -I -S guard.py CONTROL REPORT``, two pipe descriptors, imports nothing outside the
standard library and reads what to do as one line of JSON from CONTROL (never from its command line, which
every user of the machine can read). It then ends the command, with all of its descendants, when

* CONTROL reaches its end or the owner's process is gone: the owner died, in whatever way;
* ``T`` arrives on CONTROL, or SIGTERM, SIGINT or SIGHUP arrives at the guard;
* the deadline passes; or
* the command itself has ended and left descendants behind.

``R`` on CONTROL releases it from its owner; from then on only the deadline and SIGTERM count. REPORT carries
one JSON object a line: ``{"pid", "identity", "guard", "guard_identity"}`` or ``{"errno", "strerror",
"filename"}`` at the start, ``{"released": true}``, ``{"exit": status}``, and ``{"gone": true}`` at the end.

On Linux the guard is a child subreaper (prctl(2)), so that no descendant escapes by a double fork or setsid,
and the command is bound to the guard's life by PR_SET_PDEATHSIG, so that it dies even if the guard is killed.
Elsewhere the command's process group is what is ended.

The functions at the top are shared with the modules on the owner's side.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

LINUX = sys.platform.startswith("linux")
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


class ProcessEntry(NamedTuple):
    """A line of the process table: parent, session, state letter, and start time in clock ticks."""

    parent: int
    session: int
    state: str
    started: int


def process_entry(pid: int) -> ProcessEntry | None:
    """The table's entry of one process (Linux: ``/proc/PID/stat``, proc(5)); None where there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            # The command's name stands in parentheses and may contain anything, parentheses included.
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return ProcessEntry(int(fields[1]), int(fields[3]), fields[0], int(fields[19]))


def process_table() -> dict[int, ProcessEntry]:
    """All processes that can be seen, by pid (Linux)."""
    pids = (int(name) for name in os.listdir("/proc") if name.isdigit())
    return {pid: entry for pid in pids if (entry := process_entry(pid)) is not None}


def descendants(root: int) -> list[int]:
    """The pids of all descendants of a process, zombies left out (Linux)."""
    table = process_table()
    children: dict[int, list[int]] = {}
    for pid, entry in table.items():
        children.setdefault(entry.parent, []).append(pid)
    found: list[int] = []
    waiting = list(children.get(root, []))
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting.extend(children.get(pid, []))
    return [pid for pid in found if table[pid].state not in "ZX"]


def identity(pid: int) -> str | None:
    """A text that no other process ever has, not even one that gets the same pid later, or after a reboot.

    On Linux the boot's id, the pid namespace and the start time; elsewhere the start time as ps(1) gives it.
    None where no such process exists. A zombie still has its identity: see :func:`alive`.
    """
    if LINUX:
        entry = process_entry(pid)
        if entry is None:
            return None
        boot = namespace = ""
        with contextlib.suppress(OSError):  # sandboxed kernels do not show everything
            with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
                boot = file.read().strip()
            namespace = os.readlink("/proc/self/ns/pid")
        return f"{boot}/{namespace}/{entry.started}"
    started = _ps(pid, "lstart=")
    return started or None


def alive(pid: int, expected: str) -> bool:
    """Whether the process of this pid is the one of that identity, and more than a zombie."""
    if identity(pid) != expected:
        return False
    if LINUX:
        entry = process_entry(pid)
        return entry is not None and entry.state not in "ZX"
    return not _ps(pid, "stat=").startswith("Z")


def _ps(pid: int, column: str) -> str:
    listed = subprocess.run(["ps", "-o", column, "-p", str(pid)], capture_output=True, text=True, check=False)
    return listed.stdout.strip()


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
            ready = {descriptor for descriptor, _ in poll.poll(self._patience() * 1000)}
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
            if self._patience() <= 0:
                self.reason = self.reason or "its deadline passed"

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


def process_group(pid: int) -> int | None:
    """The process group of a process, None where it is gone."""
    try:
        return os.getpgid(pid)
    except OSError:
        return None


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
