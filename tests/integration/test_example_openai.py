"""The example of an OpenAI-compatible endpoint through Dagster, against its stand-in: classes, tokens, cost."""

from __future__ import annotations

import json
import select
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
import pytest

from dyff_dagster import Catalog, DyffStorage, build_definitions
from dyff_dagster.store import Store, local_path
from tests.servers import REPOSITORY, background

EXAMPLE = REPOSITORY / "examples" / "openai_compatible"
CHAT, COMPLETIONS = "openai-chat-answers", "openai-completions-answers"
KEY = "sk-kept-secret"


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The stand-in as a process of its own, as README.md starts it."""
    log = tmp_path_factory.mktemp("stand-in") / "stderr.log"
    with background([sys.executable, str(EXAMPLE / "stand_in.py"), "0"], EXAMPLE, {}, log) as process:
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], 60)[0], log.read_text()
        said = process.stdout.readline().decode()
        assert said.startswith("listening on http://127.0.0.1:"), log.read_text()
        yield said.split()[-1]


class Example:
    """A copy of the example whose services are at ``endpoint``, and a store."""

    def __init__(self, directory: Path, endpoint: str, instance: dg.DagsterInstance) -> None:
        self.directory = directory / "example"
        shutil.copytree(EXAMPLE, self.directory, ignore=shutil.ignore_patterns("__pycache__"))
        self.edit("http://127.0.0.1:8000", endpoint)
        self.store = Store(directory / "store")
        self.instance = instance

    def edit(self, old: str, new: str) -> None:
        path = self.directory / "catalog.yaml"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    def run(self) -> dg.ExecuteInProcessResult:
        storage = DyffStorage(root=str(self.store.root))
        defs = build_definitions(Catalog.load(self.directory), storage=storage)
        job = dg.define_asset_job("all", dg.AssetSelection.all())
        merged = dg.Definitions.merge(defs, dg.Definitions(jobs=[job]))
        return merged.resolve_job_def("all").execute_in_process(instance=self.instance, raise_on_error=False)

    def metadata(self, result: dg.ExecuteInProcessResult, name: str) -> dict[str, Any]:
        for event in result.get_asset_materialization_events():
            if event.asset_key == dg.AssetKey(["evaluations", name]):
                found = event.materialization.metadata
                return {key: getattr(value, "value", value) for key, value in found.items()}
        raise AssertionError(f"{name} was not materialized")

    def answers(self, name: str) -> dict[int, dict[str, Any]]:
        commit = self.store.current(name)
        assert commit is not None
        table = pq.read_table(local_path(commit.path) / "answers.parquet")
        return {row["_index_"]: row for row in table.to_pylist()}

    def errors(self, name: str) -> list[dict[str, Any]]:
        path = local_path(self.store.working(name)) / "errors.parquet"
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        return rows

    def summary(self, name: str) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(self.store.get_working(name, "summary.json"))
        return said


@pytest.fixture
def example(tmp_path: Path, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Example]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with dg.instance_for_test() as instance:
        yield Example(tmp_path, endpoint, instance)


def test_the_catalog_is_valid_without_a_warning_and_withholds_the_answers() -> None:
    catalog = Catalog.load(EXAMPLE)
    assert catalog.warnings == []
    assert catalog.withheld("openai-questions") == {"answer"}


def test_chat_answers_travel_with_their_classes(example: Example) -> None:
    assert example.run().success
    answers = example.answers(CHAT)
    assert answers[0]["responses"] == [{"_response_index_": 0, "answer": "The capital of France is Paris."}]
    assert {index: row["_class_"] for index, row in answers.items() if row["_class_"]} == {
        9: "truncated", 10: "truncated", 11: "refusal"
    }  # fmt: skip
    assert answers[10]["responses"][0]["answer"] == "One two three four five six seven eight"
    assert answers[11]["responses"][0]["answer"] is None
    assert example.errors(CHAT) == []


def test_a_filtered_completion_is_an_error_row_and_the_rest_is_committed(example: Example) -> None:
    assert example.run().success
    assert sorted(example.answers(COMPLETIONS)) == list(range(11))
    assert [
        (row["_index_"], row["class"], row["status"], row["attempts"]) for row in example.errors(COMPLETIONS)
    ] == [(11, "filtered", 200, 1)]


@pytest.mark.parametrize("name", [CHAT, COMPLETIONS])
def test_tokens_and_cost_are_those_that_the_readme_names(example: Example, name: str) -> None:
    metadata = example.metadata(example.run(), name)
    assert (metadata["dyff/inputTokens"], metadata["dyff/outputTokens"], metadata["dyff/tokens"]) == (
        74,
        40,
        114,
    )
    assert metadata["dyff/cost"] == pytest.approx((74 * 0.15 + 40 * 0.6) / 1e6)
    summary = example.summary(name)
    assert (summary["requests"], summary["tokens"], summary["cost"]) == (12, 114, metadata["dyff/cost"])
    readme = " ".join((EXAMPLE / "README.md").read_text("utf-8").split())
    assert "uses 74 tokens of questions and 40 of answers, which costs 0.0000351 USD" in readme


def test_a_class_that_is_accepted_no_longer_fails_the_evaluation_and_costs_one_request(
    example: Example,
) -> None:
    assert example.run().success
    example.edit("dyff-dagster/accept: truncated, refusal", "dyff-dagster/accept: truncated")
    result = example.run()
    assert not result.success
    (check,) = [
        e
        for e in result.get_asset_check_evaluations()
        if (e.asset_key.path[-1], e.check_name) == (CHAT, "complete")
    ]
    assert not check.passed
    assert check.metadata["missing"].value == 1
    assert [(row["_index_"], row["class"]) for row in example.errors(CHAT)] == [(11, "refusal")]
    summary = example.summary(CHAT)
    assert (summary["requests"], summary["errors"]) == (13, {"refusal": 1})


def test_a_cap_on_cost_stops_the_evaluation_and_raising_it_asks_for_the_rest(example: Example) -> None:
    example.edit("dyff-dagster/max-cost: 1.00", "dyff-dagster/max-cost: 0.00001")
    example.edit(
        "inferenceSession: {inferenceService: openai-chat}",
        "inferenceSession: {inferenceService: openai-chat}\nworkersPerReplica: 1",
    )
    assert not example.run().success
    assert example.store.current(CHAT) is None
    asked = example.summary(CHAT)["requests"]
    assert 0 < asked < 12
    example.edit("dyff-dagster/max-cost: 0.00001", "dyff-dagster/max-cost: 1.00")
    assert example.run().success
    assert example.summary(CHAT)["requests"] == 12


def test_the_key_is_sent_and_nowhere_stored(example: Example) -> None:
    result = example.run()
    assert result.success  # without a key the stand-in answers 401
    stored = [path for path in local_path(example.store.root).rglob("*") if path.is_file()]
    assert stored
    assert not [path for path in stored if KEY.encode() in path.read_bytes()]
    assert KEY not in "".join(str(event) for event in result.all_events)


def test_the_stand_in_wants_a_key(endpoint: str) -> None:
    request = urllib.request.Request(f"{endpoint}/v1/chat/completions", data=b"{}")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=60)
    assert caught.value.code == 401
