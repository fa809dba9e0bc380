"""Which versions results were computed from, directly or through others, and whether they are still there."""

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


class Provenance:
    """Whether what results rest on is still there, whole. Each version is looked at once, for all results."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen: dict[tuple[str, str], tuple[str, str] | None] = {}

    def lost(self, result: Commit) -> tuple[str, str] | None:
        """The first version (entity, data version) behind a result that is not there, or has not all of its files.

        Files are counted by their sizes; their bytes are not read again.

        Args:
            result: What rests on others.

        Raises:
            StoreError: A commit on the way is damaged: what it rests on cannot be known.
        """
        # What a result's scope names may be a service, which is only declared and has no version here.
        for version in sorted(result.inputs.get("upstream", {}).items()):
            if version not in self._seen:
                self._seen[version] = self._look(*version)
            gone = self._seen[version]
            if gone is not None:
                return gone
        return None

    def _look(self, entity_id: str, version: str) -> tuple[str, str] | None:
        same = [commit for commit in self._store.commits(entity_id) if commit.data_version == version]
        # The same content may have been computed twice, of different things: one way to it that is whole will do.
        whole = [commit for commit in reversed(same) if self._store.intact(commit)]
        if not whole:
            return entity_id, version
        gone = [self.lost(commit) for commit in whole]
        return None if None in gone else gone[0]


def _made_from(commit: Commit) -> list[tuple[str, str]]:
    named = list(commit.inputs.get("upstream", {}).items())
    for name, version in commit.inputs.get("extras", {}).items():
        if name.startswith(_SCOPE):
            named.append((name.removeprefix(_SCOPE), version))
    return named
