"""What a failed request was: its class of error, and when to come back."""

from __future__ import annotations

import datetime
import email.utils
from collections.abc import Mapping
from typing import TYPE_CHECKING

from dyff_dagster.evaluation.errors import RowError

if TYPE_CHECKING:
    import aiohttp


def as_row_error(error: TimeoutError | aiohttp.ClientError, total: bool) -> RowError:
    """The class of a request that got no reply, or a broken one.

    Args:
        error: What aiohttp raised.
        total: Whether it was the row's time that ran out, and not this attempt's.
    """
    import aiohttp

    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return RowError("connect-timeout", "no connection to the service was made in time", retryable=True)
    if isinstance(error, aiohttp.SocketTimeoutError):
        return RowError("idle-timeout", "the service fell silent in the middle of a reply", retryable=True)
    if isinstance(error, TimeoutError):
        if total:
            return RowError("total-timeout", "the row was not answered in the time that a row has")
        return RowError("timeout", "the service did not answer in time", retryable=True)
    return RowError(
        "refused", f"the connection to the service failed ({type(error).__name__})", retryable=True
    )


def retry_after(headers: Mapping[str, str], most: float) -> float | None:
    """Seconds that ``Retry-After`` asks for (RFC 9110, section 10.2.3), at most ``most``; None without one."""
    said = headers.get("Retry-After")
    if said is None:
        return None
    try:
        seconds = float(said)
    except ValueError:
        try:
            moment = email.utils.parsedate_to_datetime(said)
        except ValueError:
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.UTC)
        seconds = (moment - datetime.datetime.now(datetime.UTC)).total_seconds()
    return min(max(seconds, 0.0), most) if seconds == seconds else None
