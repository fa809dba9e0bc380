"""The git commit that manifests were read at."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

_PATIENCE = 10.0
"""Seconds that git may take to look through a large repository."""

_COMMIT = re.compile(r"[0-9a-f]{40,64}(-dirty)?")


def commit_of(directory: Path) -> str:
    """The commit of the repository that a directory is in, with ``-dirty`` where tracked files differ from it.

    Empty where it is in none, where git is not installed, or where git will not say (a repository of somebody
    else's).
    """
    command = ["git", "-C", str(directory), "-c", "core.fsmonitor=false", "describe", "--always", "--dirty"]
    # Within a hook of git these variables name the repository of the hook.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            [*command, "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            # Else it would note in the index which files it has looked at, and so write to the repository.
            env={**inherited, "GIT_OPTIONAL_LOCKS": "0"},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    said = done.stdout.strip()
    return said if done.returncode == 0 and _COMMIT.fullmatch(said) else ""
