"""Files that entities consist of, where they are had from, and container images."""

from __future__ import annotations

import re

from pydantic import Field, field_validator

from dyff_dagster.schema.base import DyffSchemaBaseModel, TagName

__all__ = [
    "ArchiveFormat",
    "Artifact",
    "ArtifactURL",
    "ContainerImageSource",
    "Digest",
    "ExtractorStep",
    "StorageSignedURL",
]

_HOSTNAME = r"[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)*"
_HOST = re.compile(rf"({_HOSTNAME}|\[[0-9A-Fa-f:.]+\])(:[0-9]{{1,5}})?")


class Digest(DyffSchemaBaseModel):
    """Digests of an artifact's bytes."""

    md5: str | None = Field(default=None, description="MD5 of the bytes, the raw digest in base64")


class Artifact(DyffSchemaBaseModel):
    """One file of a tree of files."""

    kind: str | None = Field(default=None, description="The kind of artifact")
    path: str = Field(description="Path of the artifact, relative to the root of the tree")
    digest: Digest = Field(default_factory=Digest, description="Digests of the artifact's bytes")


class StorageSignedURL(DyffSchemaBaseModel):
    """A URL that permits one operation on an object store by itself."""

    url: str = Field(description="The signed URL")
    method: str = Field(description="The HTTP method it is signed for")
    headers: dict[str, str] = Field(default_factory=dict, description="Headers that must go with the request")


class ArtifactURL(DyffSchemaBaseModel):
    """An artifact, and where it can be had from."""

    artifact: Artifact
    signedURL: StorageSignedURL


class ArchiveFormat(DyffSchemaBaseModel):
    """What kind of archives a data source comes in."""

    name: str
    format: str


class ExtractorStep(DyffSchemaBaseModel):
    """One step on the way from a hierarchical data source to a flat data set."""

    action: str
    name: str | None = None
    type: str | None = None


class ContainerImageSource(DyffSchemaBaseModel):
    """A container image in a registry. It is pulled by digest; the tag is there for people to read."""

    host: str = Field(description="Host of the registry, 'hostname' or 'hostname:port'")
    name: str = Field(
        pattern=r"^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$",
        description="Name of the image within the registry",
    )
    digest: str = Field(
        pattern=r"^sha256:[0-9a-f]{64}$", description="Digest of the image, by which it is always pulled"
    )
    tag: TagName | None = Field(
        default=None, description="Tag of the image: not used for pulling, often the only readable version"
    )

    @field_validator("host")
    @classmethod
    def validate_host(cls, host: str) -> str:
        """Check that ``host`` is a host name, with a port at most.

        Raises:
            ValueError: it has a scheme, a path, an underscore or anything else in it.
        """
        if "/" in host:
            raise ValueError("a registry's host has no scheme and no path: write 'host' or 'host:port'")
        if "_" in host:
            raise ValueError("a registry's host has no underscore")
        match = _HOST.fullmatch(host)
        if match is None:
            raise ValueError("write a registry's host as 'hostname' or 'hostname:port'")
        if match.group(0).rpartition(":")[2].isdigit() and ":" in host and not host.endswith("]"):
            port = int(host.rpartition(":")[2])
            if not 0 < port < 65536:
                raise ValueError("a registry's port lies between 1 and 65535")
        return host

    def url(self) -> str:
        """Return what a container runtime pulls: ``HOST/NAME@DIGEST``."""
        return f"{self.host}/{self.name}@{self.digest}"
