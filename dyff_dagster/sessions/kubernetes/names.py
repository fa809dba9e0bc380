"""What objects on the cluster are called, and how they are labelled: for finding them again, and for chargeback."""

from __future__ import annotations

import hashlib
import re

MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "dyff-dagster"
COMPONENT = "app.kubernetes.io/component"
SESSION = "dyff-dagster/session"
ENTITY = "dyff-dagster/entity"
KIND = "dyff-dagster/kind"
ACCOUNT = "dyff-dagster/account"
INSTANCE = "dyff-dagster/instance"
"""Of one storage root: sessions of others in the same namespace are not ours to end."""
RUN = "dagster/run-id"
CLIENT = "dyff-dagster/client"
"""On pods that may ask sessions: the NetworkPolicy lets no others in."""

FINGERPRINT = "dyff-dagster/fingerprint"
SERVICE_DIGEST = "dyff-dagster/service-digest"
EXPIRES = "dyff-dagster/expires"
ENTITY_ID = "dyff-dagster/entity-id"
ARMED = "dyff-dagster/armed"
ATTEMPT = "dyff-dagster/attempt"
"""What tells a Job that we made from one that was there, where the answer to our request is lost."""
ASKED = "dyff-dagster/asked-again"

_LONGEST = 46
"""Of a name: Kubernetes allows 63 characters, and pods of a Job append six, and Kueue some."""


def object_name(prefix: str, entity_id: str, instance: str) -> str:
    """The one name that an entity's objects have: another run finds what an earlier one left.

    Args:
        prefix: What they are for, such as ``session``.
        entity_id: The entity.
        instance: What tells its storage root from others in the same namespace.
    """
    digest = hashlib.sha256(f"{instance}\n{entity_id}".encode()).hexdigest()[:10]
    slug = re.sub(r"[^a-z0-9]+", "-", entity_id.lower()).strip("-")
    room = _LONGEST - len(prefix) - len(digest) - 7
    return "-".join(part for part in ("dyff", prefix, slug[:room].strip("-"), digest) if part)


def label_value(text: str) -> str:
    """Text as a label may hold it: at most 63 characters of a few kinds, and still distinct."""
    value = re.sub(r"[^A-Za-z0-9._-]", "_", text).strip("._-")
    if value == text and len(value) <= 63:
        return value
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{value[:54].strip('._-')}-{digest}".strip("-")


def labels(
    *, session: str, component: str, entity_id: str, kind: str, account: str, run_id: str, instance: str
) -> dict[str, str]:
    """Labels of every object of a session."""
    found = {
        MANAGED_BY: MANAGER,
        COMPONENT: component,
        SESSION: session,
        ENTITY: label_value(entity_id),
        KIND: kind,
        ACCOUNT: label_value(account),
        RUN: label_value(run_id),
        INSTANCE: instance[:16],
    }
    return {key: value for key, value in found.items() if value}


def selector(**of: str) -> str:
    """A label selector for our objects, such as ``selector(session=NAME)``."""
    keys = {"session": SESSION, "component": COMPONENT, "entity": ENTITY, "run": RUN, "instance": INSTANCE}
    return ",".join([f"{MANAGED_BY}={MANAGER}", *(f"{keys[name]}={value}" for name, value in of.items())])
