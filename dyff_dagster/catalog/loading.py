"""Where a catalog is loaded from: a directory or file of manifests, a Python file, a module."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from dyff_dagster.catalog.documents import SUFFIXES
from dyff_dagster.catalog.problems import CatalogError, Problem
from dyff_dagster.catalog.reachable import is_file
from dyff_dagster.schema.errors import DyffError


def manifest_files(source: Path, problems: list[Problem]) -> list[Path]:
    """The manifest files at ``source``: itself, or what lies below it at any depth, sorted by path.

    Files and folders whose names begin with a dot are passed over. Links to folders are followed, once.
    """
    if not source.is_dir():
        return [source]
    found: list[Path] = []
    visited: set[str] = set()
    for folder, folders, names in os.walk(source, followlinks=True, onerror=_note_unreadable(problems)):
        real = os.path.realpath(folder)
        if real in visited:
            folders[:] = []
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.startswith(".") or not name.lower().endswith(SUFFIXES):
                continue
            path = Path(folder, name)
            # A pipe or a device would block the reader for ever.
            if is_file(path):
                found.append(path)
            else:
                problems.append(
                    Problem(path, None, "", "cannot be read: it is no regular file, or a broken link")
                )
    return found


def manifest_paths(source: Path) -> list[Path]:
    """The manifest files at ``source``, those that cannot be read left out."""
    return manifest_files(source, [])


def _note_unreadable(problems: list[Problem]) -> Callable[[OSError], None]:
    def note(error: OSError) -> None:
        path = Path(error.filename) if error.filename else None
        problems.append(Problem(path, None, "", f"cannot be read: {error.strerror or 'unknown error'}"))

    return note


def catalog_attribute(source: Path | str) -> object:
    """The attribute ``catalog`` of a Python file or of a dotted module.

    :raises CatalogError: there is no such module, it cannot be run, or it has no such attribute. A
        CatalogError that it raises itself is passed on.
    """
    with _without_bytecode():
        module = _run_file(source) if isinstance(source, Path) else _import_module(source)
    path = Path(module.__file__) if module.__file__ else None
    try:
        return module.catalog
    except AttributeError:
        message = "has no attribute `catalog`; write catalog = Catalog([...]) in it"
        raise CatalogError([Problem(path, None, "", message)]) from None


@contextmanager
def _without_bytecode() -> Iterator[None]:
    """Loading a catalog writes nothing, also no ``__pycache__``."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


@contextmanager
def collection_paused() -> Iterator[None]:
    """Python's search for cyclic garbage, put off.

    Reading makes many objects and no garbage; the search would go over all of them again and again, and
    take a fifth of the time.
    """
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def _run_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"dyff_catalog_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise CatalogError([Problem(path, None, "", "cannot be loaded as Python")])
    module = importlib.util.module_from_spec(spec)
    # Its neighbours can be imported while it runs, as when Python runs a script.
    folder = str(path.parent.resolve())
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except DyffError:
        raise
    except (Exception, SystemExit) as error:
        raise CatalogError([_of_exception(path, error)]) from error
    finally:
        if folder in sys.path:
            sys.path.remove(folder)
    return module


def _import_module(name: str) -> ModuleType:
    # Importing some of these does something: `this` prints, `antigravity` opens a browser.
    if name.split(".")[0] in sys.stdlib_module_names:
        message = (
            f"'{name}' is a module of Python itself; name a file, a directory, or a module with `catalog`"
        )
        raise CatalogError([Problem(None, None, "", message)])
    try:
        return importlib.import_module(name)
    except DyffError:
        raise
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            message = f"there is no file, directory or Python module '{name}'"
            raise CatalogError([Problem(None, None, "", message)]) from None
        raise CatalogError([_of_exception(None, error, name)]) from error
    except (Exception, SystemExit) as error:
        raise CatalogError([_of_exception(None, error, name)]) from error


def _of_exception(path: Path | None, error: BaseException, name: str | None = None) -> Problem:
    """What a module failed with, at the deepest line of its own file."""
    line = getattr(error, "lineno", None) if isinstance(error, SyntaxError) else None
    for frame in traceback.extract_tb(error.__traceback__):
        if path is not None and Path(frame.filename).resolve() == path.resolve():
            line = frame.lineno
    what = type(error).__name__ + (f": {str(error).splitlines()[0]}" if str(error) else "")
    return Problem(path, line, "", f"cannot be loaded{'' if name is None else f' (module {name})'}: {what}")
