"""From a service and how it is to be run to the plan of a session on a cluster."""

from __future__ import annotations

import hashlib
import os
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path, PurePosixPath

from dyff_dagster.schema.platform import InferenceServiceSpec, InferenceSessionSpec
from dyff_dagster.sessions.kubernetes.errors import KubernetesError
from dyff_dagster.sessions.kubernetes.hardware import place
from dyff_dagster.sessions.kubernetes.manifests import ModelMount, SessionPlan
from dyff_dagster.sessions.kubernetes.names import labels, object_name
from dyff_dagster.sessions.kubernetes.runners import MODEL, container_for
from dyff_dagster.sessions.kubernetes.settings import KubernetesSettings
from dyff_dagster.sessions.kubernetes.tokens import INSTANCE_KEY

MOST_BYTES = 700_000
"""Of files that travel with a session: a ConfigMap holds 1 MiB, in base64."""
_IDENTITY = ".dyff-instance"


@dataclass(frozen=True)
class Owner:
    """Whose session it is, for labels: who pays, and for what.

    Attributes:
        entity_id: An Evaluation or an InferenceSession.
        kind: Which of these.
        account: Whose.
        run_id: The Dagster run.
    """

    entity_id: str
    kind: str
    account: str
    run_id: str = ""


@dataclass(frozen=True)
class ModelFiles:
    """Where a model lies in the store.

    Attributes:
        version: Directory of its committed version.
        inner: Path of what is loaded within that; empty: all of it.
    """

    version: Path
    inner: str = ""


@dataclass(frozen=True)
class Sessions:
    """Makes plans of sessions.

    Attributes:
        settings: The administrator's.
        store_root: The storage root on this machine; of one elsewhere, this machine's cache.
        elsewhere: URL of a storage root that is on no disk of this machine.
    """

    settings: KubernetesSettings
    store_root: Path
    elsewhere: str | None = None

    @property
    def instance(self) -> str:
        """What tells this storage root from others whose sessions run in the same namespace."""
        storage = self.settings.storage
        if self.elsewhere is not None:
            where = self.elsewhere
        elif storage is None:
            where = f"{_identity(self.store_root)}:{self.store_root}"
        else:
            where = f"{storage.claim}/{storage.path}"
        key = os.environ.get(INSTANCE_KEY, "")
        return hashlib.sha256(f"{where}\n{key}".encode()).hexdigest()

    def name(self, entity_id: str) -> str:
        """What the session of an entity is called."""
        return object_name("session", entity_id, self.instance)

    def plan(
        self,
        session: InferenceSessionSpec,
        owner: Owner,
        *,
        directory: Path,
        model: ModelFiles | None,
        service_digest: str,
        nonce: str = "",
    ) -> SessionPlan:
        """Plan a session.

        Args:
            session: Replicas, accelerator, spot, and the service.
            owner: Whose it is.
            directory: Of the service's manifest.
            model: Where its model lies; None where it has none with files.
            service_digest: Digest of all that decides what it answers.
            nonce: See :class:`SessionPlan`.

        Raises:
            KubernetesError: It cannot run on this cluster.
        """
        service, who = session.inferenceService, owner.entity_id
        if session.replicas < 1:
            raise KubernetesError(
                f"{who}: it asks for {session.replicas} replicas of service '{service.name}'; at least 1 is needed",
                session_id=who,
            )
        accelerator = session.effective_accelerator()
        if accelerator is not None and accelerator.gpu is None:
            raise KubernetesError(
                f"{who}: it asks for an accelerator of kind {accelerator.kind} and does not say which: say it under "
                "gpu, with its hardwareTypes; a profile may give any device of nodes such a name",
                session_id=who,
            )
        placement = place(session.effective_gpu(), session.useSpotPods, self.settings, owner=who)
        container = container_for(
            service,
            self.settings,
            owner=who,
            directory=directory,
            model=None if model is None else str(PurePosixPath(MODEL) / model.inner),
            gpus=placement.gpus,
        )
        mount = None
        if model is not None and container.wants_model:
            code = sum(map(len, container.files.values()))
            mount = self._mount(model, who, MOST_BYTES - code)
        elif sum(map(len, container.files.values())) > MOST_BYTES:
            raise KubernetesError(
                f"{who}: the code of service '{service.name}' is larger than {MOST_BYTES} bytes: build an image with "
                "it, and give the service a runner of kind container",
                session_id=who,
            )
        name = self.name(who)
        return SessionPlan(
            name=name,
            entity_id=who,
            labels=labels(
                session=name,
                component="session",
                entity_id=who,
                kind=owner.kind,
                account=owner.account,
                run_id=owner.run_id,
                instance=self.instance,
            ),
            replicas=session.replicas,
            container=container,
            placement=placement,
            memory=_memory(service) or self.settings.memory,
            model=mount,
            service_digest=service_digest,
            settings=self.settings,
            nonce=nonce,
        )

    def _mount(self, model: ModelFiles, who: str, room: int) -> ModelMount:
        """From the volume where there is one, else with the session where the model is small."""
        storage = self.settings.storage
        if storage is not None:
            within = model.version.resolve().relative_to(self.store_root.resolve())
            return ModelMount(claim=storage.claim, path=str(PurePosixPath(storage.path) / within.as_posix()))
        files: dict[str, bytes] = {}
        for path in sorted(model.version.rglob("*")):
            if path.is_file():
                room -= path.stat().st_size
                if room < 0:
                    raise KubernetesError(
                        f"{who}: the model in {model.version} is too large to travel with the session (more than "
                        f"{MOST_BYTES} bytes): say under storage.claim, in the file that DYFF_KUBERNETES names, on "
                        "which volume of the cluster the storage root lies",
                        session_id=who,
                    )
                files[path.relative_to(model.version).as_posix()] = path.read_bytes()
        return ModelMount(files=files)


def deadline_of(expires: datetime | None, now: datetime, settings: KubernetesSettings, who: str) -> datetime:
    """When a session must have ended: at its ``expires``, and in no case later than ``maxLifetime`` from now.

    Raises:
        KubernetesError: That has passed.
    """
    latest = now + timedelta(seconds=settings.maxLifetime)
    deadline = latest if expires is None else min(expires, latest)
    if deadline <= now:
        raise KubernetesError(
            f"{who}: the session expired at {deadline:%Y-%m-%d %H:%M:%S} UTC; give it a later 'expires'",
            session_id=who,
            reason="Expired",
        )
    return deadline


def _identity(store_root: Path) -> str:
    """What tells a storage root from all others: a random text in it, written when it is first asked for.

    A machine's name would not do: in a cluster, that of each step's pod is another, and a session that one step
    started must be found by the next.
    """
    path = store_root / _IDENTITY
    while True:
        try:
            return path.read_text("utf-8")
        except FileNotFoundError:
            store_root.mkdir(parents=True, exist_ok=True)
            own = path.with_name(f"{_IDENTITY}.{secrets.token_hex(8)}")
            own.write_text(secrets.token_hex(16), "utf-8")
            try:
                path.hardlink_to(own)  # of two at once one succeeds, and nobody sees half of it
            except FileExistsError:
                continue
            finally:
                own.unlink()


def _memory(service: InferenceServiceSpec) -> str | None:
    """The memory that the service says it takes."""
    return None if service.runner is None else service.runner.resources.memory
