"""How a version was made: what differs from run to run, is worth knowing, and is no part of its content.

The same data, code and arguments make the same page, whoever runs it and from whichever commit of a repository:
otherwise nobody could tell that nothing has changed. So a page's run, time, git commit and package versions stand
in a place of their own, between two marks, which its data version passes over.
"""

from __future__ import annotations

import ast
import hashlib
import platform
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from html import escape
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import Any

from dyff_dagster.store.digests import FileDigest, digest_file, list_files, tree_digest

MADE = "made"
"""Under what a commit's notes have it."""

BEGIN, END = "<!-- making -->", "<!-- /making -->"

# What may stand between the marks: plain text under fixed headings, and nothing that could pass for content.
_PLACE = re.compile(
    f"{re.escape(BEGIN)}(?:\n?<div><dt>[^<>]*</dt><dd>[^<>]*</dd></div>)*\n?{re.escape(END)}".encode()
)

_CORE = ("dyff-dagster", "numpy", "pyarrow", "scipy")
_OF_NOTEBOOKS = ("ipykernel", "matplotlib", "nbconvert", "papermill")
_MOST_FILES, _LARGEST = 500, 1_000_000
_IMPORT = re.compile(r"^\s*(?:from|import)\s+(\w+)", re.MULTILINE)


@dataclass(frozen=True)
class Making:
    """How a version was made.

    Attributes:
        run: The Dagster run, or an empty string.
        time: When, ``2026-01-31 12:00 UTC``.
        git: Commit of the repository that the manifests are in, or an empty string; with ``-dirty`` where files
            under version control differed from it.
        system: Interpreter and machine.
        packages: Version of each package that the code uses.
    """

    run: str = ""
    time: str = ""
    git: str = ""
    system: str = ""
    packages: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def now(cls, run: str = "", git: str = "") -> Making:
        """By this interpreter, at this moment."""
        system = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
        return cls(run, f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", git, system, versions_of(_CORE))

    def using(self, modules: Sequence[Path], cells: Sequence[str] | None = None) -> Making:
        """The same with the packages that code imports.

        Args:
            modules: Directories of Python files.
            cells: Code of the notebook that is executed, or None.
        """
        files = [path for module in modules for path in sorted(module.rglob("*.py"))[:_MOST_FILES]]
        texts = [
            path.read_text("utf-8", "replace")
            for path in files
            if path.is_file() and path.stat().st_size <= _LARGEST
        ]
        named = {name for text in [*texts, *(cells or ())] for name in _imported(text)}
        own = {path.stem for path in files} | {path.parent.name for path in files}
        core = versions_of(_CORE if cells is None else (*_CORE, *_OF_NOTEBOOKS))
        return replace(self, packages=dict(sorted({**_packages_of(named - own), **core}.items())))

    def to_json(self) -> dict[str, Any]:
        """What is said of it, as a JSON object."""
        said = {"run": self.run, "time": self.time, "git": self.git, "system": self.system}
        return {**{name: text for name, text in said.items() if text}, "packages": dict(self.packages)}

    def to_html(self) -> str:
        """The lines of its description list, with the marks around them."""
        git = self.git.removesuffix("-dirty")
        changed = ", and files that were changed since" if git != self.git else ""
        lines = [
            ("Run", self.run or "none: it was not run by Dagster"),
            ("Time", self.time),
            ("Git commit", f"{git}{changed}" if git else "none: the manifests are not in a git repository"),
            ("System", self.system),
            ("Packages", ", ".join(f"{name} {number}" for name, number in self.packages.items())),
        ]
        shown = "".join(f"\n<div><dt>{escape(a)}</dt><dd>{escape(b)}</dd></div>" for a, b in lines if b)
        return f"{BEGIN}{shown}\n{END}"


def content_of(page: bytes) -> bytes:
    """A page without how it was made; all of it, where there is anything but that between the marks."""
    if page.count(BEGIN.encode()) != 1 or page.count(END.encode()) != 1:
        return page
    return _PLACE.sub(b"", page)


def page_version(files: Mapping[str, FileDigest], name: str, page: bytes) -> str:
    """The data version of files of which one is a page.

    Args:
        files: All of them.
        name: The page's.
        page: Its bytes.
    """
    content = content_of(page)
    return tree_digest({**files, name: FileDigest(hashlib.sha256(content).hexdigest(), "", len(content))})


def version_of_directory(directory: Path, name: str) -> str:
    """The same of what lies in a directory."""
    files = {path: digest_file(directory / path) for path in list_files(directory)}
    return page_version(files, name, (directory / name).read_bytes())


def versions_of(names: Iterable[str]) -> dict[str, str]:
    """The version of each distribution that is installed."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _imported(source: str) -> set[str]:
    """Top-level names that a text imports."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set(_IMPORT.findall(source))  # a notebook's cell may hold what is no Python
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def _packages_of(names: set[str]) -> dict[str, str]:
    names = names - sys.stdlib_module_names - {"dyff_dagster"}
    found = versions_of(names)
    # Reading what every distribution holds takes a quarter of a second: only for names that are none's.
    if others := names - found.keys():
        known = packages_distributions()
        found.update(versions_of({name for module in others for name in known.get(module, ())}))
    return found
