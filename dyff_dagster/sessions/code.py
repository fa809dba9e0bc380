"""The code that a local service is made of: what its command line names, and what that imports beside it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from modulefinder import ModuleFinder
from pathlib import Path


def code_files(args: Sequence[str], directory: Path) -> dict[str, Path]:
    """Files that decide what a command answers, by their path relative to ``directory``.

    These are the files that the command line names, and of Python scripts (``serve.py``, ``-m package``) also
    the modules that they import from beside them. Nothing is run: imports are read off the source. Installed
    packages do not count, and neither do files that a program opens by a name which the command line lacks.

    Args:
        args: ``runner.args`` of a standalone service.
        directory: Where it runs.
    """
    directory = directory.resolve()
    found: dict[str, Path] = {}
    for path, search, shown in _named(args, directory):
        for file in [path, *(_imported(path, search) if path.suffix == ".py" else ())]:
            found[_name(shown / file.relative_to(search), directory)] = file
    return dict(sorted(found.items()))


def _named(args: Sequence[str], directory: Path) -> Iterator[tuple[Path, Path, Path]]:
    """Each file on the command line, where its imports are looked for, and what that directory is called.

    The latter two differ where a script is a symbolic link, as all files are that a ConfigMap is mounted as: Python
    imports from where the link leads to, whose name is another one after each change.
    """
    tokens = [token for argument in args for token in _split(argument)]
    for before, token in zip(["", *tokens], tokens, strict=False):
        if before == "-m":
            base = directory / Path(*token.split("."))
            for path in (base.with_suffix(".py"), base / "__main__.py"):
                if path.is_file():
                    yield path, directory, directory
            continue
        try:
            path = directory / token
            if path.is_file():
                real = path.resolve()
                called = Path(os.path.normpath(path))
                yield real, real.parent, called.parent if called.name == real.name else real.parent
        except (OSError, ValueError):  # longer than a name may be, or with a NUL byte
            continue


def _split(argument: str) -> list[str]:
    try:
        return shlex.split(argument) or [argument]
    except ValueError:  # an unbalanced quote is a character like any other
        return [argument]


def _imported(script: Path, search: Path) -> list[Path]:
    finder = ModuleFinder(path=[str(search)])
    try:
        finder.run_script(str(script))
    except (SyntaxError, UnicodeDecodeError, ValueError, OSError, RecursionError):
        return []  # it cannot be run either
    # A module that was found, not run: not the type that the name suggests.
    files = (getattr(module, "__file__", None) for module in finder.modules.values())
    return [Path(file) for file in files if file]


def _name(path: Path, directory: Path) -> str:
    return str(path.relative_to(directory)) if path.is_relative_to(directory) else str(path.name)
