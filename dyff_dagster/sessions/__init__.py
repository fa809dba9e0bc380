"""An InferenceService made to answer: as local processes, as a mock in this process, or where it is hosted."""

from __future__ import annotations

from dyff_dagster.sessions.building import BuildError, BuiltImage, build_fingerprint, build_image
from dyff_dagster.sessions.code import code_files
from dyff_dagster.sessions.errors import SessionError
from dyff_dagster.sessions.hosted import parse_headers, resolve_headers
from dyff_dagster.sessions.session import Replica, Session, open_session
from dyff_dagster.sessions.state import SessionState, read_session
from dyff_dagster.sessions.supervisor import attach_session, end_session, start_session

__all__ = [
    "BuildError",
    "BuiltImage",
    "Replica",
    "Session",
    "SessionError",
    "SessionState",
    "attach_session",
    "build_fingerprint",
    "build_image",
    "code_files",
    "end_session",
    "open_session",
    "parse_headers",
    "read_session",
    "resolve_headers",
    "start_session",
]
