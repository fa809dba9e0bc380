"""Identifiers: made, derived and checked."""

from __future__ import annotations

import re
import uuid

from dyff_dagster.schema.errors import DyffError

__all__ = ["IdError", "check_id", "generate_entity_id", "namespaced_id", "null_id", "replication_id"]

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class IdError(DyffError):
    """A text that cannot be an entity's id; ``text`` is what was found."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(
            f"{text!r} is no possible id: write 1 to 128 letters, digits, dots, hyphens and underscores, "
            "with a letter or digit first"
        )


def generate_entity_id() -> str:
    """Return a new random id: 32 lower-case hexadecimal digits."""
    return uuid.uuid4().hex


def null_id() -> str:
    """Return the id of nothing: 32 zeros."""
    return uuid.UUID(int=0).hex


def namespaced_id(parent: str, name: str) -> str:
    """Return the id of ``name`` within ``parent``, always the same for the same two.

    It is the hex form of uuid5(parent, name). A parent that is no UUID stands for
    uuid5(NAMESPACE_URL, "dyff:" + parent).
    """
    try:
        namespace = uuid.UUID(parent)
    except ValueError:
        namespace = uuid.uuid5(uuid.NAMESPACE_URL, f"dyff:{parent}")
    return uuid.uuid5(namespace, name).hex


def replication_id(evaluation_id: str, replication: int) -> str:
    """Return the id of an evaluation's replication; ``replication`` counts from 0.

    Raises:
        ValueError: ``replication`` is negative.
    """
    if replication < 0:
        raise ValueError(f"replications count from 0, not {replication}")
    return namespaced_id(evaluation_id, str(replication))


def check_id(text: str) -> str:
    """Return ``text`` when it can be an entity's id.

    Raises:
        IdError: it cannot.
    """
    if not isinstance(text, str) or _ID.fullmatch(text) is None:
        raise IdError(text)
    return text


def is_id(text: str) -> bool:
    """Whether ``text`` can be an entity's id."""
    return _ID.fullmatch(text) is not None
