"""A language model from the Hub, served on this machine, asked and scored: for real, with random weights."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

from tests import servers
from tests.hub import Hub, Large, serve_hub
from tests.servers import REPOSITORY

UPLOADED = "source: {kind: Upload}"
FROM_THE_HUB = "source: {kind: HuggingFaceHub, huggingFaceHub: {repoID: me/tiny, revision: main}}"

MISSING = [
    name for name in ("torch", "transformers", "fastapi", "uvicorn") if importlib.util.find_spec(name) is None
]


@pytest.mark.timeout(900)
@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (the extra 'huggingface')")
def test_a_model_of_the_hub_is_served_asked_and_scored(tmp_path: Path) -> None:
    catalog = shutil.copytree(
        REPOSITORY / "examples" / "tiny_llm", tmp_path / "catalog", ignore=shutil.ignore_patterns("model")
    )
    home = servers.environment(tmp_path / "home")
    servers.run(servers.command("python", catalog / "make_model.py", tmp_path / "model"), tmp_path, home)
    text = (
        (catalog / "catalog.yaml")
        .read_text()
        .replace("annotations: {dyff-dagster/files: model}", "annotations: {}")
    )
    assert UPLOADED in text
    (catalog / "catalog.yaml").write_text(text.replace(UPLOADED, FROM_THE_HUB))
    hub = Hub()
    commit = hub.repository("me/tiny").commit(
        {
            path.name: Large(path.read_bytes()) if path.suffix == ".safetensors" else path.read_bytes()
            for path in (tmp_path / "model").iterdir()
        }
    )
    with serve_hub(hub):
        env = servers.environment(
            tmp_path / "home",
            DYFF_CATALOG=catalog,
            DYFF_STORAGE_ROOT=tmp_path / "storage",
            DYFF_EXECUTOR="in_process",
            HF_ENDPOINT=hub.url,
            HF_HUB_CACHE=tmp_path / "users-cache",
        )
        line = servers.command("dagster", "asset", "materialize", "--select", "*", "-f", "definitions.py")
        servers.run(line, REPOSITORY, env)
    from dyff_dagster.store import Store

    store = Store(tmp_path / "storage")
    model, answers, score = (
        store.current(name) for name in ("tiny-model", "tiny-answers", "tiny-exact-match")
    )
    assert model is not None and answers is not None and score is not None
    assert model.inputs["extras"] == {"commit": commit}
    assert answers.facts.completeness is not None
    assert answers.facts.completeness.complete
    assert (answers.facts.rows, answers.facts.notes["requests"]) == (6, 6)
    headline = score.facts.headline
    assert headline is not None and headline.n == 6
