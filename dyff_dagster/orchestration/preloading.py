"""Imported by the process that a run's steps are forked from: loads the code location's file once for all of them.

A module Dagster has imported there by its name; a file it would load in each step anew, and with it the whole catalog.
What is loaded here is found by its name and path when a step's process asks for it.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import sys
from pathlib import Path

import dagster as dg

from dyff_dagster.orchestration.executors import PRELOADED_FILE


def preload(file: str, directory: str | None) -> None:
    """Load a file of definitions as Dagster will; without any word where it cannot be: the step says what is wrong.

    Args:
        file: Its path.
        directory: Where its own imports start from.
    """
    name = Path(file).stem
    spec = importlib.util.spec_from_file_location(name, file)
    if name in sys.modules or spec is None or spec.loader is None:
        return
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    sys.modules[name] = module
    try:
        if directory:
            sys.path.insert(0, directory)
        spec.loader.exec_module(module)
        for value in vars(module).values():
            if isinstance(value, dg.Definitions):
                value.get_repository_def()
    except (Exception, SystemExit):
        del sys.modules[name]
    finally:
        sys.path[:] = before


if said := os.environ.pop(PRELOADED_FILE, ""):
    file, _, directory = said.partition("\n")
    preload(file, directory or None)
    # What is here by now stays: the processes forked from this one need not go through it, nor copy it.
    gc.freeze()
