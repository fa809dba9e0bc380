"""Models from the Hugging Face Hub: pinned, shared, resumed, verified, and refused with one sentence."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dyff_dagster.sources import SourceError, fetch, fingerprint
from dyff_dagster.sources.hub_cache import cache_of
from dyff_dagster.store import Inputs, Store, local_path
from tests.hub import Faults, Hub, Large, keep_on_xet, serve_hub
from tests.integration.model_support import bring, hub_model, model, safetensors

CHUNK = 10 * 1024 * 1024
"""What ``huggingface_hub`` reads at a time."""

WEIGHTS = safetensors(("a", "F32", (1000, 10)), ("b", "BF16", (500,)))
CARD = b"---\nlicense: apache-2.0\n---\n# Tiny\n\nA model that knows nothing.\n"
FILES = {
    "README.md": CARD,
    "config.json": b'{"architectures": ["TinyForCausalLM"]}',
    "model.safetensors": Large(WEIGHTS),
}
PLACE = "models--acme--tiny/snapshots/v1"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with serve_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "users-own-cache"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield hub


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_a_model_lies_at_its_snapshot_path_and_says_what_it_is(hub: Hub, store: Store) -> None:
    commit = hub.repository("acme/tiny").commit(FILES)
    told: list[tuple[int | None, int | None]] = []
    version = bring(hub_model(), store, lambda message, done=None, total=None: told.append((done, total)))
    size = sum(len(c.data) if isinstance(c, Large) else len(c) for c in FILES.values())
    place = local_path(version.path) / PLACE
    assert (place / "model.safetensors").read_bytes() == WEIGHTS
    assert not any(path.is_symlink() for path in place.rglob("*"))
    assert version.files[f"{PLACE}/model.safetensors"].sha256 == hashlib.sha256(WEIGHTS).hexdigest()
    assert version.inputs["extras"] == {"commit": commit}
    assert told[-1] == (size, size)
    notes = version.facts.notes
    assert notes == {
        "repository": "acme/tiny",
        "revision": commit,
        "requestedRevision": "main",
        "fileCount": 3,
        "bytes": size,
        "parameters": 10_500,
        "dtypes": {"BF16": 500, "F32": 10_000},
        "architectures": "TinyForCausalLM",
        "licence": "apache-2.0",
        "card": "# Tiny\n\nA model that knows nothing.",
    }


def test_the_cache_is_one_that_other_programs_read(hub: Hub, store: Store) -> None:
    commit = hub.repository("acme/tiny").commit(FILES)
    bring(hub_model(), store)
    code = (
        "import huggingface_hub as h, pathlib;"
        "print((pathlib.Path(h.snapshot_download('acme/tiny', revision='%s')) / 'config.json').read_text())"
    )
    env = {**os.environ, "HF_HUB_CACHE": str(cache_of(store)), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code % commit], env=env, capture_output=True, text=True)
    assert done.stdout.strip() == FILES["config.json"].decode(), done.stderr


def test_a_commit_is_looked_up_nowhere_and_a_branch_once(hub: Hub, store: Store) -> None:
    commit = hub.repository("acme/tiny").commit(FILES)
    before = len(hub.asked)
    assert fingerprint(hub_model(revision=commit), Path()) == {"commit": commit}
    assert len(hub.asked) == before
    bring(hub_model(), store)
    lookups = [path for path in hub.paths() if "/revision/" in path]
    assert lookups == ["/api/models/acme/tiny/revision/main"]


def test_the_hub_is_asked_for_each_file_once_and_no_more_about_it(hub: Hub, store: Store) -> None:
    commit = hub.repository("acme/tiny").commit(FILES)
    bring(hub_model(revision=commit), store)
    asked = sorted((request.method, request.path) for request in hub.asked if "/resolve/" in request.path)
    assert asked == [("GET", f"/acme/tiny/resolve/{commit}/{path}") for path in sorted(FILES)]
    snapshot = cache_of(store) / "models--acme--tiny" / "snapshots" / commit
    for path, content in FILES.items():
        data = content.data if isinstance(content, Large) else content
        assert not Path(os.readlink(snapshot / path)).is_absolute(), "the cache can be moved"
        assert (snapshot / path).read_bytes() == data


def test_what_a_branch_stood_for_is_what_is_fetched(hub: Hub, store: Store) -> None:
    repository = hub.repository("acme/tiny")
    first = repository.commit(FILES)
    inputs = Inputs(spec="s", extras=fingerprint(hub_model(), Path()))
    second = repository.commit({**FILES, "config.json": b"{}"})
    version = fetch(hub_model(), store, inputs=inputs, files=Path())
    assert version.facts.notes["revision"] == first
    assert fingerprint(hub_model(), Path()) == {"commit": second}
    assert fingerprint(hub_model(), Path(), recorded={"commit": first}) == {"commit": first}
    assert fingerprint(hub_model(revision=second), Path(), recorded={"commit": first}) == {"commit": second}


def test_models_of_the_same_files_share_them(hub: Hub, store: Store) -> None:
    hub.repository("acme/tiny").commit(FILES)
    one = bring(hub_model("one"), store)
    sent = hub.sent("/repos/")
    two = bring(hub_model("two", allowPatterns=["*.safetensors", "*.json"]), store)
    assert hub.sent("/repos/") == sent == len(WEIGHTS)
    name = f"{PLACE}/model.safetensors"
    assert local_path(one.path / name).samefile(local_path(two.path / name))
    assert sorted(path.rpartition("/")[2] for path in two.files) == ["config.json", "model.safetensors"]


def test_what_lies_in_the_users_own_cache_is_not_fetched(hub: Hub, store: Store, tmp_path: Path) -> None:
    commit = hub.repository("acme/tiny").commit(FILES)
    blobs = tmp_path / "users-own-cache" / "models--acme--tiny" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / hashlib.sha256(WEIGHTS).hexdigest()).write_bytes(WEIGHTS)
    version = bring(hub_model(revision=commit), store)
    assert hub.sent("/repos/") == 0
    assert local_path(version.path / PLACE / "model.safetensors").read_bytes() == WEIGHTS


def test_patterns_choose_as_those_of_snapshot_download(hub: Hub, store: Store) -> None:
    hub.repository("acme/tiny").commit({**FILES, "onnx/model.onnx": b"x", "pytorch_model.bin": b"x"})
    version = bring(hub_model(ignorePatterns=["*.bin", "onnx/"]), store)
    assert sorted(name.removeprefix(f"{PLACE}/") for name in version.files) == sorted(FILES)
    with pytest.raises(SourceError, match="the patterns leave none of the 5 files"):
        bring(hub_model("none", allowPatterns=["*.gguf"]), store)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_hub_that_fails_now_and_then_is_asked_again(hub: Hub, store: Store, seed: int) -> None:
    hub.repository("acme/tiny").commit(FILES)
    hub.faults = Faults(seed=seed, dropped=0.1, too_many=0.15, unavailable=0.1)
    version = bring(hub_model(), store)
    assert local_path(version.path / PLACE / "model.safetensors").read_bytes() == WEIGHTS
    assert {asked.status for asked in hub.asked} & {0, 429, 503}


def test_a_connection_that_is_cut_is_gone_on_with(hub: Hub, store: Store) -> None:
    big = os.urandom(3 * CHUNK)
    hub.repository("acme/tiny").commit({"model.safetensors": Large(big)})
    hub.stops_after = {"model.safetensors": 2 * CHUNK + 100}
    version = bring(hub_model(), store)
    assert local_path(version.path / PLACE / "model.safetensors").read_bytes() == big
    assert len(big) <= hub.sent("/repos/") <= len(big) + CHUNK


def test_a_server_that_knows_no_ranges_sends_all_of_it_again(hub: Hub, store: Store) -> None:
    big = os.urandom(2 * CHUNK)
    hub.repository("acme/tiny").commit({"model.safetensors": Large(big)})
    hub.ignores_ranges = True
    hub.stops_after = {"model.safetensors": CHUNK + 100}
    version = bring(hub_model(), store)
    assert local_path(version.path / PLACE / "model.safetensors").read_bytes() == big


CHILD = """
import sys
from pathlib import Path
from dyff_dagster.store import Store
from tests.integration.model_support import bring, hub_model
bring(hub_model(revision=sys.argv[1]), Store(sys.argv[2]))
"""


def test_a_killed_download_is_gone_on_with(hub: Hub, store: Store) -> None:
    files = {f"part-{i}.safetensors": os.urandom(4 * CHUNK + i) for i in range(2)}
    commit = hub.repository("acme/tiny").commit({name: Large(data) for name, data in files.items()})
    hub.bytes_per_second = 20e6
    line = [sys.executable, "-c", CHILD, commit, str(store.root)]
    child = subprocess.Popen(line, cwd=Path(__file__).parents[2])
    blobs = cache_of(store) / "models--acme--tiny" / "blobs"
    end = time.monotonic() + 60
    while sum(path.stat().st_size for path in blobs.glob("*.part")) < CHUNK:
        assert time.monotonic() < end and child.poll() is None
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert store.current("tiny") is None
    hub.bytes_per_second = None
    version = bring(hub_model(revision=commit), store)
    for name, data in files.items():
        assert local_path(version.path / PLACE / name).read_bytes() == data
    # The server counts what it sent; of that a socket's buffer may have held some when the reader died.
    buffered = 8 * 1024 * 1024
    assert hub.sent("/repos/") <= sum(map(len, files.values())) + (CHUNK + buffered) * len(files)
    ranges = [asked.headers["Range"] for asked in hub.asked if "Range" in asked.headers]
    assert ranges and all(int(text[6:-1]) > 0 for text in ranges)  # it goes on, and begins with nothing anew


def test_a_part_of_a_file_on_xet_is_gone_on_with(hub: Hub, store: Store, tmp_path: Path) -> None:
    pytest.importorskip("hf_xet")
    big = os.urandom(3_000_000)
    hub.xet, digest = keep_on_xet(tmp_path / "xet", big)
    hub.repository("acme/tiny").commit({"model.safetensors": Large(big, digest)})
    blobs = cache_of(store) / "models--acme--tiny" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{hashlib.sha256(big).hexdigest()}.part").write_bytes(big[:2_000_000])
    told: list[int | None] = []
    version = bring(hub_model(), store, lambda message, done=None, total=None: told.append(done))
    assert local_path(version.path / PLACE / "model.safetensors").read_bytes() == big
    assert told[-1] == len(big)


def test_files_on_xet_come_from_there(hub: Hub, store: Store, tmp_path: Path) -> None:
    pytest.importorskip("hf_xet")
    hub.xet, digest = keep_on_xet(tmp_path / "xet", WEIGHTS)
    hub.repository("acme/tiny").commit({**FILES, "model.safetensors": Large(WEIGHTS, digest)})
    version = bring(hub_model(), store)
    assert local_path(version.path / PLACE / "model.safetensors").read_bytes() == WEIGHTS
    assert hub.sent("/repos/") == 0


def test_where_xet_fails_the_rest_comes_over_http(hub: Hub, store: Store, tmp_path: Path) -> None:
    pytest.importorskip("hf_xet")
    hub.xet, _ = keep_on_xet(tmp_path / "xet", b"something else")
    hub.repository("acme/tiny").commit({"model.safetensors": Large(WEIGHTS, "ab" * 32)})
    version = bring(hub_model(), store)
    assert local_path(version.path / PLACE / "model.safetensors").read_bytes() == WEIGHTS
    assert hub.sent("/repos/") == len(WEIGHTS)


def test_xet_can_be_done_without(
    hub: Hub, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    hub.repository("acme/tiny").commit({"model.safetensors": Large(WEIGHTS, "0" * 64)})
    bring(hub_model(), store)
    assert hub.sent("/repos/") == len(WEIGHTS)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_bytes_that_are_not_the_hubs_are_refused_and_the_old_version_stands(
    hub: Hub, store: Store, name: str
) -> None:
    repository = hub.repository("acme/tiny")
    repository.commit(FILES)
    old = bring(hub_model(), store)
    content = FILES[name]
    new = Large(content.data + b"!") if isinstance(content, Large) else content + b" "
    repository.commit({**FILES, name: new})
    hub.damaged = {name}
    with pytest.raises(SourceError, match=f"hash|SHA-256 of {name} is not the one that the Hub says"):
        bring(hub_model(), store)
    current = store.current("tiny")
    assert current is not None and current.sequence == old.sequence and store.intact(current)
    hub.damaged = set()
    assert bring(hub_model(), store).sequence == old.sequence + 1


def test_a_blob_or_a_part_that_was_damaged_here_is_fetched_anew(hub: Hub, store: Store) -> None:
    hub.repository("acme/tiny").commit(FILES)
    bring(hub_model("one"), store)
    blob = cache_of(store) / "models--acme--tiny" / "blobs" / hashlib.sha256(WEIGHTS).hexdigest()
    blob.unlink()
    blob.write_bytes(bytes(len(WEIGHTS)))
    version = bring(hub_model("two"), store)
    assert local_path(version.path / PLACE / "model.safetensors").read_bytes() == WEIGHTS
    blob.unlink()
    blob.with_name(blob.name + ".part").write_bytes(b"\0" * 1000)
    version = bring(hub_model("three"), store)
    assert local_path(version.path / PLACE / "model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    ("entity", "token", "sentence"),
    [
        (hub_model("m", repository="acme/none"), "", "shows no model acme/none: there is none of that name"),
        (hub_model("m", repository="acme/secret"), "", "it is private and HF_TOKEN is not set"),
        (hub_model("m", repository="acme/gated"), "", "is gated, and HF_TOKEN is not set: accept its terms"),
        (hub_model("m", repository="acme/gated"), "hf_x-unlisted", "the token in HF_TOKEN has no access"),
        (hub_model("m"), "hf_wrong", "does not accept the token in HF_TOKEN"),
        (hub_model("m", revision="nope"), "", "model acme/tiny has no revision nope"),
        (hub_model("m", revision="0" * 40), "", f"model acme/tiny has no revision {'0' * 40}"),
        (hub_model("m", repository="a/b/c"), "", "'a/b/c' is no name of a repository: write ORG/NAME"),
    ],
)
def test_what_the_hub_refuses_is_said_in_one_sentence(
    hub: Hub,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    entity: object,
    token: str,
    sentence: str,
) -> None:
    hub.tokens = {"hf_good", "hf_x-unlisted"}
    hub.repository("acme/tiny").commit(FILES)
    hub.repository("acme/secret", private=True).commit(FILES)
    hub.repository("acme/gated", gated=True).commit(FILES)
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(SourceError) as refused:
        bring(entity, store)  # type: ignore[arg-type]
    text = str(refused.value)
    assert sentence in text and text.startswith("m: ")
    assert "\n" not in text and (not token or token not in text) and "Request ID" not in text
    assert store.current("m") is None


def test_a_token_is_sent_to_the_hub_and_written_nowhere(
    hub: Hub, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    hub.tokens = {"hf_good_and_secret"}
    hub.repository("acme/gated", gated=True).commit(FILES)
    hub.stops_after = {"model.safetensors": 100}
    monkeypatch.setenv("HF_TOKEN", "hf_good_and_secret")
    with caplog.at_level(logging.DEBUG):
        version = bring(hub_model(repository="acme/gated"), store)
    assert version.facts.notes["repository"] == "acme/gated"
    assert not any(asked.status == 400 for asked in hub.asked)
    assert "hf_good_and_secret" not in caplog.text
    assert "Signature" not in "".join(
        r.getMessage() for r in caplog.records if r.name.startswith("huggingface_hub")
    )
    for path in (tmp_path / "store").rglob("*"):
        if path.is_file():
            assert b"hf_good_and_secret" not in path.read_bytes(), path


def test_files_that_run_code_are_refused_before_they_are_paid_for(hub: Hub, store: Store) -> None:
    hub.repository("acme/tiny").commit({**FILES, "pytorch_model.bin": Large(b"x" * 1000), "a/b.pkl": b"y"})
    with pytest.raises(SourceError) as refused:
        bring(hub_model(), store)
    assert "a/b.pkl, pytorch_model.bin can run code" in str(refused.value)
    assert "ignorePatterns: ['*.bin', '*.pkl']" in str(refused.value)
    assert "dyff-dagster/allow-pickle" in str(refused.value)
    assert hub.sent("/repos/") == 0
    version = bring(hub_model(annotations={"allow-pickle": "true"}), store)
    assert version.facts.notes["pickles"] == ["a/b.pkl", "pytorch_model.bin"]
    assert "prefer safetensors" in version.facts.notes["warning"]


def test_openllm_is_a_snapshot_of_its_model_at_its_version(hub: Hub, store: Store) -> None:
    commit = hub.repository("acme/tiny").commit(FILES)
    said = {"modelKind": "llama", "modelID": "acme/tiny", "modelVersion": commit}
    version = bring(model("llm", {"kind": "OpenLLM", "openLLM": said}), store)
    assert version.facts.notes["revision"] == commit
    assert f"{PLACE}/model.safetensors" in version.files


def test_offline_is_said(hub: Hub, store: Store) -> None:
    code = CHILD.replace("bring(hub", "import logging; bring(hub")
    commit = hub.repository("acme/tiny").commit(FILES)
    env = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, commit, str(store.root)],
        cwd=Path(__file__).parents[2],
        env=env,
        capture_output=True,
        text=True,
    )
    assert "HF_HUB_OFFLINE keeps this machine from" in done.stderr


def test_a_damaged_safetensors_header_is_said(hub: Hub, store: Store) -> None:
    hub.repository("acme/tiny").commit({"model.safetensors": b"\xff" * 100, "config.json": b"[" * 100_000})
    notes = bring(hub_model(), store).facts.notes
    assert notes["unreadableSafetensors"] == ["model.safetensors"]
    assert "parameters" not in notes and "architectures" not in notes


def test_a_hostile_listing_leads_nowhere_else(hub: Hub, store: Store, tmp_path: Path) -> None:
    hub.repository("acme/tiny").commit({"../../../../../../evil.json": b"{}", "config.json": b"{}"})
    with pytest.raises(SourceError, match="leads out of it"):
        bring(hub_model(), store)
    assert not list(tmp_path.rglob("evil.json"))


def test_two_runs_at_once_fetch_a_file_once(hub: Hub, store: Store) -> None:
    big = os.urandom(CHUNK)
    commit = hub.repository("acme/tiny").commit({"model.safetensors": Large(big)})
    hub.bytes_per_second = 20e6
    code = CHILD.replace("hub_model(", "hub_model(sys.argv[3], ")
    line = [sys.executable, "-c", code, commit, str(store.root)]
    children = [subprocess.Popen([*line, name], cwd=Path(__file__).parents[2]) for name in ("one", "two")]
    assert [child.wait() for child in children] == [0, 0]
    assert hub.sent("/repos/") == len(big)
    for name in ("one", "two"):
        commit_of = store.current(name)
        assert commit_of is not None and json.dumps(commit_of.facts.notes["revision"]) == f'"{commit}"'
