"""What can go wrong with a session."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from dyff_dagster.processes import tail
from dyff_dagster.schema.errors import DyffError


class SessionError(DyffError):
    """A service could not be made to answer, or stopped answering.

    The text holds no line of the service's log, which may contain prompts: :meth:`log_tail` gives those, to
    be shown on a terminal and nowhere else.

    Attributes:
        session_id: The session (or the evaluation it belongs to).
        replica: Which replica, from 0; None where it is not about one.
        exit_code: How the replica's process ended, negative for a signal; None where it did not end.
        log: The file with the service's last output, where there is one.
        notes: What it took, as ``Session.notes`` has it; empty where nobody measured.
    """

    def __init__(
        self,
        message: str,
        *,
        session_id: str = "",
        replica: int | None = None,
        exit_code: int | None = None,
        log: Path | None = None,
    ) -> None:
        self.session_id = session_id
        self.replica = replica
        self.exit_code = exit_code
        self.log = log
        self.notes: dict[str, Any] = {}
        super().__init__(message)

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of the service's log, without control characters; empty where there is no log."""
        return "" if self.log is None else tail(self.log, lines)


def exit_text(status: int) -> str:
    """An exit status in words: ``with exit code 3``, ``by signal SIGKILL``."""
    if status >= 0:
        return f"with exit code {status}"
    try:
        return f"by signal {signal.Signals(-status).name}"
    except ValueError:
        return f"by signal {-status}"
