"""Models from a git repository with Git LFS, by the real programs, over HTTP and over file://."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dyff_dagster.schema.platform import Model
from dyff_dagster.sources import SourceError, fingerprint, git_lfs
from dyff_dagster.store import Store, local_path
from tests.git_server import GitRepository, GitServer, has_git_lfs, serve_git
from tests.integration.model_support import bring, model, safetensors

pytestmark = pytest.mark.skipif(not has_git_lfs(), reason="git or git-lfs is not installed")

WEIGHTS = safetensors(("a", "F32", (50_000,)))
FILES = {"config.json": b"{}", "sub dir/model.safetensors": WEIGHTS}
PLACE = "models--acme--tiny/snapshots/v1"


@pytest.fixture
def repository(tmp_path: Path) -> GitRepository:
    return GitRepository.make(tmp_path / "git")


@pytest.fixture
def server(repository: GitRepository) -> Iterator[GitServer]:
    with serve_git(repository.bare.parent) as server:
        yield server


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def git_model(url: str, name: str = "m", **annotations: str) -> Model:
    source = {"kind": "GitLFS", "gitLFS": {"url": url}}
    return model(name, source, annotations=annotations)


def test_a_model_is_the_files_of_a_commit_large_ones_as_they_are(
    repository: GitRepository, server: GitServer, store: Store
) -> None:
    commit = repository.commit(FILES)
    version = bring(git_model(f"{server.url}/model.git"), store)
    place = local_path(version.path) / PLACE
    assert (place / "sub dir/model.safetensors").read_bytes() == WEIGHTS
    assert (place / "config.json").read_bytes() == b"{}"
    assert not (place / ".git").exists()
    assert version.inputs["extras"] == {"commit": commit}
    assert version.facts.notes["revision"] == commit
    assert version.facts.notes["parameters"] == 50_000
    assert version.files[f"{PLACE}/sub dir/model.safetensors"].sha256 == hashlib.sha256(WEIGHTS).hexdigest()


def test_what_is_there_already_is_not_fetched_again(
    repository: GitRepository, server: GitServer, store: Store
) -> None:
    repository.commit(FILES)
    url = f"{server.url}/model.git"
    bring(git_model(url), store)
    sent = server.sent
    bring(git_model(url, "another"), store)
    assert server.sent == sent == len(WEIGHTS)
    more = safetensors(("b", "F16", (10,)))
    repository.commit({"more.safetensors": more})
    version = bring(git_model(url), store)
    assert server.sent == sent + len(more)
    assert f"{PLACE}/more.safetensors" in version.files


def test_a_commit_behind_the_url_is_looked_up_nowhere_a_branch_is(
    repository: GitRepository, server: GitServer, store: Store
) -> None:
    first = repository.commit(FILES)
    second = repository.commit({"config.json": b'{"v": 2}'}, branch="other")
    repository.git("tag", "--annotate", "v1", first, "--message", "v1")
    repository.git("push", "--quiet", "origin", "v1")
    url = f"{server.url}/model.git"
    assert fingerprint(git_model(f"{url}#{first}"), Path()) == {"commit": first}
    assert server.asked == []
    assert fingerprint(git_model(f"{url}#other"), Path()) == {"commit": second}
    assert fingerprint(git_model(f"{url}#v1"), Path()) == {"commit": first}
    assert fingerprint(git_model(url), Path(), recorded={"commit": second}) == {"commit": second}
    version = bring(git_model(f"{url}#{first}"), store)
    assert local_path(version.path / PLACE / "config.json").read_bytes() == b"{}"
    with pytest.raises(SourceError, match="has no branch or tag nope: correct what stands behind #"):
        bring(git_model(f"{url}#nope"), store)
    with pytest.raises(SourceError, match="has no commit 000000000000"):
        bring(git_model(f"{url}#{'0' * 40}"), store)


def test_a_repository_on_this_disk_works_as_well(repository: GitRepository, tmp_path: Path) -> None:
    commit = repository.commit(FILES)
    url = f"file://{repository.bare}"
    assert git_lfs.commit_of("m", url) == commit
    files = git_lfs.fetch_repository("m", url, commit, tmp_path / "cache", tmp_path / "out", lambda *_: None)
    assert (tmp_path / "out/sub dir/model.safetensors").read_bytes() == WEIGHTS
    assert files["config.json"] is None
    assert files["sub dir/model.safetensors"] == hashlib.sha256(WEIGHTS).hexdigest()


def test_a_large_file_that_is_damaged_or_missing_there_is_said(
    repository: GitRepository, server: GitServer, store: Store
) -> None:
    repository.commit(FILES)
    large = repository.large_object(hashlib.sha256(WEIGHTS).hexdigest())
    large.chmod(0o644)
    large.write_bytes(b"\1" + WEIGHTS[1:])
    with pytest.raises(SourceError, match=r"the large files of .* cannot be fetched"):
        bring(git_model(f"{server.url}/model.git"), store)
    large.unlink()
    with pytest.raises(SourceError, match=r"the large files of .* cannot be fetched"):
        bring(git_model(f"{server.url}/model.git"), store)
    assert store.current("m") is None


def test_an_object_that_was_damaged_in_the_clone_is_noticed(
    repository: GitRepository, server: GitServer, store: Store
) -> None:
    repository.commit(FILES)
    url = f"{server.url}/model.git"
    bring(git_model(url), store)
    digest = hashlib.sha256(WEIGHTS).hexdigest()
    (kept,) = (Path(str(store.root)) / ".cache").rglob(digest)
    kept.chmod(0o644)
    kept.write_bytes(b"\1" + WEIGHTS[1:])
    with pytest.raises(SourceError, match=r"the SHA-256 of sub dir/model\.safetensors is not"):
        bring(git_model(url, "another"), store)


def test_links_and_pickles_are_refused_before_large_files_come(
    repository: GitRepository, server: GitServer, store: Store
) -> None:
    repository.commit({**FILES, "weights.bin": b"x" * 1000})
    url = f"{server.url}/model.git"
    with pytest.raises(SourceError, match=r"weights\.bin can run code .* dyff-dagster/allow-pickle"):
        bring(git_model(url), store)
    assert server.sent == 0
    version = bring(git_model(url, **{"allow-pickle": "true"}), store)
    assert version.facts.notes["pickles"] == ["weights.bin"]
    os.symlink("/etc/passwd", repository.work / "link")
    repository.commit({})
    with pytest.raises(SourceError, match="link in the repository is a symbolic link"):
        bring(git_model(url, **{"allow-pickle": "true"}), store)


def test_a_password_in_a_url_is_not_repeated(store: Store) -> None:
    with pytest.raises(SourceError) as refused:
        bring(git_model("http://me:hunter2@127.0.0.1:9/model.git"), store)
    assert "hunter2" not in str(refused.value) and "no repository can be read" in str(refused.value)


def test_a_missing_program_is_named(
    repository: GitRepository, store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bin_directory = tmp_path / "bin"
    bin_directory.mkdir()
    for name in ("git", "sh"):
        (bin_directory / name).symlink_to(f"/usr/bin/{name}")
    monkeypatch.setenv("PATH", str(bin_directory))
    with pytest.raises(SourceError, match="need the program git-lfs, which is not installed here"):
        bring(git_model(f"http://127.0.0.1:9/model.git#{'0' * 40}"), store)
