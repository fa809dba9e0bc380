"""What happens to sessions that have served, and what an evaluation makes of it."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from dyff_dagster import Catalog
from dyff_dagster.orchestration.steps import Step
from dyff_dagster.schema.errors import DyffError
from dyff_dagster.sessions.kubernetes.api import KubernetesApi
from dyff_dagster.sessions.kubernetes.names import selector
from dyff_dagster.store import Commit, Store, local_path
from tests.kubernetes.cluster_support import Small, write_catalog
from tests.kubernetes.conftest import own_namespace
from tests.kubernetes.test_signals import PATIENT, PROMPT, left_of

ROWS = 30
IN_FLIGHT = 2
"""Requests at once: as many may be lost with a session."""


@dataclass(frozen=True)
class Served:
    """An evaluation of ``ROWS`` rows whose session does not stay as it is.

    Attributes:
        arguments: Of the program.
        sentence: A pattern of why it fails; None: it completes.
        reason: The platform's word for that.
        told: A pattern of what is said while it runs.
        expires_in: Seconds until the session expires.
        meanwhile: What somebody does to the session, told its name.
        again: Whether it is then run once more, with a session that does not expire.
    """

    arguments: tuple[str, ...] = ()
    sentence: str | None = None
    reason: str | None = None
    told: str = ""
    expires_in: int | None = None
    meanwhile: Callable[[KubernetesApi, str], None] | None = None
    again: bool = False


def delete_it(api: KubernetesApi, session: str) -> None:
    while not any(
        condition["type"] == "Ready" and condition["status"] == "True"
        for pod in api.find("pods", selector(session=session))
        for condition in pod["status"].get("conditions") or ()
    ):
        time.sleep(0.2)
    time.sleep(2)
    api.delete("jobs", session)


CASES = {
    "its server ends well, and another takes its place": Served(
        arguments=("--exit-after", "12"),
        told=r"replica \S+ answers no more: it ended with exit code 0",
    ),
    "its server crashes, and another takes its place": Served(
        arguments=("--crash-after", "20"),
        told=r"replica \S+ answers no more: it ended with exit code 7",
    ),
    "its server crashes again and again": Served(
        arguments=("--crash-after", "3"),
        sentence=r"the pods of session \S+ ended again and again \(the last one, \S+: it ended with exit code 7; its "
        r"log is \S+\)",
    ),
    "it expires while it serves": Served(
        arguments=("--slow", "3"),
        expires_in=30,
        again=True,
        sentence=r"the session \S+ has ended at its deadline: start it again, which goes on where this stopped",
        reason="Expired",
    ),
    "somebody deletes it": Served(
        arguments=("--slow", "5"),
        sentence=r"the session \S+ was ended by somebody: start it again, which goes on where this stopped",
        reason="TerminateCommand",
        meanwhile=delete_it,
    ),
}


@dataclass
class Outcome:
    """What came of one; ``kept`` is how many answers the first run of two left, ``requests`` all that were sent."""

    error: DyffError | None
    commit: Commit | None
    progress: list[str]
    logs: list[Path]
    left: list[str]
    kept: int = 0
    requests: int = 0


def evaluate(small: Small, api: KubernetesApi, name: str) -> Outcome:
    case = CASES[name]
    small = Small(small.namespace, small.image, small.directory / re.sub(r"\W", "-", name), api)
    store, cluster = Store(small.directory / "store"), small.cluster(api, **PATIENT)
    session, said, kept = cluster.plans.name("doubled"), [], 0

    def compute(run_id: str, *entities: str, **fields: Any) -> Commit:
        directory = write_catalog(
            small.directory / f"catalog-{run_id}", "--say", PROMPT, *case.arguments,
            rows=ROWS, session_fields=fields, evaluation_fields={"replications": 1, "workersPerReplica": IN_FLIGHT},
        )  # fmt: skip
        catalog = Catalog.load(directory)
        for entity in entities:
            step = Step(catalog, store, catalog.get(entity), told(said), run_id=run_id, cluster=cluster)
            commit, _ = step.compute()
        return commit

    others = [] if case.meanwhile is None else [threading.Thread(target=case.meanwhile, args=(api, session))]
    for thread in others:
        thread.start()
    expires = {} if case.expires_in is None else {"expires": soon(case.expires_in)}
    error, commit = None, None
    try:
        commit = compute("run-1", "rows", "doubled", **expires)
    except DyffError as raised:
        error = raised
    for thread in others:
        thread.join()
    left = left_of(api, session)
    logs = sorted((local_path(store.working("doubled")) / "sessions" / "run-1").rglob("*.log"))
    if case.again:
        parts = local_path(store.working("doubled")) / "parts"
        kept = sum(pq.read_metadata(part).num_rows for part in parts.rglob("*.parquet"))
        commit = compute("run-2", "rows", "doubled")
    summary = local_path(store.working("doubled")) / "summary.json"
    requests = json.loads(summary.read_text())["requests"] if commit is not None else 0
    return Outcome(error, commit, said, logs, left, kept, requests)


def told(said: list[str]) -> Any:
    return lambda text, *_: said.append(text)


def soon(seconds: int) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


@pytest.fixture(scope="module")
def outcomes(
    cluster_client: Any, raw_api: Any, python_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Outcome]]:
    directory = tmp_path_factory.mktemp("served")
    with own_namespace(cluster_client, raw_api) as namespace, ThreadPoolExecutor(5) as pool:
        small = Small(namespace, python_image, directory, KubernetesApi(cluster_client, namespace))
        futures = {
            name: pool.submit(evaluate, small, KubernetesApi(cluster_client, namespace), name)
            for name in CASES
        }
        yield {name: future.result() for name, future in futures.items()}


@pytest.mark.parametrize("name", CASES)
def test_it_fails_with_a_sentence_or_completes(outcomes: dict[str, Outcome], name: str) -> None:
    found, case = outcomes[name], CASES[name]
    print(found)
    if case.sentence is None:
        assert found.error is None
    else:
        assert re.search(case.sentence, str(found.error)), str(found.error)
        assert found.error.reason == case.reason
    assert any(re.search(case.told, text) for text in found.progress)
    assert PROMPT not in "".join(found.progress) + str(found.error)


@pytest.mark.parametrize(
    "name", [name for name, case in CASES.items() if case.sentence is None or case.again]
)
def test_each_row_is_answered_once(outcomes: dict[str, Outcome], name: str) -> None:
    commit = outcomes[name].commit
    assert commit is not None
    rows = [
        row for path in Path(str(commit.path)).glob("*.parquet") for row in pq.read_table(path).to_pylist()
    ]
    assert sorted((row["_index_"], row["responses"][0]["y"]) for row in rows) == [
        (i, 2 * i) for i in range(ROWS)
    ]


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.again])
def test_another_run_asks_only_what_was_not_answered(outcomes: dict[str, Outcome], name: str) -> None:
    found = outcomes[name]
    assert 0 < found.kept < ROWS
    assert found.requests <= ROWS + IN_FLIGHT


@pytest.mark.parametrize("name", CASES)
def test_the_logs_of_its_pods_are_kept_with_the_evaluation(outcomes: dict[str, Outcome], name: str) -> None:
    texts = [path.read_text() for path in outcomes[name].logs]
    ended = {text.split()[1] for text in outcomes[name].progress if text.startswith("replica ")}
    assert texts and all(PROMPT in text for text in texts)
    assert ended <= {path.stem for path in outcomes[name].logs}


@pytest.mark.parametrize("name", CASES)
def test_nothing_of_it_is_left(outcomes: dict[str, Outcome], name: str) -> None:
    assert outcomes[name].left == []
