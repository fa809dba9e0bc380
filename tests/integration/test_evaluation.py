"""Evaluations against a real server: every row exactly once, or a failure that says which are missing."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dyff_dagster import evaluation
from dyff_dagster.evaluation import EvaluationError, EvaluationIncomplete, EvaluationOptions
from dyff_dagster.evaluation.open_part import OpenPart
from dyff_dagster.evaluation.part import Answer
from dyff_dagster.schema.arrow import open_dataset
from dyff_dagster.schema.content import digest_dataset
from dyff_dagster.schema.ids import replication_id
from dyff_dagster.schema.platform import DataSchema, Evaluation, SchemaAdapter
from dyff_dagster.schema.prices import Prices
from dyff_dagster.sessions import Session, SessionError, open_session
from dyff_dagster.store import Commit, Inputs, Store, local_path
from tests.integration.servers import Behaviour, Reply, Server, double

OUTPUT = DataSchema.make_output_schema(pa.schema([pa.field("y", pa.int64(), nullable=False)]))


def make_evaluation(url: str, replications: int = 1, **interface: Any) -> Evaluation:
    return Evaluation(
        id="eval-1",
        account="acme",
        dataset="rows",
        replications=replications,
        workersPerReplica=4,
        inferenceSession={
            "inferenceService": {
                "id": "svc",
                "account": "acme",
                "name": "doubler",
                "interface": {"endpoint": url, "outputSchema": OUTPUT, **interface},
            }
        },
    )


class World:
    """A data set, a server and a store."""

    def __init__(self, tmp_path: Path, server: Server) -> None:
        self.server = server
        self.store = Store(tmp_path / "store")
        self.dataset = tmp_path / "rows"
        self.sessions = tmp_path / "sessions"
        self.opened = 0
        self.headers: dict[str, str] | None = None
        self.write_rows([{"_index_": i, "x": i, "label": f"secret-{i}"} for i in range(20)])

    def write_rows(self, rows: list[dict[str, Any]]) -> None:
        self.dataset.mkdir(parents=True, exist_ok=True)
        schema = pa.schema(
            [pa.field("_index_", pa.int64(), nullable=False), ("x", pa.int64()), ("label", pa.string())]
        )
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), self.dataset / "data.parquet")

    def run(
        self,
        entity: Evaluation | None = None,
        *,
        service: str = "service-1",
        session: Callable[[], AbstractContextManager[Session]] | None = None,
        **arguments: Any,
    ) -> Commit:
        entity = entity or make_evaluation(self.server.url)

        @contextmanager
        def own() -> Iterator[Session]:
            self.opened += 1
            with open_session(
                entity.inferenceSession.inferenceService,
                session_id=entity.id,
                replicas=1,
                cwd=self.dataset,
                model_path=None,
                directory=self.sessions,
                headers=self.headers,
            ) as opened:
                yield opened

        arguments.setdefault("options", EvaluationOptions(attempts=2))
        with self.store.lock(entity.id):
            return evaluation.run(
                entity,
                self.store,
                inputs=Inputs(spec="s"),
                dataset=self.dataset,
                service_digest=service,
                session=session or own,
                withheld=frozenset({"label"}),
                **arguments,
            )

    def answers(self, commit: Commit) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = pq.read_table(commit.path / "answers.parquet").to_pylist()
        return rows


@contextmanager
def world(tmp_path: Path, behaviour: Behaviour = double) -> Iterator[World]:
    with Server(behaviour).running() as server:
        yield World(tmp_path, server)


def test_every_row_is_answered_once_in_every_replication(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        commit = w.run(make_evaluation(w.server.url, replications=2))
        rows = w.answers(commit)
        assert [(row["_replication_"], row["_index_"]) for row in rows] == [
            (name, i) for name in sorted(replication_id("eval-1", r) for r in range(2)) for i in range(20)
        ]
        assert rows[3]["responses"] == [{"_response_index_": 0, "y": 6}]
        assert commit.facts.completeness is not None
        assert commit.facts.completeness.complete
        assert commit.facts.completeness.answered == 40


def test_what_is_withheld_is_never_sent(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        commit = w.run()
        assert sorted(w.server.requests, key=lambda r: r["x"]) == [{"x": i} for i in range(20)]
        assert commit.facts.sent_fields == ("x",)
        assert commit.facts.withheld == ("label",)


def test_the_input_pipeline_makes_the_request_and_cannot_see_what_is_withheld(tmp_path: Path) -> None:
    pipeline = [SchemaAdapter(kind="TransformJSON", configuration={"x": "$.x", "tag": "fixed"})]
    with world(tmp_path) as w:
        w.run(make_evaluation(w.server.url, inputPipeline=pipeline))
        assert {"x": 3, "tag": "fixed"} in w.server.requests
        leak = [SchemaAdapter(kind="Select", configuration={"fields": ["label"]})]
        with pytest.raises(EvaluationError, match="input pipeline failed on row 0"):
            w.run(make_evaluation(w.server.url, inputPipeline=leak), service="service-2")


def test_the_output_pipeline_makes_the_responses(tmp_path: Path) -> None:
    def nested(request: dict[str, Any], number: int) -> Reply:
        return 200, json.dumps({"choices": [{"y": request["x"]}, {"y": -1}]}).encode()

    pipeline = [SchemaAdapter(kind="ExplodeCollections", configuration={"collections": ["choices"]})]
    pipeline.append(SchemaAdapter(kind="TransformJSON", configuration={"y": "$.choices.y"}))
    with world(tmp_path, nested) as w:
        rows = w.answers(w.run(make_evaluation(w.server.url, outputPipeline=pipeline)))
        assert rows[5]["responses"] == [{"_response_index_": 0, "y": 5}, {"_response_index_": 1, "y": -1}]


def test_an_array_is_several_responses_and_an_empty_one_is_an_answer(tmp_path: Path) -> None:
    def several(request: dict[str, Any], number: int) -> Reply:
        return 200, json.dumps([{"y": i, "undeclared": 1} for i in range(request["x"] % 3)]).encode()

    with world(tmp_path, several) as w:
        rows = w.answers(w.run())
        assert rows[3]["responses"] == []
        assert rows[5]["responses"] == [{"_response_index_": 0, "y": 0}, {"_response_index_": 1, "y": 1}]


def test_a_row_that_stays_wrong_fails_the_evaluation_and_keeps_the_other_answers(tmp_path: Path) -> None:
    def one_bad(request: dict[str, Any], number: int) -> Reply:
        return (400, b"no thanks") if request["x"] == 7 else double(request, number)

    with world(tmp_path, one_bad) as w:
        with pytest.raises(
            EvaluationIncomplete, match="1 of the answers are missing, the first is row 7"
        ) as caught:
            w.run()
        assert caught.value.completeness.missing == 1
        assert caught.value.errors == {"status-400": 1}
        assert w.store.current("eval-1") is None
        assert len(w.server.requests) == 20  # a 400 is not asked again
        failed = pq.read_table(w.store.working("eval-1") / "errors.parquet").to_pylist()
        assert [(row["_index_"], row["class"], row["status"], row["body"]) for row in failed] == [
            (7, "status-400", 400, "no thanks")
        ]
        w.server.behaviour = double
        commit = w.run()
        assert w.server.requests[20:] == [{"x": 7}]
        assert commit.facts.notes["takenUp"] == 19


def test_allowed_failures_do_not_stop_it_and_are_shown(tmp_path: Path) -> None:
    def one_bad(request: dict[str, Any], number: int) -> Reply:
        return (422, b"") if request["x"] == 7 else double(request, number)

    with world(tmp_path, one_bad) as w:
        commit = w.run(options=EvaluationOptions(attempts=1, max_failed_rows=0.05))
        assert commit.facts.completeness is not None
        assert commit.facts.completeness.missing == 1
        assert not commit.facts.completeness.complete
        assert commit.facts.rows == 19


def test_what_may_pass_is_asked_again(tmp_path: Path) -> None:
    def busy_at_first(request: dict[str, Any], number: int) -> Reply:
        return (503, b"") if number < 3 else double(request, number)

    with world(tmp_path, busy_at_first) as w:
        commit = w.run(options=EvaluationOptions(attempts=4))
        assert commit.facts.notes["retries"] == 3
        assert len(w.server.requests) == 23


@pytest.mark.parametrize(
    ("reply", "kind", "what"),
    [
        (b"<html>", "not-json", "is no JSON"),
        (b'{"z": 1}', "wrong-shape", "lacks the field y"),
        (b'{"y": "many"}', "wrong-shape", "has in the field y no integer that fits int64"),
        (b'{"y": 1.5}', "wrong-shape", "no integer"),
        (b'"text"', "wrong-shape", "neither a JSON object nor an array"),
    ],
)
def test_an_answer_of_the_wrong_kind_is_an_error_row_with_its_class(
    tmp_path: Path, reply: bytes, kind: str, what: str
) -> None:
    with world(
        tmp_path, lambda request, number: (200, reply) if request["x"] == 2 else double(request, number)
    ) as w:
        with pytest.raises(EvaluationIncomplete, match=what) as caught:
            w.run()
        assert caught.value.errors == {kind: 1}


def test_an_endpoint_that_fails_everything_stops_the_run(tmp_path: Path) -> None:
    with world(tmp_path, lambda request, number: (500, b"broken")) as w:
        w.write_rows([{"_index_": i, "x": i, "label": ""} for i in range(500)])
        with pytest.raises(EvaluationError, match="rows all failed, the last one because"):
            w.run(options=EvaluationOptions(attempts=1))
        assert len(w.server.requests) < 60


def test_answers_are_taken_up_where_a_run_was_broken_off(tmp_path: Path) -> None:
    class Broken(Exception):
        pass

    def progress(message: str, done: int | None, total: int | None) -> None:
        if done is not None and done >= 12:
            raise Broken

    with world(tmp_path) as w:
        with pytest.raises(Broken):
            w.run(progress=progress)
        asked = len(w.server.requests)
        commit = w.run()
        assert commit.facts.notes["takenUp"] >= 12
        assert len(w.server.requests) == asked + 20 - commit.facts.notes["takenUp"]


def test_a_finished_evaluation_opens_no_session_again(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        first = w.run()
        second = w.run()
        assert w.opened == 1
        assert second.data_version == first.data_version


def test_more_replications_cost_only_the_new_ones(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        w.run()
        w.run(make_evaluation(w.server.url, replications=3))
        assert len(w.server.requests) == 60


def test_an_edited_row_costs_one_request(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        w.run()
        rows = [{"_index_": i, "x": i + 100 * (i == 4), "label": ""} for i in range(20)]
        w.write_rows(rows)
        commit = w.run()
        assert w.server.requests[20:] == [{"x": 104}]
        assert w.answers(commit)[4]["responses"][0]["y"] == 208


def test_a_row_that_is_edited_and_edited_back_costs_nothing(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        first = w.run()
        rows = [{"_index_": i, "x": i, "label": ""} for i in range(20)]
        w.write_rows([{**row, "x": row["x"] + 100 * (row["x"] == 4)} for row in rows])
        w.run()
        asked = len(w.server.requests)
        w.write_rows(rows)
        assert w.run().data_version == first.data_version
        assert len(w.server.requests) == asked


def test_a_disk_that_fails_once_loses_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with world(tmp_path) as w:
        put = w.store.put_working
        failures = iter([OSError(28, "No space left on device")])

        def put_or_fail(entity_id: str, name: str, data: bytes, **how: Any) -> None:
            if name.startswith("parts/") and (failure := next(failures, None)):
                raise failure
            put(entity_id, name, data, **how)

        monkeypatch.setattr(w.store, "put_working", put_or_fail)
        with pytest.raises(OSError, match="No space left"):
            w.run(options=EvaluationOptions(part_rows=5))
        asked = len(w.server.requests)
        commit = w.run()
        # What had been answered when the disk failed was written as soon as it could be.
        assert commit.facts.notes["takenUp"] >= 2
        assert len(w.server.requests) - asked == 20 - commit.facts.notes["takenUp"]


def test_answers_that_came_while_the_disk_failed_are_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one part is refused, three workers wait with the answers of the next."""
    with world(tmp_path) as w:
        put, add = w.store.put_working, OpenPart.add
        all_workers_wait = threading.Event()
        failures = iter([OSError(28, "No space left on device")])

        def put_or_fail(entity_id: str, name: str, data: bytes, **how: Any) -> None:
            if name.startswith("parts/") and (failure := next(failures, None)):
                assert all_workers_wait.wait(60)
                raise failure
            put(entity_id, name, data, **how)

        def add_and_look(part: OpenPart, answer: Answer) -> int:
            waiting = add(part, answer)
            if waiting == 3:  # each of the other workers waits with one
                all_workers_wait.set()
            return waiting

        monkeypatch.setattr(w.store, "put_working", put_or_fail)
        monkeypatch.setattr(OpenPart, "add", add_and_look)
        with pytest.raises(OSError, match="No space left"):
            w.run(options=EvaluationOptions(part_rows=1))
        commit = w.run()
        assert commit.facts.notes["takenUp"] == 4
        assert len(w.server.requests) == 20


def test_a_disk_that_fails_while_parts_are_flushed_by_age_fails_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The flusher runs for ever: where it dies of something, that must not go unseen."""
    put = Store.put_working

    def fail(store: Store, entity_id: str, name: str, data: bytes, **how: Any) -> None:
        if name.startswith("parts/"):
            raise PermissionError(13, "Permission denied")
        put(store, entity_id, name, data, **how)

    def slow(request: dict[str, Any], number: int) -> Reply:
        time.sleep(0.02)
        return double(request, number)

    with world(tmp_path, slow) as w:
        w.write_rows([{"_index_": i, "x": i, "label": ""} for i in range(500)])
        monkeypatch.setattr(Store, "put_working", fail)
        with pytest.raises(PermissionError):
            w.run(options=EvaluationOptions(part_rows=10_000, part_age=0.05))
        assert len(w.server.requests) < 500


@pytest.mark.parametrize(
    ("type_", "wrong", "right"),
    [
        (pa.string(), '"\\ud800"', '"fine"'),
        (pa.timestamp("ns"), '"0001-01-01T00:00:00"', '"2026-01-01T00:00:00"'),
        (pa.float64(), "1" + "0" * 400, "1.5"),
        (pa.binary(2), '"AAAA"', '"AAA="'),
        (pa.date32(), '"yesterday"', '"2026-01-02"'),
        (pa.decimal128(5, 2), "123456", "1.5"),
        (pa.int8(), "300", "3"),
        (pa.string(), "[" * 100_000, '"fine"'),
    ],
)
def test_one_odd_value_is_one_error_row_and_all_other_answers_are_kept(
    tmp_path: Path, type_: pa.DataType, wrong: str, right: str
) -> None:
    def odd(request: dict[str, Any], number: int) -> Reply:
        return 200, f'{{"y": {wrong if request["x"] == 3 else right}}}'.encode()

    schema = DataSchema.make_output_schema(pa.schema([pa.field("y", type_, nullable=False)]))
    with world(tmp_path, odd) as w:
        entity = make_evaluation(w.server.url)
        entity.inferenceSession.inferenceService.interface.outputSchema = schema
        with pytest.raises(EvaluationIncomplete, match="1 of the answers are missing, the first is row 3"):
            w.run(entity)
        w.server.behaviour = lambda request, number: (200, f'{{"y": {right}}}'.encode())
        commit = w.run(entity)
        assert commit.facts.notes["takenUp"] == 19


def test_an_endless_reply_is_an_error_row(tmp_path: Path) -> None:
    def long(request: dict[str, Any], number: int) -> Reply:
        return (200, b"[" + b" " * 200_000 + b"]") if request["x"] == 3 else double(request, number)

    with world(tmp_path, long) as w, pytest.raises(EvaluationIncomplete, match="longer than 100000 bytes"):
        w.run(options=EvaluationOptions(max_reply=100_000))


def test_a_secret_that_the_service_says_again_is_not_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "TOPSECRET")

    def echo(request: dict[str, Any], number: int) -> Reply:
        return 401, b"x" * 490 + json.dumps(w.server.headers[-1]).encode()

    with world(tmp_path, echo) as w:
        w.headers = {"Authorization": "Bearer ${MY_KEY}"}
        with pytest.raises(EvaluationError):
            w.run()
        assert w.server.headers[0]["Authorization"] == "Bearer TOPSECRET"
        kept = w.store.working("eval-1") / "errors.parquet"
        bodies = " ".join(row["body"] for row in pq.read_table(kept).to_pylist())
        assert "401" not in bodies
        assert "TOPS" not in bodies
        assert Path(kept).stat().st_mode & 0o077 == 0


def test_rows_do_not_know_of_one_another(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        w.server.reply_headers = {"Set-Cookie": "row=1"}
        w.run()
        assert not any("Cookie" in headers for headers in w.server.headers)


def test_answers_of_another_service_do_not_count(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        w.run()
        w.run(service="service-2")
        assert len(w.server.requests) == 40


def test_fresh_asks_for_everything_again_and_takes_the_new_answers(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        w.run()
        w.server.behaviour = lambda request, number: (200, json.dumps({"y": 0}).encode())
        commit = w.run(fresh=True)
        assert {row["responses"][0]["y"] for row in w.answers(commit)} == {0}


def test_what_was_asked_afresh_stays_when_more_is_asked_later(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        w.run()
        w.server.behaviour = lambda request, number: (200, json.dumps({"y": 0}).encode())
        w.run(fresh=True)
        commit = w.run(make_evaluation(w.server.url, replications=2))
        assert {row["responses"][0]["y"] for row in w.answers(commit)} == {0}
        assert len(w.server.requests) == 60


def test_a_damaged_part_is_asked_for_again(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        first = w.run()
        parts = list(Path(w.store.working("eval-1")).glob("parts/*/*.parquet"))
        parts[0].write_bytes(b"PAR1 garbage")
        assert w.run().data_version == first.data_version


def test_the_order_of_rows_in_the_files_does_not_change_the_data_version(tmp_path: Path) -> None:
    with world(tmp_path / "a") as w:
        first = w.run()
    with world(tmp_path / "b") as w:
        w.write_rows([{"_index_": i, "x": i, "label": ""} for i in reversed(range(20))])
        assert w.run().data_version == first.data_version


def test_the_data_version_is_the_content_digest_of_what_was_written(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        commit = w.run(make_evaluation(w.server.url, replications=3))
        assert commit.data_version == digest_dataset(open_dataset(local_path(commit.path)))


def test_the_summary_adds_up_over_runs(tmp_path: Path) -> None:
    def one_bad(request: dict[str, Any], number: int) -> Reply:
        return (400, b"") if request["x"] == 7 else double(request, number)

    with world(tmp_path, one_bad) as w:
        with pytest.raises(EvaluationIncomplete):
            w.run()
        w.server.behaviour = double
        w.run()
        summary = json.loads((w.store.working("eval-1") / "summary.json").read_text())
        assert (summary["rows"], summary["requests"], summary["runs"]) == (20, 21, 2)
        assert summary["errors"] == {"status-400": 1}
        assert set(summary["latency"]) == {"p50", "p95", "p99"}


def test_what_a_session_cost_that_never_answered_is_counted(tmp_path: Path) -> None:
    @contextmanager
    def never() -> Iterator[Session]:
        error = SessionError("eval-1: its replicas do not start", session_id="eval-1")
        error.notes = {"gpuSeconds": 40.0}
        raise error
        yield

    with world(tmp_path) as w:
        for _ in range(2):
            with pytest.raises(SessionError, match="do not start"):
                w.run(session=never)
        summary = json.loads((w.store.working("eval-1") / "summary.json").read_text())
        assert summary["gpuSeconds"] == 80.0
        assert w.run().facts.notes["total"]["gpuSeconds"] == 80.0


def test_binary_and_times_travel_as_contract_says(tmp_path: Path) -> None:
    import datetime

    with world(tmp_path, lambda request, number: (200, b'{"y": 1}')) as w:
        when = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
        table = pa.table(
            {"_index_": pa.array([0]), "image": pa.array([b"\x00\xff"]), "when": pa.array([when])}
        )
        pq.write_table(table, w.dataset / "data.parquet")
        w.run()
        assert w.server.requests[0]["image"] == "AP8="
        assert datetime.datetime.fromisoformat(w.server.requests[0]["when"]) == when


def test_several_client_processes_give_the_same_version(tmp_path: Path) -> None:
    with world(tmp_path / "one") as w:
        w.write_rows([{"_index_": i, "x": i, "label": ""} for i in range(500)])
        alone = w.run(make_evaluation(w.server.url, replications=2))
    with world(tmp_path / "two") as w:
        w.write_rows([{"_index_": i, "x": i, "label": ""} for i in range(500)])
        shared = w.run(make_evaluation(w.server.url, replications=2), options=EvaluationOptions(processes=2))
        assert len(w.server.requests) == 1000
    assert shared.data_version == alone.data_version
    assert shared.facts.notes["rows"] == shared.facts.notes["requests"] == 1000


def test_failed_rows_of_client_processes_are_told_as_those_of_one(tmp_path: Path) -> None:
    def behaviour(request: dict[str, Any], number: int) -> Reply:
        return (400, b"no") if request["x"] == 3 else double(request, number)

    with world(tmp_path, behaviour) as w:
        with pytest.raises(EvaluationIncomplete, match=r"row 3, replication 0, because .* status 400"):
            w.run(options=EvaluationOptions(processes=2))
        w.server.behaviour = double
        asked = len(w.server.requests)
        w.run(options=EvaluationOptions(processes=2))
        assert len(w.server.requests) == asked + 1


def test_a_reply_that_numbers_two_responses_alike_is_of_the_wrong_shape(tmp_path: Path) -> None:
    def behaviour(request: dict[str, Any], number: int) -> Reply:
        response = {"y": request["x"], "_response_index_": 0}
        return 200, json.dumps([response, response] if request["x"] == 7 else [response]).encode()

    with (
        world(tmp_path, behaviour) as w,
        pytest.raises(
            EvaluationIncomplete, match=r"row 7.* several responses with the same _response_index_"
        ),
    ):
        w.run()


def test_a_cap_on_money_stops_where_nobody_says_what_is_spent(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        capped = EvaluationOptions(max_cost=1.0, prices=Prices(input=1.0))
        with pytest.raises(EvaluationError, match=r"do not say what they used.*price for each request"):
            w.run(options=capped)
        by_request = EvaluationOptions(max_cost=1.0, prices=Prices(request=0.001))
        assert w.run(options=by_request).facts.notes["takenUp"] >= 8


def test_a_forced_run_that_was_broken_off_is_gone_on_with(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        w.run()
        w.server.behaviour = lambda request, number: (
            (400, b"") if request["x"] == 3 else double(request, number)
        )
        with pytest.raises(EvaluationIncomplete):
            w.run(fresh=True)
        w.server.behaviour = double
        asked = len(w.server.requests)
        assert w.run(fresh=True).facts.notes["takenUp"] == 19
        assert len(w.server.requests) == asked + 1
        w.run(fresh=True)
        assert len(w.server.requests) == asked + 21
