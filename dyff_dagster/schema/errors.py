"""The root of every error that a user of dyff-dagster is meant to read."""

from __future__ import annotations


class DyffError(Exception):
    """Something a user can mend: its text is one sentence that says what, where, and what would be right.

    Commands print the text alone and exit with status 1; the Dagster ops turn it into a ``Failure``.
    Neither ever shows a traceback for it.
    """
