# ruff: noqa: PTH115, PTH123, PTH208
# No pathlib: see the guard, which imports this.
"""Who lives: the operating system's table of processes, and how much memory a family of them holds.

Standard library only: the guard, a program of its own, imports this without the package that it is in.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from typing import NamedTuple

LINUX = sys.platform.startswith("linux")

SETTLED = 0.2
"""Seconds of a process's life in which its memory may be its parent's: a vfork that is not yet another program."""


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


def memory_below(root: int, enough: int) -> int:
    """Bytes that all descendants of a process hold; an upper bound of that where it is at most ``enough`` (Linux).

    What counts is what the kernel cannot take back: anonymous and shared pages, in memory or swapped out, those
    that several processes share once (proc(5): smaps_rollup). Pages of files do not count.
    """
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    ticks = os.sysconf("SC_CLK_TCK")
    pids = []
    for pid in _family(root):
        entry = process_entry(pid)
        if entry is not None and not 0 <= now - entry.started / ticks < SETTLED:
            pids.append(pid)
    held = {pid: _kilobytes(pid, "status", ("RssAnon:", "RssShmem:", "VmSwap:")) for pid in pids}
    if sum(held.values()) * 1024 > enough:
        fields = ("Pss_Anon:", "Pss_Shmem:", "SwapPss:")
        held = {pid: _kilobytes(pid, "smaps_rollup", fields) or held[pid] for pid in pids}
    return sum(held.values()) * 1024


def _family(root: int) -> list[int]:
    found: list[int] = []
    waiting = [root]
    try:
        while waiting:
            pid = waiting.pop()
            with contextlib.suppress(ProcessLookupError):
                for thread in os.listdir(f"/proc/{pid}/task"):
                    with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:
                        waiting += map(int, file.read().split())
            found.append(pid)
    except OSError:  # gone meanwhile, or a kernel that lists no children
        return descendants(root)
    return found[1:]


def _kilobytes(pid: int, table: str, fields: tuple[str, ...]) -> int:
    try:
        with open(f"/proc/{pid}/{table}", encoding="utf-8", errors="replace") as file:
            return sum(int(line.split()[1]) for line in file if line.startswith(fields))
    except (OSError, ValueError, IndexError):
        return 0


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


def process_group(pid: int) -> int | None:
    """The process group of a process, None where it is gone."""
    try:
        return os.getpgid(pid)
    except OSError:
        return None
