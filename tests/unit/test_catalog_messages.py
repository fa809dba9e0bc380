"""The tables of docs/manifests.md say what each mistake is told as: every message there is held by a test."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "manifests.md"
SECTION = PAGE.read_text("utf-8").partition("\n## What is checked\n")[2].partition("\n## ")[0]
MESSAGES = re.findall(r"^\|[^|]+\| `(.+)` \|$", SECTION, re.MULTILINE)


def held_texts() -> list[str]:
    """Every text in the catalog's tests that is a sentence, or the end of one."""
    found = []
    for path in HERE.glob("test_catalog_*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


HELD = held_texts()


def test_the_page_has_the_messages() -> None:
    assert len(MESSAGES) > 30


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_on_the_page_is_held_by_a_test(message: str) -> None:
    assert any(text.endswith(message) for text in HELD)
