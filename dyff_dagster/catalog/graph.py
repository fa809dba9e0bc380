"""The order of a catalog's entities: dependencies first, no cycles, no endless chains."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

from dyff_dagster.catalog.entries import Entry, Findings

MAX_CHAIN = 500
"""A chain of dependencies longer than this is refused: it is a generator gone wrong."""


def downstream_of(upstream: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """The same edges the other way round, in the order of the mapping's keys."""
    found: dict[str, list[str]] = {entity_id: [] for entity_id in upstream}
    for entity_id, targets in upstream.items():
        for target in targets:
            found[target].append(entity_id)
    return {entity_id: tuple(children) for entity_id, children in found.items()}


def in_order(
    entries: Mapping[str, Entry], upstream: Mapping[str, Sequence[str]], findings: Findings
) -> list[str]:
    """The ids with dependencies first, ties by kind and then id.

    Cycles, and chains of more than :data:`MAX_CHAIN` entities, are noted in ``findings``; the members of a
    cycle, and what waits for them, are left out of the result.
    """
    downstream = downstream_of(upstream)
    waiting = {entity_id: len(targets) for entity_id, targets in upstream.items()}
    ready = [
        (entries[entity_id].entity.kind, entity_id) for entity_id, count in waiting.items() if count == 0
    ]
    heapq.heapify(ready)
    order: list[str] = []
    depth: dict[str, int] = {}
    while ready:
        _, entity_id = heapq.heappop(ready)
        order.append(entity_id)
        depth[entity_id] = 1 + max((depth[target] for target in upstream[entity_id]), default=0)
        for child in downstream[entity_id]:
            waiting[child] -= 1
            if waiting[child] == 0:
                heapq.heappush(ready, (entries[child].entity.kind, child))
    for entity_id in order:
        # Each chain is told once, at its end.
        if depth[entity_id] > MAX_CHAIN and not any(child in depth for child in downstream[entity_id]):
            message = f"ends a chain of {depth[entity_id]} dependencies; at most {MAX_CHAIN} are allowed"
            findings.error(entries[entity_id], ("id",), message)
    left = [entity_id for entity_id in upstream if entity_id not in depth]
    for cycle in _cycles(left, upstream):
        path = " → ".join([*cycle, cycle[0]])
        findings.error(
            entries[cycle[0]], ("id",), f"waits for itself: {path}; remove one of these references"
        )
    return order


def _cycles(left: Sequence[str], upstream: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Cycles among ``left`` that share no entity, each as a walk along the references.

    What is left after the ordering waits for a cycle or stands in one, so a walk upstream must end in one.
    """
    remaining = set(left)
    seen: set[str] = set()
    cycles: list[list[str]] = []
    for start in left:
        walk: list[str] = []
        position: dict[str, int] = {}
        here: str | None = start
        while here is not None and here not in seen and here not in position:
            position[here] = len(walk)
            walk.append(here)
            here = next((target for target in upstream[here] if target in remaining), None)
        if here is not None and here in position:
            cycles.append(walk[position[here] :])
        seen.update(walk)
    return cycles
