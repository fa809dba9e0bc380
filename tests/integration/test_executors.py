"""What ``DYFF_EXECUTOR`` names: how the processes of steps come to be, in real runs of the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

_DEFINITIONS = """
import json, os, sys
from pathlib import Path

imported = "dyff_dagster.orchestration" in sys.modules  # before this file does it
with open("loaded.log", "a") as log:
    log.write(f"{os.getpid()}\\n")

import dagster as dg
from dyff_dagster.orchestration.executors import executor_named

def made(name):
    @dg.asset(name=name)
    def compute() -> None:
        said = {"parent": os.getppid(), "process": os.getpid(), "imported": imported}
        Path(f"{name}.json").write_text(json.dumps(said))

    return compute

defs = dg.Definitions(assets=[made("a"), made("b"), made("c")], executor=executor_named("multiprocess"))
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "definitions.py").write_text(_DEFINITIONS)
    (tmp_path / "home").mkdir()
    return tmp_path


def steps(project: Path, *target: str, execution: Any = None) -> list[dict[str, Any]]:
    """What the three steps of a run say of their processes."""
    config = ["--config-json", json.dumps({"execution": {"config": execution}})] if execution else []
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("DYFF_", "DAGSTER_"))}
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("dagster")),
            "asset",
            "materialize",
            "--select",
            "*",
            *target,
            *config,
        ],
        cwd=project,
        env={**environment, "DAGSTER_HOME": str(project / "home"), "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((project / f"{name}.json").read_text()) for name in "abc"]


@pytest.mark.parametrize("target", [["-f", "definitions.py"], ["-m", "definitions"]], ids=["file", "module"])
def test_steps_are_forked_from_one_process_that_has_imported_everything(
    project: Path, target: list[str]
) -> None:
    said = steps(project, *target)
    assert len({one["parent"] for one in said}) == 1
    assert len({one["process"] for one in said}) == 3
    assert all(one["imported"] for one in said)
    # The definitions are loaded by the command and by the process that the steps are forked from, and by no step.
    loaded = (project / "loaded.log").read_text().split()
    assert len(loaded) == 2
    assert str(said[0]["parent"]) in loaded


def test_what_cannot_be_loaded_beforehand_is_loaded_by_each_step(project: Path) -> None:
    file = project / "definitions.py"
    second_load = (
        "import pathlib\nassert len(pathlib.Path('loaded.log').read_text().split()) != 2, 'not now'\n"
    )
    file.write_text(file.read_text() + second_load)
    said = steps(project, "-f", "definitions.py")
    assert len({one["process"] for one in said}) == 3
    assert len((project / "loaded.log").read_text().split()) == 5


def test_run_config_may_say_otherwise(project: Path) -> None:
    spawned = steps(
        project, "-f", "definitions.py", execution={"multiprocess": {"start_method": {"spawn": {}}}}
    )
    assert len({one["process"] for one in spawned}) == 3
    assert not any(one["imported"] for one in spawned)
    together = steps(project, "-f", "definitions.py", execution={"in_process": {}})
    assert len({one["process"] for one in together}) == 1


def test_other_settings_of_run_config_stay(project: Path) -> None:
    said = steps(project, "-f", "definitions.py", execution={"multiprocess": {"max_concurrent": 1}})
    assert len({one["process"] for one in said}) == 3
    assert all(one["imported"] for one in said)
