"""The files of a bundle whose manifest is known to be the signer's: read only as that manifest lists them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from dyff_dagster.audits.bundle.archive import Archive
from dyff_dagster.audits.bundle.errors import NotABundle, shown
from dyff_dagster.audits.bundle.manifest import LARGEST_JSON, MANIFEST, SIGNATURE, Manifest


class TrustedFiles:
    """What the manifest lists, checked each time that it is read: nobody holds the file still meanwhile.

    Args:
        archive: The bundle.
        manifest: Its manifest, the signature of which holds.
        directory: A temporary directory; files are unpacked there as they are asked for.
    """

    def __init__(self, archive: Archive, manifest: Manifest, directory: Path) -> None:
        self._archive = archive
        self._directory = directory
        self.manifest = manifest

    def __contains__(self, name: object) -> bool:
        return name in self.manifest.files

    def read(self, name: str) -> bytes:
        """The bytes of a small file.

        Raises:
            NotABundle: It is too large, or is not (or no longer) what the manifest says.
        """
        data = self._archive.read(name, LARGEST_JSON)
        if hashlib.sha256(data).hexdigest() != self.manifest.files[name].sha256:
            raise NotABundle(f"{shown(name)} changed while the bundle was read")
        return data

    def unpack(self, name: str) -> Path:
        """The path of a copy of a file in the temporary directory.

        Raises:
            NotABundle: It is not (or no longer) what the manifest says, or this system cannot have its name.
        """
        path = self._directory / name
        try:
            sha256, _ = self._archive.digest(name, path)
        except OSError as error:
            # Two names that differ in case only are one on some systems.
            raise NotABundle(
                f"{shown(name)} cannot be unpacked on this machine ({error.strerror}); verify it on another"
            ) from None
        if sha256 != self.manifest.files[name].sha256:
            raise NotABundle(f"{shown(name)} changed while the bundle was read")
        return path

    def unpack_below(self, prefix: str, names: list[str]) -> Path:
        """Unpack the files ``prefix + name``; returns the directory that ``prefix`` is there."""
        for name in names:
            if not (self._directory / (prefix + name)).exists():
                self.unpack(prefix + name)
        directory = self._directory / prefix
        directory.mkdir(parents=True, exist_ok=True)
        return directory


def file_faults(archive: Archive, manifest: Manifest) -> list[str]:
    """How the files of a bundle differ from what its manifest lists, one sentence for each."""
    faults: list[str] = []
    sizes = archive.sizes
    for name, listed in manifest.files.items():
        if name not in sizes:
            faults.append(
                f"{shown(name)} is missing; it should be there with {listed.size:,} bytes and SHA-256 {listed.sha256}"
            )
            continue
        sha256, sound = archive.digest(name)
        if sha256 != listed.sha256 or sizes[name] != listed.size:
            faults.append(
                f"{shown(name)} was changed: it has {sizes[name]:,} bytes and SHA-256 {sha256}, and should have "
                f"{listed.size:,} bytes and SHA-256 {listed.sha256}"
            )
        elif not sound:
            faults.append(f"{shown(name)} is as it should be, and its check sum in the zip file is not")
    for name in sizes:
        if name in (MANIFEST, SIGNATURE):
            if not archive.digest(name)[1]:
                faults.append(f"{name} was changed, or its check sum in the zip file was")
        elif name not in manifest.files:
            faults.append(
                f"{shown(name)} is there, and the manifest does not list it; it should not be there"
            )
    for name in (MANIFEST, SIGNATURE):
        if name in manifest.files:
            faults.append(f"{name} is in its own list, where it cannot be")
    return faults
