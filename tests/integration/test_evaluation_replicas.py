"""Sessions whose replicas come and go while an evaluation uses them, as on a cluster."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from dyff_dagster.sessions import SessionError
from tests.integration.evaluation_support import QUICK, World
from tests.integration.fault_server import ANSWER, Asked, Fault, FaultServer

ROWS = 120
SECONDS_WITHOUT = 1.5
"""Between the end of a replica and the next one."""


@dataclass
class Replica:
    """One of them.

    Attributes:
        base_url: Where it answers.
        ended: Whether it has.
    """

    base_url: str
    ended: bool = False

    def check(self) -> None:
        if self.ended:
            raise SessionError(f"{self.base_url} has ended")

    def log_tail(self, lines: int = 20) -> str:
        return ""


@dataclass
class Replicas:
    """What there is, as a cluster would say it.

    Attributes:
        all: Every one that there was.
        unready: Addresses that take no requests just now, and have not ended.
        over: Why the session has ended, where it has.
    """

    all: list[Replica] = field(default_factory=list)
    unready: set[str] = field(default_factory=set)
    over: str = ""

    def __call__(self, answered: int) -> list[tuple[str, Replica]]:
        if self.over:
            raise SessionError(self.over)
        return [(r.base_url, r) for r in self.all if not r.ended and r.base_url not in self.unready]

    def lose(self, server: FaultServer, *, breaks: bool = True) -> None:
        """A replica ends; where its whole node did, its connections stay."""
        for each in self.all:
            if each.base_url == server.url:
                each.ended = True
        if breaks:
            server.die()

    def later(self, server: FaultServer) -> None:
        """Another comes up after a while."""
        timer = threading.Timer(SECONDS_WITHOUT, lambda: self.all.append(Replica(server.url)))
        timer.daemon = True
        timer.start()


@contextmanager
def servers(*made: FaultServer) -> Iterator[None]:
    with ExitStack() as stack:
        for server in made:
            stack.enter_context(server.running())
        yield


def world(directory: Path, replicas: Replicas, first: FaultServer, rows: int = ROWS) -> World:
    replicas.all.append(Replica(first.url))
    w = World(directory, [first.url], rows)
    w.moving = replicas
    return w


def undisturbed(directory: Path, rows: int = ROWS) -> str:
    with FaultServer().running() as server:
        return World(directory, [server.url], rows).run().data_version


# More rows than client processes have asked for when the replica goes, and so few that they have them all.
@pytest.mark.parametrize(("processes", "rows"), [(1, ROWS), (2, 40), (2, 1200)])
def test_a_replica_is_replaced_and_the_answers_are_the_same(
    tmp_path: Path, processes: int, rows: int
) -> None:
    expected = undisturbed(tmp_path / "undisturbed", rows)
    replicas = Replicas()
    first, second = FaultServer(), FaultServer()

    def end(asked: Asked) -> None:
        if asked.number == 20:
            replicas.lose(first)
            replicas.later(second)

    first.on_request = end
    with servers(first, second):
        w = world(tmp_path / "world", replicas, first, rows)
        commit = w.run(options=replace(QUICK, processes=processes, attempts=3))
        assert commit.data_version == expected
        # In flight were four at most, and these alone are asked twice.
        assert len(first.record) + len(second.record) <= rows + 4
        assert second.record


@pytest.mark.parametrize("processes", [1, 2])
def test_what_a_replica_was_asked_that_vanished_is_asked_of_another(tmp_path: Path, processes: int) -> None:
    """Its connections are not even broken, and an attempt may take hours."""
    expected = undisturbed(tmp_path / "undisturbed")
    replicas = Replicas()
    first, second = FaultServer(lambda asked: ANSWER if asked.number < 20 else Fault("stall")), FaultServer()

    def end(asked: Asked) -> None:
        if asked.number == 20:
            replicas.lose(first, breaks=False)
            replicas.later(second)

    first.on_request = end
    patient = replace(
        QUICK, attempt_timeout=3600, idle_timeout=3600, tail_timeout=3600, last_words=0.5, attempts=1
    )
    with servers(first, second):
        w = world(tmp_path / "world", replicas, first)
        assert w.run(options=replace(patient, processes=processes)).data_version == expected
        assert len(second.record) == ROWS - 20


@pytest.mark.parametrize("processes", [1, 2])
def test_a_replica_that_only_takes_no_more_requests_is_waited_for(tmp_path: Path, processes: int) -> None:
    """A model that is busy does not answer its probe, and is not dead: what it was asked is not asked again."""
    expected = undisturbed(tmp_path / "undisturbed")
    replicas = Replicas()
    server = FaultServer(lambda asked: ANSWER if asked.number < 20 else Fault("hold"))

    def ready_again() -> None:
        server.release()
        replicas.unready.clear()  # a client process that started meanwhile has heard of no replica yet

    def busy(asked: Asked) -> None:
        if asked.number == 20:
            replicas.unready.add(server.url)
            timer = threading.Timer(3.0, ready_again)
            timer.daemon = True
            timer.start()

    server.on_request = busy
    with servers(server):
        w = world(tmp_path / "world", replicas, server)
        options = replace(QUICK, attempt_timeout=60, idle_timeout=60, tail_timeout=60, last_words=0.5)
        assert w.run(options=replace(options, processes=processes)).data_version == expected
        assert len(server.record) == ROWS


def test_connections_that_are_never_made_are_no_attempts_while_another_replica_is_on_its_way(
    tmp_path: Path,
) -> None:
    """The address of a pod that is gone swallows packets, and says nothing."""
    expected = undisturbed(tmp_path / "undisturbed")
    replicas = Replicas()
    second = FaultServer()
    with servers(second), swallowing() as url:
        replicas.all.append(Replica(url))
        w = World(tmp_path / "world", [url], ROWS)
        w.moving = replicas

        def replaced() -> None:
            replicas.all[0].ended = True
            replicas.all.append(Replica(second.url))

        timer = threading.Timer(2.5, replaced)
        timer.daemon = True
        timer.start()
        commit = w.run(options=replace(QUICK, connect_timeout=0.4, attempts=2))
        assert commit.data_version == expected


@pytest.mark.parametrize("processes", [1, 2])
def test_a_session_that_ends_ends_the_evaluation_which_keeps_its_answers(
    tmp_path: Path, processes: int
) -> None:
    expected = undisturbed(tmp_path / "undisturbed")
    replicas = Replicas()
    server = FaultServer(lambda asked: ANSWER if asked.number < 40 else Fault("stall"))
    other = FaultServer()

    def end(asked: Asked) -> None:
        if asked.number == 40:
            replicas.over = "its time was up"

    server.on_request = end
    options = replace(QUICK, attempt_timeout=600, tail_timeout=600, idle_timeout=600, processes=processes)
    with servers(server, other):
        w = world(tmp_path / "world", replicas, server)
        with pytest.raises(SessionError, match="its time was up"):
            w.run(options=options)
        replicas.over = ""
        replicas.lose(server)
        replicas.all.append(Replica(other.url))
        assert w.run(options=options).data_version == expected
        assert len(other.record) == ROWS - 40


@contextmanager
def swallowing() -> Iterator[str]:
    """An address where connections are neither made nor refused: its queue is full, and nobody takes them out."""
    with ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        waiting = time.monotonic() + 10
        while time.monotonic() < waiting:
            caller = stack.enter_context(socket.socket())
            caller.settimeout(0.3)
            try:
                caller.connect(address)
            except TimeoutError:
                break
        else:
            pytest.skip("this system takes connections beyond the queue's length")
        yield f"http://127.0.0.1:{address[1]}/answer"
