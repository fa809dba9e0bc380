"""How the command says what went wrong: one sentence, no traceback, exit status 1."""

from __future__ import annotations

import errno
import re
from typing import Any

import click

from dyff_dagster.schema.errors import DyffError


class Commands(click.Group):
    """Says in one sentence what a user can mend, without a traceback, and exits with status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb."""
        try:
            return super().invoke(ctx)
        except DyffError as error:
            click.echo(shown(str(error)), err=True)
            ctx.exit(1)
        except OSError as error:
            if error.errno == errno.EPIPE:  # whoever read the output went away; click knows what to do
                raise
            click.echo(shown(sentence(error)), err=True)
            ctx.exit(1)


_REMEDIES = {
    errno.EACCES: "take the permission, or name another place",
    errno.EPERM: "take the permission, or name another place",
    errno.EROFS: "name a place that can be written to",
    errno.ENOENT: "name one that is there",
    errno.ENOTDIR: "name a directory, and none below a file",
    errno.EISDIR: "name a file",
    errno.EEXIST: "name another place",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "mend the symbolic link",
    errno.ENOSPC: "make room on the disk",
    errno.EADDRINUSE: "choose another port",
}


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def shown(text: str) -> str:
    """A text without what a terminal would obey: manifests come from elsewhere too."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def sentence(error: OSError) -> str:
    """``PATH: what the system said; what would be right``."""
    name = "" if error.filename is None else str(error.filename)
    name = f"{name[:200]}…" if len(name) > 200 else name
    said = error.strerror or str(error) or type(error).__name__
    remedy = _REMEDIES.get(error.errno or 0)
    return (f"{name}: " if name else "") + said + (f"; {remedy}" if remedy else "")
