"""The end of a log file, fit to be shown on a terminal."""

from __future__ import annotations

from pathlib import Path


def tail(path: Path, lines: int = 20, width: int = 500) -> str:
    """The last lines of a file, joined by newlines; an absent or unreadable file has none.

    Control characters, with which a log could steer the terminal it is shown on, become ``?``; a line longer
    than ``width`` characters is cut and ends in ``…``. At most ``4 * lines * width`` bytes are read, however
    long the file is.
    """
    if lines <= 0:
        return ""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            start = max(0, size - 4 * lines * max(width, 1))
            file.seek(start)
            text = file.read(size - start).decode("utf-8", errors="replace")
    except OSError:
        return ""
    # A progress bar rewrites its line with carriage returns: only what it showed last is of interest.
    found = [line.rstrip("\r").rpartition("\r")[2] for line in text.rstrip("\r\n").split("\n")]
    return "\n".join(_shown(line, width) for line in found[-lines:])


def _shown(line: str, width: int) -> str:
    line = "".join(c if c.isprintable() or c == "\t" else "?" for c in line[: width + 1])
    return line if len(line) <= width else line[:width] + "…"
