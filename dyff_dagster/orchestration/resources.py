"""What the ops need of the world: where artifacts live and how services are made to answer."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import dagster as dg
from pydantic import Field

from dyff_dagster.schema.errors import DyffError
from dyff_dagster.store import Store

if TYPE_CHECKING:
    from dyff_dagster.sessions.kubernetes import Cluster, KubernetesSettings, StepPods

_Resource = TypeVar("_Resource", bound=dg.ConfigurableResource[Any])


_SHARED: dict[str, dg.ConfigurableResource[Any]] = {}


@dataclass(frozen=True)
class ResourceKeys:
    """What the resources of a catalog are called.

    Attributes:
        prefix: Begins both names.
    """

    prefix: str = "dyff"

    @property
    def storage(self) -> str:
        """Key of the :class:`DyffStorage`."""
        return f"{self.prefix}_storage"

    @property
    def sessions(self) -> str:
        """Key of the :class:`DyffSessions`."""
        return f"{self.prefix}_sessions"

    def named(self, name: str) -> str:
        """Name of something that a code location has once for each prefix."""
        return name if self.prefix == "dyff" else f"{self.prefix}_{name}"


def shared(resource: _Resource) -> _Resource:
    """The same object for the same configuration.

    ``Definitions.merge`` compares resources by identity, and two catalogs of one code location usually store
    in the same place.
    """
    if type(resource) not in (DyffStorage, DyffSessions):
        return resource
    key = f"{type(resource).__name__} {resource.model_dump_json()}"
    return cast("_Resource", _SHARED.setdefault(key, resource))


class DyffStorage(dg.ConfigurableResource[Store]):
    """Where artifacts live."""

    root: str = Field(
        default="dyff-storage",
        description="A directory or an fsspec URL (DYFF_STORAGE_ROOT); relative to `base`.",
    )
    base: str = Field(
        default="", description="What a relative root is relative to: the directory of definitions.py."
    )
    cache: str = Field(
        default="",
        description="Where this machine keeps what a store elsewhere has (DYFF_CACHE); relative to `base`. "
        "Empty: `dyff-dagster` in the user's cache directory.",
    )
    pages_url: str | None = Field(
        default=None,
        description="Where `dyff-dagster serve-pages` answers (DYFF_PAGES_URL). Unset: metadata shows paths.",
    )

    @classmethod
    def from_environment(cls, base: Path, environment: Mapping[str, str] = os.environ) -> DyffStorage:
        """Read DYFF_STORAGE_ROOT, DYFF_CACHE and DYFF_PAGES_URL."""
        return cls(
            root=environment.get("DYFF_STORAGE_ROOT") or "dyff-storage",
            base=str(base),
            cache=environment.get("DYFF_CACHE") or "",
            pages_url=environment.get("DYFF_PAGES_URL") or None,
        )

    @property
    def location(self) -> str:
        """The root, absolute where it is a local path."""
        if "://" in self.root:
            return self.root
        return str((Path(self.base) / self.root).absolute())

    def store(self) -> Store:
        """Open the store."""
        return Store(self.location, cache=Path(self.base, self.cache).absolute() if self.cache else None)


class DyffSessions(dg.ConfigurableResource[None]):
    """How inference services are made to answer."""

    backend: str = Field(default="local", description="`local` or `kubernetes` (DYFF_SESSIONS).")
    startup_timeout: float = Field(default=120.0, description="Seconds until a local service must be ready.")
    kubernetes: str = Field(
        default="",
        description="File of settings of the cluster (DYFF_KUBERNETES); empty: the defaults. Relative to `base`.",
    )
    base: str = Field(
        default="", description="What a relative path is relative to: the directory of definitions.py."
    )
    client_processes: int = Field(
        default=1,
        ge=1,
        description="Processes that send an evaluation's requests: more than 1 only where one core is too slow.",
    )

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str] = os.environ, base: Path | None = None
    ) -> DyffSessions:
        """Read DYFF_SESSIONS and DYFF_KUBERNETES.

        Raises:
            DyffError: It is neither ``local`` nor ``kubernetes``.
        """
        backend = environment.get("DYFF_SESSIONS") or "local"
        if backend not in ("local", "kubernetes"):
            raise DyffError(f"DYFF_SESSIONS is {backend!r}: it must be local or kubernetes")
        return cls(
            backend=backend,
            kubernetes=environment.get("DYFF_KUBERNETES") or "",
            base=str(base) if base else "",
        )

    def terminate(self, store: Store, session_id: str) -> bool:
        """End an InferenceSession before it expires, wherever it runs; whether one ran.

        Raises:
            DyffError: It does not go, or runs on another machine.
        """
        cluster = self.cluster(store)
        ended = cluster is not None and cluster.terminate(session_id)
        from dyff_dagster.sessions import end_session

        return end_session(store.scratch(session_id) / "session") or ended

    def cluster(self, store: Store) -> Cluster | None:
        """The cluster that sessions run on; None where they run on this machine. Nothing is connected to yet.

        Raises:
            KubernetesError: The file of settings cannot be read, or says something that cannot be.
        """
        if self.backend == "local":
            return None
        if self.backend != "kubernetes":
            raise DyffError(f"the sessions' backend is {self.backend!r}: it must be local or kubernetes")
        from dyff_dagster.sessions.kubernetes import Cluster

        return Cluster(
            self._settings(), store.machine_root, elsewhere=None if store.local else str(store.root)
        )

    def step_pods(self) -> StepPods | None:
        """What the settings say of the pods that steps run in; None where there is no file of them.

        Read while definitions are loaded. (A name that is only known in a run is not looked at.)

        Raises:
            KubernetesError: The file of settings cannot be read, or says something that cannot be.
        """
        named = self.kubernetes and not isinstance(self.kubernetes, dg.EnvVar)
        return self._settings().steps if named else None

    def image_repository(self) -> str | None:
        """Where images of services with a builder are pushed to.

        Raises:
            KubernetesError: The file of settings cannot be read, or says something that cannot be.
        """
        return self._settings().build.repository

    def _settings(self) -> KubernetesSettings:
        from dyff_dagster.sessions.kubernetes import KubernetesSettings

        return KubernetesSettings.load(Path(self.base) / self.kubernetes if self.kubernetes else None)
