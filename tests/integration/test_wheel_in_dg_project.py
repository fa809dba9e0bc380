"""The wheel in somebody else's project: `create-dagster project`, a component of ours, and what `dg` says.

Nothing is fetched: dependencies are those of the environment that the tests run in, found after the wheel.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from dyff_dagster import Catalog
from dyff_dagster.orchestration.names import asset_key
from tests import servers

DG = "import sys; sys.argv[0] = 'dg'; from dagster_dg_cli.cli import main; main()"


class Project:
    """A project made by `create-dagster`, and the environment that it is worked on in."""

    def __init__(self, directory: Path) -> None:
        environment = servers.environment(directory / "home", PYTHONWARNINGS="default")
        self.root = directory / "audits"
        servers.run(
            servers.command("create-dagster", "project", "--no-uv-sync", self.root), directory, environment
        )
        venv = self.root / ".venv"
        servers.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], directory, environment)
        self.python = venv / "bin" / "python"
        self.site_packages = venv / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
        self.install(_wheel(directory / "wheel", environment), environment)
        # Behind the wheel on the path, so that of the two dyff_dagsters the wheel's is imported.
        (self.site_packages / "zz_others.pth").write_text(
            f"{self.root / 'src'}\n{sysconfig.get_path('purelib')}\n"
        )
        bin_first = f"{venv / 'bin'}:{environment['PATH']}"
        self.environment = {**environment, "VIRTUAL_ENV": str(venv), "PATH": bin_first}

    def install(self, wheel: Path, environment: dict[str, str]) -> None:
        pip = [sys.executable, "-m", "pip", "--python", str(self.python)]
        servers.run([*pip, "install", "--no-deps", "--no-index", str(wheel)], self.root, environment)

    def dg(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `dg`; its exit status must be 0 and its warnings must not be about us."""
        done = servers.run([str(self.python), "-c", DG, *arguments], self.root, self.environment)
        assert warnings_of_ours(done.stderr + done.stdout) == []
        return done


def warnings_of_ours(said: str) -> list[str]:
    """Lines about what we use that Dagster would rather not have used, and warnings from our own files."""
    words = ("SupersessionWarning", "BetaWarning", "PreviewWarning", "BreakingChange", "DeprecationWarning:")
    return [
        line
        for line in said.splitlines()
        if any(word in line for word in words) or ("dyff_dagster/" in line and "Warning" in line)
    ]


def _wheel(directory: Path, environment: dict[str, str]) -> Path:
    line = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(directory),
    ]
    servers.run([*line, str(servers.REPOSITORY)], servers.REPOSITORY, environment)
    (wheel,) = directory.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("dg"))
    component = project.root / "src" / "audits" / "defs" / "breast_cancer"
    component.mkdir()
    # YAML reads JSON.
    defs: dict[str, Any] = {
        "type": "dyff_dagster.DyffCatalogComponent",
        "attributes": {"path": str(servers.EXAMPLE)},
    }
    (component / "defs.yaml").write_text(json.dumps(defs))
    return project


def test_the_wheel_is_what_is_imported(project: Project) -> None:
    told = "import dyff_dagster, dagster; print(dyff_dagster.__file__); print(dagster.__file__)"
    done = servers.run([str(project.python), "-c", told], project.root, project.environment)
    ours, dagster = done.stdout.splitlines()
    assert Path(ours).is_relative_to(project.site_packages)
    assert not Path(dagster).is_relative_to(project.site_packages)


def test_the_wheel_holds_the_templates_and_the_mark_of_its_types(project: Project) -> None:
    installed = project.site_packages / "dyff_dagster"
    assert (installed / "py.typed").is_file()
    in_tree = servers.REPOSITORY / "dyff_dagster" / "analysis" / "templates"
    assert {path.name for path in (installed / "analysis" / "templates").iterdir()} == {
        path.name for path in in_tree.iterdir()
    }


def test_dg_knows_the_component(project: Project) -> None:
    listed = json.loads(project.dg("list", "components", "--json").stdout)["items"]
    ours = [item for item in listed if item["key"].startswith("dyff_dagster.")]
    assert [item["key"] for item in ours] == ["dyff_dagster.DyffCatalogComponent"]
    assert ours[0]["summary"]


def test_dg_finds_the_definitions_in_order(project: Project) -> None:
    assert "All definitions loaded successfully" in project.dg("check", "defs").stdout


def test_dg_lists_the_entities_as_assets(project: Project) -> None:
    listed = json.loads(project.dg("list", "defs", "--json").stdout)
    catalog = Catalog.load(servers.EXAMPLE)
    assert {asset["asset_key"] for asset in listed["assets"]} == {
        asset_key(entity).to_user_string() for entity in catalog.entities.values()
    }


def test_dg_finds_this_repositorys_own_definitions_in_order(tmp_path: Path) -> None:
    env = servers.environment(tmp_path, PYTHONWARNINGS="default")
    done = servers.run(servers.command("dg", "check", "defs"), servers.REPOSITORY, env)
    assert "All definitions loaded successfully" in done.stdout
    assert warnings_of_ours(done.stdout + done.stderr) == []
