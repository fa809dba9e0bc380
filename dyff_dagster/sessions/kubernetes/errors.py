"""What can go wrong between here and a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dyff_dagster.sessions.errors import SessionError

_PASSING = frozenset({0, 429, 500, 502, 503, 504})


class KubernetesError(SessionError):
    """The cluster refused something, or what was started there failed.

    Attributes:
        reason: The platform's word for it, such as ``QuotaLimit``; None where it has none.
    """

    def __init__(
        self, message: str, *, session_id: str = "", reason: str | None = None, log: Path | None = None
    ) -> None:
        super().__init__(message, session_id=session_id, log=log)
        self.reason = reason


class ApiError(KubernetesError):
    """The API server answered with an error, or did not answer.

    Attributes:
        status: The HTTP status, 0 where there was no answer.
        code: Kubernetes' word for it: ``AlreadyExists``, ``NotFound``, ``Forbidden``, ``Invalid`` …
        details: The rest of the answer's ``details``.
        tries: Requests that were sent; of all but the last, the answer may have been lost.
    """

    def __init__(self, message: str, status: int, code: str = "", details: Any = None) -> None:
        super().__init__(message, reason="QuotaLimit" if "exceeded quota" in message else None)
        self.status = status
        self.code = code
        self.details = details
        self.tries = 1

    @property
    def passing(self) -> bool:
        """Whether it says nothing of what was asked, and may pass by itself."""
        return self.status in _PASSING
