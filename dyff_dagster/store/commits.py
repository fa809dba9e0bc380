"""The record of a committed version, as it stands in ``ROOT/ID/.dyff/commits/``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from upath import UPath

from dyff_dagster.store.digests import FileDigest
from dyff_dagster.store.errors import StoreError
from dyff_dagster.store.facts import Facts
from dyff_dagster.store.filesystem import Filesystem

FORMAT = 1
"""Version of the record's layout; a reader refuses a later one."""

PURGED = "purged.json"
"""Beside the commits, where some were purged with all of an entity: the highest number that was taken."""


@dataclass(frozen=True)
class Commit:
    """One committed version of an entity's artifact.

    Attributes:
        entity_id: The entity.
        kind: Its kind, ``Evaluation``.
        sequence: 1 for the first commit of this entity, then counting up.
        data_version: Digest of the content (hexadecimal SHA-256); names the version's directory.
        code_version: Digest of the specification under which it was made.
        input_digest: Digest of everything it was made from (:class:`~dyff_dagster.store.Inputs`).
        inputs: The same, spelled out: ``spec``, ``upstream``, ``extras``.
        committed: When.
        run_id: The Dagster run that made it, or an empty string.
        files: Digests of its files by relative path.
        facts: What there is to say about it.
        path: Directory of the version.
    """

    entity_id: str
    kind: str
    sequence: int
    data_version: str
    code_version: str
    input_digest: str
    inputs: Mapping[str, Any]
    committed: datetime
    run_id: str
    files: Mapping[str, FileDigest]
    facts: Facts
    path: UPath

    def to_json(self) -> dict[str, Any]:
        """The record as it is stored; ``path`` is relative to the entity's directory."""
        return {
            "format": FORMAT,
            "entity": self.entity_id,
            "kind": self.kind,
            "sequence": self.sequence,
            "version": self.data_version,
            "path": f".dyff/versions/{self.path.name}",
            "codeVersion": self.code_version,
            "inputDigest": self.input_digest,
            "inputs": dict(self.inputs),
            "committed": self.committed.isoformat(),
            "run": self.run_id,
            "files": {
                name: {"sha256": digest.sha256, "md5": digest.md5, "size": digest.size}
                for name, digest in sorted(self.files.items())
            },
            "facts": self.facts.to_json(),
        }

    @classmethod
    def from_json(cls, text: str, directory: UPath, where: str) -> Commit:
        """Read a record.

        Args:
            text: The stored JSON.
            directory: The entity's directory.
            where: Name of the file, for errors.

        Raises:
            StoreError: It is no record of ours, or one of a later format.
        """
        try:
            data = json.loads(text)
            if data["format"] != FORMAT:
                raise StoreError(
                    f"{where} is written in format {data['format']}, and this release reads format {FORMAT}: "
                    "use the release of dyff-dagster that wrote it, or a later one"
                )
            return cls(
                entity_id=data["entity"],
                kind=data["kind"],
                sequence=data["sequence"],
                data_version=data["version"],
                code_version=data["codeVersion"],
                input_digest=data["inputDigest"],
                inputs=data["inputs"],
                committed=datetime.fromisoformat(data["committed"]),
                run_id=data["run"],
                files={name: FileDigest(**digest) for name, digest in data["files"].items()},
                facts=Facts.from_json(data["facts"]),
                path=directory / ".dyff" / "versions" / data["path"].rsplit("/", 1)[-1],
            )
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{where} is no commit record ({type(error).__name__}); "
                "it was damaged from outside: restore it, or remove the entity's directory to compute it again"
            ) from error


def purged_up_to(files: Filesystem, working: UPath) -> int:
    """The highest number of a commit that was purged with all of an entity: no other gets it again; 0 for none.

    Args:
        files: The filesystem.
        working: The entity's ``.dyff``.
    """
    try:
        return int(json.loads(files.read(working / PURGED))["commit"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return 0
