"""The end of a session, told to Dagster: an InferenceSession's asset says Terminated from then on."""

from __future__ import annotations

from datetime import UTC, datetime

import dagster as dg

from dyff_dagster.orchestration.marks import Marks, key_of, report_terminated
from dyff_dagster.orchestration.resources import DyffSessions
from dyff_dagster.sessions import SessionError, read_session
from dyff_dagster.store import Store, local_path
from dyff_dagster.store.revisions import current_user

_KIND = "InferenceSession"


def note_termination(
    instance: dg.DagsterInstance, store: Store, sessions: DyffSessions, session_id: str, ended: bool
) -> bool:
    """Note that a session was terminated; whether it was noted now.

    Evaluations have sessions too, and say by themselves how they ended. Where nothing was ended now, a session that
    somebody had ended before and whose note was lost in a crash is noted all the same.

    Args:
        instance: Where.
        store: Where the session's state lies.
        sessions: Where sessions run.
        session_id: The InferenceSession, or another entity.
        ended: Whether it was ended just now.

    Raises:
        DyffError: The settings of the cluster cannot be read.
    """
    if not _is_unnoted(instance, session_id):
        return False
    if not (ended or _was_ended(store, session_id) or _is_gone(store, sessions, session_id)):
        return False
    report_terminated(instance, session_id, current_user())
    return True


def _is_unnoted(instance: dg.DagsterInstance, session_id: str) -> bool:
    """Whether it was started, and nothing was noted of it since."""
    key = key_of(_KIND, session_id)
    records = instance.get_asset_records([key])
    made = records[0].asset_entry.last_materialization if records else None
    if made is None:
        return False
    mark = Marks.read(instance).told.get(key)
    return mark is None or mark.when.timestamp() <= made.timestamp


def _was_ended(store: Store, session_id: str) -> bool:
    """Whether the state of a session of this machine says that somebody ended it before its deadline."""
    if not store.local:
        return False
    try:
        state = read_session(local_path(store.working(session_id)) / "session")
    except SessionError:
        return False
    return (
        state is not None and state.ended is not None and state.ended < min(state.deadline, datetime.now(UTC))
    )


def _is_gone(store: Store, sessions: DyffSessions, session_id: str) -> bool:
    """Whether it ran in the namespace that was just asked and had none, before it expired.

    The namespace of that name in another cluster cannot be told from it.
    """
    cluster = sessions.cluster(store)
    commit = store.current(session_id)
    if cluster is None or commit is None:
        return False
    expires = commit.facts.notes.get("expires")
    return commit.facts.notes.get("namespace") == cluster.api.namespace and (
        expires is None or datetime.fromisoformat(expires) > datetime.now(UTC)
    )
