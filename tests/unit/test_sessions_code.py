"""What a local service is made of, read off its command line and its imports."""

from __future__ import annotations

from pathlib import Path

import pytest

from dyff_dagster.sessions import code_files


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "service" / "parts").mkdir(parents=True)
    (tmp_path / "service" / "serve.py").write_text(
        "import json, numpy, near\nfrom parts import inner\nraise SystemExit('never run')\n"
    )
    (tmp_path / "service" / "near.py").write_text("import further\n")
    (tmp_path / "service" / "further.py").write_text("")
    (tmp_path / "service" / "unrelated.py").write_text("")
    (tmp_path / "service" / "parts" / "__init__.py").write_text("")
    (tmp_path / "service" / "parts" / "inner.py").write_text("")
    (tmp_path / "settings.json").write_text("{}")
    return tmp_path


def test_a_script_counts_with_what_it_imports_from_beside_it(directory: Path) -> None:
    found = code_files(["python", "service/serve.py", "--settings", "settings.json"], directory)
    assert list(found) == [
        "service/further.py",
        "service/near.py",
        "service/parts/__init__.py",
        "service/parts/inner.py",
        "service/serve.py",
        "settings.json",
    ]


def test_a_module_that_is_run_counts_too(directory: Path) -> None:
    (directory / "pkg").mkdir()
    (directory / "pkg" / "__init__.py").write_text("")
    (directory / "pkg" / "__main__.py").write_text("import pkg.core\n")
    (directory / "pkg" / "core.py").write_text("")
    assert list(code_files(["python", "-m", "pkg"], directory)) == [
        "pkg/__init__.py",
        "pkg/__main__.py",
        "pkg/core.py",
    ]


@pytest.mark.parametrize("args", [["don't"], ["x" * 5000], ["a\0b"], [""], ["--port={port}"], []])
def test_what_names_no_file_is_passed_over(directory: Path, args: list[str]) -> None:
    assert code_files(args, directory) == {}


def test_a_script_that_is_no_python_counts_alone(directory: Path) -> None:
    (directory / "broken.py").write_text("def (")
    assert list(code_files(["python", "broken.py"], directory)) == ["broken.py"]
