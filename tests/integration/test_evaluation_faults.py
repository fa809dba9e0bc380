"""Evaluations against services that do wrong: what passes leaves no trace, what stays is said as it is."""

from __future__ import annotations

import itertools
import json
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dyff_dagster.evaluation import EvaluationError, EvaluationIncomplete
from dyff_dagster.evaluation.options import EvaluationOptions
from dyff_dagster.schema.answer_rules import parse_answer_rules
from dyff_dagster.schema.platform import DataSchema, SchemaAdapter
from dyff_dagster.schema.prices import Prices
from tests.integration.evaluation_support import QUICK, World
from tests.integration.fault_server import (
    ANSWER,
    Asked,
    Fault,
    FaultServer,
    Plan,
    always_right,
    passing_faults,
)

SECONDS_ENOUGH = 600.0
"""A timeout that must not be what ends a test."""
IMPATIENT = replace(QUICK, attempt_timeout=0.5, idle_timeout=0.25)
PATIENT = replace(QUICK, attempt_timeout=SECONDS_ENOUGH, idle_timeout=SECONDS_ENOUGH, patience=SECONDS_ENOUGH)
WORD = 987_654_321
"""What a row holds that must not be found in an error."""


@contextmanager
def world(tmp_path: Path, plan: Plan = always_right, rows: int = 40, **server: Any) -> Iterator[World]:
    with FaultServer(plan, **server).running() as running:
        w = World(tmp_path, [running.url], rows)
        w.server = running  # type: ignore[attr-defined]
        yield w


def served(w: World) -> FaultServer:
    server: FaultServer = w.server  # type: ignore[attr-defined]
    return server


def on_row(x: int, fault: Fault, times: int = 10**9) -> Plan:
    """One row is dealt with badly, so many times; all others are answered."""
    return lambda asked: fault if asked.request["x"] == x and asked.attempt < times else ANSWER


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The data version of 40 rows in 2 replications where nothing goes wrong."""
    with world(tmp_path_factory.mktemp("undisturbed"), copies=2) as w:
        return w.run(w.evaluation(2)).data_version


# What passes


@pytest.mark.parametrize("seed", range(6))
def test_faults_that_pass_leave_the_same_data_version(tmp_path: Path, undisturbed: str, seed: int) -> None:
    with world(tmp_path, passing_faults(seed, most=4), copies=2) as w:
        commit = w.run(w.evaluation(2, workers=3 + 3 * seed), IMPATIENT)
        assert commit.data_version == undisturbed
        assert served(w).doubled == []
        assert commit.facts.completeness is not None
        assert commit.facts.completeness.complete
        assert commit.facts.notes["requests"] == len(served(w).record)


@pytest.mark.parametrize("seed", range(3))
def test_a_service_that_dies_and_comes_back_leaves_the_same_data_version(
    tmp_path: Path, undisturbed: str, seed: int
) -> None:
    deaths = iter([7 + seed, 31, 60 + 3 * seed])
    due = next(deaths)

    def die(asked: Asked) -> None:
        nonlocal due
        if asked.number == due:
            due = next(deaths, -1)
            served(w).die(back_in=0.05)

    with world(tmp_path, passing_faults(seed, most=1, stalls=False), copies=2, on_request=die) as w:
        commit = w.run(w.evaluation(2), replace(IMPATIENT, attempts=20))
        assert commit.data_version == undisturbed
        assert due == -1
        assert served(w).doubled == []


# What stays


def long(text: str) -> bytes:
    return (text + "." * 2000).encode()


FIELDS = replace(QUICK, attempts=2)
TAXONOMY: dict[str, tuple[Fault, EvaluationOptions, int | None, int]] = {
    # class: (fault, options, status, attempts)
    "timeout": (Fault("stall"), replace(FIELDS, attempt_timeout=0.1), None, 2),
    "idle-timeout": (Fault("half-stall"), replace(FIELDS, idle_timeout=0.1), None, 2),
    "total-timeout": (Fault("stall"), replace(FIELDS, row_seconds=0.2), None, 1),
    "refused": (Fault("reset"), FIELDS, None, 2),
    "status-302": (Fault("status", 302, long("moved")), FIELDS, 302, 1),
    "status-400": (Fault("status", 400, long("bad")), FIELDS, 400, 1),
    "status-408": (Fault("status", 408, long("slow")), FIELDS, 408, 2),
    "status-425": (Fault("status", 425, long("early")), FIELDS, 425, 2),
    "status-500": (Fault("status", 500, long("broken")), FIELDS, 500, 2),
    "status-503": (Fault("status", 503, long("down")), FIELDS, 503, 2),
    "status-501": (Fault("status", 501, long("never")), FIELDS, 501, 1),
    "not-json": (Fault("body", body=long("<html>")), FIELDS, None, 1),
    "wrong-shape": (Fault("body", body=json.dumps({"y": "z" * 2000}).encode()), FIELDS, None, 1),
    "too-long": (Fault("body", body=long("[")), replace(FIELDS, max_reply=1000), 200, 1),
    "empty": (
        Fault("body", body=b'{"y": null, "why": "%s"}' % (b"e" * 2000)),
        replace(FIELDS, rules=parse_answer_rules('[{"class": "empty", "path": "$.y", "empty": true}]')),
        200,
        1,
    ),
    "error-body": (
        Fault("body", body=b'{"y": 1, "error": "%s"}' % (b"e" * 2000)),
        replace(
            FIELDS,
            rules=parse_answer_rules(
                '[{"class": "error-body", "path": "$.error", "exists": true, "retry": true}]'
            ),
        ),
        200,
        2,
    ),
}


@pytest.mark.parametrize("kind", TAXONOMY)
def test_a_row_that_stays_wrong_is_an_error_row_of_its_class(tmp_path: Path, kind: str) -> None:
    fault, options, status, attempts = TAXONOMY[kind]
    with world(tmp_path, on_row(WORD, fault)) as w:
        w.write_rows({index: index if index != 7 else WORD for index in range(12)})
        with pytest.raises(
            EvaluationIncomplete, match="1 of the answers are missing, the first is row 7"
        ) as caught:
            w.run(options=options)
        assert caught.value.errors == {kind: 1}
        assert str(WORD) not in str(caught.value)
        (row,) = w.errors()
        assert (row["_index_"], row["class"], row["attempts"]) == (7, kind, attempts)
        assert row["status"] == status
        assert len(row["body"]) == (500 if fault.body else 0)
        assert str(WORD) not in json.dumps(row)
        assert sum(asked.request["x"] == WORD for asked in served(w).record) == attempts
        served(w).plan = always_right
        assert w.run(options=options).facts.notes["takenUp"] == 11


def test_a_failing_output_pipeline_is_an_error_row_of_its_class(tmp_path: Path) -> None:
    pipeline = [SchemaAdapter(kind="ExplodeCollections", configuration={"collections": ["y"]})]
    with world(
        tmp_path, on_row(WORD, ANSWER), right=lambda r: {"y": [{"y": 1}] if r["x"] < 100 else "text"}
    ) as w:
        pipeline.append(SchemaAdapter(kind="TransformJSON", configuration={"y": "$.y.y"}))
        w.write_rows({index: index if index != 7 else WORD for index in range(12)})
        with pytest.raises(EvaluationIncomplete) as caught:
            w.run(w.evaluation(outputPipeline=pipeline))
        assert caught.value.errors == {"adapter": 1}
        assert (w.errors()[0]["class"], w.errors()[0]["body"]) == ("adapter", '{"y": "text"}')
        assert str(WORD) not in json.dumps(w.errors())


def test_a_connection_that_is_never_made_is_a_class_of_its_own(tmp_path: Path) -> None:
    """A listener whose queue is full lets a connection wait for ever."""
    with socket.socket() as listener, socket.socket() as one, socket.socket() as two:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for waiting in (one, two):
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        w = World(tmp_path, [f"http://127.0.0.1:{listener.getsockname()[1]}/answer"], rows=2)
        with pytest.raises(EvaluationIncomplete) as caught:
            w.run(options=replace(QUICK, attempts=1, connect_timeout=0.1))
        assert caught.value.errors == {"connect-timeout": 2}


def test_a_port_that_nobody_listens_on_refuses(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        w = World(tmp_path, [f"http://127.0.0.1:{taken.getsockname()[1]}/answer"], rows=3)
        with pytest.raises(EvaluationIncomplete, match="ClientConnectorError") as caught:
            w.run(options=replace(QUICK, attempts=1))
        assert caught.value.errors == {"refused": 3}


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 405, 409, 410, 413, 415, 422, 451])
def test_a_status_that_says_the_request_is_wrong_is_not_asked_again(tmp_path: Path, status: int) -> None:
    with world(tmp_path, on_row(3, Fault("status", status)), rows=8) as w:
        with pytest.raises(EvaluationIncomplete):
            w.run()
        assert Counter(request["x"] for request in served(w).asked) == dict.fromkeys(range(8), 1)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_status_that_may_pass_is_asked_again(tmp_path: Path, status: int) -> None:
    with world(tmp_path, on_row(3, Fault("status", status), times=2), rows=8) as w:
        w.run()
        assert Counter(request["x"] for request in served(w).asked) == {
            x: 3 if x == 3 else 1 for x in range(8)
        }


def test_many_wrong_rows_that_are_allowed_do_not_stop_a_run_that_takes_up_the_rest(tmp_path: Path) -> None:
    wrong = frozenset(range(60))
    with world(
        tmp_path, lambda a: Fault("status", 400) if a.request["x"] in wrong else ANSWER, rows=200
    ) as w:
        options = replace(QUICK, attempts=1)
        w.write_rows({(7 * index) % 200: (7 * index) % 200 for index in range(200)})
        with pytest.raises(EvaluationIncomplete, match="60 of the answers"):
            w.write_rows({index: (index + 100) % 200 for index in range(200)})
            w.run(options=options)
        commit = w.run(options=replace(options, max_failed_rows=60))
        assert commit.facts.completeness is not None
        assert commit.facts.completeness.missing == 60


# Retry-After


@pytest.mark.parametrize(
    ("status", "said", "as_date"), [(429, 0.4, False), (503, 0.4, False), (429, 1, False), (429, 2, True)]
)
def test_nobody_asks_before_the_time_that_the_service_named(
    tmp_path: Path, status: int, said: float, as_date: bool
) -> None:
    fault = Fault("status", status, retry_after=said, as_date=as_date)
    with world(tmp_path, on_row(3, fault, times=1), rows=8) as w:
        w.run(w.evaluation(workers=1))
        record = served(w).record
        throttled = next(asked for asked in record if asked.fault is fault)
        assert throttled.until is not None
        assert throttled.until > throttled.at
        assert all(later.at >= throttled.until for later in record[throttled.number + 1 :])


def test_all_workers_stay_away_from_the_replica_that_asked_for_it_and_from_no_other(tmp_path: Path) -> None:
    fault = Fault("status", 429, retry_after=0.5)
    with (
        FaultServer(lambda a: fault if a.number == 0 else ANSWER).running() as one,
        FaultServer().running() as two,
    ):
        w = World(tmp_path, [one.url, two.url], rows=60)
        w.run(w.evaluation(workers=2))
        (throttled,) = (asked for asked in one.record if asked.fault is fault)
        assert throttled.until is not None and throttled.ended is not None
        sent_after = [asked for asked in one.record if asked.at > throttled.ended + 0.1]
        assert all(asked.at >= throttled.until for asked in sent_after)
        assert len(two.record) > 40


def test_a_time_that_is_longer_than_anybody_waits_is_cut(tmp_path: Path) -> None:
    fault = Fault("status", 429, retry_after=1e6)
    with world(tmp_path, on_row(3, fault, times=1), rows=8) as w:
        w.run(options=replace(QUICK, max_retry_after=0.1))
        assert len(served(w).record) == 9


@pytest.mark.parametrize(
    "fault",
    [Fault("status", 429), Fault("status", 503, retry_after=0.01), Fault("status", 429, retry_after=0.01)],
)
def test_too_much_is_none_of_the_attempts_that_a_row_has(tmp_path: Path, fault: Fault) -> None:
    with world(tmp_path, on_row(3, fault, times=4), rows=5) as w:
        w.run(options=replace(QUICK, attempts=1))
        assert Counter(request["x"] for request in served(w).asked)[3] == 5


def test_a_row_that_is_throttled_for_ever_is_given_up_in_the_time_that_a_row_has(tmp_path: Path) -> None:
    with world(tmp_path, on_row(3, Fault("status", 429)), rows=5) as w:
        with pytest.raises(EvaluationIncomplete) as caught:
            w.run(options=replace(QUICK, row_seconds=0.5))
        assert set(caught.value.errors) <= {"status-429", "total-timeout"}


def test_a_row_whose_time_ran_out_while_it_waited_is_not_sent(tmp_path: Path) -> None:
    fault = Fault("status", 429, retry_after=0.5)
    with world(tmp_path, on_row(0, fault, times=1), rows=1) as w:
        with pytest.raises(EvaluationIncomplete) as caught:
            w.run(options=replace(QUICK, row_seconds=0.4))
        assert caught.value.errors == {"total-timeout": 1}
        assert len(served(w).record) == 1


# An endpoint that fails everything


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", 500),
        Fault("status", 503),
        Fault("status", 429),
        Fault("reset"),
        Fault("close"),
        Fault("garbage"),
        Fault("stall"),
        Fault("half-stall"),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}",
)
def test_an_endpoint_that_fails_everything_stops_the_run_and_what_was_answered_is_kept(
    tmp_path: Path, fault: Fault
) -> None:
    with world(tmp_path, lambda asked: ANSWER if asked.number < 10 else fault, rows=500) as w:
        with pytest.raises(EvaluationError, match=r"the service answered nothing for \d+ seconds") as caught:
            w.run(options=replace(IMPATIENT, attempts=100, patience=0.8))
        assert not isinstance(caught.value, EvaluationIncomplete)
        assert len(served(w).record) < 250
        served(w).plan = always_right
        before = len(served(w).record)
        assert w.run().facts.notes["takenUp"] == 10
        assert len(served(w).record) == before + 490


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", 401),
        Fault("status", 402),
        Fault("body", body=b"<html>"),
        Fault("body", body=b'{"z": 1}'),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}-{fault.body.decode()}",
)
def test_an_endpoint_that_answers_every_row_wrongly_after_a_while_stops_the_run(
    tmp_path: Path, fault: Fault
) -> None:
    """A key that is withdrawn in the middle of a run fails each row at once, as fast as the wire is."""
    with world(tmp_path, lambda asked: ANSWER if asked.number < 10 else fault, rows=30_000) as w:
        with pytest.raises(EvaluationError, match=r"no row was answered for \d+ seconds") as caught:
            w.run(options=replace(QUICK, patience=0.3))
        assert not isinstance(caught.value, EvaluationIncomplete)
        assert len(served(w).record) < 30_000
        served(w).plan = always_right
        w.write_rows({index: index for index in range(12)})
        assert w.run().facts.notes["takenUp"] == 10


# Replicas


def test_a_replica_that_dies_is_left_out(tmp_path: Path) -> None:
    def die(asked: Asked) -> None:
        if asked.number == 5:
            one.die()

    with FaultServer(on_request=die).running() as one, FaultServer().running() as two:
        w = World(tmp_path, [one.url, two.url], rows=200)
        commit = w.run(w.evaluation(workers=2))
        assert commit.facts.completeness is not None
        assert commit.facts.completeness.complete
        assert len(one.record) <= 8
        assert one.doubled == two.doubled == []


def test_a_replica_that_comes_back_is_taken_back(tmp_path: Path) -> None:
    """The other one is too busy to answer until the first one has been asked after its return."""
    died, returned = False, False

    def first(asked: Asked) -> None:
        nonlocal died, returned
        if died:
            returned = True
        if asked.number == 5:
            died = True
            one.die(back_in=0.05)

    def second(asked: Asked) -> Fault:
        return Fault("status", 429) if died and not returned else ANSWER

    with FaultServer(on_request=first).running() as one, FaultServer(second).running() as two:
        w = World(tmp_path, [one.url, two.url], rows=200)
        w.run(w.evaluation(workers=2), replace(PATIENT, attempts=30))
        assert returned


# The tail


def test_a_request_that_hangs_at_the_end_is_taken_back_and_sent_anew(tmp_path: Path) -> None:
    with world(tmp_path, on_row(35, Fault("stall"), times=2)) as w:
        w.run(options=replace(PATIENT, tail_timeout=0.2, attempts=1))
        assert Counter(request["x"] for request in served(w).asked)[35] == 3
        assert len(served(w).record) == 42
        assert served(w).doubled == []


def test_a_request_that_hangs_in_the_middle_of_its_reply_is_taken_back_too(tmp_path: Path) -> None:
    with world(tmp_path, on_row(35, Fault("half-stall"), times=1)) as w:
        w.run(options=replace(PATIENT, tail_timeout=0.2, attempts=1))
        assert len(served(w).record) == 41


def test_a_request_that_is_taken_back_uses_up_nothing_of_its_row(tmp_path: Path) -> None:
    """Neither an attempt, nor, where the row's time is shorter than an attempt's, the row itself."""
    with world(tmp_path, on_row(35, Fault("stall"), times=1)) as w:
        w.run(options=replace(PATIENT, tail_timeout=0.2, attempts=1, row_seconds=SECONDS_ENOUGH / 2))
        assert len(served(w).record) == 41


@pytest.mark.parametrize("hanging", [0, 1])
def test_the_last_rows_find_the_replica_that_answers(tmp_path: Path, hanging: int) -> None:
    plans = [always_right, always_right]
    plans[hanging] = lambda asked: ANSWER if asked.number < 5 else Fault("stall")
    with FaultServer(plans[0]).running() as one, FaultServer(plans[1]).running() as two:
        w = World(tmp_path, [one.url, two.url], rows=60)
        w.run(w.evaluation(workers=2), replace(PATIENT, tail_timeout=0.1, attempts=1))
        assert one.doubled == two.doubled == []


def test_a_slow_last_row_is_answered_in_the_end(tmp_path: Path) -> None:
    """It is given twice as long each time."""
    with world(tmp_path, on_row(39, Fault("hold"))) as w:
        server = served(w)

        def let_go(asked: Asked) -> None:
            if asked.request["x"] == 39 and asked.attempt == 2:
                server.release()

        server.on_request = let_go
        w.run(options=replace(PATIENT, tail_timeout=0.1))
        assert Counter(request["x"] for request in server.asked)[39] == 3
        assert server.doubled == []


@pytest.mark.parametrize("seed", range(3))
def test_stalls_that_end_by_the_attempts_time_and_the_tails_at_once(tmp_path: Path, seed: int) -> None:
    """Both clocks ring together, again and again: whichever is first, nothing breaks."""
    options = replace(
        QUICK, attempt_timeout=0.25, tail_timeout=0.25 - seed * 1e-4, idle_timeout=9, attempts=50
    )
    with world(tmp_path, lambda a: Fault("stall") if a.attempt < 3 else ANSWER, rows=6) as w:
        w.run(w.evaluation(workers=6), options)
        assert served(w).doubled == []


# Caps


def test_no_more_is_asked_than_max_requests_over_all_runs(tmp_path: Path, undisturbed: str) -> None:
    with world(tmp_path, passing_faults(1, most=2, stalls=False), copies=2) as w:
        entity = w.evaluation(2, workers=8)
        kept = 0
        for cap in (0, 20, 20, 60, 70):
            with pytest.raises(
                EvaluationIncomplete, match=f"stopped at dyff-dagster/max-requests: {cap}"
            ) as caught:
                w.run(entity, replace(QUICK, max_requests=cap))
            assert len(served(w).record) == cap
            assert caught.value.completeness.answered >= kept
            kept = caught.value.completeness.answered
            assert caught.value.completeness.missing == 80 - kept
            assert sum(pq.read_metadata(part).num_rows for part in w.parts()) == kept
        commit = w.run(entity, replace(QUICK, max_requests=1000))
        assert commit.data_version == undisturbed
        assert commit.facts.notes["takenUp"] == kept
        assert w.summary()["requests"] == len(served(w).record)


def paid(request: dict[str, Any]) -> dict[str, Any]:
    return {"y": 2 * request["x"], "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}}


PRICES = Prices(input=100_000, output=200_000)
"""Two for an answer of :func:`paid`."""


def test_max_cost_stops_a_run_and_counts_all_runs(tmp_path: Path) -> None:
    with world(tmp_path, right=paid) as w:
        entity = w.evaluation(workers=1)
        for cap, answered in ((20.0, 10), (20.0, 10), (40.0, 20)):
            with pytest.raises(EvaluationIncomplete, match=f"max-cost: {cap:g}"):
                w.run(entity, replace(QUICK, max_cost=cap, prices=PRICES))
            assert len(served(w).record) == answered
        commit = w.run(entity, replace(QUICK, max_cost=1000, prices=PRICES))
        assert commit.facts.notes["total"]["cost"] == 80.0
        assert commit.facts.notes["total"]["tokens"] == 600
        assert commit.facts.notes["cost"] == 40.0


def test_max_seconds_counts_all_runs(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        with pytest.raises(EvaluationIncomplete, match="max-requests"):
            w.run(options=replace(QUICK, max_requests=10))
        spent = w.summary()["seconds"]
        with pytest.raises(EvaluationIncomplete, match="max-seconds"):
            w.run(options=replace(QUICK, max_seconds=spent))
        assert len(served(w).record) == 10
        w.run(options=replace(QUICK, max_seconds=spent + SECONDS_ENOUGH))
        assert len(served(w).record) == 40


def test_a_cap_is_not_held_up_by_a_request_that_hangs(tmp_path: Path) -> None:
    with world(tmp_path, on_row(2, Fault("stall"))) as w:
        with pytest.raises(EvaluationIncomplete, match="max-requests: 20") as caught:
            w.run(options=replace(PATIENT, tail_timeout=0.2, max_requests=20))
        assert caught.value.completeness.answered == 19
        assert len(served(w).record) == 20


# Answers that are none


TRUNCATING = parse_answer_rules('[{"class": "truncated", "path": "$.end", "is": ["length"]}]')


def cut_short(request: dict[str, Any]) -> dict[str, Any]:
    return {"y": request["x"], "end": "length" if request["x"] % 10 == 0 else "stop"}


def test_an_accepted_class_travels_with_its_answer(tmp_path: Path) -> None:
    with world(tmp_path, right=cut_short) as w:
        options = replace(QUICK, rules=TRUNCATING, accept=frozenset({"truncated"}))
        commit = w.run(options=options)
        assert {row["_index_"]: row["_class_"] for row in w.answers(commit)} == {
            x: "truncated" if x % 10 == 0 else None for x in range(40)
        }
        assert w.answers(commit)[10]["responses"] == [{"_response_index_": 0, "y": 10}]
        assert commit.facts.notes["accepted"] == {"truncated": 4}


def test_what_is_accepted_no_longer_is_asked_again_and_nothing_else(tmp_path: Path) -> None:
    with world(tmp_path, right=cut_short) as w:
        options = replace(QUICK, rules=TRUNCATING, accept=frozenset({"truncated"}))
        first = w.run(options=options)
        with pytest.raises(EvaluationIncomplete) as caught:
            w.run(options=replace(options, accept=frozenset()))
        assert caught.value.errors == {"truncated": 4}
        assert sorted(request["x"] for request in served(w).asked[40:]) == [0, 10, 20, 30]
        assert w.run(options=options).data_version == first.data_version
        assert len(served(w).record) == 44


def test_a_plain_answer_goes_before_one_that_was_accepted_in_its_place(tmp_path: Path) -> None:
    with world(tmp_path, right=cut_short) as w:
        options = replace(QUICK, rules=TRUNCATING, accept=frozenset({"truncated"}), part_rows=1)
        w.run(options=options)
        served(w).right = lambda request: {"y": -1, "end": "stop"}
        w.run(options=replace(options, accept=frozenset()))
        rows = w.answers(w.run(options=options))
        assert [row["_index_"] for row in rows if row["responses"][0]["y"] == -1] == [0, 10, 20, 30]
        assert {row["_class_"] for row in rows} == {None}


def test_an_error_without_a_reply_may_be_accepted_and_has_no_responses(tmp_path: Path) -> None:
    with world(tmp_path, on_row(7, Fault("status", 451))) as w:
        commit = w.run(options=replace(QUICK, accept=frozenset({"status-451"})))
        row = w.answers(commit)[7]
        assert (row["_class_"], row["responses"]) == ("status-451", [])
        assert commit.facts.completeness is not None
        assert commit.facts.completeness.complete


CHAT = DataSchema.make_output_schema(pa.schema([pa.field("text", pa.string())]))


def chat(reason: str, content: str | None, **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content, **more}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "m",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": reason}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12},
    }


def test_the_chat_preset_tells_answers_from_what_only_looks_like_one(tmp_path: Path) -> None:
    replies = [
        chat("stop", "Paris."),
        chat("length", "Par"),
        chat("content_filter", ""),
        chat("stop", None, refusal="I cannot help with that."),
        chat("stop", "   \n"),
        chat("tool_calls", None, tool_calls=[{"id": "1", "type": "function"}]),
        {"error": {"message": "overloaded", "type": "server_error", "code": None}},
    ]
    pipeline = [SchemaAdapter(kind="TransformJSON", configuration={"text": "$.choices[0].message.content"})]
    with world(tmp_path, right=lambda request: replies[request["x"]], rows=7) as w:
        entity = w.evaluation(outputPipeline=pipeline, outputSchema=CHAT)
        rules = parse_answer_rules('{"preset": "openai-chat"}')
        with pytest.raises(EvaluationIncomplete) as caught:
            w.run(entity, replace(QUICK, rules=rules, attempts=2))
        assert {row["_index_"]: row["class"] for row in w.errors()} == {
            1: "truncated", 2: "filtered", 3: "refusal", 4: "empty", 6: "error-body"
        }  # fmt: skip
        assert caught.value.completeness.answered == 2
        assert Counter(request["x"] for request in served(w).asked)[6] == 2
        # Every reply was paid for, those that are no answers too.
        assert w.summary()["tokens"] == 6 * 12


def test_tokens_and_cost_add_up_over_runs_whatever_became_of_the_replies(tmp_path: Path) -> None:
    plan: Plan = lambda asked: Fault("status", 500) if asked.number == 25 else ANSWER  # noqa: E731
    with world(tmp_path, plan, right=paid) as w:
        options = replace(QUICK, attempts=1, prices=replace(PRICES, request=1.0))
        with pytest.raises(EvaluationIncomplete):
            w.run(w.evaluation(workers=1), options)
        commit = w.run(w.evaluation(workers=1), options)
        summary = w.summary()
        assert (summary["inputTokens"], summary["outputTokens"], summary["tokens"]) == (400, 200, 600)
        assert summary["cost"] == 41 * 1.0 + 40 * 2.0
        assert commit.facts.notes["cost"] == 3.0
        assert summary["runs"] == 2


# What is not asked again


def test_answers_of_other_evaluations_are_taken_over_by_key(tmp_path: Path) -> None:
    with world(tmp_path, copies=2) as w:
        w.run(w.evaluation(2, id="eval-1"))
        w.write_rows({index + 1000: index for index in range(30, 50)})
        commit = w.run(w.evaluation(2, id="eval-2"), replace(QUICK, reuse=True))
        assert sorted(request["x"] for request in served(w).asked[80:]) == sorted([*range(40, 50)] * 2)
        assert commit.facts.notes["reusedAnswers"] == 20
        assert commit.facts.completeness is not None
        assert commit.facts.completeness.complete
        assert all(row["responses"][0]["y"] == 2 * (row["_index_"] - 1000) for row in w.answers(commit))


@pytest.mark.parametrize(
    ("reuse", "service", "replications"),
    [(False, "service-1", 1), (True, "service-2", 1), (True, "service-1", 2)],
)
def test_answers_of_other_evaluations_stay_where_the_key_is_another(
    tmp_path: Path, reuse: bool, service: str, replications: int
) -> None:
    with world(tmp_path, copies=2) as w:
        w.run(w.evaluation(id="eval-1"))
        w.run(w.evaluation(replications, id="eval-2"), replace(QUICK, reuse=reuse), service=service)
        assert len(served(w).record) == 80


def numbered() -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A service that never says the same twice."""
    counter = itertools.count()
    return lambda request: {"y": next(counter)}


def said(w: World, commit: Any) -> list[int]:
    return [row["responses"][0]["y"] for row in w.answers(commit)]


def test_rows_that_ask_the_same_get_answers_of_their_own(tmp_path: Path) -> None:
    with world(tmp_path, right=numbered(), copies=40) as w:
        w.write_rows(dict.fromkeys(range(10), 5))
        w.run(w.evaluation(id="eval-1"))
        w.write_rows(dict.fromkeys(range(100, 114), 5))
        commit = w.run(w.evaluation(id="eval-2"), replace(QUICK, reuse=True))
        assert commit.facts.notes["reusedAnswers"] == 10
        assert len(served(w).record) == 14
        assert len(set(said(w, commit))) == 14


def test_an_answer_that_was_taken_over_is_not_taken_over_for_another_row_later(tmp_path: Path) -> None:
    with world(tmp_path, right=numbered(), copies=40) as w:
        w.write_rows({0: 5})
        w.run(w.evaluation(id="eval-1"))
        w.write_rows({100: 5})
        w.run(w.evaluation(id="eval-2"), replace(QUICK, reuse=True))
        w.write_rows({100: 5, 101: 5})
        commit = w.run(w.evaluation(id="eval-2"), replace(QUICK, reuse=True))
        assert len(set(said(w, commit))) == 2


def test_a_copy_of_an_answer_is_no_second_answer(tmp_path: Path) -> None:
    with world(tmp_path, right=numbered(), copies=40) as w:
        w.write_rows({0: 5})
        w.run(w.evaluation(id="eval-1"))
        w.run(w.evaluation(id="eval-2"), replace(QUICK, reuse=True))
        w.write_rows({0: 5, 1: 5})
        commit = w.run(w.evaluation(id="eval-3"), replace(QUICK, reuse=True))
        assert len(set(said(w, commit))) == 2


def test_what_the_change_of_a_pipeline_does_not_touch_is_kept(tmp_path: Path) -> None:
    def pipeline(**fields: str) -> list[SchemaAdapter]:
        return [SchemaAdapter(kind="TransformJSON", configuration={"x": "$.x", **fields})]

    with world(tmp_path) as w:
        w.version = "v1"
        first = w.run(w.evaluation(inputPipeline=pipeline()))
        assert w.run(w.evaluation()).data_version == first.data_version
        assert len(served(w).record) == 40
        w.run(w.evaluation(inputPipeline=pipeline(tag="new")))
        assert len(served(w).record) == 80
        assert w.run(w.evaluation(inputPipeline=pipeline())).data_version == first.data_version
        assert len(served(w).record) == 80


def test_rows_that_are_added_moved_removed_and_edited_cost_what_is_new(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        w.version = "v1"
        w.run()
        values = {index: index for index in reversed(range(5, 40))} | {-3: 7, 50: 8, 6: 1000}
        w.version = "v2"
        w.write_rows(values, files=3)
        commit = w.run()
        assert sorted(request["x"] for request in served(w).asked[40:]) == [7, 8, 1000]
        assert {row["_index_"]: row["responses"][0]["y"] for row in w.answers(commit)} == {
            index: 2 * x for index, x in values.items()
        }


# Secrets


@pytest.mark.parametrize("secret", ["hunter2-hunter2", "k" * 41])
def test_a_secret_that_the_service_says_again_and_again_is_not_stored(tmp_path: Path, secret: str) -> None:
    with world(tmp_path, lambda a: Fault("status", 400, f"{'.' * 3}{secret * 300}".encode()), rows=5) as w:
        w.headers = {"Authorization": f"Bearer {secret}"}
        with pytest.raises(EvaluationIncomplete):
            w.run()
        for row in w.errors():
            assert secret[:8] not in json.dumps(row)
