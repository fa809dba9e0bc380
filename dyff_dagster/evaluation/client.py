"""Requests to a session's replicas, many at once, each answer handed on as it comes."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dyff_dagster.evaluation.errors import EvaluationError, RowError
from dyff_dagster.evaluation.options import EvaluationOptions
from dyff_dagster.evaluation.parts import Answer, Parts
from dyff_dagster.evaluation.requests import Request
from dyff_dagster.evaluation.responses import ResponseReader, head
from dyff_dagster.sessions import Session

if TYPE_CHECKING:
    import aiohttp

RETRYABLE_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
"""What may pass by itself; other 4xx say that the request is wrong, and asking again pays for nothing."""

_BODY = 500
"""Characters of a wrong reply that are kept in ``errors.parquet``."""


@dataclass(frozen=True)
class FailedRow:
    """A (row, replication) that stayed without an answer.

    Attributes:
        replication: From 0.
        index: The row's ``_index_``.
        error: Why.
        attempts: How often it was asked.
    """

    replication: int
    index: int
    error: RowError
    attempts: int


@dataclass
class Tally:
    """What a request phase did.

    Attributes:
        answered: Answers written.
        requests: Requests sent, retries included.
        retries: Of those, repeated ones.
        failed: Rows that stayed without an answer.
        latencies: Seconds of each successful request.
        bytes: Bytes of replies.
        seconds: Wall time of the request phase.
    """

    answered: int = 0
    requests: int = 0
    retries: int = 0
    failed: list[FailedRow] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    bytes: int = 0
    seconds: float = 0.0

    @property
    def errors(self) -> dict[str, int]:
        """Number of failed rows by class."""
        return dict(sorted(Counter(row.error.kind for row in self.failed).items()))


class Client:
    """Sends requests to the replicas of one session.

    Args:
        session: Where to.
        reader: How to read replies.
        options: Timeouts, attempts, size of parts.
        parts: Where answers go.
        workers: Requests in flight at once.
        report: Called with the tally after each row.
    """

    def __init__(
        self,
        session: Session,
        reader: ResponseReader,
        options: EvaluationOptions,
        parts: Parts,
        workers: int,
        report: Callable[[Tally], None],
    ) -> None:
        self._session = session
        self._reader = reader
        self._options = options
        self._parts = parts
        self._workers = workers
        self._report = report
        self._in_flight = dict.fromkeys(session.urls, 0)
        self.tally = Tally()

    def ask_all(self, pending: Iterator[tuple[int, Request]]) -> Tally:
        """Ask for each (replication, request); what was answered is durable when this returns or raises.

        Raises:
            SessionError: The service died.
            EvaluationError: The endpoint fails everything.
        """
        started = time.monotonic()
        try:
            asyncio.run(self._run(pending))
        finally:
            self._parts.write(self._parts.take())
            self.tally.seconds = time.monotonic() - started
        return self.tally

    async def _run(self, pending: Iterator[tuple[int, Request]]) -> None:
        import aiohttp

        timeout = aiohttp.ClientTimeout(
            total=self._options.attempt_timeout, sock_connect=self._options.connect_timeout
        )
        connector = aiohttp.TCPConnector(limit=0)
        headers = {
            "Accept-Encoding": "identity",
            **self._session.headers,
            "Content-Type": "application/json",
        }
        # Rows must not know of one another: no cookies.
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, headers=headers, cookie_jar=aiohttp.DummyCookieJar()
        ) as http:
            tasks = [asyncio.create_task(self._work(http, pending)) for _ in range(self._workers)]
            tasks.append(asyncio.create_task(self._flush_by_age()))
            try:
                await _first_error(tasks[:-1], tasks[-1])
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self, http: aiohttp.ClientSession, pending: Iterator[tuple[int, Request]]) -> None:
        for replication, request in pending:
            attempts = 0
            try:
                async for attempt in _attempts(self._options.attempts):
                    with attempt:
                        attempts = attempt.retry_state.attempt_number
                        self.tally.requests += 1
                        self.tally.retries += attempts > 1
                        responses = await self._ask(http, request)
            except RowError as error:
                error.body = self._without_secrets(error.body)[:_BODY]
                self.tally.failed.append(FailedRow(replication, request.index, error, attempts))
                self._stop_if_hopeless(error)
            else:
                self.tally.answered += 1
                if (
                    self._parts.add(Answer(replication, request.index, request.digest, responses))
                    >= self._options.part_rows
                ):
                    await self._write_part()
            self._report(self.tally)

    async def _ask(self, http: aiohttp.ClientSession, request: Request) -> list[dict[str, object]]:
        import aiohttp

        url = min(self._in_flight, key=self._in_flight.__getitem__)
        self._in_flight[url] += 1
        started = time.monotonic()
        try:
            async with http.post(url, data=request.body, allow_redirects=False) as response:
                status = response.status
                body = await self._body(response)
        except TimeoutError as error:
            raise RowError("timeout", "the service did not answer in time", retryable=True) from error
        except aiohttp.ClientError as error:
            self._session.check()  # a dead service is no row's fault
            raise RowError(
                "refused", f"the connection to the service failed ({type(error).__name__})", retryable=True
            ) from error
        except ValueError as error:  # of aiohttp itself: a URL or a header that cannot be sent
            raise EvaluationError(
                f"requests to the service cannot be sent ({type(error).__name__}): "
                "correct its endpoint and its headers"
            ) from None
        finally:
            self._in_flight[url] -= 1
        self.tally.bytes += len(body)
        if status >= 300:
            raise RowError(
                f"status-{status}",
                f"the service answered with status {status}",
                status=status,
                body=head(body),
                retryable=status in RETRYABLE_STATUS,
            )
        responses = self._reader.read(body)
        self.tally.latencies.append(time.monotonic() - started)
        return responses

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        """The reply, as far as it may be long: a service must not be able to fill this machine's memory."""
        body = bytearray()
        async for chunk in response.content.iter_chunked(65_536):
            body += chunk
            if len(body) > self._options.max_reply:
                response.close()
                raise RowError(
                    "too-long",
                    f"the service's reply is longer than {self._options.max_reply} bytes",
                    status=response.status,
                    body=head(bytes(body[:65_536])),
                )
        return bytes(body)

    def _without_secrets(self, text: str) -> str:
        """A service may say again what it was sent; what was sent as a header is never stored."""
        for value in self._session.headers.values():
            for secret in (value, value.rsplit(" ", 1)[-1]):
                if secret:
                    text = text.replace(secret, "•••")
        return text

    def _stop_if_hopeless(self, error: RowError) -> None:
        """Where nothing at all succeeds, going on would burn through the whole data set."""
        self._session.check()
        enough = max(16, 2 * self._workers)
        if self.tally.answered == 0 and len(self.tally.failed) >= enough:
            raise EvaluationError(
                f"the first {len(self.tally.failed)} rows all failed, the last one because {error}: "
                "look at the service before asking it for the rest"
            )

    async def _flush_by_age(self) -> None:
        while True:
            await asyncio.sleep(self._options.part_age)
            await self._write_part()

    async def _write_part(self) -> None:
        """Close the open part and write it in a thread.

        Whoever waits for it may be cancelled, when another worker failed; the write itself must not be, not
        even while it waits for a thread, or its answers would be gone. ``asyncio.run`` waits for it.
        """
        writing = asyncio.get_running_loop().run_in_executor(None, self._parts.write, self._parts.take())
        await asyncio.shield(writing)


def _attempts(number: int):  # type: ignore[no-untyped-def]  # noqa: ANN202  (tenacity's iterator type is private)
    """Exponential backoff with full jitter, for errors that may pass."""
    import tenacity

    return tenacity.AsyncRetrying(
        stop=tenacity.stop_after_attempt(number),
        wait=tenacity.wait_random_exponential(multiplier=0.25, max=20),
        retry=tenacity.retry_if_exception(lambda error: isinstance(error, RowError) and error.retryable),
        reraise=True,
    )


async def _first_error(workers: list[asyncio.Task[None]], flusher: asyncio.Task[None]) -> None:
    """Wait for all workers, or raise what the first failing task raises, the endless flusher included."""
    finished = asyncio.gather(*workers)
    either: list[asyncio.Future[Any]] = [finished, flusher]
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if flusher.done():
            flusher.result()
        await finished
    finally:
        finished.cancel()
