"""Runners huggingface and vllm on one machine: command lines, GPUs, what is missing, and a real language model."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
import urllib.request
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dyff_dagster import Catalog, DyffStorage, build_definitions
from dyff_dagster.schema.platform import Accelerator, ForeignInferenceService
from dyff_dagster.sessions import SessionError, local_servers, open_session
from dyff_dagster.sessions.local_servers import server_command, share_out, visible_gpus
from dyff_dagster.store import Store, local_path
from tests.hub import Large, serve_hub
from tests.integration.sessions_support import described, programs_that_serve
from tests.servers import REPOSITORY

EXAMPLE = REPOSITORY / "examples" / "tiny_llm"
HAS_LLM = all(importlib.util.find_spec(name) for name in ("torch", "transformers", "fastapi", "uvicorn"))
MODEL = {
    "id": "m",
    "account": "acme",
    "name": "tiny",
    "artifact": {"kind": "HuggingFaceCache", "huggingFaceCache": {"repoID": "acme/tiny", "revision": "v1"}},
    "storage": {"medium": "ObjectStorage"},
}


def service(kind: str, *args: str, gpus: int = 0) -> ForeignInferenceService:
    runner: dict[str, Any] = {"kind": kind, "args": list(args), "resources": {"storage": "1Gi"}}
    if gpus:
        runner["accelerator"] = gpu(gpus).model_dump()
    return described(runner=runner, model=MODEL)


def gpu(count: int) -> Accelerator:
    return Accelerator.model_validate({"kind": "GPU", "gpu": {"hardwareTypes": ["l4"], "count": count}})


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programs of the servers' names, found on PATH, that serve what they were started with."""
    directory = programs_that_serve(tmp_path / "programs")
    monkeypatch.setenv("PATH", str(directory), prepend=":")
    monkeypatch.setattr(local_servers, "BESIDE", tmp_path / "elsewhere")
    return directory


def asked(url: str) -> dict[str, Any]:
    request = urllib.request.Request(url, b"{}", method="POST")
    with urllib.request.urlopen(request, timeout=30) as response:
        found: dict[str, Any] = json.load(response)
    return found


@pytest.mark.parametrize(
    ("kind", "args", "line"),
    [
        ("huggingface", (), ["transformers", "serve", "{model}", "--host", "127.0.0.1", "--port", "{port}"]),
        (
            "vllm",
            ("--max-model-len", "512", "--served-model-name=other"),
            [
                *("vllm", "serve", "{model}", "--host", "127.0.0.1", "--port", "{port}"),
                *("--max-model-len", "512", "--served-model-name=other"),
            ],
        ),
        (
            "vllm",
            (),
            [
                *("vllm", "serve", "{model}", "--host", "127.0.0.1", "--port", "{port}"),
                *("--served-model-name", "tiny", "--tensor-parallel-size", "2"),
            ],
        ),
    ],
)
def test_each_replica_is_started_with_the_model_its_port_and_its_gpus(
    programs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    args: tuple[str, ...],
    line: list[str],
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7,GPU-1")
    each = 2 if "--tensor-parallel-size" in line else 1
    model = tmp_path / "model"
    model.mkdir()
    with open_session(
        service(kind, *args, gpus=each),
        session_id="s",
        replicas=2,
        cwd=tmp_path,
        model_path=model,
        directory=tmp_path / "logs",
    ) as session:
        found = [asked(url) for url in session.urls]
    for index, (reply, url) in enumerate(zip(found, session.urls, strict=True)):
        port = url.split(":")[2].split("/")[0]
        assert reply["arguments"] == [part.format(model=model, port=port) for part in line]
        shares = [["4", "5"], ["6", "7"]] if each == 2 else [["4"], ["5"]]
        assert reply["environment"]["CUDA_VISIBLE_DEVICES"] == ",".join(shares[index])
        assert reply["environment"]["HF_HUB_OFFLINE"] == "1"


def test_gpus_are_shared_out_and_none_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    assert share_out(["0", "1", "2", "3", "4"], 2, 2) == [["0", "1"], ["2", "3"]]
    assert share_out(["0"], 2, 1) == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert visible_gpus() == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", " 2, GPU-a")
    assert visible_gpus() == ["2", "GPU-a"]


@pytest.mark.parametrize("said", ["0,1,2", ""])
def test_a_machine_with_too_few_gpus_says_so(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", said)
    count = 3 if said else 0
    with pytest.raises(
        SessionError, match=f"asks for 2 GPUs for each of 2 replicas, and this machine shows {count}"
    ):
        server_command(
            service("vllm"), session_id="s", cwd=tmp_path, model_path=tmp_path, replicas=2, accelerator=gpu(2)
        )


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (
            "huggingface",
            "needs the package transformers, which is not installed here: pip install 'dyff-dagster",
        ),
        ("vllm", "needs the package vllm, which is not installed here: pip install vllm"),
    ],
)
def test_a_missing_server_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, sentence: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(local_servers, "BESIDE", tmp_path)
    with pytest.raises(SessionError) as refused:
        server_command(
            service(kind), session_id="s", cwd=tmp_path, model_path=tmp_path, replicas=1, accelerator=None
        )
    assert sentence in str(refused.value)


def test_what_a_server_beside_us_lacks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "transformers").write_text("")
    monkeypatch.setattr(local_servers, "BESIDE", tmp_path)
    monkeypatch.setattr(
        local_servers.importlib.util, "find_spec", lambda name: None if name == "torch" else object()
    )
    with pytest.raises(SessionError, match="needs the package torch, which is not installed here"):
        server_command(
            service("huggingface"),
            session_id="s",
            cwd=tmp_path,
            model_path=tmp_path,
            replicas=1,
            accelerator=None,
        )


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("bentoml_service_openllm", "OpenLLM was rewritten, and its command 'openllm build'"),
        ("container", "needs Kubernetes"),
    ],
)
def test_what_cannot_run_on_one_machine_says_why_and_what_to_use(
    tmp_path: Path, kind: str, sentence: str
) -> None:
    with (
        pytest.raises(SessionError) as refused,
        open_session(
            service(kind), session_id="s", replicas=1, cwd=tmp_path, model_path=tmp_path, directory=tmp_path
        ),
    ):
        pass
    assert sentence in str(refused.value)


def test_a_service_without_a_model_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(SessionError, match="has a runner of kind vllm and no files of a model: name a Model"),
        open_session(
            service("vllm"), session_id="s", replicas=1, cwd=tmp_path, model_path=None, directory=tmp_path
        ),
    ):
        pass


@pytest.mark.skipif(not HAS_LLM, reason="PyTorch or transformers[serving] is not installed")
def test_a_language_model_of_the_hub_is_served_asked_and_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sys.path.insert(0, str(EXAMPLE))
    try:
        from make_model import make_model  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(EXAMPLE))
    make_model(tmp_path / "made")
    files = {path.name: path.read_bytes() for path in (tmp_path / "made").iterdir()}
    example = tmp_path / "example"
    shutil.copytree(EXAMPLE, example, ignore=shutil.ignore_patterns("__pycache__", "model", ".gitignore"))
    text = (example / "catalog.yaml").read_text()
    hub_source = "source: {kind: HuggingFaceHub, huggingFaceHub: {repoID: acme/tiny, revision: main}}"
    text = text.replace("annotations: {dyff-dagster/files: model}", "").replace(
        "source: {kind: Upload}", hub_source
    )
    (example / "catalog.yaml").write_text(text)
    store = Store(tmp_path / "store")
    with serve_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "users-own-cache"))
        commit = hub.repository("acme/tiny").commit(
            {name: Large(data) if name.endswith(".safetensors") else data for name, data in files.items()}
        )
        before = len(hub.asked)
        defs = build_definitions(Catalog.load(example), storage=DyffStorage(root=str(store.root)))
        assert len(hub.asked) == before, "loading definitions asked the Hub"
        job = dg.define_asset_job("all", dg.AssetSelection.all())
        merged = dg.Definitions.merge(defs, dg.Definitions(jobs=[job]))
        with dg.DagsterInstance.ephemeral() as instance:
            done = merged.resolve_job_def("all").execute_in_process(instance=instance)
            again = merged.resolve_job_def("all").execute_in_process(instance=instance)
    assert done.success and again.success
    lookups = [path for path in hub.paths() if "/revision/" in path]
    assert len(lookups) == 2, "a branch is looked up once in each run"
    model, answers, score = (
        store.current(name) for name in ("tiny-model", "tiny-answers", "tiny-exact-match")
    )
    assert model is not None and answers is not None and score is not None
    assert (model.sequence, answers.sequence, score.sequence) == (1, 1, 1)
    assert (
        model.facts.notes["revision"] == commit and model.facts.notes["architectures"] == "LlamaForCausalLM"
    )
    assert answers.facts.completeness is not None and answers.facts.completeness.complete
    headline = score.facts.headline
    assert headline is not None and headline.name == "exact_match" and headline.value == 0.0
    assert (local_path(model.path) / "models--me--tiny/snapshots/v1/model.safetensors").is_file()
