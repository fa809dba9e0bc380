"""The reference as a process that answers questions (see ``oracle``)."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.reference.environments import ReferenceUnavailable, reference_python

ORACLE = Path(__file__).with_name("oracle.py")


class ReferenceRefused(Exception):
    """The reference raised; the text is its own."""


class Reference:
    """One version of dyff-schema, in a process that lives until ``close``."""

    def __init__(self, version: str, python: Path) -> None:
        self.version = version
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in close()
        self._process = subprocess.Popen(
            [str(python), "-I", str(ORACLE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            encoding="utf-8",
        )

    def ask(self, do: str, **request: Any) -> Any:
        """The reference's answer.

        Raises:
            ReferenceRefused: it raised.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **request}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            self._said.seek(0)
            raise AssertionError(f"the oracle of {self.version} ended: {self._said.read()[-2000:]}")
        answer = json.loads(line)
        if "error" in answer:
            raise ReferenceRefused(answer["error"])
        return answer["ok"]

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)
        self._process.stdout.close()
        self._said.close()


def start(version: str) -> Reference:
    """The reference of ``version``; skips the test that asks where it cannot be had."""
    try:
        python = reference_python(version)
    except ReferenceUnavailable as error:
        pytest.skip(error.reason)
    return Reference(version, python)
