"""Requests to a session's replicas, many at once, each answer handed on as it comes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from dyff_dagster.evaluation.errors import EvaluationError, RowError
from dyff_dagster.evaluation.open_part import OpenPart
from dyff_dagster.evaluation.options import EvaluationOptions
from dyff_dagster.evaluation.part import Answer
from dyff_dagster.evaluation.parts import Parts
from dyff_dagster.evaluation.replies import as_row_error
from dyff_dagster.evaluation.requests import Request
from dyff_dagster.evaluation.responses import ResponseReader
from dyff_dagster.evaluation.sending import BODY, JSON, Row, Sender
from dyff_dagster.evaluation.summary import Summary
from dyff_dagster.evaluation.tally import FailedRow, Tally
from dyff_dagster.evaluation.traffic import Traffic
from dyff_dagster.sessions import Session

if TYPE_CHECKING:
    import aiohttp

Pending = Iterator[tuple[int, Request]]


_SECONDS_BETWEEN_LOOKS = 0.25
_SURELY = 8
"""Replies without usage after which no later one is expected to have it."""
_SECONDS_BETWEEN_SUMMARIES = 2.0
_SLOWEST = 10.0
"""A request of the tail that takes this many times as long as all but one in a hundred did is sent anew."""


class _Stop(Exception):
    """A cap is reached: this row is not asked."""


class Client:
    """Sends requests to the replicas of one session.

    Args:
        session: Where to.
        reader: How to read replies.
        options: Timeouts, attempts, caps, size of parts.
        parts: Where answers go.
        workers: Requests in flight at once, at the very most.
        tally: Counts what happens.
        summary: What the runs before this one did; brought up to date now and then.
        report: Called now and then.
        bearable: How many rows may fail.
    """

    def __init__(
        self,
        session: Session,
        reader: ResponseReader,
        options: EvaluationOptions,
        parts: Parts,
        workers: int,
        tally: Tally,
        summary: Summary,
        report: Callable[[Client], None],
        bearable: int = 0,
    ) -> None:
        self._session = session
        self._options = options
        self._open = OpenPart(parts, options.part_rows)
        self._workers = workers
        self._summary = summary
        self._report = report
        self._bearable = bearable
        self._worked_before = not parts.empty
        self._last_answer = time.monotonic()
        self._failed_since, self._last_failure = 0, ""
        self._writing: asyncio.Future[None] | None = None
        self._all_sent = False
        self._summary_due = 0.0
        self._part_due = 0.0
        self.tally = tally
        self.traffic = Traffic(session.urls if session.moving is None else (), workers)
        self._sender = Sender(session, reader, options, self.traffic, tally)
        self._sender.follow(0)
        self.stopped: str | None = None
        """The cap that ended it early, as an author wrote it."""

    def ask_all(self, pending: Pending) -> None:
        """Ask for each (replication, request); what was answered is durable when this returns or raises.

        Raises:
            SessionError: The service died.
            EvaluationError: The endpoint fails everything.
        """
        try:
            _run_to_end(self._run(pending))
        finally:
            self._open.write()
            self.tally.seconds = time.monotonic() - self.tally.started

    async def _run(self, pending: Pending) -> None:
        import aiohttp

        # Loading it takes as long as a thousand answers do, and no service is asked meanwhile.
        self.tally.started = time.monotonic()
        options = self._options
        timeout = aiohttp.ClientTimeout(
            total=None,
            sock_connect=options.connect_timeout,
            # A timer for each request that could never ring is not free.
            sock_read=options.idle_timeout if options.idle_timeout < options.attempt_timeout else None,
        )
        headers = {"Accept-Encoding": "identity", **self._session.headers, "Content-Type": JSON}
        loop = asyncio.get_running_loop()
        self._part_due = loop.time() + options.part_age
        self._summary_due = loop.time() + _SECONDS_BETWEEN_SUMMARIES
        # Rows must not know of one another: no cookies.
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=timeout,
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
        ) as http:
            tasks = [asyncio.create_task(self._work(http, pending)) for _ in range(self._workers)]
            tasks.append(asyncio.create_task(self._watch()))
            try:
                await _first_error(tasks[:-1], tasks[-1])
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self, http: aiohttp.ClientSession, pending: Pending) -> None:
        now = asyncio.get_running_loop().time
        for replication, request in pending:
            row = Row(replication, request, now())
            try:
                responses = await self._ask(http, row)
            except _Stop:
                break  # what is in flight is the last: it is not waited on for ever
            except RowError as error:
                await self._fail(row, error)
            else:
                await self._keep(row, responses, None)
                self._refuse_unknown_cost()
        self._all_sent = True

    async def _keep(self, row: Row, responses: list[dict[str, Any]], accepted: str | None) -> None:
        self.tally.answered += 1
        self._last_answer, self._failed_since = time.monotonic(), 0
        request = row.request
        answer = Answer(row.replication, request.position, request.index, request.digest, responses, accepted)
        waiting = self._open.add(answer)
        # Half of what may be lost is written while the other half comes in. Where answers come faster than the
        # disk takes them, whoever brings more waits for it.
        if waiting >= max(1, self._options.part_rows // 2):
            await asyncio.shield(self._write_part())

    async def _fail(self, row: Row, error: RowError) -> None:
        if error.kind in self._options.accept:
            self.tally.accepted[error.kind] += 1
            await self._keep(row, error.responses or [], error.kind)
            return
        error.body = self._sender.without_secrets(error.body)[:BODY]
        self.tally.failed.add(FailedRow(row.replication, row.request.index, error, row.attempts))
        self._failed_since += 1
        self._last_failure = error.message
        self._sender.check_session()
        # Where others were answered before, it may be just the wrong ones that are asked again now.
        too_many = self.tally.failed.count > self._bearable or not self._worked_before
        if self.tally.answered == 0 and self.tally.failed.count >= self._enough and too_many:
            raise EvaluationError(
                f"the first {self.tally.failed.count} rows all failed, the last one because {error}: "
                "look at the service before asking it for the rest"
            )

    async def _ask(self, http: aiohttp.ClientSession, row: Row) -> list[dict[str, Any]]:
        """One row's responses, asked for as often as it takes."""
        try:
            return await self._attempt(http, row)
        except RowError as error:
            if self._is_final(row, error):
                raise
        import tenacity

        pause = tenacity.wait_random_exponential(multiplier=0.25, max=20)
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(
                lambda error: isinstance(error, RowError) and not self._is_final(row, error)
            ),
            wait=pause,
            reraise=True,
        )
        await asyncio.sleep(pause(tenacity.RetryCallState(retrying, None, (), {})))
        responses: list[dict[str, Any]] = await retrying(self._attempt, http, row)
        return responses

    def _is_final(self, row: Row, error: RowError) -> bool:
        """Whether a row has had all the attempts that it gets."""
        age = asyncio.get_running_loop().time() - row.born
        return (
            not error.retryable or row.counted >= self._options.attempts or age >= self._options.row_seconds
        )

    async def _attempt(self, http: aiohttp.ClientSession, row: Row) -> list[dict[str, Any]]:
        """Send a row once.

        Raises:
            RowError: It got no usable answer.
            _Stop: A cap forbids it.
        """
        endpoint = await self.traffic.enter()
        try:
            self._stop_at_caps()
            now = asyncio.get_running_loop().time()
            if not row.attempts:
                row.born = now
            elif now - row.born >= self._options.row_seconds:
                # It waited too long for its turn: what is sent now would be paid for and not be waited for.
                raise as_row_error(TimeoutError(), total=True)
            self.tally.requests += 1
            self.tally.retries += row.attempts > 0
            row.attempts += 1
            return await self._sender.send(http, row, endpoint)
        except RowError as error:
            row.counted += error.counts
            raise
        finally:
            self.traffic.leave(endpoint)

    @property
    def _enough(self) -> int:
        """Failed rows from which on it is no chance any more."""
        return max(16, 2 * self._workers)

    def _refuse_unknown_cost(self) -> None:
        """A cap on money that nobody can count would let everything through."""
        options, tally = self._options, self.tally
        if (
            options.max_cost is not None
            and options.prices is not None
            and not options.prices.request
            and tally.answered >= _SURELY
            and not tally.usage.counted
        ):
            raise EvaluationError(
                f"the first {tally.answered} replies do not say what they used, so dyff-dagster/max-cost cannot be "
                "kept: give dyff-dagster/prices a price for each request, or take the cap away"
            )

    def _stop_at_caps(self) -> None:
        options, tally = self._options, self.tally
        if self.stopped is None:
            if options.max_requests is not None and self._summary.requests(tally) >= options.max_requests:
                self.stopped = f"max-requests: {options.max_requests}"
            elif options.max_cost is not None and self._summary.cost(tally) >= options.max_cost:
                self.stopped = f"max-cost: {options.max_cost:g}"
            elif options.max_seconds is not None and self._summary.seconds(tally) >= options.max_seconds:
                self.stopped = f"max-seconds: {options.max_seconds:g}"
        if self.stopped is not None:
            raise _Stop

    async def _watch(self) -> None:
        """Parts by age, the summary, an endpoint that fails everything, and the tail."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(_SECONDS_BETWEEN_LOOKS, self._options.part_age))
            if loop.time() >= self._part_due and len(self._open):
                await asyncio.shield(self._write_part())
            if loop.time() >= self._summary_due:
                self._summary_due = loop.time() + _SECONDS_BETWEEN_SUMMARIES
                await asyncio.to_thread(self._summary.write, self.tally)
            self._sender.follow(self.tally.answered)
            self._stop_if_hopeless()
            self._hurry_the_tail()
            self._report(self)

    def _write_part(self) -> asyncio.Future[None]:
        """Have the open part written in a thread; one at a time.

        Whoever waits for it may be cancelled, when another worker failed; the answers are in the open part
        until the thread takes them, and whoever closes it writes them.
        """
        loop = asyncio.get_running_loop()
        if self._writing is None or self._writing.done():
            self._part_due = loop.time() + self._options.part_age
            self._writing = loop.run_in_executor(None, self._open.write)
            # Where nobody waits for it any more, its failure is met again by whoever writes the rest.
            self._writing.add_done_callback(lambda writing: writing.cancelled() or writing.exception())
        return self._writing

    def _stop_if_hopeless(self) -> None:
        """Where nothing succeeds any more, going on would burn through the whole data set."""
        traffic, patience = self.traffic, self._options.patience
        if traffic.empty:
            return  # what it waits for is a replica, and whoever starts one knows for how long
        silence = time.monotonic() - self._last_answer
        if (
            silence >= patience
            and self._failed_since >= self._enough
            and self.tally.failed.count > self._bearable
        ):
            raise EvaluationError(
                f"no row was answered for {silence:.0f} seconds, in which {self._failed_since} failed, one of them "
                f"because {self._last_failure}: look at the service, and start the evaluation again; "
                "what was answered is kept"
            )
        enough = max(3, traffic.in_flight)
        if traffic.failures >= enough and traffic.silence() >= patience:
            self._sender.check_session()
            raise EvaluationError(
                f"the service answered nothing for {traffic.silence():.0f} seconds, {traffic.failures} requests "
                "failed in that time: look at it, and start the evaluation again; what was answered is kept"
            )

    def _hurry_the_tail(self) -> None:
        """Take back the last requests where they take far longer than others did: they are sent anew.

        Never are two of the same row in flight. Each time it is given twice as long, so that a row that does
        take long is answered in the end.
        """
        if not self._all_sent or not self.tally.latencies.count:
            return
        usual = max(self._options.tail_timeout, _SLOWEST * (self.tally.latencies.quantile(0.99) or 0.0))
        now = asyncio.get_running_loop().time()
        for row in self._sender.flying:
            if now - row.sent > usual * 2.0**row.hurried and row.take_back():
                row.hurried += 1


async def _first_error(workers: list[asyncio.Task[None]], watch: asyncio.Task[None]) -> None:
    """Wait for all workers, or raise what the first failing task raises, the endless watch included."""
    finished = asyncio.gather(*workers)
    either: list[asyncio.Future[Any]] = [finished, watch]
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if watch.done():
            watch.result()
        await finished
    finally:
        finished.cancel()
        # Nobody waits for it any more, and Python would print that on the terminal.
        finished.add_done_callback(lambda done: done.cancelled() or done.exception())


def _run_to_end(work: Coroutine[Any, Any, None]) -> None:
    """``asyncio.run``, also where a loop runs already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(work)
        return
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work).result()
