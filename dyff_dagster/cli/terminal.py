"""Where tables are drawn: the terminal at its width, a pipe or a file at a width of our own."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from dyff_dagster.schema.errors import DyffError

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


def agree(question: str, yes: bool) -> bool:
    """Whether a person says yes.

    Args:
        question: What is asked.
        yes: Whether it was said on the command line.

    Raises:
        DyffError: Nobody is there to be asked.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        raise DyffError("nobody is at a terminal to be asked, so nothing was done: say --yes if it is meant")
    return click.confirm(question, default=False)


def size(count: int) -> str:
    """Bytes as people read them, ``1.5 GB``."""
    number, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if number < 1000:
            break
        number, unit = number / 1000, larger
    return f"{count:,} bytes" if unit == "bytes" else f"{number:.1f} {unit}"


def counted(number: int, one: str, more: str) -> str:
    """``1 file``, ``2,000 files``."""
    return f"{number:,} {one if number == 1 else more}"
