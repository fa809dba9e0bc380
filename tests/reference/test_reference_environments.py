"""The environments are made once, whole or not at all, and their absence is a reason and no failure."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.reference.environments import ROOT

ASK = "from tests.reference.environments import reference_python, ReferenceUnavailable\n"


def ask(code: str, directory: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", ASK + code],
        cwd=ROOT,
        env={**os.environ, "DYFF_REFERENCE_ENVS": str(directory), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_without_a_package_index_there_is_a_reason(tmp_path: Path) -> None:
    code = (
        "try:\n    reference_python('0.12.0')\nexcept ReferenceUnavailable as error:\n    print(error.reason)"
    )
    said = ask(code, tmp_path, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path / "none"))
    assert said.startswith("pip cannot install dyff-schema==0.12.0: ")
    assert not (tmp_path / "0.12.0" / ".complete").exists()


def test_what_was_left_half_made_is_not_taken_for_whole(tmp_path: Path) -> None:
    python = tmp_path / "0.12.0" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    (tmp_path / "0.12.0" / "left-behind").touch()
    code = "try:\n    reference_python('0.12.0')\nexcept ReferenceUnavailable:\n    print('made anew')"
    assert ask(code, tmp_path, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path / "none")) == "made anew"
    assert not (tmp_path / "0.12.0" / "left-behind").exists()
