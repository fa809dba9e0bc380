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


@pytest.mark.parametrize("line", [["python", "serve.py"], ["python", "-m", "serve"]])
def test_files_of_a_mounted_configmap_keep_their_names_when_it_changes(
    tmp_path: Path, line: list[str]
) -> None:
    def mount(version: str) -> dict[str, bytes]:
        """The kubelet writes a new directory and turns a link to it."""
        (tmp_path / version).mkdir()
        (tmp_path / version / "serve.py").write_text("import near\n")
        (tmp_path / version / "near.py").write_text("")
        (tmp_path / "new").symlink_to(version)
        (tmp_path / "new").rename(tmp_path / "..data")
        return {name: path.read_bytes() for name, path in code_files(line, tmp_path).items()}

    for name in ("serve.py", "near.py"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    first = mount("..2026_01_01")
    assert list(first) == ["near.py", "serve.py"]
    assert mount("..2026_01_02") == first


def test_a_script_that_is_a_link_counts_with_what_lies_beside_its_target(directory: Path) -> None:
    (directory / "shared").mkdir()
    (directory / "shared" / "serve.py").write_text("import beside\n")
    (directory / "shared" / "beside.py").write_text("")
    (directory / "serve.py").symlink_to("shared/serve.py")
    (directory / "other.py").symlink_to("shared/serve.py")
    assert list(code_files(["python", "serve.py"], directory)) == ["beside.py", "serve.py"]
    assert list(code_files(["python", "other.py"], directory)) == ["shared/beside.py", "shared/serve.py"]
