"""The git commit that manifests were read at, of real repositories."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from dyff_dagster.catalog.checkout import commit_of

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is missing")


def git(directory: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=directory, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "catalog").mkdir()
    (tmp_path / "catalog" / "a.yaml").write_text("kind: X\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "One")
    return tmp_path


def test_the_commit_is_named_in_full(repository: Path) -> None:
    assert commit_of(repository / "catalog") == git(repository, "rev-parse", "HEAD")


def test_a_tag_does_not_hide_it(repository: Path) -> None:
    git(repository, "tag", "--annotate", "v1", "--message", "v1")
    assert commit_of(repository) == git(repository, "rev-parse", "HEAD")


def test_a_changed_file_is_told(repository: Path) -> None:
    (repository / "catalog" / "a.yaml").write_text("kind: Y\n")
    assert commit_of(repository / "catalog") == git(repository, "rev-parse", "HEAD") + "-dirty"


def test_a_file_that_git_does_not_know_is_no_change(repository: Path) -> None:
    (repository / "storage").write_text("x")
    assert not commit_of(repository).endswith("-dirty")


def test_nothing_is_written_to_the_repository(repository: Path) -> None:
    (repository / "catalog" / "a.yaml").touch()  # its time alone: git would note that it is the same
    index = (repository / ".git" / "index").read_bytes()
    commit_of(repository)
    assert (repository / ".git" / "index").read_bytes() == index


def test_within_a_hook_of_another_repository_its_own_is_asked(
    repository: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path_factory.mktemp("other")
    git(other, "init", "--quiet")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    found = commit_of(repository)
    monkeypatch.delenv("GIT_DIR")
    assert found == git(repository, "rev-parse", "HEAD")


def test_without_a_repository_a_commit_or_git_there_is_none(
    tmp_path: Path,
    repository: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    empty = tmp_path_factory.mktemp("empty")
    assert commit_of(empty) == ""
    git(empty, "init", "--quiet")
    assert commit_of(empty) == ""
    assert commit_of(empty / "nowhere") == ""
    monkeypatch.setenv("PATH", str(empty))
    assert commit_of(repository) == ""
