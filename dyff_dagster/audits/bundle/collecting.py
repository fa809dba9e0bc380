"""Which entities and which commits a bundle is made of."""

from __future__ import annotations

from dataclasses import dataclass

from dyff_dagster.audits.bundle.errors import BundleError
from dyff_dagster.catalog import Catalog
from dyff_dagster.schema.canonical import spec_digest
from dyff_dagster.schema.platform import DyffEntity
from dyff_dagster.store import Commit, Store


@dataclass(frozen=True)
class Content:
    """What a bundle is about.

    Attributes:
        entities: Every entity, the subject and all upstream of it, by id.
        commits: The commit of each that is computed.
    """

    entities: dict[str, DyffEntity]
    commits: dict[str, Commit]


def collect(entity_id: str, catalog: Catalog, store: Store) -> Content:
    """The subject with everything upstream, in the versions that it was made from.

    Raises:
        EntityNotFound: There is no such entity.
        BundleError: Something upstream was never computed, or says something else than when it was, or two
            entities were made from different versions of a third.
    """
    catalog.get(entity_id)
    names = _upstream(catalog, entity_id)
    entities = {name: catalog.get(name) for name in catalog.entities if name in names}
    commits: dict[str, Commit] = {}
    wanted: dict[str, tuple[str, Commit]] = {}
    # Who waits for others comes first, and says which version of them it was made from.
    for name in reversed(list(entities)):
        if name != entity_id and name not in wanted:
            continue  # only declared: nothing was made from a version of it
        entity = entities[name]
        commit = _commit(store, name, wanted.get(name))
        if commit is None:
            raise BundleError(
                f"{name} ({entity.kind}) was never materialized in {store.root}: materialize {entity_id} with all "
                "that is upstream of it first"
            )
        if commit.code_version != spec_digest(entity):
            raise BundleError(
                f"{name}: its manifest says something else than when it was computed: materialize {entity_id} with "
                "all that is upstream of it again"
            )
        if not store.intact(commit):
            raise BundleError(f"{name} has lost files of its version in {commit.path}: materialize it again")
        commits[name] = commit
        for upstream, version in commit.inputs["upstream"].items():
            other = wanted.setdefault(upstream, (version, commit))
            if other[0] != version:
                raise BundleError(
                    f"{name} and {other[1].entity_id} were made from different versions of {upstream}: "
                    f"materialize {entity_id} with all that is upstream of it again"
                )
    if gone := sorted(set(wanted) - set(entities)):
        raise BundleError(
            f"{wanted[gone[0]][1].entity_id} was made from {gone[0]}, which the catalog no longer has upstream of "
            f"{entity_id}: materialize {entity_id} with all that is upstream of it again"
        )
    return Content(entities, commits)


def _upstream(catalog: Catalog, entity_id: str) -> set[str]:
    found, stack = {entity_id}, [entity_id]
    while stack:
        for name in catalog.upstream(stack.pop()):
            if name not in found:
                found.add(name)
                stack.append(name)
    return found


def _commit(store: Store, name: str, wanted: tuple[str, Commit] | None) -> Commit | None:
    """The current commit, or the last of the wanted version that was there when it was read."""
    if wanted is None:
        return store.current(name)
    version, reader = wanted
    fitting = [commit for commit in store.commits(name) if commit.data_version == version]
    before = [commit for commit in fitting if commit.committed <= reader.committed]
    return (before or fitting)[-1] if fitting else None
