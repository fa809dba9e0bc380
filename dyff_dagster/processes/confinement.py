# ruff: noqa: PTH100
# No pathlib: see the guard.
"""Where a command may write: what it is given, and nothing else, on a Linux kernel that has Landlock.

Landlock (landlock(7)) lets a process without privileges give up rights, for itself and for all that it will ever
start, whoever it runs as, root included. What is given up here is to write, create, remove, rename and truncate
files outside of some directories. A process that gave up rights can neither trace nor look into one that did not
(``/proc/PID/environ``, ``/proc/PID/mem``); root gives up the capabilities that would let it do so all the same.
Reading, executing, the network, and times and modes of files are as before.

Run as ``python -I -S confinement.py WRITABLE COMMAND...``, where WRITABLE is a JSON list of directories: it gives up
the rights and becomes the command.
"""

from __future__ import annotations

import ctypes
import json
import os
import struct
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress

# The numbers of the calls are the same on all architectures; constants from linux/landlock.h and linux/prctl.h.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_WANT_VERSION = 1
_PATH_BENEATH = 1
_NO_NEW_PRIVILEGES, _DROP_CAPABILITY = 38, 24
_LOOKING_INTO_OTHERS = (19, 21, 38)
"""CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_PERFMON: linux/capability.h."""

_WRITE_FILE, _REMOVE_DIR, _REMOVE_FILE = 1 << 1, 1 << 4, 1 << 5
_MAKE_ANY = sum(1 << bit for bit in range(6, 13))
"""Device, directory, file, socket, pipe, block device, symbolic link."""
_REFER, _TRUNCATE = 1 << 13, 1 << 14

_LEAST = 2
"""The version that knows renaming between directories (Linux 5.19): the first one refuses it everywhere."""
_KNOWS_TRUNCATE = 3

# What is no file of anybody: devices, other processes' entries (their own permissions stand), shared memory.
_ONLY_WRITABLE = ("/dev", "/proc")
_SHARED_MEMORY = "/dev/shm"  # noqa: S108


def can_confine() -> bool:
    """Whether this machine's kernel can keep a command from writing elsewhere."""
    return sys.platform.startswith("linux") and _version() >= _LEAST


def confined(command: Sequence[str], writable: Iterable[os.PathLike[str]]) -> list[str]:
    """A command line that runs ``command`` where it may write below ``writable`` and to devices alone.

    :param command: program and arguments; a program without a slash is looked up in PATH.
    :param writable: directories, symbolic links resolved; one that is not there is passed over.
    """
    paths = json.dumps([os.fspath(path) for path in writable])
    return [sys.executable, "-I", "-S", "-B", os.path.abspath(__file__), paths, *command]


def _version() -> int:
    return _call(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_WANT_VERSION))


def _call(number: int, *arguments: object) -> int:
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    return int(library.syscall(ctypes.c_long(number), *arguments))


def _confine(writable: Iterable[str]) -> None:
    rights = _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_ANY | _REFER
    if _version() >= _KNOWS_TRUNCATE:
        rights |= _TRUNCATE
    attributes = struct.pack("=Q", rights)
    ruleset = _checked(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0))
    for path in (*writable, _SHARED_MEMORY):
        _allow(ruleset, path, rights)
    for path in _ONLY_WRITABLE:
        _allow(ruleset, path, rights & (_WRITE_FILE | _TRUNCATE))
    library = ctypes.CDLL(None, use_errno=True)
    for capability in _LOOKING_INTO_OTHERS:
        library.prctl(
            _DROP_CAPABILITY, capability, 0, 0, 0
        )  # only root has them, and only root can drop them
    if library.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_NO_NEW_PRIVS)")
    _checked(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # struct landlock_path_beneath_attr is packed.
            beneath = struct.pack("=Qi", rights, descriptor)
            _checked(
                _ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_PATH_BENEATH), beneath, ctypes.c_uint32(0)
            )
        finally:
            os.close(descriptor)


def _checked(number: int, *arguments: object) -> int:
    made = _call(number, *arguments)
    if made < 0:
        raise OSError(ctypes.get_errno(), f"system call {number} of Landlock")
    return made


def main(arguments: list[str]) -> None:
    """Give up the rights, and become the command."""
    _confine(json.loads(arguments[0]))
    os.execvp(arguments[1], arguments[1:])  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
