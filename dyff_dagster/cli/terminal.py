"""Where tables are drawn: the terminal at its width, a pipe or a file at a width of our own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_COLUMNS_WITHOUT_TERMINAL = 200


def table_console(*, highlight: bool = True) -> Console:
    """Give the console of standard output.

    rich takes 80 columns where there is no terminal, and would cut in a file what a search in it should find.

    Args:
        highlight: Whether rich colours numbers and paths by itself.
    """
    from rich.console import Console

    console = Console(highlight=highlight)
    return console if console.is_terminal else Console(width=_COLUMNS_WITHOUT_TERMINAL, highlight=highlight)
