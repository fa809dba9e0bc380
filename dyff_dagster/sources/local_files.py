"""The files of a directory on this disk: all but hidden ones, and none passed over without a word."""

from __future__ import annotations

import os
from pathlib import Path

from dyff_dagster.sources.errors import SourceError
from dyff_dagster.store.digests import list_files


def hidden(name: str) -> bool:
    """Whether a relative path has a part that begins with a dot."""
    return any(part.startswith(".") for part in name.split("/"))


def files_below(root: Path) -> list[str]:
    """Relative names of the files below a directory, hidden ones left out, sorted.

    Links to files are files. What lies behind a link to a directory is not listed: one within ``root`` is listed where
    it lies, any other is refused.

    Raises:
        SourceError: A link leads nowhere or to a directory outside, or a name is not UTF-8; the text is a sentence
            without the entity's id.
    """
    inside = root.resolve()
    for folder, folders, names in os.walk(root):
        for name in (*folders, *names):
            path = Path(folder, name)
            shown = path.relative_to(root).as_posix()
            if hidden(shown):
                continue
            if not _is_text(shown):
                raise SourceError(f"a file in {root} has a name that is not UTF-8: rename it")
            if not path.is_symlink():
                continue
            if not path.exists():
                raise SourceError(
                    f"the link {shown} in {root} leads nowhere: fetch what it stands for, or remove it"
                )
            target = path.resolve()
            if path.is_dir() and target != inside and inside not in target.parents:
                raise SourceError(
                    f"the link {shown} in {root} leads to a directory elsewhere, which would be left out: put the "
                    "files there, or name that directory"
                )
    return [name for name in list_files(root) if not hidden(name)]


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
