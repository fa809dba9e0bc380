"""What tells the sessions of one storage root from those of others in the same namespace."""

from __future__ import annotations

import platform
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dyff_dagster.sessions.kubernetes import KubernetesSettings
from dyff_dagster.sessions.kubernetes.planning import Sessions
from dyff_dagster.sessions.kubernetes.settings import StorageVolume

NONE = KubernetesSettings()


def test_a_session_has_the_same_name_in_every_pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "node", lambda: "dagster-step-1")
    first = Sessions(NONE, tmp_path / "storage").name("asked")
    monkeypatch.setattr(platform, "node", lambda: "dagster-step-2")
    assert Sessions(NONE, tmp_path / "storage").name("asked") == first


def test_another_storage_root_has_other_names(tmp_path: Path) -> None:
    assert Sessions(NONE, tmp_path / "a").name("asked") != Sessions(NONE, tmp_path / "b").name("asked")


def test_a_copy_of_a_storage_root_has_other_names(tmp_path: Path) -> None:
    first = Sessions(NONE, tmp_path / "a").name("asked")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / ".dyff-instance").write_bytes((tmp_path / "a" / ".dyff-instance").read_bytes())
    assert Sessions(NONE, tmp_path / "b").name("asked") != first


def test_steps_that_begin_at_once_agree(tmp_path: Path) -> None:
    sessions = Sessions(NONE, tmp_path / "storage")
    with ThreadPoolExecutor(16) as pool:
        names = set(pool.map(lambda _: sessions.name("asked"), range(64)))
    assert len(names) == 1
    assert [path.name for path in (tmp_path / "storage").iterdir()] == [".dyff-instance"]


def test_a_volume_is_the_same_wherever_it_is_mounted(tmp_path: Path) -> None:
    settings = KubernetesSettings(storage=StorageVolume(claim="results", path="audits"))
    assert Sessions(settings, tmp_path / "a").name("asked") == Sessions(settings, tmp_path / "b").name(
        "asked"
    )
    assert list(tmp_path.iterdir()) == []
