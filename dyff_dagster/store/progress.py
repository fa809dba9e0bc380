"""How a long computation tells whoever started it how far it is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int | None, int | None], None]
"""``progress(message, done, total)``: called from the thread that works; must return at once.

``done`` and ``total`` count the unit of the work at hand (rows, cells, bytes); both are None where
there is nothing to count. The message never holds row contents.
"""


def no_progress(message: str, done: int | None = None, total: int | None = None) -> None:
    """Tell nobody."""
