"""Which analyses depend on this package's code, and on which of it."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from dyff_dagster.analysis import own_code_digest, uses_own_code
from dyff_dagster.analysis.own_code import COMPUTING
from dyff_dagster.schema.platform import Artifact, Method, Module
from dyff_dagster.sources import fetch
from dyff_dagster.store import Commit, Inputs, Store
from tests.syntax import parsed

PACKAGE = Path(__file__).parents[2] / "dyff_dagster"

NO_NUMBERS = {
    "analysis.errors",
    "analysis.functions",  # calls the method
    "analysis.records",  # keeps what was computed
    "schema.arrow",
    "schema.canonical",  # makes digests
    "schema.errors",
    "schema.ids",
    "schema.parquet",
    "schema.platform",
    "schema.streaming",  # reads rows, all of them, in their order
    "sources.views",  # of a Report, whose views are part of its specification
}
"""What the code that computes uses besides, and what makes no number."""


def files() -> list[Path]:
    found: list[Path] = []
    for name in COMPUTING:
        path = PACKAGE / name
        assert path.exists(), f"{name} is gone: say where the code that computes lies now"
        found += sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return found


def listed(module: str) -> bool:
    path = module.replace(".", "/")
    return any(path == name.removesuffix(".py") or f"{path}/".startswith(f"{name}/") for name in COMPUTING)


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_all_that_makes_numbers_is_listed(path: Path) -> None:
    for node in ast.walk(parsed(path)):
        modules = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            modules = [node.module or ""]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        for module in modules:
            if module.partition(".")[0] == "dyff_dagster":
                name = module.partition(".")[2]
                assert listed(name) or name in NO_NUMBERS, (
                    f"{path.name} uses {name}: is it code that computes?"
                )


@pytest.mark.parametrize(
    ("changed", "counts"),
    [
        ("analysis/statistics/proportions.py", True),
        ("analysis/metrics/texts.py", True),
        ("analysis/comparison.py", True),
        ("analysis/display.py", False),
        ("cli/results.py", False),
    ],
)
def test_the_digest_is_that_of_the_code_that_computes(tmp_path: Path, changed: str, counts: bool) -> None:
    copy = tmp_path / "dyff_dagster"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))

    def digest() -> str:
        done = subprocess.run(
            [sys.executable, "-c", "from dyff_dagster.analysis import own_code_digest as d; print(d())"],
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    assert digest() == own_code_digest()
    file = copy / changed
    file.write_text(file.read_text() + "\n# another way to compute\n")
    assert (digest() != own_code_digest()) is counts


def method(name: str = "scoring.score", kind: str = "pythonFunction") -> Method:
    body: dict[str, Any] = {"kind": kind[0].upper() + kind[1:], kind: {"fullyQualifiedName": name}}
    return Method.model_validate(
        {
            "id": "method",
            "account": "acme",
            "name": "A method",
            "scope": "Evaluation",
            "implementation": body,
            "output": {"kind": "SafetyCase", "safetyCase": {"name": "Safe"}},
        }
    )


def committed(tmp_path: Path, **contents: bytes) -> Commit:
    """A Module of files in a real store."""
    source, store = tmp_path / "source", Store(tmp_path / "store")
    source.mkdir(exist_ok=True)
    artifacts = []
    for name, content in contents.items():
        (source / name).write_bytes(content)
        artifacts.append(Artifact(path=name))
    module = Module(id="module", account="acme", name="Module", artifacts=artifacts)
    return fetch(module, store, inputs=Inputs(spec="5" * 64), files=source)


@pytest.mark.parametrize(
    ("content", "uses"),
    [
        (b"import numpy\n", False),
        (b"from dyff.audit.analysis import AnalysisContext\n", False),
        (b"", False),
        (b"from dyff_dagster import AnalysisContext\n", True),
        (b"    import dyff_dagster.analysis.statistics as s\n", True),
        (b"importlib.import_module('dyff_dagster.analysis.metrics')\n", True),
        (b'{"cells": [{"source": ["from dyff_dagster.analysis.statistics import rate"]}]}', True),
        (b"x" * ((1 << 20) - 5) + b"dyff_dagster", True),  # across two blocks
        (b"x" * ((1 << 20) - 5) + b"dyff_dagste", False),
    ],
)
def test_a_module_that_names_the_package_uses_it(tmp_path: Path, content: bytes, uses: bool) -> None:
    assert uses_own_code(method(), [committed(tmp_path, code=content)]) is uses


def test_any_file_of_any_module_counts(tmp_path: Path) -> None:
    plain = committed(tmp_path, one=b"1", two=b"2")
    (tmp_path / "other").mkdir()
    using = committed(tmp_path / "other", one=b"1", two=b"import dyff_dagster")
    assert uses_own_code(method(), [plain]) is False
    assert uses_own_code(method(), [plain, using]) is True


@pytest.mark.parametrize("kind", ["pythonFunction", "pythonRubric"])
@pytest.mark.parametrize(
    ("name", "uses"), [("dyff_dagster.analysis.comparison.compare", True), ("dyff_dagsterly.compare", False)]
)
def test_a_method_of_the_package_needs_no_module(kind: str, name: str, uses: bool) -> None:
    assert uses_own_code(method(name, kind), []) is uses


def test_a_version_is_read_once(tmp_path: Path) -> None:
    commit = committed(tmp_path, code=b"import dyff_dagster")
    assert uses_own_code(method(), [commit]) is True
    # It cannot change; that it was not read again is seen where it could not be.
    gone = replace(commit, path=UPath(tmp_path / "gone"))
    with pytest.raises(FileNotFoundError):
        uses_own_code(method(), [gone])
    shutil.rmtree(tmp_path / "store")
    assert uses_own_code(method(), [commit]) is True
