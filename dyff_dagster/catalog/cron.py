"""Cron lines: five fields, as crontab(5) and Dagster's schedules read them."""

from __future__ import annotations

import re

_MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAY_NAMES = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MONTHS = {name: number for number, name in enumerate(_MONTH_NAMES, 1)}
_DAYS = {name: number for number, name in enumerate(_DAY_NAMES)}
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of the month", 1, 31, {}),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 7, _DAYS),
)
_ITEM = re.compile(r"(?:\*|(?P<first>\w+)(?:-(?P<last>\w+))?)(?:/(?P<step>\d+))?")


def describe_bad_cron(line: str) -> str | None:
    """What is wrong with a cron line, or None when nothing is.

    Lists, ranges, steps and the English three-letter names of months and days are known; nicknames such as
    ``@daily`` are not.
    """
    fields = line.split()
    if len(fields) != len(_FIELDS):
        return f"a cron line has five fields and this has {len(fields)}"
    for text, (name, low, high, names) in zip(fields, _FIELDS, strict=True):
        for item in text.split(","):
            match = _ITEM.fullmatch(item)
            if match is None:
                return f"'{item}' is no {name} of a cron line"
            numbers = [_number(word, names) for word in (match["first"], match["last"]) if word is not None]
            if any(number is None or not low <= number <= high for number in numbers):
                return f"'{item}' is no {name} of a cron line: it lies between {low} and {high}"
            if len(numbers) == 2 and numbers != sorted(numbers, key=lambda number: number or 0):
                return f"'{item}' is a range that runs backwards"
            if match["step"] is not None and int(match["step"]) == 0:
                return f"'{item}' has a step of 0"
    return None


def _number(word: str, names: dict[str, int]) -> int | None:
    return names.get(word.lower(), int(word) if word.isdecimal() else None)
