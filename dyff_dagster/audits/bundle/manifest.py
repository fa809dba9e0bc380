"""What a bundle lists of itself: the one file that is signed.

``manifest.json`` is canonical JSON (:mod:`dyff_dagster.schema.canonical`)::

    {"format": "dyff-dagster bundle 1", "subject": ID, "software": {"dyff-dagster": VERSION},
     "files": {PATH: {"sha256": HEX, "size": BYTES}},
     "leftOut": {ID: {"files": [PATH], "why": SENTENCE}}}

``files`` has every file of the bundle but the manifest and ``manifest.json.sig``, which is the 64 bytes of the
signature over the manifest's bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dyff_dagster.audits.bundle.errors import NotABundle
from dyff_dagster.schema.canonical import canonical_json
from dyff_dagster.schema.errors import DyffError
from dyff_dagster.schema.ids import is_id

FORMAT = "dyff-dagster bundle 1"
MANIFEST, SIGNATURE = "manifest.json", "manifest.json.sig"
README = "README.txt"
LARGEST_JSON = 64 << 20
"""Bytes of a JSON file of a bundle: it is held in memory."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


def entity_path(entity_id: str, name: str) -> str:
    """Where a file about an entity lies: ``entity.json``, ``commit.json``, ``rows.json``, ``rows.arrow``."""
    return f"entities/{entity_id}/{name}"


def version_path(entity_id: str, name: str) -> str:
    """Where a file of the entity's version lies."""
    return f"entities/{entity_id}/files/{name}"


@dataclass(frozen=True)
class Listed:
    """A file as the manifest has it: hexadecimal SHA-256, and bytes."""

    sha256: str
    size: int


@dataclass(frozen=True)
class LeftOut:
    """Files of a committed version that are not in the bundle.

    Attributes:
        files: Their paths within the version.
        why: What kept them out.
    """

    files: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class Manifest:
    """The list.

    Attributes:
        subject: ID of the entity that the bundle is about.
        files: Every file by path.
        left_out: What is not in it, by entity.
        software: Version of each package that wrote it.
    """

    subject: str
    files: Mapping[str, Listed]
    left_out: Mapping[str, LeftOut]
    software: Mapping[str, str]

    def to_bytes(self) -> bytes:
        """As it is signed."""
        return canonical_json(
            {
                "format": FORMAT,
                "subject": self.subject,
                "software": dict(self.software),
                "files": {
                    name: {"sha256": file.sha256, "size": file.size} for name, file in self.files.items()
                },
                "leftOut": {
                    name: {"files": list(item.files), "why": item.why} for name, item in self.left_out.items()
                },
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Read one that somebody else may have made.

        Raises:
            NotABundle: It is no manifest, of another format, or not in canonical JSON.
        """
        content = read_object(MANIFEST, data)
        if content.get("format") != FORMAT:
            raise NotABundle(
                f"{MANIFEST} is not of the format {FORMAT!r}: a later release of dyff-dagster may read it"
            )
        try:
            if canonical_json(content) != data:
                raise NotABundle(f"{MANIFEST} is not in canonical JSON: it was not written by dyff-dagster")
            made = cls(
                subject=content["subject"],
                software={str(name): str(version) for name, version in content["software"].items()},
                files={name: _listed(item) for name, item in content["files"].items()},
                left_out={name: _left_out(item) for name, item in content["leftOut"].items()},
            )
        except NotABundle:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, DyffError):
            raise NotABundle(f"{MANIFEST} has not the form of a bundle's manifest") from None
        if set(content) != {"format", "subject", "software", "files", "leftOut"} or not (
            isinstance(made.subject, str) and is_id(made.subject)
        ):
            raise NotABundle(f"{MANIFEST} has not the form of a bundle's manifest")
        return made


def read_object(name: str, data: bytes) -> dict[str, Any]:
    """A JSON object out of a bundle.

    Raises:
        NotABundle: It is none.
    """
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise NotABundle(f"{name} is no JSON object")
    return content


def _listed(item: dict[str, Any]) -> Listed:
    sha256, size = item["sha256"], item["size"]
    if set(item) != {"sha256", "size"} or not _SHA256.fullmatch(sha256) or type(size) is not int or size < 0:
        raise ValueError
    return Listed(sha256, size)


def _left_out(item: dict[str, Any]) -> LeftOut:
    files, why = item["files"], item["why"]
    if set(item) != {"files", "why"} or not isinstance(why, str) or not isinstance(files, list):
        raise ValueError
    if not all(isinstance(name, str) for name in files):
        raise ValueError
    return LeftOut(tuple(files), why)
