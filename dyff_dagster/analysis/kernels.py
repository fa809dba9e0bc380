"""The kernel that a notebook runs on: this interpreter's, or an installed one that it names."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

OWN_KERNEL = "dyff-analysis"
"""Name of the kernel that :func:`install_kernel` makes; no notebook names it."""

_PYTHON = frozenset({"python", "python3", "ipython"})
_ANY_PYTHON = frozenset({"", "python", "python3"})
"""Names that a notebook has from whatever interpreter it was written with."""


def choose_kernel(notebook: Any, data_path: Path) -> str:
    """The name of the kernel that a notebook is to run on.

    One of another language is what the notebook says. One of Python that it names (``my-environment``) is
    taken where the machine has it; else, and for ``python3``, which any interpreter may be, it is the
    running interpreter, whose kernel is written below ``data_path``.
    """
    name, language = kernel_of(notebook)
    if name and language not in _PYTHON:
        return name
    if name not in _ANY_PYTHON and _is_installed(name):
        print(
            f"The notebook runs on the kernel {name}, which it names and which is installed.", file=sys.stderr
        )
        return name
    return install_kernel(data_path)


def kernel_of(notebook: Any) -> tuple[str, str]:
    """The name of the kernel that a notebook was written with, and its language in lower case."""
    metadata = notebook.get("metadata", {})
    kernelspec = metadata.get("kernelspec", {})
    language = kernelspec.get("language") or metadata.get("language_info", {}).get("name") or "python"
    return str(kernelspec.get("name") or ""), str(language).lower()


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


def noting_ends(ends: list[int | None]) -> type:
    """A class of kernel managers that add to ``ends`` how their kernels' processes ended.

    That is the exit status, negative for a signal, or None where the kernel was shut down in order.
    """
    from jupyter_client.manager import AsyncKernelManager

    class NotingKernelManager(AsyncKernelManager):
        async def _note(self, restart: bool = False) -> None:
            process = getattr(self.provisioner, "process", None)
            ends.append(None if process is None else process.poll())
            await AsyncKernelManager.cleanup_resources(self, restart=restart)

        cleanup_resources = _note

    return NotingKernelManager


def _is_installed(name: str) -> bool:
    from jupyter_client.kernelspec import KernelSpecManager

    return name in KernelSpecManager().find_kernel_specs()
