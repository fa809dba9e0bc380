from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from dyff_dagster.schema.platform import ForeignInferenceService
from dyff_dagster.sessions import Session, SessionError, open_session
from dyff_dagster.sessions.readiness import Reservation, is_taken
from tests.integration.sessions_support import (
    all_gone,
    is_gone,
    pids,
    post,
    repository_environment,
    service,
    until,
)


def opened(
    described: ForeignInferenceService, directory: Path, **options: Any
) -> AbstractContextManager[Session]:
    options = {"replicas": 1, "model_path": None, "startup_timeout": 60.0, "grace": 0.3, **options}
    return open_session(
        described, session_id="evaluation", cwd=directory, directory=directory / "session", **options
    )


def test_a_service_answers_and_is_gone_afterwards(tmp_path: Path) -> None:
    with opened(service(tmp_path), tmp_path) as session:
        answer = post(session.urls[0], {"text": "hello"})
        session.check()

    assert answer["path"] == "/generate"
    assert answer["cwd"] == str(tmp_path)
    assert is_gone(answer["pid"])


def test_port_host_and_model_are_put_in_place(tmp_path: Path) -> None:
    model = tmp_path / "a model {port}"
    arguments = ["--listen={host}:{port}", "{model}", "{other}", "$HOME"]

    with opened(service(tmp_path, arguments=arguments), tmp_path, model_path=model) as session:
        answer = post(session.urls[0], {})

    port = urlsplit(session.urls[0]).port
    assert answer["arguments"] == [f"--listen=127.0.0.1:{port}", str(model), "{other}", "$HOME"]
    assert answer["environment"]["DYFF_PORT"] == str(port)
    assert answer["environment"]["DYFF_HOST"] == "127.0.0.1"
    assert answer["environment"]["DYFF_MODEL"] == str(model)


def test_no_secret_of_the_parent_reaches_the_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "secret")

    with opened(service(tmp_path), tmp_path) as session:
        environment = post(session.urls[0], {})["environment"]

    assert "SECRET_TOKEN" not in environment
    assert "DYFF_MODEL" not in environment
    assert "PATH" in environment


def test_replicas_are_different_processes_on_different_ports(tmp_path: Path) -> None:
    with opened(service(tmp_path), tmp_path, replicas=2) as session:
        answers = [post(url, {}) for url in session.urls]

    assert len({urlsplit(url).port for url in session.urls}) == 2
    assert len({answer["pid"] for answer in answers}) == 2
    assert all(is_gone(answer["pid"]) for answer in answers)


def test_progress_is_told_as_replicas_get_ready(tmp_path: Path) -> None:
    told: list[tuple[int | None, int | None]] = []

    with opened(
        service(tmp_path), tmp_path, replicas=2, progress=lambda _, done, total: told.append((done, total))
    ):
        pass

    assert told == [(1, 2), (2, 2)]


def test_output_is_kept_under_the_sessions_directory(tmp_path: Path) -> None:
    code = "print('to stdout', flush=True); print('to stderr', file=sys.stderr); serve()"

    with opened(service(tmp_path, code), tmp_path) as session:
        shown = session.log_tail()

    assert (session.directory / "replica-0" / "stdout.log").read_text() == "to stdout\n"
    assert (session.directory / "replica-0" / "stderr.log").read_text() == "to stderr\n"
    assert "to stdout" in shown
    assert "to stderr" in shown


def test_a_service_that_exits_at_once_is_an_error_with_its_exit_code_and_log(tmp_path: Path) -> None:
    code = "print('a prompt', file=sys.stderr); sys.exit(3)"

    with (
        pytest.raises(SessionError, match="exit code 3") as caught,
        opened(service(tmp_path, code), tmp_path),
    ):
        pass

    assert caught.value.exit_code == 3
    assert caught.value.replica == 0
    assert str(tmp_path / "session" / "replica-0" / "stderr.log") in str(caught.value)
    assert "a prompt" not in str(caught.value)
    assert caught.value.log_tail() == "a prompt"


def test_a_program_that_does_not_exist_is_named(tmp_path: Path) -> None:
    described = service(tmp_path)
    assert described.runner is not None
    described.runner.args = ["no-such-program"]

    with pytest.raises(SessionError, match="no-such-program"), opened(described, tmp_path):
        pass


def test_a_service_that_is_never_ready_is_an_error_and_is_gone(tmp_path: Path) -> None:
    code = "time.sleep(600)"

    with (
        pytest.raises(SessionError, match="did not answer GET /health") as caught,
        opened(service(tmp_path, code), tmp_path, startup_timeout=1.0),
    ):
        pass

    assert "stderr.log" in str(caught.value)
    assert all_gone(tmp_path)


def test_a_service_that_answers_500_is_not_ready(tmp_path: Path) -> None:
    code = "Handler.do_GET = lambda self: self.send_error(500)\nserve()"

    with (
        pytest.raises(SessionError, match="did not answer GET /health"),
        opened(service(tmp_path, code), tmp_path, startup_timeout=1.0),
    ):
        pass

    assert all_gone(tmp_path)


def test_one_replica_that_fails_takes_the_others_along(tmp_path: Path) -> None:
    code = """
try:
    os.mkdir("first")
except FileExistsError:
    sys.exit(4)
serve()
"""

    with (
        pytest.raises(SessionError, match="exit code 4"),
        opened(service(tmp_path, code), tmp_path, replicas=2),
    ):
        pass

    assert all_gone(tmp_path)


def test_a_service_that_dies_while_it_is_used_is_found_out(tmp_path: Path) -> None:
    with opened(service(tmp_path), tmp_path) as session:
        os.kill(post(session.urls[0], {})["pid"], signal.SIGKILL)

        error = until(lambda: failure_of(session))

    assert error.exit_code == -signal.SIGKILL
    assert "SIGKILL" in str(error)
    assert "stderr.log" in str(error)


def failure_of(session: Session) -> SessionError | None:
    try:
        session.check()
    except SessionError as error:
        return error
    return None


def test_a_service_that_ignores_term_is_gone_too(tmp_path: Path) -> None:
    with opened(service(tmp_path, "signal.signal(signal.SIGTERM, signal.SIG_IGN); serve()"), tmp_path):
        pass

    assert all_gone(tmp_path)


DAEMON = """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        open(f"pid-{os.getpid()}", "w").close()
        time.sleep(600)
    os._exit(0)
os.wait()
while len([name for name in os.listdir() if name.startswith("pid-")]) < 2:
    time.sleep(0.01)
serve()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a child subreaper")
def test_a_daemonised_grandchild_is_gone_too(tmp_path: Path) -> None:
    with opened(service(tmp_path, DAEMON), tmp_path):
        pass

    assert len(pids(tmp_path)) == 2
    assert all_gone(tmp_path)


def test_an_exception_in_the_block_ends_the_session_and_is_passed_on(tmp_path: Path) -> None:
    with pytest.raises(KeyError), opened(service(tmp_path), tmp_path):
        raise KeyError

    assert all_gone(tmp_path)


OWNER = """
import sys
from pathlib import Path
from tests.integration.sessions_support import service
from dyff_dagster.sessions import open_session
import time
here = Path(sys.argv[1])
with open_session(
    service(here, sys.argv[2]), session_id="evaluation", replicas=2, cwd=here, model_path=None,
    directory=here / "session", grace=0.3,
):
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("code", ["serve()", DAEMON], ids=["plain", "daemonised"])
@pytest.mark.parametrize("ending", ["SIGKILL", "SIGTERM", "Ctrl-C"])
def test_a_session_is_gone_with_its_owner(tmp_path: Path, ending: str, code: str) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path), code],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        env=repository_environment(),
    )
    assert owner.stdout is not None
    with owner.stdout:
        assert owner.stdout.readline() == "ready\n"

    if ending == "Ctrl-C":
        os.killpg(owner.pid, signal.SIGINT)  # as a terminal does it, to all of the foreground group
    else:
        owner.send_signal(signal.Signals[ending])
    owner.wait(30)

    until(lambda: all_gone(tmp_path))


def test_a_service_that_lost_its_port_is_started_again(tmp_path: Path) -> None:
    code = """
import socket
attempts = len([name for name in os.listdir() if name.startswith("pid-")])
if attempts == 1:  # as if someone had been faster
    held = socket.create_server(("127.0.0.1", 0))
    serve(held.getsockname()[1])
serve()
"""

    with opened(service(tmp_path, code), tmp_path) as session:
        post(session.urls[0], {})

    assert len(pids(tmp_path)) == 2


def test_a_service_whose_port_is_always_taken_is_not_started_for_ever(tmp_path: Path) -> None:
    code = "print('OSError: Address already in use', file=sys.stderr); sys.exit(1)"

    with pytest.raises(SessionError, match="exit code 1"), opened(service(tmp_path, code), tmp_path):
        pass

    assert len(pids(tmp_path)) == 3


def test_who_else_answers_on_the_port_is_not_taken_for_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Someone answers from the very moment on at which the service has died.
    monkeypatch.setattr("dyff_dagster.sessions.local.answers", lambda *_: all_gone(tmp_path))

    with (
        pytest.raises(SessionError, match="exit code 5"),
        opened(service(tmp_path, "sys.exit(5)"), tmp_path),
    ):
        pass


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="how a port is kept on Linux")
def test_a_reserved_port_is_not_given_to_others_but_can_be_taken_by_the_service() -> None:
    reservation = Reservation()
    try:
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", reservation.port))
        with socket.create_server(("127.0.0.1", reservation.port)):
            assert is_taken(reservation.port)
    finally:
        reservation.close()

    assert not is_taken(reservation.port)
