"""How many requests are in flight and where, and how long they took; in a time that passes by itself."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Iterator
from typing import Any

import numpy as np
import pytest

from dyff_dagster.evaluation.latency import Latencies
from dyff_dagster.evaluation.replies import retry_after
from dyff_dagster.evaluation.traffic import Endpoint, Traffic


class VirtualTime(asyncio.SelectorEventLoop):
    """A loop whose clock jumps to the next timer; where there is none and nobody can go on, it says so."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        if not self._ready:
            moments = [timer.when() for timer in self._scheduled if not timer.cancelled()]
            assert moments, "everybody waits, and nothing will wake anybody"
            self.now = max(self.now, min(moments))
        # As every real clock it goes on by itself: a timer may ring a rounding error before its moment.
        self.now += 1e-7
        super()._run_once()


@pytest.fixture
def loop() -> Iterator[VirtualTime]:
    random.seed(0)  # for the length of pauses
    loop = VirtualTime()
    yield loop
    loop.close()


def traffic(loop: VirtualTime, replicas: int, most: int) -> Traffic:
    return Traffic([f"http://r{number}" for number in range(replicas)], most, loop.time)


def play(loop: VirtualTime, scene: Coroutine[Any, Any, None]) -> None:
    loop.run_until_complete(asyncio.wait_for(scene, 20_000))


def test_each_request_goes_to_the_replica_with_the_fewest(loop: VirtualTime) -> None:
    async def scene() -> None:
        t = traffic(loop, 3, 9)
        places = [await t.enter() for _ in range(9)]
        assert [e.in_flight for e in t.endpoints] == [3, 3, 3]
        t.leave(places[1])
        assert (await t.enter()) is places[1]

    play(loop, scene())


def test_of_replicas_with_as_many_the_one_whose_turn_is_longest_ago_is_next(loop: VirtualTime) -> None:
    async def scene() -> None:
        t = traffic(loop, 2, 4)
        used = []
        for _ in range(4):
            endpoint = await t.enter()
            used.append(endpoint.number)
            t.leave(endpoint)
        assert used == [0, 1, 0, 1]

    play(loop, scene())


def test_no_more_are_in_flight_than_may_be(loop: VirtualTime) -> None:
    async def scene() -> None:
        t = traffic(loop, 1, 200)  # there is no cap at 100
        for _ in range(200):
            await asyncio.wait_for(t.enter(), 1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(t.enter(), 1)
        assert t.in_flight == 200

    play(loop, scene())


def test_too_much_halves_what_is_in_flight_once_and_each_round_of_answers_adds_one(loop: VirtualTime) -> None:
    async def scene() -> None:
        t = traffic(loop, 1, 16)
        places = [await t.enter() for _ in range(16)]
        sent = loop.time()
        await asyncio.sleep(1)
        for endpoint in places[:8]:  # all were in flight together: they say the same thing once
            t.throttled(endpoint, sent)
        assert t.limit == 8
        t.throttled(places[8], loop.time())
        assert t.limit == 4
        for endpoint in places:
            t.leave(endpoint)
        for _ in range(4):
            t.succeeded(t.endpoints[0])
        assert 4.9 <= t.limit <= 5
        for _ in range(400):
            t.succeeded(t.endpoints[0])
        assert t.limit == 16

    play(loop, scene())


def test_it_never_stops_altogether(loop: VirtualTime) -> None:
    async def scene() -> None:
        t = traffic(loop, 1, 16)
        for _ in range(50):
            endpoint = await t.enter()
            t.throttled(endpoint, loop.time())
            t.leave(endpoint)
            await asyncio.sleep(1)
        assert t.limit == 1
        assert await t.enter()

    play(loop, scene())


def test_a_replica_that_refuses_is_left_out_for_longer_and_longer_and_one_request_finds_out(
    loop: VirtualTime,
) -> None:
    async def scene() -> None:
        t = traffic(loop, 1, 8)
        pauses = []
        for _ in range(12):
            before = loop.time()
            endpoint = await t.enter()
            pauses.append(loop.time() - before)
            t.refused(endpoint)
            t.leave(endpoint)
        assert pauses[:3] == [0, 0, 0]
        for number, pause in enumerate(pauses[3:]):
            assert 0.75 * min(30, 0.5 * 2**number) <= pause <= 1.25 * min(30, 0.5 * 2**number) + 1e-3
        probe = await t.enter()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(t.enter(), 100)
        others = [asyncio.create_task(t.enter()) for _ in range(7)]
        await asyncio.sleep(0)
        t.succeeded(probe)  # it is back: all may go
        await asyncio.wait_for(asyncio.gather(*others), 0.1)

    play(loop, scene())


def test_who_waits_for_one_replica_is_not_held_up_by_another_that_is_closed_for_longer(
    loop: VirtualTime,
) -> None:
    async def scene() -> None:
        t = traffic(loop, 2, 2)
        one, two = await t.enter(), await t.enter()
        waiting = asyncio.create_task(t.enter())
        t.throttled(one, -1, retry_after=300.0)
        t.leave(one)
        await asyncio.sleep(0.1)  # whoever waits has seen that, and has set an alarm
        for _ in range(3):
            t.refused(two)
        t.leave(two)
        assert (await waiting) is two
        assert loop.time() < 2

    play(loop, scene())


def test_a_replica_that_asked_to_be_left_alone_is(loop: VirtualTime) -> None:
    async def scene() -> None:
        t = traffic(loop, 2, 4)
        one = await t.enter()
        t.throttled(one, -1, retry_after=7.0)
        t.leave(one)
        t.limit = 4.0
        others = [await t.enter() for _ in range(4)]
        assert one not in others
        for endpoint in others:
            t.leave(endpoint)
        await asyncio.sleep(7)
        assert (await t.enter()) is one

    play(loop, scene())


def test_silence_counts_from_the_last_answer_and_not_while_it_was_asked_for(loop: VirtualTime) -> None:
    async def scene() -> None:
        t = traffic(loop, 1, 4)
        endpoint = await t.enter()
        await asyncio.sleep(5)
        assert t.silence() == pytest.approx(5, abs=1e-3)
        t.throttled(endpoint, 0, retry_after=100.0)
        await asyncio.sleep(110)
        assert t.silence() == pytest.approx(10, abs=1e-3)
        t.succeeded(endpoint)
        assert (t.silence(), t.failures) == (0, 0)

    play(loop, scene())


def test_a_replica_that_is_lost_is_never_asked_again(loop: VirtualTime) -> None:
    async def scene() -> None:
        t = traffic(loop, 2, 8)
        t.lost(t.endpoints[0])
        assert {(await t.enter()).number for _ in range(8)} == {1}

    play(loop, scene())


@pytest.mark.parametrize("seed", range(60))
def test_everybody_gets_through_and_no_rule_is_broken_whatever_replicas_do(
    loop: VirtualTime, seed: int
) -> None:
    chance = random.Random(seed)
    replicas, most, workers = chance.randint(1, 4), chance.randint(1, 12), chance.randint(1, 16)
    t = traffic(loop, replicas, most)
    done = 0

    async def worker() -> None:
        nonlocal done
        for _ in range(25):
            endpoint = await t.enter()
            check(endpoint)
            try:
                sent = loop.time()
                await asyncio.sleep(chance.choice([0, 0.001, 0.1, 1, 10]))
                happen(endpoint, sent)
            finally:
                t.leave(endpoint)
            done += 1

    def check(endpoint: Endpoint) -> None:
        assert not endpoint.gone
        assert endpoint.closed_until <= loop.time()
        assert t.in_flight <= max(1, int(t.limit))
        assert endpoint.refusals < 3 or endpoint.in_flight == 1
        assert t.in_flight == sum(e.in_flight for e in t.endpoints)

    def happen(endpoint: Endpoint, sent: float) -> None:
        what = chance.random()
        if what < 0.5:
            t.succeeded(endpoint)
        elif what < 0.6:
            t.throttled(endpoint, sent)
        elif what < 0.7:
            t.throttled(endpoint, sent, chance.choice([0.0, 0.5, 60.0]))
        elif what < 0.95:
            t.refused(endpoint)
        elif sum(not e.gone for e in t.endpoints) > 1:
            t.lost(endpoint)
        else:
            t.failed()

    async def give_up_now_and_then() -> None:
        """Someone who waits is cancelled, also in the moment in which it is their turn."""
        while done < 25 * workers:
            waiting = asyncio.create_task(t.enter())
            await asyncio.sleep(chance.choice([0, 0.5, 5]))
            waiting.cancel()
            if isinstance(endpoint := (await asyncio.gather(waiting, return_exceptions=True))[0], Endpoint):
                t.leave(endpoint)

    async def scene() -> None:
        await asyncio.gather(give_up_now_and_then(), *(worker() for _ in range(workers)))
        assert done == 25 * workers
        assert t.in_flight == 0

    play(loop, scene())


@pytest.mark.parametrize("seed", range(30))
def test_nobody_waits_while_somebody_could_be_asked(loop: VirtualTime, seed: int) -> None:
    """Whenever all is quiet, either nobody waits or nothing is free."""
    chance = random.Random(seed)
    t = traffic(loop, chance.randint(1, 3), chance.randint(1, 6))
    waiting = 0

    async def worker() -> None:
        nonlocal waiting
        for _ in range(20):
            waiting += 1
            endpoint = await t.enter()
            waiting -= 1
            sent = loop.time()
            await asyncio.sleep(chance.choice([0.5, 1, 2.5]))
            if (what := chance.random()) < 0.5:
                t.succeeded(endpoint)
            elif what < 0.75:
                t.throttled(endpoint, sent, chance.choice([None, 3.0, 40.0]))
            else:
                t.refused(endpoint)
            t.leave(endpoint)

    async def look() -> None:
        while True:
            await asyncio.sleep(0.3)
            for _ in range(10):  # let all who can go on
                await asyncio.sleep(0)
            now = loop.time()
            free = [e for e in t.endpoints if e.closed_until <= now and (e.refusals < 3 or not e.in_flight)]
            room = t.in_flight < int(t.limit) or not t.in_flight
            assert not (waiting and free and room)

    async def scene() -> None:
        looking = asyncio.create_task(look())
        working = asyncio.gather(*(worker() for _ in range(8)))
        await asyncio.wait([looking, working], return_when=asyncio.FIRST_COMPLETED)
        if looking.done():
            looking.result()
        looking.cancel()
        await working

    play(loop, scene())


# Retry-After


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("100000", 60.0),
        ("inf", 60.0),
        ("nan", None),
        ("soon", None),
        ("", None),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 60.0),
        ("Fri, 99 Dec 9999 23:59:59 GMT", None),
    ],
)
def test_retry_after_is_read_as_the_rfc_has_it_and_cut(said: str, seconds: float | None) -> None:
    assert retry_after({"Retry-After": said}, 60.0) == seconds


def test_without_a_header_nobody_asked() -> None:
    assert retry_after({}, 60.0) is None


# Latencies


@pytest.mark.parametrize("seed", range(10))
def test_quantiles_are_right_to_two_percent(seed: int) -> None:
    random_ = np.random.default_rng(seed)
    seconds = random_.lognormal(mean=random_.uniform(-7, 3), sigma=random_.uniform(0, 2), size=2000)
    seconds = seconds.clip(2e-5, 20_000)
    found = Latencies()
    for value in seconds:
        found.add(float(value))
    for q in (0.01, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0):
        exact = np.quantile(seconds, q, method="inverted_cdf")
        assert found.quantile(q) == pytest.approx(exact, rel=0.02), q


def test_no_request_has_no_quantile_and_no_plot() -> None:
    assert Latencies().quantile(0.5) is None
    assert Latencies().plot() == ""


def test_durations_out_of_all_bounds_are_counted_too() -> None:
    found = Latencies()
    for value in (0.0, -1.0, 1e9):
        found.add(value)
    assert found.count == 3
    assert found.quantile(0.1) is not None


def test_counts_of_two_processes_merge_into_those_of_one() -> None:
    one, two, all_ = Latencies(), Latencies(), Latencies()
    for number in range(200):
        (one if number % 3 else two).add(number / 100)
        all_.add(number / 100)
    one.merge(two.counts(), two.longest)
    assert (one.counts(), one.count, one.longest) == (all_.counts(), all_.count, all_.longest)
