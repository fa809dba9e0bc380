"""What can go wrong in a store."""

from __future__ import annotations

from dyff_dagster.schema.errors import DyffError


class StoreError(DyffError):
    """An artifact could not be written, found or verified."""


class StoreUnreachable(StoreError, OSError):
    """The place where a store lies does not answer, or refuses. Nothing is known of what lies there."""


class CommitConflict(StoreError):
    """Two writers committed the same entity at once, and this one came second.

    Attributes:
        entity_id: The entity whose pointer had moved.
        sequence: The number of the commit that was there first.
    """

    def __init__(self, entity_id: str, sequence: int) -> None:
        self.entity_id = entity_id
        self.sequence = sequence
        super().__init__(
            f"{entity_id}: another run committed version number {sequence} while this one was at work; "
            "its result stands, and running this again will reuse or replace it"
        )


class EntityBusy(StoreError):
    """Another process is computing the same entity right now.

    Attributes:
        entity_id: The entity that is being computed.
        holder: What is known of the other process (its process id), or an empty string.
    """

    def __init__(self, entity_id: str, holder: str = "") -> None:
        self.entity_id = entity_id
        self.holder = holder
        who = f" ({holder})" if holder else ""
        super().__init__(
            f"{entity_id}: another run{who} is computing it at this moment; "
            "wait for that one, or end it and start this again"
        )
