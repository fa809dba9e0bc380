"""Which old versions current results were computed from, directly or through others."""

from __future__ import annotations

from collections.abc import Iterable

from dyff_dagster.store.commits import Commit
from dyff_dagster.store.store import Store

_SCOPE = "scope:"
"""Begins the names of versions that a result names without reading them: its page does, and it is recomputed so."""


def versions_behind(store: Store, results: Iterable[Commit]) -> dict[tuple[str, str], str]:
    """Every (entity, data version) that some results rest on, with one of the results that do.

    A version names what it was made from by data version. Where several commits have that one, all of them and what
    they were made from are in it.

    Args:
        store: Where the commits are.
        results: Those that must stay recomputable.

    Raises:
        StoreError: A commit on the way is damaged: what it rests on cannot be known.
    """
    found: dict[tuple[str, str], str] = {}
    known: dict[str, list[Commit]] = {}
    waiting = [(commit, commit.entity_id) for commit in results]
    while waiting:
        commit, result = waiting.pop()
        for entity_id, version in _made_from(commit):
            if (entity_id, version) in found:
                continue
            found[entity_id, version] = result
            if entity_id not in known:
                known[entity_id] = store.commits(entity_id)
            waiting += [(each, result) for each in known[entity_id] if each.data_version == version]
    return found


def _made_from(commit: Commit) -> list[tuple[str, str]]:
    named = list(commit.inputs.get("upstream", {}).items())
    for name, version in commit.inputs.get("extras", {}).items():
        if name.startswith(_SCOPE):
            named.append((name.removeprefix(_SCOPE), version))
    return named
