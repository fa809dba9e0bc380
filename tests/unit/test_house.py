"""The house keeps its shape: rooms, names, sizes, and what loading costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.syntax import parsed

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "dyff_dagster"
MODULES = sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0]


def imports(path: Path) -> list[tuple[str, str]]:
    """(module, name) of every ``from dyff_dagster… import name`` in a file."""
    found = []
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dyff_dagster"):
            found += [(node.module or "", alias.name) for alias in node.names]
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_private_is_taken_from_another_room(path: Path) -> None:
    for module, name in imports(path):
        parts = module.split(".")
        if len(parts) > 1 and parts[1] != room(path).removesuffix(".py"):
            assert not name.startswith("_"), f"{path} takes {name} from {module}"
            assert not any(part.startswith("_") for part in parts), f"{path} imports {module}"


def test_no_module_is_longer_than_a_newcomer_would_read() -> None:
    long = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in MODULES}
    assert {name: lines for name, lines in long.items() if lines > 420} == {}


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert [path for path in MODULES if path.stem in ("utils", "util", "common", "helpers", "misc")] == []


def loaded_by(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after ``statement``."""
    code = f"{statement}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


HEAVY = {
    "papermill",
    "nbconvert",
    "matplotlib",
    "scipy",
    "pandas",
    "aiohttp",
    "dagster_k8s",
    "huggingface_hub",
    "IPython",
}


def test_loading_the_definitions_loads_nothing_heavy() -> None:
    loaded = loaded_by("import definitions; definitions.defs.resolve_asset_graph()")
    assert "dagster" in loaded
    assert loaded & HEAVY == set()


def test_a_notebook_that_wants_its_context_does_not_load_dagster() -> None:
    loaded = loaded_by("from dyff_dagster import AnalysisContext")
    assert loaded & (HEAVY | {"dagster"}) == set()


def test_the_vocabulary_loads_pydantic_and_pyarrow_alone() -> None:
    loaded = loaded_by(
        "import dyff_dagster.schema.platform, dyff_dagster.schema.arrow, dyff_dagster.schema.adapters"
    )
    assert loaded & (HEAVY | {"dagster", "fsspec", "upath", "yaml", "click", "rich"}) == set()


def test_loading_the_definitions_writes_nothing(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "def hook(event, args):\n"
        "    if event == 'open' and args[1] and any(c in str(args[1]) for c in 'wax+'):\n"
        "        if not str(args[0]).startswith(('/dev/', '/proc/')) and not isinstance(args[0], int):\n"
        "            print('WROTE', args[0])\n"
        "    if event == 'socket.connect':\n"
        "        print('CONNECTED', args[1])\n"
        "sys.dont_write_bytecode = True\n"
        "import dagster\n"
        "sys.addaudithook(hook)\n"
        "import definitions\n"
        "definitions.defs.resolve_asset_graph()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert [line for line in done.stdout.splitlines() if line.startswith(("WROTE", "CONNECTED"))] == []


def test_every_public_name_is_there() -> None:
    import dyff_dagster

    for name in dyff_dagster.__all__:
        assert getattr(dyff_dagster, name) is not None
        assert name in dir(dyff_dagster)
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        dyff_dagster.Nonsense  # noqa: B018
