"""A guard that watches memory: what counts, what does not, and that whoever holds too much is killed at once."""

from __future__ import annotations

import resource
import signal
import sys
import textwrap
from pathlib import Path

import pytest

from dyff_dagster.processes import AttachedProcess, clean_environment, start_guarded
from dyff_dagster.processes.process_table import LINUX

pytestmark = pytest.mark.skipif(not LINUX, reason="memory is watched on Linux")

MIB = 1 << 20
LIMIT = 200 * MIB

PREAMBLE = """
import os, subprocess, sys, time
def hold(mebibytes):
    return bytearray(b"x") * (mebibytes << 20)
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path


def run(place: Path, code: str, memory: int | None = LIMIT) -> AttachedProcess:
    """Run a script to its end under a guard that watches."""
    with start_guarded(
        [sys.executable, "-c", f"{PREAMBLE}\n{textwrap.dedent(code)}"],
        cwd=place,
        env=clean_environment(),
        stdout=place / "out",
        stderr=place / "out",
        memory=memory,
    ) as process:
        process.wait(60)
    return process


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("kept = []\nwhile True: kept.append(hold(1))", id="alone"),
        pytest.param(
            """
            code = "x = bytearray(b'x') * (70 << 20); import time; time.sleep(60)"
            for _ in range(4):
                subprocess.Popen([sys.executable, "-c", code])
            time.sleep(60)
            """,
            id="together",
        ),
        pytest.param(
            """
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    kept = hold(300)
                    time.sleep(60)
                os._exit(0)
            time.sleep(60)
            """,
            id="a daemon",
        ),
        pytest.param(
            """
            import mmap
            shared = mmap.mmap(-1, 300 << 20)
            for page in range(0, len(shared), 4096):
                shared[page] = 1
            time.sleep(60)
            """,
            id="shared pages",
        ),
        pytest.param(
            """
            import signal
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            kept = []
            while True: kept.append(hold(1))
            """,
            id="one that will not go",
        ),
    ],
)
def test_whoever_holds_too_much_is_killed(place: Path, code: str) -> None:
    process = run(place, code)
    assert process.exceeded is not None and process.exceeded > LIMIT
    assert process.poll() in (-signal.SIGTERM, -signal.SIGKILL)


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("kept = hold(100)", id="less"),
        pytest.param(
            """
            kept = hold(120)
            for _ in range(4):
                if os.fork() == 0:
                    time.sleep(1)
                    os._exit(0)
            time.sleep(1.5)
            """,
            id="pages that forks share count once",
        ),
        pytest.param(
            """
            kept = hold(120)
            end = time.monotonic() + 3
            while time.monotonic() < end:
                subprocess.run(["true"], check=True)
            """,
            id="a vfork is no second process",
        ),
        pytest.param(
            """
            import mmap
            with open("file", "wb") as file:
                file.truncate(400 << 20)
            with open("file", "rb") as file:
                seen = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                for page in range(0, len(seen), 4096):
                    seen[page]
            time.sleep(0.5)
            """,
            id="pages of files are the kernel's",
        ),
        pytest.param(
            """
            import mmap
            reserved = mmap.mmap(-1, 4 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            time.sleep(0.5)
            """,
            id="what is reserved is not held",
        ),
    ],
)
def test_whoever_does_not_is_left_alone(place: Path, code: str) -> None:
    process = run(place, code)
    assert process.poll() == 0, (place / "out").read_text()
    assert process.exceeded is None


def test_one_huge_request_fails_where_it_is_made(place: Path) -> None:
    process = run(
        place,
        """
        try:
            bytearray(100 << 30)
        except MemoryError:
            sys.exit(7)
        """,
    )
    assert process.poll() == 7
    assert process.exceeded is None


def test_without_a_limit_nothing_is_watched(place: Path) -> None:
    process = run(
        place, "kept = hold(300); import resource; print(resource.getrlimit(resource.RLIMIT_DATA))", None
    )
    assert process.poll() == 0
    assert process.exceeded is None
    assert (place / "out").read_text().strip() == str(resource.getrlimit(resource.RLIMIT_DATA))
