from __future__ import annotations

from pathlib import Path

import pytest

from dyff_dagster.processes import clean_environment, tail


def test_the_tail_is_the_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("".join(f"line {i}\n" for i in range(100)))

    assert tail(log, lines=2) == "line 98\nline 99"


def test_the_tail_of_an_absent_file_is_empty(tmp_path: Path) -> None:
    assert tail(tmp_path / "log") == ""


def test_a_long_line_is_cut(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("x" * 1000 + "\n")

    assert tail(log, width=10) == "x" * 10 + "…"


def test_control_characters_do_not_reach_the_terminal(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"\x1b[2Jcleared\x07\n\xff\n")

    assert tail(log) == "?[2Jcleared?\n�"


def test_of_a_progress_bar_the_last_state_is_shown(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b" 10%\r 50%\r100%\r\n")

    assert tail(log) == "100%"


def test_a_clean_environment_has_the_path_and_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/bin")
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("NVIDIA_API_KEY", "secret")
    monkeypatch.setenv("NVIDIA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")

    environment = clean_environment()

    assert environment["PATH"] == "/bin"
    assert environment["NVIDIA_VISIBLE_DEVICES"] == "0"
    assert not {"HF_TOKEN", "NVIDIA_API_KEY", "PYTHONPATH"} & set(environment)


def test_what_is_asked_for_is_kept_and_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "mine")

    environment = clean_environment({"DYFF_PORT": "1"}, keep=["HF_TOKEN", "ABSENT"])

    assert environment["HF_TOKEN"] == "mine"
    assert environment["DYFF_PORT"] == "1"
    assert "ABSENT" not in environment
