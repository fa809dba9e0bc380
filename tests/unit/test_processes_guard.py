from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dyff_dagster.processes import (
    AttachedProcess,
    GuardError,
    adopt,
    alive,
    clean_environment,
    identity,
    start_guarded,
)

forgotten = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
"""For tests that drop a process without ending it, on purpose."""


class Sandbox:
    """Starts scripts under guard that write their pids into files, and knows which of them still live."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.started: list[Any] = []

    def start(self, code: str, **options: Any) -> AttachedProcess:
        process = start_guarded(
            [sys.executable, "-c", f"{PREAMBLE}\n{textwrap.dedent(code)}"],
            cwd=self.path,
            env=options.pop("env", clean_environment()),
            stdout=self.path / "stdout",
            stderr=self.path / "stderr",
            **options,
        )
        self.started.append(process)
        return process

    def pid(self, name: str) -> int:
        """The pid that a script noted under a name, once it has."""
        return int(until(lambda: (file := self.path / name).exists() and file.read_text()))


PREAMBLE = """
import os, signal, subprocess, sys, time
def note(name, pid=None):
    with open(name + ".tmp", "w") as file:
        file.write(str(pid or os.getpid()))
    os.rename(name + ".tmp", name)
def rest():
    while True:
        time.sleep(60)
"""


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    sandbox = Sandbox(tmp_path)
    yield sandbox
    for process in sandbox.started:
        process.terminate()


def until(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)
    return value


def is_gone(pid: int) -> bool:
    found = identity(pid)
    return found is None or not alive(pid, found)


def soon() -> datetime:
    return datetime.now(UTC) + timedelta(minutes=5)


def test_the_exit_code_is_reported(sandbox: Sandbox) -> None:
    assert sandbox.start("sys.exit(3)").wait(20) == 3


def test_a_signal_is_reported_as_a_negative_status(sandbox: Sandbox) -> None:
    assert sandbox.start("os.kill(os.getpid(), signal.SIGSEGV)").wait(20) == -signal.SIGSEGV


def test_a_running_command_has_no_status_and_waiting_times_out(sandbox: Sandbox) -> None:
    process = sandbox.start("rest()")

    assert process.poll() is None
    with pytest.raises(TimeoutError):
        process.wait(0.01)


def test_output_goes_to_files_only_the_owner_may_read(sandbox: Sandbox) -> None:
    sandbox.start("print('out'); print('err', file=sys.stderr)").wait(20)

    assert (sandbox.path / "stdout").read_text() == "out\n"
    assert (sandbox.path / "stderr").read_text() == "err\n"
    assert (sandbox.path / "stdout").stat().st_mode & 0o077 == 0


def test_the_environment_is_exactly_what_was_given(sandbox: Sandbox) -> None:
    sandbox.start("print(sorted(set(os.environ) - {'LC_CTYPE'}))", env={"ONE": "1"}).wait(20)

    assert (sandbox.path / "stdout").read_text() == "['ONE']\n"


def test_a_signal_that_the_owner_ignores_is_not_ignored_by_the_command(sandbox: Sandbox) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = sandbox.start("print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)")
        process.wait(20)
    finally:
        signal.signal(signal.SIGINT, before)

    assert (sandbox.path / "stdout").read_text() == "False\n"


def test_a_missing_program_is_reported_as_such(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        start_guarded(
            ["no-such-program"],
            cwd=tmp_path,
            env=clean_environment(),
            stdout=tmp_path / "out",
            stderr=tmp_path / "err",
        )


def test_terminate_lets_the_command_clean_up(sandbox: Sandbox) -> None:
    process = sandbox.start(
        """
        def bye(*_):
            note("cleaned")
            sys.exit(0)
        signal.signal(signal.SIGTERM, bye)
        note("ready")
        rest()
        """
    )
    sandbox.pid("ready")

    process.terminate()

    assert (sandbox.path / "cleaned").exists()
    assert process.poll() == 0


def test_a_command_that_ignores_term_is_killed(sandbox: Sandbox) -> None:
    process = sandbox.start("signal.signal(signal.SIGTERM, signal.SIG_IGN); note('ready'); rest()", grace=0.2)
    sandbox.pid("ready")

    process.terminate()

    assert process.poll() == -signal.SIGKILL
    assert is_gone(process.pid)
    assert is_gone(process.guard_pid)


def test_a_stopped_command_is_ended(sandbox: Sandbox) -> None:
    process = sandbox.start("note('ready'); os.kill(os.getpid(), signal.SIGSTOP)", grace=0.2)
    sandbox.pid("ready")

    process.terminate()

    assert is_gone(process.pid)


def test_terminating_twice_is_harmless(sandbox: Sandbox) -> None:
    process = sandbox.start("rest()")

    process.terminate()
    process.terminate()

    assert process.poll() == -signal.SIGTERM


DAEMON = """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        note("daemon")
        rest()
    os._exit(0)
os.wait()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a child subreaper")
def test_a_daemonised_grandchild_is_gone_when_terminate_returns(sandbox: Sandbox) -> None:
    process = sandbox.start(f"{DAEMON}\nrest()", grace=0.2)
    daemon = sandbox.pid("daemon")

    process.terminate()

    assert is_gone(daemon)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a child subreaper")
def test_what_a_command_leaves_behind_is_ended_with_it(sandbox: Sandbox) -> None:
    process = sandbox.start(f"{DAEMON}\nwhile not os.path.exists('daemon'): time.sleep(0.01)", grace=0.2)

    assert process.wait(20) == 0
    process.terminate()

    assert is_gone(sandbox.pid("daemon"))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs PR_SET_PDEATHSIG")
def test_a_killed_guard_takes_the_command_and_its_session_along(sandbox: Sandbox) -> None:
    process = sandbox.start(
        """
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        note("child", child.pid)
        rest()
        """
    )
    child = sandbox.pid("child")

    os.kill(process.guard_pid, signal.SIGKILL)

    until(lambda: is_gone(process.pid))  # by the kernel: nobody has looked yet
    assert process.wait(20) == -signal.SIGKILL
    assert is_gone(child)


def test_a_guard_that_is_told_to_end_ends_the_command(sandbox: Sandbox) -> None:
    process = sandbox.start("rest()")

    os.kill(process.guard_pid, signal.SIGTERM)

    assert process.wait(20) == -signal.SIGTERM


def test_a_command_is_ended_at_its_deadline(sandbox: Sandbox) -> None:
    process = sandbox.start("rest()", deadline=datetime.now(UTC) + timedelta(seconds=0.3))

    assert process.wait(20) == -signal.SIGTERM


def test_a_deadline_without_a_time_zone_is_refused(sandbox: Sandbox) -> None:
    with pytest.raises(ValueError, match="time zone"):
        sandbox.start("rest()", deadline=datetime(2030, 1, 1))


def test_leaving_the_block_by_an_exception_ends_the_command(sandbox: Sandbox) -> None:
    with pytest.raises(KeyError), sandbox.start("rest()") as process:
        raise KeyError

    assert is_gone(process.pid)


@forgotten
def test_a_process_whose_object_is_garbage_is_ended(sandbox: Sandbox) -> None:
    process = sandbox.start("rest()")
    pid, guard = process.pid, process.guard_pid
    sandbox.started.clear()

    del process

    until(lambda: is_gone(pid) and is_gone(guard))


OWNER = """
import os, sys, time
from pathlib import Path
from dyff_dagster.processes import clean_environment, start_guarded
here = Path(sys.argv[1])
process = start_guarded(
    [sys.executable, "-c", "import time; time.sleep(600)"],
    cwd=here, env=clean_environment(), stdout=here / "out", stderr=here / "err",
)
if "leak" in sys.argv:
    if os.fork() == 0:  # holds copies of the pipes, and knows nothing of them
        time.sleep(600)
print(process.pid, process.guard_pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("leak", [False, True])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_command_dies_with_its_owner(tmp_path: Path, number: signal.Signals, leak: bool) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path), *(["leak"] if leak else [])],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert owner.stdout is not None
    pid, guard = map(int, owner.stdout.readline().split())

    owner.send_signal(number)
    owner.wait(20)

    try:
        until(lambda: is_gone(pid) and is_gone(guard))
    finally:
        owner.stdout.close()
        if leak:
            os.killpg(owner.pid, signal.SIGKILL)


@forgotten
def test_another_child_of_the_owner_does_not_hold_its_pipes(sandbox: Sandbox) -> None:
    first = sandbox.start("rest()")
    second = sandbox.start("rest()")
    pid = first.pid
    sandbox.started.remove(first)

    del first

    until(lambda: is_gone(pid))
    assert second.poll() is None


OWNER_OF_A_DETACHED_ONE = """
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from dyff_dagster.processes import clean_environment, start_guarded
here = Path(sys.argv[1])
process = start_guarded(
    [sys.executable, "-c", "import time; time.sleep(600)"],
    cwd=here, env=clean_environment(), stdout=here / "out", stderr=here / "err",
    detached=True, state=here / "guard.json", deadline=datetime.now(timezone.utc) + timedelta(minutes=5),
)
print(process.pid, process.guard_pid)
"""


def test_a_detached_process_outlives_its_owner_and_is_found_again(tmp_path: Path) -> None:
    owner = [sys.executable, "-c", OWNER_OF_A_DETACHED_ONE, str(tmp_path)]
    started = subprocess.run(owner, capture_output=True, text=True, check=True)
    pid, guard = map(int, started.stdout.split())

    found = adopt(tmp_path / "guard.json")

    assert found is not None
    assert (found.pid, found.guard_pid) == (pid, guard)
    assert found.poll() is None
    found.terminate()
    assert is_gone(pid)
    assert is_gone(guard)
    assert found.poll() == -signal.SIGTERM


def test_a_detached_process_needs_a_deadline(sandbox: Sandbox) -> None:
    with pytest.raises(ValueError, match="deadline"):
        sandbox.start("rest()", detached=True, state=sandbox.path / "guard.json")


def test_a_detached_process_ends_at_its_deadline_and_says_so(sandbox: Sandbox) -> None:
    state = sandbox.path / "guard.json"
    deadline = datetime.now(UTC) + timedelta(seconds=0.5)
    process = sandbox.start("rest()", detached=True, state=state, deadline=deadline)

    assert process.wait(20) == -signal.SIGTERM
    until(lambda: is_gone(process.guard_pid))

    found = adopt(state)
    assert found is not None
    ended = found.ended()
    assert ended is not None
    assert ended[0] >= deadline
    assert "deadline" in ended[1]


@forgotten
def test_a_process_with_a_state_file_dies_with_its_owner_until_it_is_released(sandbox: Sandbox) -> None:
    process = sandbox.start("rest()", state=sandbox.path / "guard.json", deadline=soon())
    pid = process.pid
    sandbox.started.clear()

    del process

    until(lambda: is_gone(pid))


def test_a_released_process_no_longer_hangs_on_its_object(sandbox: Sandbox) -> None:
    process = sandbox.start("rest()", state=sandbox.path / "guard.json", deadline=soon())

    released = process.release()
    sandbox.started[:] = [released]
    process.terminate()
    del process

    assert released.poll() is None
    released.terminate()
    assert is_gone(released.pid)


def test_a_process_that_has_ended_cannot_be_released(sandbox: Sandbox) -> None:
    process = sandbox.start("sys.exit(3)", state=sandbox.path / "guard.json", deadline=soon())
    process.wait(20)
    until(lambda: is_gone(process.guard_pid))

    with pytest.raises(GuardError, match="status 3"):
        process.release()


def test_a_stranger_with_the_pid_of_a_guard_is_left_alone(sandbox: Sandbox) -> None:
    process = sandbox.start("rest()", detached=True, state=sandbox.path / "guard.json", deadline=soon())
    process.terminate()
    stranger = sandbox.start("rest()", state=sandbox.path / "stranger.json", deadline=soon())
    state = json.loads((sandbox.path / "guard.json").read_text())
    (sandbox.path / "guard.json").write_text(
        json.dumps({**state, "guard": stranger.guard_pid, "pid": stranger.pid, "gone": False})
    )

    found = adopt(sandbox.path / "guard.json")

    assert found is not None
    found.terminate()
    assert found.poll() is not None
    sandbox.started.append(stranger.release())  # which a guard that was told to end refuses


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs PR_SET_PDEATHSIG")
def test_what_a_killed_detached_guard_left_is_ended_by_terminate(sandbox: Sandbox) -> None:
    process = sandbox.start(
        """
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        note("child", child.pid)
        rest()
        """,
        detached=True,
        state=sandbox.path / "guard.json",
        deadline=soon(),
    )
    child = sandbox.pid("child")

    os.kill(process.guard_pid, signal.SIGKILL)
    assert process.wait(20) == -signal.SIGKILL
    process.terminate()

    assert is_gone(process.pid)
    assert is_gone(child)


def test_there_is_nothing_to_adopt_without_a_state_file(tmp_path: Path) -> None:
    assert adopt(tmp_path / "guard.json") is None


def test_a_file_of_something_else_is_not_adopted(tmp_path: Path) -> None:
    (tmp_path / "guard.json").write_text("{}")

    with pytest.raises(GuardError, match="not the state file"):
        adopt(tmp_path / "guard.json")
