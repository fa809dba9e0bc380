"""The kernel that a notebook runs on: this interpreter, whatever kernels the machine has installed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

OWN_KERNEL = "dyff-analysis"
"""Name of the kernel that :func:`install_kernel` makes; no notebook names it."""


def install_kernel(data_path: Path) -> str:
    """Write a kernelspec for the running interpreter below ``data_path``, and return its name.

    A kernel called ``python3`` may belong to any interpreter of the machine; this one is ours. ``data_path``
    must be on JUPYTER_PATH.
    """
    directory = data_path / "kernels" / OWN_KERNEL
    directory.mkdir(parents=True, exist_ok=True)
    specification = {
        "argv": [
            sys.executable,
            "-m",
            "ipykernel_launcher",
            "-f",
            "{connection_file}",
            # No history database, which several kernels would fight for.
            "--HistoryManager.enabled=False",
        ],
        "display_name": "Python 3",
        "language": "python",
        "metadata": {"debugger": False},
    }
    (directory / "kernel.json").write_text(json.dumps(specification, indent=1), "utf-8")
    return OWN_KERNEL


def kernel_of(notebook: Any) -> str | None:
    """The kernel that a notebook insists on: its own, where its language is another than Python, else None."""
    metadata = notebook.get("metadata", {})
    kernelspec = metadata.get("kernelspec", {})
    language = kernelspec.get("language") or metadata.get("language_info", {}).get("name") or "python"
    if str(language).lower() in ("python", "python3", "ipython"):
        return None
    name = kernelspec.get("name")
    return str(name) if name else None
