"""How many requests are in flight, and at which replica: as many as the endpoint bears, and no more.

The number follows the endpoint as TCP's window follows the net: one more for each round of answers, half as
many when it says that it is too much (429, 503) or does not answer in time. A replica that refuses is left
out for a while that doubles, and taken back when one request to it succeeds.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_REFUSALS = 3
"""Refused connections one after another after which a replica is left out: one may be chance."""
_SHORTEST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0


@dataclass(eq=False)
class Endpoint:
    """One replica.

    Attributes:
        url: Where to post.
        number: Which of the session's replicas it is.
        in_flight: Requests that it has not answered yet.
        refusals: Connections that it refused since it last answered.
        turn: Its last request's place in the order of all.
        closed_until: Moment (of the clock) until which nothing is sent to it.
        gone: It will never answer again; it was told to end, or has ended.
        gone_at: Moment at which that was known.
    """

    url: str
    number: int
    in_flight: int = 0
    refusals: int = 0
    turn: int = 0
    closed_until: float = 0.0
    gone: bool = False
    gone_at: float = 0.0


class Traffic:
    """Lets requests through.

    Args:
        urls: One for each replica.
        most: Requests in flight at once, over all replicas, at the very most.
        clock: Seconds; for tests.

    Attributes:
        limit: Requests in flight at once, as the endpoint bears them now.
        in_flight: Those that are.
        last_success: When something was answered last, at first when this was made.
        failures: Failures of the endpoint (not of a row) since then.
    """

    def __init__(self, urls: Sequence[str], most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.endpoints = [Endpoint(url, number) for number, url in enumerate(urls)]
        self.most = max(1, most)
        self.limit = float(self.most)
        self.in_flight = 0
        self._clock = clock
        self.last_success = clock()
        self.failures = 0
        self._turn = 0
        self._asked_to_wait = 0.0
        self._lowered = 0.0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = 0.0

    async def enter(self) -> Endpoint:
        """Wait until a request may be sent; :meth:`leave` must follow."""
        while (endpoint := self._open()) is None:
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            self._set_alarm()
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._wake(1)  # it was this one's turn: let another have it
                raise
        endpoint.in_flight += 1
        self.in_flight += 1
        self._turn += 1
        endpoint.turn = self._turn
        return endpoint

    def leave(self, endpoint: Endpoint) -> None:
        """A request is over."""
        endpoint.in_flight -= 1
        self.in_flight -= 1
        if self._waiting:
            self._wake(1)

    def succeeded(self, endpoint: Endpoint) -> None:
        """It answered."""
        self.last_success = self._clock()
        self.failures = 0
        if endpoint.refusals:
            endpoint.refusals = 0
            self._wake(self.most)
        if self.limit < self.most:
            self.limit = min(self.most, self.limit + 1 / self.limit)
            self._wake(1)

    def throttled(self, endpoint: Endpoint, sent: float, retry_after: float | None = None) -> None:
        """It said that it is too much, or did not answer in time; ``sent``: when it was asked."""
        self.failures += 1
        if retry_after is not None:
            endpoint.closed_until = max(endpoint.closed_until, self._clock() + retry_after)
            self._asked_to_wait = max(self._asked_to_wait, endpoint.closed_until)
        # All that were in flight together say the same thing once.
        if sent >= self._lowered:
            self._lowered = self._clock()
            self.limit = max(1.0, min(self.limit, self.in_flight) / 2)

    def refused(self, endpoint: Endpoint) -> None:
        """No connection, or it broke."""
        self.failures += 1
        endpoint.refusals += 1
        if endpoint.refusals >= _REFUSALS:
            doubled = _SHORTEST_PAUSE * 2.0 ** min(16, endpoint.refusals - _REFUSALS)
            pause = min(_LONGEST_PAUSE, doubled) * random.uniform(0.75, 1.25)  # noqa: S311
            endpoint.closed_until = max(endpoint.closed_until, self._clock() + pause)

    def failed(self) -> None:
        """It answered that it cannot, with another status of its own fault."""
        self.failures += 1

    def lost(self, endpoint: Endpoint) -> None:
        """It has ended and will not come back."""
        endpoint.gone, endpoint.gone_at = True, self._clock()
        self._wake(self.most)

    def add(self, url: str) -> Endpoint:
        """One more replica, which has come up."""
        endpoint = Endpoint(url, len(self.endpoints))
        if self.empty:
            # While there was nobody to ask, nobody failed to answer.
            self.last_success, self.failures = self._clock(), 0
        self.endpoints.append(endpoint)
        self._wake(self.most)
        return endpoint

    def gone_for(self, endpoint: Endpoint) -> float:
        """Seconds since it is known that it has ended; 0 while it has not."""
        return self._clock() - endpoint.gone_at if endpoint.gone else 0.0

    @property
    def empty(self) -> bool:
        """Whether there is no replica that could be asked."""
        return all(endpoint.gone for endpoint in self.endpoints)

    @property
    def lowered(self) -> int | None:
        """The limit where it is below what it may be, else None."""
        return int(self.limit) if self.limit < self.most else None

    def silence(self) -> float:
        """Seconds since something was answered, without those for which the endpoint asked to be left alone."""
        return self._clock() - max(self.last_success, self._asked_to_wait)

    def _open(self) -> Endpoint | None:
        """The replica with the fewest requests of those that may get one more; of equals, whose turn was first.

        So a request that is sent anew goes elsewhere, where there is an elsewhere.
        """
        if self.in_flight >= int(self.limit) and self.in_flight:
            return None
        now = self._clock()
        best: Endpoint | None = None
        for endpoint in self.endpoints:
            if endpoint.gone or endpoint.closed_until > now:
                continue
            if endpoint.refusals >= _REFUSALS and endpoint.in_flight:
                continue  # one request finds out whether it is back
            if best is None or (endpoint.in_flight, endpoint.turn) < (best.in_flight, best.turn):
                best = endpoint
        return best

    def _wake(self, number: int) -> None:
        while self._waiting and number:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                number -= 1

    def _set_alarm(self) -> None:
        """Wake those who wait when the next replica that is left out may be asked again."""
        moments = [e.closed_until for e in self.endpoints if not e.gone and e.closed_until > self._clock()]
        if not moments or (self._alarm is not None and self._alarm_at <= min(moments)):
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = min(moments)
        pause = max(0.0, self._alarm_at - self._clock())
        self._alarm = asyncio.get_running_loop().call_later(pause, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self._wake(self.most)
        if self._waiting:
            self._set_alarm()
