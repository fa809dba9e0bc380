"""New manifests: for every kind a commented one in the short form, with blanks to be filled in."""

from __future__ import annotations

import json
import re
from importlib import resources

import yaml

from dyff_dagster.catalog.blanks import BLANK
from dyff_dagster.schema.base import closest
from dyff_dagster.schema.enumerations import Entities
from dyff_dagster.schema.errors import DyffError
from dyff_dagster.schema.ids import check_id

MANIFEST_KINDS = tuple(str(kind) for kind in Entities if kind not in (Entities.Account, Entities.Analysis))
"""Every kind that a manifest may have."""

_ID = "<an id of your choice>"
_DOCUMENTED = "<id of what this is about>"
_ACCOUNT = "<who owns it>"


class UnknownManifestKind(DyffError):
    """There are no manifests of this kind; ``kind`` is what was asked for."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        near = closest(kind, MANIFEST_KINDS)
        hint = f"did you mean '{near}'?" if near else "there are " + ", ".join(MANIFEST_KINDS)
        super().__init__(f"there are no manifests of kind '{kind}'; {hint}")


class NoAccount(DyffError):
    """An account was given for a Documentation, which has none of its own."""

    def __init__(self) -> None:
        super().__init__(
            "a Documentation has no account: it belongs to what it is about; leave the account out"
        )


def manifest_kind(kind: str) -> str:
    """The kind as manifests write it, for a name in upper, lower or mixed case.

    :raises UnknownManifestKind: there is none; the text names the closest one.
    """
    found = {name.lower(): name for name in MANIFEST_KINDS}.get(kind.lower())
    if found is None:
        raise UnknownManifestKind(kind)
    return found


def new_manifest(kind: str, entity_id: str | None = None, account: str | None = None) -> str:
    """The text of a new manifest, as YAML with comments.

    What must be said stands as a blank, ``<what goes here>``; what may be said is commented out, with the
    ``#`` right before its first character, so that taking the ``#`` away is all it needs.

    :param kind: in upper or lower case.
    :param entity_id: fills the blanks of the entity's own id; of a Documentation, that of the entity it is
        about.
    :param account: fills the blank of the account.
    :raises UnknownManifestKind: there are no manifests of this kind.
    :raises IdError: ``entity_id`` is no possible id.
    :raises NoAccount: the kind has no account.
    """
    found = manifest_kind(kind)
    text = resources.files("dyff_dagster.catalog").joinpath("templates", f"{found}.yaml").read_text("utf-8")
    if entity_id is not None:
        written = _as_yaml(check_id(entity_id))
        for blank in (_ID, _DOCUMENTED):
            text = _filled(text, blank, written)
    if account is not None:
        if _ACCOUNT not in text:
            raise NoAccount
        text = _filled(text, _ACCOUNT, _as_yaml(account))
    return text


def _filled(text: str, blank: str, value: str) -> str:
    """``text`` with the blank filled in; a comment behind it stays in its column where there is room."""

    def fill(match: re.Match[str]) -> str:
        if not match["comment"]:
            return value
        return value.ljust(len(blank) + len(match["space"]) - 2) + "  " + match["comment"]

    return re.sub(rf"{re.escape(blank)}(?P<space> *)(?P<comment>#?)", fill, text)


def _as_yaml(text: str) -> str:
    """``text`` as a YAML scalar on one line: in quotes where it would be read as something else without."""
    plain = text.replace("-", "").replace("_", "").replace(".", "").isalnum() and not BLANK.search(text)
    if plain and text[0].isalnum() and yaml.safe_load(text) == text:
        return text
    return json.dumps(text, ensure_ascii=False)
