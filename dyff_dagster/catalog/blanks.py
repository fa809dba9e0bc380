"""Blanks in manifests, ``<what goes here>``: what a template leaves to whoever fills it in."""

from __future__ import annotations

import re
from typing import Any

from dyff_dagster.catalog.problems import Location

BLANK = re.compile(r"<[A-Za-z][\w'.-]*(?: [\w'.-]+)+>")
"""Two words or more between angle brackets: ``<s>`` and ``<think>`` are texts that people mean."""

_FREE = frozenset({"configuration", "jsonSchema"})
"""Fields that hold somebody else's JSON, in which such a text may be meant."""


def find_blanks(document: Any) -> list[tuple[Location, str]]:
    """Every key and every text of a document that is a blank as a whole: where it is, and its words."""
    found: list[tuple[Location, str]] = []
    waiting: list[tuple[Location, Any]] = [((), document)]
    while waiting:
        location, value = waiting.pop()
        if isinstance(value, str):
            if BLANK.fullmatch(value):
                found.append((location, value[1:-1]))
        elif isinstance(value, dict):
            for key in value:
                if BLANK.fullmatch(key):
                    found.append(((*location, key), key[1:-1]))
            waiting.extend(
                ((*location, key), item) for key, item in reversed(value.items()) if key not in _FREE
            )
        elif isinstance(value, list):
            waiting.extend(((*location, index), value[index]) for index in reversed(range(len(value))))
    return found
