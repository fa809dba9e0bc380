"""What is written down of a session that outlives the step that started it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dyff_dagster.processes import DetachedProcess, GuardError, adopt
from dyff_dagster.sessions.errors import SessionError

FORMAT = 1


@dataclass(frozen=True)
class ReplicaState:
    """A replica of a session that outlives its starter; ``identity`` tells a guard from a later namesake."""

    port: int
    pid: int
    guard_pid: int
    guard_identity: str


@dataclass(frozen=True)
class SessionState:
    """What is known of a session, as ``session.json`` holds it.

    Attributes:
        session_id: The InferenceSession's id.
        service: The service's name.
        spec_digest: Of the session's spec; a session with another one is not taken over.
        service_digest: Of the service as it was started; an evaluation of another one must not use this session.
        urls: Where to POST requests to, one full URL per replica.
        replicas: What runs; empty for a hosted service.
        started: When it was ready.
        deadline: When it ends by itself.
        host: The machine that it runs on.
        directory: Where its files lie; not stored, a directory may be moved.
        ended: When it was ended by :func:`end_session` or replaced; None otherwise.
    """

    session_id: str
    service: str
    spec_digest: str
    service_digest: str
    urls: list[str]
    replicas: list[ReplicaState]
    started: datetime
    deadline: datetime
    host: str
    directory: Path
    ended: datetime | None = None

    @property
    def logs(self) -> list[Path]:
        """The log files of all replicas, whether or not they exist."""
        names = ("stdout.log", "stderr.log")
        return [
            replica_directory(self.directory, i) / name for i in range(len(self.replicas)) for name in names
        ]

    @property
    def log(self) -> Path | None:
        """The first log that holds something, else the first one; None for a hosted service."""
        written = [path for path in self.logs if path.exists() and path.stat().st_size > 0]
        return next(iter(written or self.logs), None)

    def processes(self) -> list[DetachedProcess | None]:
        """One process per replica, running or not; None for one whose trace is gone or another session's."""
        found: list[DetachedProcess | None] = []
        for index, replica in enumerate(self.replicas):
            process = adopt_replica(replica_directory(self.directory, index))
            found.append(
                process if process is not None and process.guard_identity == replica.guard_identity else None
            )
        return found

    def ending(self) -> str | None:
        """When and why the session ended, in words; None while all of it runs."""
        if self.ended is not None:
            return f"was ended at {moment(self.ended)}"
        for index, process in enumerate(self.processes()):
            if process is None:
                return f"has lost track of its replica {index}"
            if process.poll() is not None:
                recorded = process.ended()
                if recorded is None:
                    return f"ended because its replica {index} was killed"
                when, reason = recorded
                return f"ended at {moment(when)} (replica {index}: {reason})"
        if datetime.now(UTC) >= self.deadline:
            return f"ended at {moment(self.deadline)} (its deadline passed)"
        return None

    def alive(self) -> bool:
        """Whether all of it runs."""
        return self.ending() is None


def read_session(directory: Path) -> SessionState | None:
    """What was written down of the session in a directory, whether or not it still runs; None if nothing was.

    :raises SessionError: when ``session.json`` is there and is not a session's.
    """
    path = directory / "session.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("format") != FORMAT:
            raise ValueError("another format")
        content["replicas"] = [ReplicaState(**replica) for replica in content["replicas"]]
        for name in ("started", "deadline", "ended"):
            if content[name] is not None:
                content[name] = datetime.fromisoformat(content[name])
        return SessionState(**content, directory=directory)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise SessionError(
            f"{path} is not the state of a session as this version writes it; "
            "end what runs there and remove the file"
        ) from None


def write_session(state: SessionState) -> None:
    """Replace ``session.json`` as a whole."""
    content: dict[str, Any] = {"format": FORMAT, **asdict(state)}
    del content["directory"]
    for name in ("started", "deadline", "ended"):
        if content[name] is not None:
            content[name] = content[name].isoformat()
    path = state.directory / "session.json"
    temporary = path.with_name(f"session.json.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)


def moment(when: datetime) -> str:
    """A time as messages show it."""
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def replica_directory(directory: Path, index: int) -> Path:
    """Where the files of one replica lie."""
    return directory / f"replica-{index}"


def adopt_replica(replica_directory: Path) -> DetachedProcess | None:
    """The process of a replica as its guard wrote it down, running or not; None where there is none."""
    try:
        return adopt(replica_directory / "guard.json")
    except GuardError:
        return None
