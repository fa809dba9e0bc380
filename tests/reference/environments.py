"""Virtual environments that hold the reference, made once and kept.

They lie in ``.reference/VERSION`` of the repository (git ignores it), or below the directory that
``DYFF_REFERENCE_ENVS`` names. Making one needs a package index that pip can reach; where there is none,
``reference_python`` raises ``ReferenceUnavailable``, and the tests that need it are skipped with its reason.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]

VERSIONS = ("0.12.0", "0.46.17")
"""The version whose types are those of the page (pydantic 1), and the newest that is compared with."""

TOGETHER = "0.46.17-with-dyff-dagster"
"""The environment that has this project too, with dyff-audit."""

_REQUIREMENTS = {
    # Its pydantic 1 and the pkg_resources that it imports at run time are why it cannot live beside ours.
    "0.12.0": ("dyff-schema==0.12.0", "pydantic<2", "numpy<2", "pyarrow<20", "setuptools<80"),
    "0.46.17": ("dyff-schema==0.46.17", "dyff-client==0.27.3", "dyff-audit==0.18.5", "setuptools<80"),
    # Both in one environment, as someone has it who runs methods that were written for dyff-audit.
    TOGETHER: ("dyff-audit==0.18.5", "setuptools<80", "-c", str(ROOT / "constraints.txt"), "-e", str(ROOT)),
}
_PROBE = "import dyff.schema.platform, dyff.schema.requests, dyff.schema.adapters"
_TIMEOUT = 900
"""Seconds that pip may take: the newer environment is half a gigabyte."""


class ReferenceUnavailable(Exception):
    """The reference cannot be had here; ``reason`` says why, for the report of skipped tests."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


@cache
def reference_python(version: str) -> Path:
    """Return the Python interpreter of the environment that holds dyff-schema ``version``; makes it if needed.

    Several processes may call it at once: one makes the environment, the others wait for it. One that was
    left half made (it has no ``.complete``) is made anew.

    Raises:
        ReferenceUnavailable: it cannot be made: there is no package index, no disk, no suitable Python.
        KeyError: ``version`` is none of ``VERSIONS``, and not ``TOGETHER``.
    """
    requirements = _REQUIREMENTS[version]
    environments = Path(os.environ.get("DYFF_REFERENCE_ENVS") or ROOT / ".reference").absolute()
    home = environments / version
    python = home / "bin" / "python"
    wanted = "\n".join(requirements)
    failure = _FAILED.get(version)
    if failure is not None:
        raise ReferenceUnavailable(failure)
    try:
        environments.mkdir(parents=True, exist_ok=True)
        with _locked(environments / f"{version}.lock"):
            marker = home / ".complete"
            if not (marker.is_file() and marker.read_text("utf-8") == wanted and python.exists()):
                _make(home, python, requirements)
                marker.write_text(wanted, "utf-8")
    except ReferenceUnavailable as error:
        # Told once: the next test that asks would wait for pip to give up again.
        _FAILED[version] = error.reason
        raise
    except OSError as error:
        _FAILED[version] = f"no environment for dyff-schema {version}: {error}"
        raise ReferenceUnavailable(_FAILED[version]) from error
    return python


_FAILED: dict[str, str] = {}


def _make(home: Path, python: Path, requirements: tuple[str, ...]) -> None:
    if home.is_symlink():
        home.unlink()
    shutil.rmtree(home, ignore_errors=True)
    base = shutil.which("python3.11") or sys.executable
    _run([base, "-m", "venv", str(home)], "no virtual environment can be made")
    _run(
        [
            str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
            "--no-input", "--retries", "1", *requirements,
        ],
        f"pip cannot install {requirements[0]}",
    )  # fmt: skip
    _run([str(python), "-c", _PROBE], f"{requirements[0]} was installed and cannot be imported")


def _run(command: list[str], otherwise: str) -> None:
    # What is set for our own interpreter must not reach the other one.
    environment = {
        k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    }
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT, env=environment, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ReferenceUnavailable(f"{otherwise}: not done after {_TIMEOUT} seconds") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise ReferenceUnavailable(f"{otherwise}: {said[-1] if said else f'exit status {done.returncode}'}")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on ``path``; the system lets go of it when the process dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
