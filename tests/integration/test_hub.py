"""The Hub of the tests, as an unmodified ``huggingface_hub`` sees it: it must be worth testing against."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub as hf
import pytest
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.hub import Faults, Hub, Large, git_blob, keep_on_xet, serve_hub

BIG = os.urandom(3_000_000)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serve_hub() as hub:
        yield hub


def snapshot(hub: Hub, cache: Path, name: str = "acme/tiny", **more: object) -> Path:
    return Path(hf.snapshot_download(name, cache_dir=cache, endpoint=hub.url, **more))  # type: ignore[call-overload]


def test_a_snapshot_comes_whole_with_the_commit_in_its_path(hub: Hub, tmp_path: Path) -> None:
    repository = hub.repository("acme/tiny", card={"license": "mit"})
    commit = repository.commit({"config.json": b"{}", "sub/model.safetensors": Large(BIG)})
    found = snapshot(hub, tmp_path, revision="main")
    assert found.name == commit
    assert (found / "config.json").read_bytes() == b"{}"
    assert (found / "sub" / "model.safetensors").read_bytes() == BIG
    assert (found / "config.json").resolve().name == git_blob(b"{}")
    info = hf.HfApi(endpoint=hub.url).model_info("acme/tiny", files_metadata=True)
    assert info.sha == commit and info.card_data is not None and info.card_data.license == "mit"
    siblings = {sibling.rfilename: sibling for sibling in info.siblings or []}
    assert siblings["sub/model.safetensors"].size == len(BIG)


def test_a_listing_of_several_pages_is_one_listing(hub: Hub) -> None:
    hub.page = 3
    hub.repository("acme/rows", "datasets").commit({f"data/{i}.parquet": b"%d" % i for i in range(8)})
    api = hf.HfApi(endpoint=hub.url)
    listed = list(api.list_repo_tree("acme/rows", repo_type="dataset", recursive=True))
    assert [entry.path for entry in listed] == [f"data/{i}.parquet" for i in range(8)]


def test_a_file_on_xet_comes_from_there_and_not_from_the_cdn(hub: Hub, tmp_path: Path) -> None:
    pytest.importorskip("hf_xet")
    hub.xet, digest = keep_on_xet(tmp_path / "xet", BIG)
    hub.repository("acme/tiny").commit({"model.safetensors": Large(BIG, digest)})
    assert (snapshot(hub, tmp_path / "cache") / "model.safetensors").read_bytes() == BIG
    assert hub.sent("/repos/") == 0


def test_whoever_may_not_read_is_refused_as_the_hub_refuses(hub: Hub, tmp_path: Path) -> None:
    hub.tokens = {"hf_good", "hf_x-unlisted"}
    hub.repository("acme/gated", gated=True).commit({"a": b"a"})
    hub.repository("acme/secret", private=True).commit({"a": b"a"})
    repository = hub.repository("acme/tiny")
    repository.commit({"a": b"a"})
    with pytest.raises(RepositoryNotFoundError):
        snapshot(hub, tmp_path, "acme/secret")
    with pytest.raises(GatedRepoError) as unknown:
        snapshot(hub, tmp_path, "acme/gated", token=False)
    with pytest.raises(GatedRepoError) as unlisted:
        snapshot(hub, tmp_path, "acme/gated", token="hf_x-unlisted")
    assert (unknown.value.response.status_code, unlisted.value.response.status_code) == (401, 403)
    assert (snapshot(hub, tmp_path, "acme/gated", token="hf_good") / "a").read_bytes() == b"a"
    with pytest.raises(HfHubHTTPError, match="401"):
        snapshot(hub, tmp_path, token="hf_wrong")
    with pytest.raises(RevisionNotFoundError):
        snapshot(hub, tmp_path, revision="nope")
    with pytest.raises(RemoteEntryNotFoundError):
        hf.hf_hub_download("acme/tiny", "nope", endpoint=hub.url, cache_dir=tmp_path)


def test_the_same_seed_draws_the_same_faults() -> None:
    first, second, other = (Faults(seed=seed) for seed in (3, 3, 4))
    drawn = [[faults.draw() for _ in range(5)] for faults in (first, second, other)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_faults_come_on_a_seed_and_the_client_gets_over_them(hub: Hub, tmp_path: Path) -> None:
    commit = hub.repository("acme/tiny").commit({"config.json": b"{}", "model.safetensors": Large(BIG)})
    hub.faults = Faults(seed=3, too_many=0.3)
    hub.stops_after = {"model.safetensors": 1_000_000}
    found = snapshot(hub, tmp_path, revision=commit, max_workers=1)
    assert (found / "model.safetensors").read_bytes() == BIG
    assert 429 in {asked.status for asked in hub.asked}
    assert sum(asked.method == "GET" and "/repos/" in asked.path for asked in hub.asked) > 1
