"""A client process: sends the requests that it is handed, and says what it counts. See ``fleet``."""

from __future__ import annotations

import dataclasses
import os
import queue
import signal
import sys
import threading
from collections.abc import Iterator
from multiprocessing.connection import Client as connect
from multiprocessing.connection import Connection
from typing import Any

from dyff_dagster.evaluation.client import Client
from dyff_dagster.evaluation.errors import EvaluationError
from dyff_dagster.evaluation.fleet import KEY
from dyff_dagster.evaluation.options import EvaluationOptions
from dyff_dagster.evaluation.parts import Parts
from dyff_dagster.evaluation.requests import Request
from dyff_dagster.evaluation.responses import ResponseReader
from dyff_dagster.evaluation.summary import Summary
from dyff_dagster.evaluation.tally import FailedRow, FailedRows, Tally
from dyff_dagster.schema.platform import InferenceInterface
from dyff_dagster.schema.prices import Prices
from dyff_dagster.sessions import Session, SessionError
from dyff_dagster.store import Store


class _Forwarded(FailedRows):
    """Failed rows, which are kept by whoever started this process."""

    def __init__(self, entity_id: str, connection: Connection) -> None:
        super().__init__(entity_id)
        self._connection = connection

    def add(self, row: FailedRow) -> None:
        self.count += 1
        self._connection.send(("failed", row))


class _Share(Summary):
    """This process's share: nothing was done before it, and nothing is written here."""

    def __init__(self, prices: Prices | None) -> None:
        self._prices = prices
        self._before = {}

    def write(self, tally: Tally) -> None:
        """Nothing: whoever started this process writes it."""


class _Places:
    """Where requests may go now, and which replicas have not ended, as whoever started this process says."""

    def __init__(self, urls: list[str]) -> None:
        self.now = (urls, urls)  # one value, which another thread replaces as a whole

    def __call__(self, answered: int) -> list[tuple[str, _Replica]]:
        serving, _ = self.now
        return [(url, _Replica(url, self)) for url in serving]


@dataclasses.dataclass(frozen=True)
class _Replica:
    """A replica that is watched from elsewhere."""

    base_url: str
    places: _Places

    def check(self) -> None:
        """Raise SessionError when it has ended."""
        _, living = self.places.now
        if self.base_url not in living:
            raise SessionError("a replica has ended")

    def log_tail(self, lines: int = 20) -> str:
        """Nothing: its log is elsewhere."""
        return ""


def run(connection: Connection) -> None:
    """Do what the other end of the connection says."""
    job: dict[str, Any] = connection.recv()
    options: EvaluationOptions = job["options"]
    interface = InferenceInterface.model_validate_json(job["interface"])
    reader = ResponseReader(interface)
    parts = Parts(Store(job["root"]), job["entity"], job["service"], reader.type, options.accept)
    parts.generation = job["generation"]
    name, urls, headers, directory = job["session"]
    tally = Tally(job["entity"])
    tally.failed = _Forwarded(job["entity"], connection)
    places = _Places(urls)
    client = Client(
        Session(name, urls, directory, headers, moving=places if job["moving"] else None),
        reader,
        options,
        parts,
        job["workers"],
        tally,
        _Share(options.prices),
        lambda client: connection.send(("counts", _counts(client))),
        job["bearable"],
    )
    chunks: queue.Queue[list[tuple[int, Request]]] = queue.Queue()  # no more come than were asked for
    finished = threading.Event()
    threading.Thread(target=_receive, args=(connection, chunks, places, finished), daemon=True).start()
    failure: BaseException | None = None
    try:
        client.ask_all(_pending(chunks, connection))
    except (EvaluationError, OSError) as error:
        failure = error
    finished.set()
    connection.send(("counts", _counts(client)))
    if failure is not None:
        known = EvaluationError(str(failure)) if isinstance(failure, EvaluationError) else failure
        connection.send(("error", known))
    else:
        connection.send(("done", client.stopped and client.stopped.split(":")[0]))


def _receive(
    connection: Connection,
    chunks: queue.Queue[list[tuple[int, Request]]],
    places: _Places,
    finished: threading.Event,
) -> None:
    """Take what comes, to the last: replicas come and go also when there is nothing new to ask any more."""
    try:
        while True:
            message = connection.recv()
            if isinstance(message, tuple):
                places.now = message[1:]
            else:
                chunks.put(message)
    except (EOFError, OSError):
        # Whoever started this process has had enough, or is dead: what was answered is written, no more asked.
        if not finished.is_set():
            os.kill(os.getpid(), signal.SIGINT)


def _pending(
    chunks: queue.Queue[list[tuple[int, Request]]], connection: Connection
) -> Iterator[tuple[int, Request]]:
    while chunk := chunks.get():
        connection.send(("more", None))
        yield from chunk


def _counts(client: Client) -> dict[str, Any]:
    tally = client.tally
    return {
        "answered": tally.answered,
        "requests": tally.requests,
        "retries": tally.retries,
        "bytes": tally.bytes,
        "usage": dataclasses.asdict(tally.usage),
        "accepted": dict(tally.accepted),
        "latencies": tally.latencies.counts(),
        "longest": tally.latencies.longest,
        "inFlight": client.traffic.in_flight,
    }


if __name__ == "__main__":
    try:
        with connect(sys.argv[1], "AF_UNIX", authkey=bytes.fromhex(os.environ.pop(KEY))) as there:
            run(there)
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(1)
