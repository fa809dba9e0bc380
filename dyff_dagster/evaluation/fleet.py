"""Several client processes, where the wire is faster than one core of this machine.

The plan stays here: this process makes the requests and deals them out. Each client process sends its share,
writes its answers into the same parts, and says what it counts. They talk through a socket that this process
makes, with a key of its own; whatever ends this process ends them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any

from dyff_dagster.evaluation.errors import EvaluationError
from dyff_dagster.evaluation.options import EvaluationOptions
from dyff_dagster.evaluation.parts import Parts
from dyff_dagster.evaluation.requests import Request
from dyff_dagster.evaluation.summary import Summary
from dyff_dagster.evaluation.tally import Tally
from dyff_dagster.processes import AttachedProcess, clean_environment, start_guarded, tail, terminate_all
from dyff_dagster.schema.platform import InferenceInterface
from dyff_dagster.sessions import Replica, Session, SessionError

Pending = Iterator[tuple[int, Request]]
KEY = "DYFF_CLIENT_KEY"

_CHUNK = 32
"""Requests that are handed over at once."""
_AHEAD = 8
"""Chunks that wait at a client process, so that the wire never waits for the next one."""
_SECONDS_TO_START = 60.0
_SECONDS_BETWEEN_LOOKS = 0.25
_SECONDS_BETWEEN_SUMMARIES = 2.0


class Fleet:
    """Client processes that share one evaluation.

    Args:
        number: How many.
        session: Where requests go.
        interface: How they are read.
        options: As for one client; caps are shared out.
        parts: Where answers go.
        workers: Requests in flight at once, over all of them.
        tally: Counts what all of them do.
        summary: What the runs before this one did.
        report: Called now and then with the number of requests in flight.
        directory: Where the processes' logs go.
        bearable: How many rows may fail.
    """

    def __init__(
        self,
        number: int,
        session: Session,
        interface: InferenceInterface,
        options: EvaluationOptions,
        parts: Parts,
        workers: int,
        tally: Tally,
        summary: Summary,
        report: Callable[[int], None],
        directory: Path,
        bearable: int = 0,
    ) -> None:
        self._number = max(1, min(number, workers))
        self._session = session
        self._interface = interface
        self._options = options
        self._parts = parts
        self._workers = workers
        self._summary = summary
        self._report = report
        self._directory = directory
        self._bearable = bearable
        self._lock = threading.Lock()
        self._error: BaseException | None = None
        self._snapshots: dict[int, dict[str, Any]] = {}
        self._sending = threading.Lock()
        self._replicas: dict[str, Replica] = {}
        self._places = (list(session.urls), list(session.urls))
        self.tally = tally
        self.stopped: str | None = None
        """The cap that ended it early, as an author wrote it."""

    def ask_all(self, pending: Pending) -> None:
        """Ask for each (replication, request); what was answered is durable when this returns or raises.

        Raises:
            SessionError: The service died.
            EvaluationError: The endpoint fails everything, or a client process died.
        """
        self.tally.started = time.monotonic()
        # Known before anybody is asked: one that is busy at the first look later on must not be taken for ended.
        self._follow()
        key = secrets.token_bytes(32)
        with tempfile.TemporaryDirectory(prefix="dyff-") as directory, contextlib.ExitStack() as stack:
            address = str(Path(directory) / "socket")  # the directory is this user's alone
            listener = stack.enter_context(Listener(address, "AF_UNIX", backlog=self._number, authkey=key))
            processes = [self._start(address, key, number) for number in range(self._number)]
            stack.callback(terminate_all, processes)
            try:
                connections = self._connect(listener, processes)
                self._work(connections, processes, pending)
            finally:
                self.tally.seconds = time.monotonic() - self.tally.started

    def _start(self, address: str, key: bytes, number: int) -> AttachedProcess:
        log = self._directory / f"client-{number}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        return start_guarded(
            [sys.executable, "-m", "dyff_dagster.evaluation.client_process", address],
            cwd=self._directory,
            env=clean_environment(
                {KEY: key.hex(), "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
                keep=self._parts.store.variables(os.environ),  # it writes parts
            ),
            stdout=log,
            stderr=log,
            grace=30.0,
        )

    def _connect(self, listener: Listener, processes: list[AttachedProcess]) -> list[Connection]:
        """One connection for each process; a process that dies before it calls is told of."""
        arrived: list[Connection] = []

        def accept() -> None:
            while len(arrived) < len(processes):
                arrived.append(listener.accept())

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        deadline = time.monotonic() + _SECONDS_TO_START
        while thread.is_alive() and time.monotonic() < deadline:
            thread.join(_SECONDS_BETWEEN_LOOKS)
            for number, process in enumerate(processes):
                if process.poll() is not None:
                    raise self._died(number)
        if thread.is_alive():
            raise EvaluationError(f"client processes did not start in {_SECONDS_TO_START:.0f} seconds")
        return arrived

    def _died(self, number: int) -> EvaluationError:
        log = self._directory / f"client-{number}.log"
        return EvaluationError(
            f"client process {number} ended too early; its log is {log}, its last line: {tail(log, 1).strip()}"
        )

    def _work(
        self, connections: list[Connection], processes: list[AttachedProcess], pending: Pending
    ) -> None:
        ended = [threading.Event() for _ in connections]
        threads = []
        for number, connection in enumerate(connections):
            connection.send(self._job(number))
            wanted = threading.Semaphore(_AHEAD)
            feed = (connection, pending, wanted, ended[number])
            listen = (number, connection, wanted, ended[number])
            threads += [
                threading.Thread(target=self._feed, args=feed, daemon=True),
                threading.Thread(target=self._listen, args=listen, daemon=True),
            ]
        for thread in threads:
            thread.start()
        due = time.monotonic() + _SECONDS_BETWEEN_SUMMARIES
        try:
            while not all(event.wait(_SECONDS_BETWEEN_LOOKS) for event in ended) and self._error is None:
                self._check_session(connections)
                self._add_up()
                self._report(sum(snapshot["inFlight"] for snapshot in self._snapshots.values()))
                if time.monotonic() >= due:
                    due = time.monotonic() + _SECONDS_BETWEEN_SUMMARIES
                    self._summary.write(self.tally)
        finally:
            # A process that loses its connection writes what it has, and ends.
            for connection in connections:
                _hang_up(connection)
            for process in processes:
                with contextlib.suppress(TimeoutError):
                    process.wait(30.0)
            self._add_up()
        if self._error is not None:
            raise self._error

    def _check_session(self, connections: list[Connection]) -> None:
        """A replica that has ended is left out by whoever finds it refuse; where all have, there is no going on.

        Where replicas come and go, the client processes are told.
        """
        if self._session.moving is not None:
            if self._follow():
                for connection in connections:
                    with contextlib.suppress(OSError):  # whoever listens to it knows why
                        self._send(connection, ("places", *self._places))
            return
        replicas = self._session.replicas
        ended: list[SessionError] = []
        for replica in replicas:
            try:
                replica.check()
            except SessionError as error:
                ended.append(error)
        if ended and len(ended) == len(replicas):
            raise ended[0]

    def _follow(self) -> bool:
        """Where requests may go now and which replicas have not ended, where they come and go; whether it is new.

        Raises:
            SessionError: The session has ended.
        """
        if self._session.moving is None:
            return False
        places = dict(self._session.moving(self.tally.answered))
        self._replicas |= places
        self._replicas = {url: r for url, r in self._replicas.items() if url in places or _lives(r)}
        before, self._places = self._places, (list(places), list(self._replicas))
        return self._places != before

    def _job(self, number: int) -> dict[str, Any]:
        """What a client process needs to know."""
        options, share = self._options, 1 / self._number
        if options.max_requests is not None:
            left = max(0, options.max_requests - self._summary.requests(self.tally))
            each, rest = divmod(left, self._number)
            options = dataclasses.replace(options, max_requests=each + (number < rest))
        if options.max_cost is not None:
            left_cost = max(0.0, options.max_cost - self._summary.cost(self.tally))
            options = dataclasses.replace(options, max_cost=left_cost * share)
        if options.max_seconds is not None:
            left_seconds = max(0.0, options.max_seconds - self._summary.seconds(self.tally))
            options = dataclasses.replace(options, max_seconds=left_seconds)
        each, rest = divmod(self._workers, self._number)
        return {
            "root": str(self._parts.store.root),
            "entity": self._parts.entity_id,
            "service": self._parts.service_digest,
            "generation": self._parts.generation,
            "session": (self._session.id, self._places[0], self._session.headers, self._directory),
            "moving": self._session.moving is not None,
            "interface": self._interface.model_dump_json(),
            "options": options,
            "workers": each + (number < rest),
            "bearable": self._bearable,
        }

    def _feed(
        self,
        connection: Connection,
        pending: Pending,
        wanted: threading.Semaphore,
        ended: threading.Event,
    ) -> None:
        """Deal out requests, as many as a process asks for: what else it must hear never stands behind them."""
        try:
            while not ended.is_set() and self._error is None and self.stopped is None:
                if not wanted.acquire(timeout=_SECONDS_BETWEEN_LOOKS):
                    continue
                with self._lock:
                    chunk = [item for _, item in zip(range(_CHUNK), pending, strict=False)]
                self._send(connection, chunk)
                if not chunk:
                    return
            self._send(connection, [])
        except (BrokenPipeError, ConnectionError, OSError):
            return  # whoever listens to it knows why
        except BaseException as error:
            self._error = self._error or error

    def _send(self, connection: Connection, message: object) -> None:
        """Two threads have something to say to a client process, and a message must stay whole."""
        with self._sending:
            connection.send(message)

    def _listen(
        self, number: int, connection: Connection, wanted: threading.Semaphore, ended: threading.Event
    ) -> None:
        try:
            while True:
                kind, content = connection.recv()
                if kind == "more":
                    wanted.release()
                elif kind == "failed":
                    with self._lock:
                        self.tally.failed.add(content)
                elif kind == "counts":
                    self._snapshots[number] = content
                elif kind == "error":
                    raise content
                else:
                    self.stopped = self.stopped or self._cap(content)
                    return
        except (EOFError, ConnectionError):
            self._error = self._error or self._died(number)
        except BaseException as error:
            self._error = self._error or error
        finally:
            ended.set()

    def _cap(self, name: str | None) -> str | None:
        """A cap by its name, with what the author wrote and not with a process's share of it."""
        if name is None:
            return None
        value = getattr(self._options, name.replace("-", "_"))
        return f"{name}: {value:g}"

    def _add_up(self) -> None:
        snapshots = list(self._snapshots.values())
        tally = self.tally
        for name in ("answered", "requests", "retries", "bytes"):
            setattr(tally, name, sum(snapshot[name] for snapshot in snapshots))
        for name in ("input", "output", "counted"):
            setattr(tally.usage, name, sum(snapshot["usage"][name] for snapshot in snapshots))
        tally.accepted.clear()
        tally.latencies.clear()
        for snapshot in snapshots:
            tally.accepted.update(snapshot["accepted"])
            tally.latencies.merge(snapshot["latencies"], snapshot["longest"])


def _lives(replica: Replica) -> bool:
    """Whether it has not ended; it need not take requests just now."""
    try:
        replica.check()
    except SessionError:
        return False
    return True


def _hang_up(connection: Connection) -> None:
    """Close a connection also for a thread that is reading from it."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as end:
        end.shutdown(socket.SHUT_RDWR)
    connection.close()
