"""The end of a session, told to Dagster: an InferenceSession's asset says Terminated from then on."""

from __future__ import annotations

from datetime import UTC, datetime

import dagster as dg

from dyff_dagster.orchestration.marks import Marks, key_of, report_terminated
from dyff_dagster.sessions import SessionError, read_session
from dyff_dagster.store import Store, local_path
from dyff_dagster.store.revisions import current_user

_KIND = "InferenceSession"


def note_termination(instance: dg.DagsterInstance, store: Store, session_id: str, ended: bool) -> bool:
    """Note that a session was terminated; whether it was noted now.

    Evaluations have sessions too, and say by themselves how they ended. Where nothing was ended now, a session that
    somebody had ended before and whose record was lost in a crash is noted all the same.

    Args:
        instance: Where.
        store: Where the session's state lies.
        session_id: The InferenceSession, or another entity.
        ended: Whether it was ended just now.
    """
    records = instance.get_asset_records([key_of(_KIND, session_id)])
    made = records[0].asset_entry.last_materialization if records else None
    if made is None or not (ended or _was_ended(store, session_id)):
        return False
    mark = Marks.read(instance).told.get(key_of(_KIND, session_id))
    if mark is not None and mark.when.timestamp() > made.timestamp:
        return False
    report_terminated(instance, session_id, current_user())
    return True


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
