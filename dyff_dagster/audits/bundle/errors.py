"""What can be wrong with a bundle, and how names out of one are shown."""

from __future__ import annotations

from dyff_dagster.schema.errors import DyffError

_LONGEST_SHOWN = 200


class BundleError(DyffError):
    """A bundle cannot be written or read."""


class NotABundle(BundleError):
    """A file is no bundle, or not as dyff-dagster writes one: nothing in it was looked at further."""


class KeyFileError(BundleError):
    """A key cannot be made, read or used."""


def shown(name: str) -> str:
    """A name out of a file that somebody else made, fit for a terminal: on one line, of printable characters."""
    text = "".join(character if character.isprintable() else "�" for character in name[: _LONGEST_SHOWN + 1])
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"
