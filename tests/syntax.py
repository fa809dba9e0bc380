"""The syntax tree of a module, read where tests have left garbage behind."""

from __future__ import annotations

import ast
import gc
from pathlib import Path


def parsed(path: Path) -> ast.Module:
    """A module's syntax tree.

    What is collected as garbage meanwhile may log an exception, whose traceback is parsed too: at that Python 3.11.7
    fails (gh-106905).
    """
    gc.disable()
    try:
        return ast.parse(path.read_text())
    finally:
        gc.enable()
