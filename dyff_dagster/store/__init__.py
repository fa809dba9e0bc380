"""Where artifacts live: one directory per entity on any filesystem, atomic commits, digests.

A :class:`Store` keeps every committed version of an entity's artifact for good. Work happens in a
:class:`Draft`, a local directory that nobody else sees; :meth:`Draft.commit` makes it a version and
moves the pointer, in that order, so that a reader finds the version before or the version after and
never half of one.
"""

from __future__ import annotations

from dyff_dagster.store.commits import Commit
from dyff_dagster.store.differences import Change, changes, unified_diff
from dyff_dagster.store.digests import FileDigest
from dyff_dagster.store.draft import Draft
from dyff_dagster.store.errors import CommitConflict, EntityBusy, StoreError, StoreUnreachable
from dyff_dagster.store.facts import Column, Completeness, Facts, Score, columns_of
from dyff_dagster.store.filesystem import local_path
from dyff_dagster.store.inputs import Inputs
from dyff_dagster.store.progress import Progress, no_progress
from dyff_dagster.store.replacing import LinkInTheWay, refuse_links, replacing
from dyff_dagster.store.revisions import RecordedRevision, Revisions
from dyff_dagster.store.store import Store

__all__ = [
    "Change",
    "Column",
    "Commit",
    "CommitConflict",
    "Completeness",
    "Draft",
    "EntityBusy",
    "Facts",
    "FileDigest",
    "Inputs",
    "LinkInTheWay",
    "Progress",
    "RecordedRevision",
    "Revisions",
    "Score",
    "Store",
    "StoreError",
    "StoreUnreachable",
    "changes",
    "columns_of",
    "local_path",
    "no_progress",
    "refuse_links",
    "replacing",
    "unified_diff",
]
