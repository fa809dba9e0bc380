"""The code that a local service is made of: what its command line names, and what that imports beside it."""

from __future__ import annotations

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
    for path, search in _named(args, directory):
        found[_name(path, directory)] = path
        if path.suffix == ".py":
            for module in _imported(path, search):
                found[_name(module, directory)] = module
    return dict(sorted(found.items()))


def _named(args: Sequence[str], directory: Path) -> Iterator[tuple[Path, Path]]:
    """Each file on the command line, with the directory that its imports are looked for in."""
    tokens = [token for argument in args for token in _split(argument)]
    for before, token in zip(["", *tokens], tokens, strict=False):
        if before == "-m":
            base = directory / Path(*token.split("."))
            for path in (base.with_suffix(".py"), base / "__main__.py"):
                if path.is_file():
                    yield path, directory
            continue
        try:
            path = directory / token
            if path.is_file():
                yield path.resolve(), path.resolve().parent
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
    return [Path(file).resolve() for file in files if file]


def _name(path: Path, directory: Path) -> str:
    return str(path.relative_to(directory)) if path.is_relative_to(directory) else str(path.name)
