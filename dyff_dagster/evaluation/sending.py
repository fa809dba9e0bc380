"""One request and its reply: what came back, and what the traffic must know of it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dyff_dagster.evaluation.errors import EvaluationError, RowError
from dyff_dagster.evaluation.options import EvaluationOptions
from dyff_dagster.evaluation.replies import as_row_error, retry_after
from dyff_dagster.evaluation.requests import Request
from dyff_dagster.evaluation.responses import ResponseReader, head
from dyff_dagster.evaluation.tally import Tally
from dyff_dagster.evaluation.traffic import Endpoint, Traffic
from dyff_dagster.sessions import Session, SessionError

if TYPE_CHECKING:
    import aiohttp

RETRYABLE_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
"""What may pass by itself; other 4xx say that the request is wrong, and asking again pays for nothing."""

JSON = "application/json"
BODY = 500
"""Characters of a wrong reply that are kept in ``errors.parquet``."""


@dataclass(eq=False)
class Row:
    """One (replication, row) on its way.

    Attributes:
        replication: From 0.
        request: What is sent.
        born: Moment of the event loop's clock at which it was sent first.
        attempts: How often it was sent.
        counted: Those of them that count against ``attempts``.
        hurried: How often it was sent anew because it was the last.
        deadline: Of the attempt that is in flight, else None.
        sent: Moment at which that was sent.
        endpoint: Where to.
    """

    replication: int
    request: Request
    born: float
    attempts: int = 0
    counted: int = 0
    hurried: int = 0
    deadline: asyncio.Timeout | None = None
    sent: float = 0.0
    endpoint: Endpoint | None = None

    def take_back(self) -> bool:
        """End the attempt that is in flight, which then counts as none; whether there is one that can be ended.

        One whose own time is up just now, and which has not noticed yet, cannot be given another.
        """
        deadline = self.deadline
        if deadline is None or deadline.expired():
            return False
        self.deadline = None
        deadline.reschedule(asyncio.get_running_loop().time())
        return True


class Sender:
    """Sends rows to the replicas of one session, once each time.

    Args:
        session: Where to.
        reader: How to read replies.
        options: Timeouts, rules, what is accepted.
        traffic: Told how each replica fares.
        tally: Counts bytes, tokens and latencies.

    Attributes:
        flying: What is in flight.
    """

    def __init__(
        self,
        session: Session,
        reader: ResponseReader,
        options: EvaluationOptions,
        traffic: Traffic,
        tally: Tally,
    ) -> None:
        self._session = session
        self._replicas = list(session.replicas)
        self._reader = reader
        self._options = options
        self._traffic = traffic
        self._tally = tally
        self.flying: set[Row] = set()

    async def send(self, http: aiohttp.ClientSession, row: Row, endpoint: Endpoint) -> list[dict[str, Any]]:
        """The responses in the replica's reply to a row.

        Raises:
            RowError: It is no usable answer.
            EvaluationError: The request cannot be sent at all.
            SessionError: No replica is left.
        """
        import aiohttp

        loop = asyncio.get_running_loop()
        row.sent, row.endpoint = loop.time(), endpoint
        sent = time.monotonic()
        left = self._options.row_seconds - (row.sent - row.born)
        allowed = max(0.001, min(self._options.attempt_timeout, left))
        self.flying.add(row)
        try:
            async with asyncio.timeout(allowed) as row.deadline:
                kind = row.request.content_type
                headers = None if kind == JSON else {"Content-Type": kind}
                async with http.post(
                    endpoint.url, data=row.request.body, headers=headers, allow_redirects=False
                ) as response:
                    status = response.status
                    body = await self._body(response)
        except (TimeoutError, aiohttp.ClientError) as error:
            # None: it was taken back. That is no attempt of the row's, nor the end of its time.
            hurried = row.deadline is None
            row_error = as_row_error(error, total=not hurried and left <= self._options.attempt_timeout)
            if hurried:
                row_error.counts = False
            elif row_error.kind in ("timeout", "total-timeout"):
                self._traffic.throttled(endpoint, sent)
            else:
                self._traffic.refused(endpoint)
                self.lose_if_dead(endpoint)
                never_sent = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
                if self._session.moving is not None and isinstance(error, never_sent):
                    row_error.counts = False  # another replica is on its way
            raise row_error from error
        except ValueError as error:  # of aiohttp itself: a URL or a header that cannot be sent
            raise EvaluationError(
                f"requests to the service cannot be sent ({type(error).__name__}): "
                "correct its endpoint and its headers"
            ) from None
        finally:
            self.flying.discard(row)
        self._tally.bytes += len(body)
        if status >= 300:
            raise self._of_status(response, body, endpoint, sent)
        self._traffic.succeeded(endpoint)
        responses = self._read(body)
        self._tally.latencies.add(time.monotonic() - sent)
        return responses

    def _of_status(
        self, response: aiohttp.ClientResponse, body: bytes, endpoint: Endpoint, sent: float
    ) -> RowError:
        status = response.status
        wait = retry_after(response.headers, self._options.max_retry_after)
        too_much = status == 429 or (status == 503 and wait is not None)
        if too_much or status == 503:
            self._traffic.throttled(endpoint, sent, wait)
        elif status >= 500:
            self._traffic.failed()
        else:
            self._traffic.succeeded(endpoint)  # it answers; what it says is about the row
        return RowError(
            f"status-{status}",
            f"the service answered with status {status}",
            status=status,
            body=head(body),
            retryable=status in RETRYABLE_STATUS,
            counts=not too_much,
        )

    def _read(self, body: bytes) -> list[dict[str, Any]]:
        """The responses in a reply, unless a rule says that it is no answer."""
        reply = self._reader.parse(body)
        self._tally.usage.add(reply)
        verdict = self._options.rules.judge(reply)
        if verdict is None:
            return self._reader.responses(reply, body)
        responses = None
        if verdict.kind in self._options.accept:
            try:
                responses = self._reader.responses(reply, body)
            except RowError:
                responses = None
        raise RowError(
            verdict.kind,
            f"the service's reply is no answer: it is of the class {verdict.kind}",
            status=200,
            body=head(body),
            retryable=verdict.retryable,
            responses=responses,
        )

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        """The reply, as far as it may be long: a service must not be able to fill this machine's memory."""
        most = self._options.max_reply
        plain = "Content-Encoding" not in response.headers
        if plain and response.content_length is not None and response.content_length <= most:
            return await response.read()
        body = bytearray()
        async for chunk in response.content.iter_chunked(65_536):
            body += chunk
            if len(body) > most:
                response.close()
                if response.status >= 300:  # it is the status that counts
                    break
                raise RowError(
                    "too-long",
                    f"the service's reply is longer than {most} bytes",
                    status=response.status,
                    body=head(bytes(body[:65_536])),
                )
        return bytes(body)

    def check_session(self) -> None:
        """A replica that has ended is left out; where none is left, nothing can be answered any more."""
        for endpoint in self._traffic.endpoints:
            self.lose_if_dead(endpoint)

    def follow(self, answered: int) -> None:
        """Take notice of replicas that have come or gone.

        Args:
            answered: Rows that were answered so far.

        Raises:
            SessionError: The session has ended.
        """
        if self._session.moving is None:
            return
        places = self._session.moving(answered)
        known = {endpoint.url for endpoint in self._traffic.endpoints if not endpoint.gone}
        for url, replica in places:
            if url not in known:
                self._replicas.append(replica)
                self._traffic.add(url)
        now = {url for url, _ in places}
        for endpoint in self._traffic.endpoints:
            if endpoint.url not in now:
                self.lose_if_dead(endpoint)
        # A replica that is told to end may still answer what it was asked. One that vanished with its node does not
        # even break the connection.
        for row in self.flying:
            endpoint_of = row.endpoint
            if endpoint_of is not None and self._traffic.gone_for(endpoint_of) > self._options.last_words:
                row.take_back()

    def lose_if_dead(self, endpoint: Endpoint) -> None:
        """Leave a replica out for good whose process has ended.

        Raises:
            SessionError: It was the last one, and no other will come.
        """
        if endpoint.gone or endpoint.number >= len(self._replicas):
            return
        try:
            self._replicas[endpoint.number].check()
        except SessionError:
            self._traffic.lost(endpoint)
            if self._traffic.empty and self._session.moving is None:
                raise

    def without_secrets(self, text: str) -> str:
        """A service may say again what it was sent; what was sent as a header is never stored."""
        values = self._session.headers.values()
        secrets = {secret for value in values for secret in (value, value.rsplit(" ", 1)[-1]) if secret}
        whole = len(text) <= BODY
        for secret in sorted(secrets, key=len, reverse=True):
            text = text.replace(secret, "•••")
        # Where a long reply was cut off may stand the beginning of a secret.
        return text if whole or not secrets else text[: -max(map(len, secrets))]
