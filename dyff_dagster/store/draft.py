"""The next version of an entity's artifact, in the making."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dyff_dagster.schema.platform import DyffEntity
from dyff_dagster.store.commits import Commit
from dyff_dagster.store.digests import FileDigest
from dyff_dagster.store.facts import Facts
from dyff_dagster.store.inputs import Inputs

if TYPE_CHECKING:
    from dyff_dagster.store.store import Store


class Draft:
    """The next version of an entity's artifact, in the making.

    Attributes:
        path: A local directory, empty at first. Files that begin with ``.dyff/`` are published under
            ``ROOT/ID/.dyff/`` and are no rows to other tools.
    """

    def __init__(self, store: Store, entity_id: str, path: Path) -> None:
        self._store = store
        self._entity_id = entity_id
        self.path = path

    def commit(
        self,
        *,
        entity: DyffEntity,
        data_version: str,
        inputs: Inputs,
        facts: Facts,
        run_id: str = "",
        digests: Mapping[str, FileDigest] | None = None,
    ) -> Commit:
        """Make the draft a version and move the pointer to it.

        Where a version of the same content is there already its files are kept and the draft's dropped.

        Args:
            entity: The entity; its wire form is stored beside the artifact.
            data_version: Digest of the content (hexadecimal SHA-256).
            inputs: What it was made from.
            facts: What there is to say about it.
            run_id: The Dagster run, if there is one.
            digests: Those of files that were taken while they were written; the others are read.

        Raises:
            CommitConflict: Another writer committed meanwhile; its version stands.
            StoreError: The draft holds a symbolic link, or a name that the store keeps for itself.
        """
        directory, files = self._store._add(self._entity_id, data_version, self.path, digests or {})
        return self._store._commit(entity, data_version, files, inputs, facts, run_id, directory)
