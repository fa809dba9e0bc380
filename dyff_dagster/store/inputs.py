"""What a computation depends on, as one digest: where it has not changed, the result is taken over."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from dyff_dagster.schema.canonical import canonical_json


@dataclass(frozen=True)
class Inputs:
    """Everything that may change what an entity's computation yields.

    Attributes:
        spec: Code version of the entity: the digest of its specification (hexadecimal SHA-256).
        upstream: Data version of each artifact that it reads, by entity id.
        extras: Further digests by name: source files, code of a service that runs here, and the like.
    """

    spec: str
    upstream: Mapping[str, str] = field(default_factory=dict)
    extras: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """As a JSON object with sorted keys."""
        return {
            "spec": self.spec,
            "upstream": dict(sorted(self.upstream.items())),
            "extras": dict(sorted(self.extras.items())),
        }

    @property
    def digest(self) -> str:
        """Hexadecimal SHA-256 of the canonical JSON of all of it."""
        return hashlib.sha256(canonical_json(self.to_json())).hexdigest()
