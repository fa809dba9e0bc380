from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dyff_dagster.schema.platform import ForeignInferenceService, InferenceSession
from dyff_dagster.sessions import (
    SessionError,
    SessionState,
    attach_session,
    end_session,
    read_session,
    start_session,
)
from tests.integration.sessions_support import (
    all_gone,
    described,
    is_gone,
    pids,
    post,
    repository_environment,
    service,
    until,
)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory of manifests, the session of which is ended after the test."""
    yield tmp_path
    end_session(tmp_path / "session")


def started(
    place: Path, described: ForeignInferenceService, *, starting: dict[str, Any] | None = None, **fields: Any
) -> SessionState:
    return start_session(
        entity(described, **fields),
        cwd=place,
        model_path=None,
        directory=place / "session",
        **{"startup_timeout": 60.0, "grace": 0.3, **(starting or {})},
    )


def entity(described: ForeignInferenceService, **fields: Any) -> InferenceSession:
    return InferenceSession.model_validate(
        {"id": "chat", "account": "test", "inferenceService": described, **fields}
    )


def in_a_moment(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def test_a_started_session_can_be_attached_to_and_runs_on_afterwards(place: Path) -> None:
    echo = service(place)
    state = started(place, echo, replicas=2)

    session = attach_session(place / "session", echo)
    answers = [post(url, {}) for url in session.urls]
    session.check()

    assert session.urls == state.urls
    assert len({answer["pid"] for answer in answers}) == 2
    assert state.alive()


STARTER = """
import sys
from pathlib import Path
from dyff_dagster.schema.platform import InferenceSession
from dyff_dagster.sessions import start_session
from tests.integration.sessions_support import service
here = Path(sys.argv[1])
entity = InferenceSession(id="chat", account="test", inferenceService=service(here, sys.argv[2]))
start_session(entity, cwd=here, model_path=None, directory=here / "session", grace=0.3)
"""


def starter(place: Path, code: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", STARTER, str(place), code],
        start_new_session=True,
        env=repository_environment(),
        stderr=subprocess.DEVNULL,
    )


def test_a_session_outlives_the_process_that_started_it(place: Path) -> None:
    process = starter(place, "serve()")

    assert process.wait(60) == 0
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    session = attach_session(place / "session", service(place))

    assert not is_gone(post(session.urls[0], {})["pid"])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_session_that_is_not_ready_yet_dies_with_its_starter(place: Path, number: signal.Signals) -> None:
    process = starter(place, "time.sleep(600)")
    until(lambda: pids(place))

    os.killpg(process.pid, number)
    process.wait(30)

    until(lambda: all_gone(place))
    assert read_session(place / "session") is None


def test_a_session_that_fails_to_get_ready_leaves_nothing_running(place: Path) -> None:
    with pytest.raises(SessionError, match="did not answer"):
        started(place, service(place, "time.sleep(600)"), starting={"startup_timeout": 1.0})

    assert all_gone(place)
    with pytest.raises(SessionError, match="materialize the InferenceSession first"):
        attach_session(place / "session", service(place))


def test_starting_it_again_takes_over_the_one_that_runs(place: Path) -> None:
    first = started(place, service(place))
    again = started(place, service(place))

    assert again == first
    assert len(pids(place)) == 1


def test_two_starters_at_a_time_start_one(place: Path) -> None:
    echo = service(place)
    states: list[SessionState] = []
    threads = [threading.Thread(target=lambda: states.append(started(place, echo))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert states[0] == states[1]
    assert len(pids(place)) == 1


@pytest.mark.parametrize("change", ["spec", "replicas", "expires"])
def test_a_session_that_is_another_one_takes_the_place_of_the_one_that_runs(place: Path, change: str) -> None:
    first = started(place, service(place))
    (pid,) = pids(place)

    second = started(
        place,
        service(place, arguments=["--new"] if change == "spec" else []),
        replicas=2 if change == "replicas" else 1,
        expires=in_a_moment(600) if change == "expires" else None,
    )

    assert is_gone(pid)
    assert second.replicas != first.replicas
    assert second.alive()


def test_a_session_that_lost_a_replica_is_started_anew(place: Path) -> None:
    first = started(place, service(place), replicas=2)
    os.kill(first.replicas[0].pid, signal.SIGKILL)
    until(lambda: not first.alive())

    second = started(place, service(place), replicas=2)

    assert second.alive()
    assert all(is_gone(replica.pid) for replica in first.replicas)


def test_a_session_ends_at_its_deadline_and_says_when_and_where_its_log_is(place: Path) -> None:
    expires = in_a_moment(4)
    echo = service(place)
    state = started(place, echo, expires=expires)
    assert state.deadline == expires

    until(lambda: all_gone(place))

    until(lambda: not state.alive())
    with pytest.raises(SessionError, match=rf"ended at {expires:%Y-%m-%d}.*deadline.*stdout\.log"):
        attach_session(place / "session", echo)


def test_without_expires_it_lives_for_the_default_lifetime(place: Path) -> None:
    before = datetime.now(UTC)
    state = started(place, service(place), starting={"default_lifetime": timedelta(hours=1)})

    assert before < state.deadline - timedelta(hours=1) < datetime.now(UTC)


def test_an_expired_session_is_refused(place: Path) -> None:
    with pytest.raises(SessionError, match="expired at 2020-01-01"):
        started(place, service(place), expires=datetime(2020, 1, 1, tzinfo=UTC))

    assert pids(place) == []


def test_an_ended_session_is_gone_and_cannot_be_attached_to(place: Path) -> None:
    echo = service(place)
    started(place, echo)

    assert end_session(place / "session") is True

    assert all_gone(place)
    with pytest.raises(SessionError, match=r"was ended at .*; its log is .*; materialize"):
        attach_session(place / "session", echo)
    assert end_session(place / "session") is False


def test_ending_what_was_never_started_is_harmless(place: Path) -> None:
    assert end_session(place / "session") is False


def test_what_dies_while_attached_is_found_out(place: Path) -> None:
    echo = service(place)
    started(place, echo)
    session = attach_session(place / "session", echo)

    end_session(place / "session")

    with pytest.raises(SessionError, match="told to end") as caught:
        session.check()
    assert caught.value.exit_code == -signal.SIGTERM


def test_a_killed_guard_leaves_no_session(place: Path) -> None:
    echo = service(place)
    state = started(place, echo)

    os.kill(state.replicas[0].guard_pid, signal.SIGKILL)

    until(lambda: all_gone(place))
    until(lambda: not state.alive())
    with pytest.raises(SessionError, match="was killed"):
        attach_session(place / "session", echo)


def test_a_session_of_another_service_is_not_attached_to(place: Path) -> None:
    started(place, service(place))

    with pytest.raises(SessionError, match="its spec, code or model has changed since"):
        attach_session(place / "session", service(place, arguments=["--other"]))


def test_a_session_on_another_machine_is_neither_used_nor_doubled(place: Path) -> None:
    echo = service(place)
    started(place, echo)
    path = place / "session" / "session.json"
    here = json.loads(path.read_text())
    path.write_text(json.dumps({**here, "host": "elsewhere"}))

    for use in (
        lambda: attach_session(place / "session", echo),
        lambda: started(place, echo),
        lambda: end_session(place / "session"),
    ):
        with pytest.raises(SessionError, match="on the machine 'elsewhere'"):
            use()

    path.write_text(json.dumps(here))
    assert len(pids(place)) == 1


def test_a_damaged_state_is_named(place: Path) -> None:
    path = place / "session" / "session.json"
    path.parent.mkdir()
    path.write_text("{}")

    with pytest.raises(SessionError, match=r"session\.json"):
        read_session(place / "session")
    path.unlink()


def test_a_mock_session_outlives_its_starter(place: Path) -> None:
    mock = described(runner={"kind": "mock", "resources": {"storage": "1Gi"}})
    state = started(place, mock)

    session = attach_session(place / "session", mock)

    assert list(post(session.urls[0], {"a": 1})) == ["text"]
    end_session(place / "session")
    assert is_gone(state.replicas[0].pid)


def test_a_hosted_session_has_nothing_to_start(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "s3cret")
    hosted = described(interface={"endpoint": "https://models.example.org/generate"})
    state = started(place, hosted)

    session = attach_session(place / "session", hosted, headers={"X-Key": "${API_KEY}"})

    assert session.urls == ["https://models.example.org/generate"]
    assert session.headers == {"X-Key": "s3cret"}
    assert state.alive()
    assert end_session(place / "session") is True
    with pytest.raises(SessionError, match="was ended"):
        attach_session(place / "session", hosted)


def test_no_secret_is_written_down(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "s3cret")
    started(place, service(place))

    attach_session(place / "session", service(place), headers={"X-Key": "${API_KEY}"})

    written = [path.read_text() for path in (place / "session").rglob("*.json")]
    assert len(written) == 2
    assert not any("s3cret" in text for text in written)
