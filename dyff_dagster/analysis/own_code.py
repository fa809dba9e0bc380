"""This package's own code as something that a result is made from: which analyses use it, and its digest.

A method that calls an estimator of this package comes to another number when the estimator is corrected. So the code
that computes is among the inputs of each analysis that can reach it, and no other: one whose method names something
of this package, or whose modules have its name in any of their files. That errs on the safe side, because what a
program will import cannot be told from its text; a comment with the name in it costs one analysis.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from upath import UPath

from dyff_dagster.schema.platform import MethodBase
from dyff_dagster.store import Commit
from dyff_dagster.store.digests import digest_file, tree_digest

COMPUTING = (
    "analysis/comparison.py",
    "analysis/metrics",
    "analysis/pairing.py",
    "analysis/recipes.py",
    "analysis/rubrics.py",
    "analysis/statistics",
    "schema/content.py",
)
"""Modules and packages, relative to this package, that make numbers of rows."""

OWN_CODE = "package"
"""Name of the digest among an analysis's inputs."""

_PACKAGE = Path(__file__).resolve().parents[1]
_NAME = b"dyff_dagster"
_BLOCK = 1 << 20


@cache
def own_code_digest() -> str:
    """SHA-256 over the names and bytes of the files that compute, as of any tree of files."""
    files: list[Path] = []
    for name in COMPUTING:
        path = _PACKAGE / name
        files += sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return tree_digest({path.relative_to(_PACKAGE).as_posix(): digest_file(path) for path in files})


def own_version() -> str:
    """The release of this package; empty for a source tree that was never installed."""
    try:
        return version("dyff-dagster")
    except PackageNotFoundError:
        return ""


def uses_own_code(method: MethodBase, modules: Iterable[Commit]) -> bool:
    """Whether what a method computes can depend on this package's code.

    Args:
        method: The method.
        modules: The versions of its modules.
    """
    implementation = method.implementation
    bodies = (implementation.pythonFunction, implementation.pythonRubric)
    if any(body is not None and body.fullyQualifiedName.startswith(_NAME.decode() + ".") for body in bodies):
        return True
    return is_named_in(_NAME, modules)


def is_named_in(name: bytes, modules: Iterable[Commit]) -> bool:
    """Whether a package's name stands in any file of these versions of modules."""
    return any(_names_it(name, module.path, tuple(sorted(module.files))) for module in modules)


@lru_cache(maxsize=1024)
def _names_it(name: bytes, version: UPath, files: tuple[str, ...]) -> bool:
    """Whether a name stands in a file of a version; a version never changes, so it is read once."""
    return any(_has_name(name, version / file) for file in files)


def _has_name(name: bytes, path: UPath) -> bool:
    with path.open("rb") as file:
        rest = b""
        while block := file.read(_BLOCK):
            if name in rest + block:
                return True
            rest = block[1 - len(name) :]
    return False
