from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from dyff_dagster.schema.platform import ForeignInferenceService
from dyff_dagster.sessions import Session, SessionError, open_session, parse_headers
from tests.integration.sessions_support import described

URL = "https://models.example.org/v1/chat/completions?version=2"


def opened(
    service: ForeignInferenceService, directory: Path, headers: Mapping[str, str] | None = None
) -> Session:
    with open_session(
        service,
        session_id="evaluation",
        replicas=3,
        cwd=directory,
        model_path=None,
        directory=directory / "session",
        headers=headers,
    ) as session:
        session.check()
        return session


def hosted(endpoint: str = URL) -> ForeignInferenceService:
    return described(interface={"endpoint": endpoint})


def test_a_hosted_service_is_called_at_its_url(tmp_path: Path) -> None:
    session = opened(hosted(), tmp_path)

    assert session.urls == [URL]
    assert session.headers == {}
    assert session.log_tail() == ""


def test_headers_take_their_secrets_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEY", "s3cret")

    session = opened(hosted(), tmp_path, {"Authorization": "Bearer ${API_KEY}", "X-Plain": "$5"})

    assert session.headers == {"Authorization": "Bearer s3cret", "X-Plain": "$5"}
    assert "s3cret" not in repr(session)


def test_a_missing_variable_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("API_KEY", raising=False)

    with pytest.raises(SessionError, match=r"API_KEY.*is not set"):
        opened(hosted(), tmp_path, {"Authorization": "Bearer ${API_KEY}"})


def test_a_secret_with_a_line_break_is_refused_and_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEY", "s3cret\n")

    with pytest.raises(SessionError, match=r"API_KEY.*line break") as caught:
        opened(hosted(), tmp_path, {"Authorization": "Bearer ${API_KEY}"})

    assert "s3cret" not in str(caught.value)


def test_headers_are_read_from_json() -> None:
    assert parse_headers('{"A": "${B}"}') == {"A": "${B}"}


@pytest.mark.parametrize("text", ["{", "[]", '{"A": 1}', '"s3cret"'])
def test_headers_that_are_no_object_of_texts_are_refused_and_not_shown(text: str) -> None:
    with pytest.raises(SessionError, match="must be a JSON object") as caught:
        parse_headers(text)

    assert "s3cret" not in str(caught.value)


def test_a_path_without_a_runner_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SessionError, match="has no runner"):
        opened(hosted("generate"), tmp_path)


def test_a_url_with_a_password_is_refused_and_not_shown(tmp_path: Path) -> None:
    with pytest.raises(SessionError, match="dyff-dagster/headers") as caught:
        opened(hosted("https://user:s3cret@example.org/"), tmp_path)

    assert "s3cret" not in str(caught.value)


def test_a_url_with_a_runner_is_refused(tmp_path: Path) -> None:
    service = described(interface={"endpoint": URL}, runner={"kind": "mock", "resources": {"storage": "1Gi"}})

    with pytest.raises(SessionError, match="has a runner"):
        opened(service, tmp_path)


def test_a_runner_that_needs_kubernetes_says_so(tmp_path: Path) -> None:
    service = described(runner={"kind": "container", "resources": {"storage": "1Gi"}})

    with pytest.raises(SessionError, match=r"container.*DYFF_SESSIONS=kubernetes"):
        opened(service, tmp_path)


@pytest.mark.parametrize("kind", ["standalone", "mock"])
def test_a_session_without_replicas_is_refused(tmp_path: Path, kind: str) -> None:
    service = described(runner={"kind": kind, "args": ["true"], "resources": {"storage": "1Gi"}})

    with (
        pytest.raises(SessionError, match="at least 1"),
        open_session(service, session_id="e", replicas=0, cwd=tmp_path, model_path=None, directory=tmp_path),
    ):
        pass


def test_a_standalone_service_without_a_command_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SessionError, match=r"runner\.args"):
        opened(described(runner={"kind": "standalone", "resources": {"storage": "1Gi"}}), tmp_path)


def test_a_command_that_names_a_model_needs_one(tmp_path: Path) -> None:
    runner = {"kind": "standalone", "args": ["serve", "{model}"], "resources": {"storage": "1Gi"}}

    with pytest.raises(SessionError, match=r"\{model\}"):
        opened(described(runner=runner), tmp_path)
