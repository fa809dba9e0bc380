"""How the files of a draft become a version."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from upath import UPath

from dyff_dagster.store.commits import PURGED
from dyff_dagster.store.digests import FileDigest, digest_file, list_files, refuse_all_but_files, tree_digest
from dyff_dagster.store.errors import StoreError
from dyff_dagster.store.filesystem import Filesystem, local_path

FILES = ".files.json"
"""Written last into a version: a version without it is not there."""

CLAIM = ".claim"
"""In a version on an object store, where there is no lock: the tree digest of the files that it is made of."""

_OWN = (
    "versions", "commits", "commit.json", "drafts", "lock", "parts", "requests", "sessions", "revisions",
    "history.json", PURGED,
)  # fmt: skip
"""Names under ``.dyff`` that an artifact may not use: they are the store's and its users' own."""


class Versions:
    """Adds versions, whole or not at all.

    Args:
        files: The filesystem that they are on.
    """

    def __init__(self, files: Filesystem) -> None:
        self._files = files

    def add(
        self,
        entity_id: str,
        data_version: str,
        versions: UPath,
        draft: Path,
        known_digests: Mapping[str, FileDigest],
    ) -> tuple[str, dict[str, FileDigest]]:
        """Make the draft's files a version; returns the name of its directory, and the files.

        Content of the same digest can come with other files (a notebook, a figure): those have a directory of
        their own, so that what a commit says of its version lies in it. A directory without a listing was left
        by a killed process and nobody has seen it: on a disk it is begun anew, elsewhere what was uploaded is
        taken up. A file that a disk lost is put back.

        Raises:
            StoreError: The draft holds something else than files, or a name that the store keeps for itself.
        """
        refuse_all_but_files(entity_id, draft)
        files = {
            name: known_digests.get(name) or digest_file(draft / name)
            for name in list_files(draft, links=False)
        }
        for name in files:
            parts = PurePosixPath(name).parts
            if name in (FILES, CLAIM) or (parts[0] == ".dyff" and len(parts) > 1 and parts[1] in _OWN):
                raise StoreError(
                    f"{entity_id}: an artifact may not be named {name}, the store keeps its own there"
                )
        tree = tree_digest(files)
        directory = data_version
        known = self.listing(versions / directory)
        if (known is not None and known != files) or not (known or self._claim(versions / directory, tree)):
            directory = f"{data_version}-{tree[:16]}"
            known = self.listing(versions / directory)
        version = versions / directory
        if known is None:
            self._files.clear(version)
        uploaded = {} if known is not None or self._files.local else self._files.sizes(version)
        for name, digest in files.items():
            if known is None:
                # Whatever is there under the claim was whole when it came, and of these files.
                if uploaded.get(name) != digest.size:
                    self._files.take(draft / name, version / name)
            elif not self._holds(version / name, digest):
                self._files.take(draft / name, version / name)
        if known is None:
            self._list(version, files)
        return directory, files

    def _claim(self, version: UPath, tree: str) -> bool:
        """Whether a version's directory is for these files.

        Two writers may make the same content at once, with other files: one of them must go elsewhere, or a
        commit would say of the other's files what is not so.
        """
        if self._files.local:  # its lock is held
            return True
        try:
            self._files.create(version / CLAIM, tree.encode())
        except FileExistsError:
            return self._files.read(version / CLAIM) == tree.encode()
        return True

    def _list(self, version: UPath, files: Mapping[str, FileDigest]) -> None:
        listing = {name: {"sha256": d.sha256, "md5": d.md5, "size": d.size} for name, d in files.items()}
        with contextlib.suppress(FileExistsError):
            self._files.create(version / FILES, json.dumps(listing, sort_keys=True, indent=1).encode())
        if self._files.local:
            local_path(version / FILES).chmod(0o444)

    def listing(self, version: UPath) -> dict[str, FileDigest] | None:
        """What a version is made of, or None where it was never completed."""
        try:
            known = json.loads(self._files.read(version / FILES))
            return {name: FileDigest(**digest) for name, digest in known.items()}
        except (FileNotFoundError, ValueError, TypeError, AttributeError):
            return None

    def _holds(self, path: UPath, digest: FileDigest) -> bool:
        """Whether a file of a version is there as it was committed."""
        try:
            return self._files.digest(path) == digest
        except FileNotFoundError:
            return False
