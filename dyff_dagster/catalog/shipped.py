"""Modules that ship with the package, which a manifest names as ``dyff-dagster/files: dyff-dagster:NAME``."""

from __future__ import annotations

from pathlib import Path

_SHIPPED = "dyff-dagster:"
_ROOT = Path(__file__).parent / "modules"


def files_directory(directory: Path, named: str | None) -> Path:
    """The directory that an annotation ``files`` means: of the package, else relative to the manifest's."""
    if is_shipped(named):
        # What is no single name leads to no directory of the package.
        name = (named or "").removeprefix(_SHIPPED)
        return _ROOT / (name if name in shipped_names() else "no such module")
    return directory / (named or ".")


def is_shipped(named: str | None) -> bool:
    """Whether an annotation ``files`` names a module of the package."""
    return named is not None and named.startswith(_SHIPPED)


def unknown_module() -> str:
    """What is to be said of a name that there is not."""
    return f"names no module of this package; there are: {', '.join(shipped_names())}"


def shipped_names() -> list[str]:
    """The names that there are, sorted."""
    return sorted(
        path.name for path in _ROOT.iterdir() if path.is_dir() and not path.name.startswith(("_", "."))
    )
