"""Sessions that outlive the step that starts them: an InferenceSession on one machine.

Each replica has a guard (see ``dyff_dagster.processes``) that ends it at the session's deadline, whoever else
is dead by then. What is running is written down in the session's directory: ``session.json`` here, and
``replica-I/guard.json`` by each guard. Neither holds a secret.
"""

from __future__ import annotations

import fcntl
import platform
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dyff_dagster
from dyff_dagster.processes import AttachedProcess, DetachedProcess, GuardError, terminate_all
from dyff_dagster.schema.canonical import service_digest, spec_digest
from dyff_dagster.schema.platform import InferenceServiceRunnerKind, InferenceServiceSpec, InferenceSession
from dyff_dagster.sessions.errors import SessionError
from dyff_dagster.sessions.hosted import endpoint_url, hosted_url, resolve_headers
from dyff_dagster.sessions.local import GRACE, Command, LocalReplica, start_replicas
from dyff_dagster.sessions.readiness import answers
from dyff_dagster.sessions.session import Session, command_of, runner_of
from dyff_dagster.sessions.state import (
    ReplicaState,
    SessionState,
    adopt_replica,
    moment,
    read_session,
    replica_directory,
    write_session,
)
from dyff_dagster.store import Progress, no_progress

ADOPTION_TIMEOUT = 10.0
"""Seconds in which a session that runs already must answer to be taken over."""


def start_session(
    entity: InferenceSession,
    *,
    cwd: Path,
    model_path: Path | None,
    directory: Path,
    default_lifetime: timedelta = timedelta(hours=24),
    startup_timeout: float = 120.0,
    grace: float = GRACE,
    fingerprint: str | None = None,
    progress: Progress = no_progress,
) -> SessionState:
    """Have a session run until its deadline, and return when all of its replicas answer.

    A session that runs already in this directory, of the same spec, with as many replicas and (where
    ``expires`` is given) the same deadline, is taken over; any other one there is ended first. Until all
    replicas are ready they hang on this process: if it dies, or one of them fails, nothing is left running.

    :param cwd: the directory of the service's manifest.
    :param directory: a local directory of this session's own; it is made if need be.
    :param default_lifetime: how long it lives from now on when the entity has no ``expires``.
    :param fingerprint: digest of all that decides what the service answers, its code and its model's bytes
        included; None: of its spec alone. A session that runs with another one is not taken over.
    :raises SessionError: when it has expired already, cannot be run here, fails or is not ready in time, or
        runs on another machine.
    """
    deadline = entity.expires or datetime.now(UTC) + default_lifetime
    if deadline <= datetime.now(UTC):
        raise SessionError(
            f"{entity.id}: the session expired at {moment(deadline)}; give it a later 'expires'",
            session_id=entity.id,
        )
    service = entity.inferenceService
    runner = runner_of(service, entity.id)
    directory = directory.absolute()
    directory.mkdir(parents=True, exist_ok=True)
    with _locked(directory, progress):
        state = read_session(directory)
        if state is not None:
            _refuse_elsewhere(state)
            if _is_still_right(state, entity, fingerprint):
                progress(f"session {entity.id} runs already", None, None)
                return state
        _end_all(directory, state)
        (directory / "session.json").unlink(missing_ok=True)
        wanted = SessionState(
            session_id=entity.id,
            service=service.name,
            spec_digest=spec_digest(entity),
            service_digest=fingerprint or service_digest(service),
            urls=[],
            replicas=[],
            started=datetime.now(UTC),
            deadline=deadline.astimezone(UTC),
            host=platform.node(),
            directory=directory,
        )
        if runner is None:
            state = replace(wanted, urls=[hosted_url(service, entity.id)])
            write_session(state)
            return state
        if runner.kind is InferenceServiceRunnerKind.MOCK:
            command = _mock_command(service, directory)
        else:
            command = command_of(
                service,
                session_id=entity.id,
                cwd=cwd,
                model_path=model_path,
                replicas=entity.replicas,
                accelerator=entity.accelerator,
            )
        running = start_replicas(
            command,
            session_id=entity.id,
            service=service.name,
            replicas=entity.replicas,
            directory=directory,
            startup_timeout=startup_timeout,
            grace=grace,
            deadline=deadline,
            releasable=True,
            progress=progress,
        )
        state = replace(
            wanted,
            urls=[endpoint_url(replica.base_url, service.interface.endpoint) for replica in running],
            replicas=[_replica_state(replica) for replica in running],
            started=datetime.now(UTC),
        )
        _let_go(running, state)
        return state


def attach_session(
    directory: Path,
    service: InferenceServiceSpec,
    *,
    headers: Mapping[str, str] | None = None,
    fingerprint: str | None = None,
) -> Session:
    """Use a session that runs already; it goes on running when the caller is done.

    :param service: what the caller wants answers of.
    :param headers: sent with every request; ``${VARIABLE}`` is resolved here.
    :param fingerprint: as :func:`start_session` was given.
    :raises SessionError: when it was not started, has ended, runs elsewhere, or runs another service.
    """
    directory = directory.absolute()
    state = read_session(directory)
    if state is None:
        raise SessionError(f"No session was started in {directory}; materialize the InferenceSession first")
    if state.service_digest != (fingerprint or service_digest(service)):
        raise SessionError(
            f"{state.session_id}: the session runs service '{state.service}' as it was when it "
            "started, and its spec, code or model has changed since; materialize the InferenceSession again",
            session_id=state.session_id,
        )
    _refuse_elsewhere(state)
    ending = state.ending()
    if ending is not None:
        where = f"; its log is {state.log}" if state.log is not None else ""
        raise SessionError(
            f"{state.session_id}: the session {ending}{where}; materialize the InferenceSession again",
            session_id=state.session_id,
            log=state.log,
        )
    replicas = [
        LocalReplica(
            state.session_id, state.service, index, known.port, process, replica_directory(directory, index)
        )
        for index, (known, process) in enumerate(zip(state.replicas, state.processes(), strict=True))
        if process is not None
    ]
    return Session(
        state.session_id, state.urls, directory, resolve_headers(headers or {}, state.session_id), replicas
    )


def end_session(directory: Path) -> bool:
    """End a session; whether there was one that ran. Returns when nothing of it is left.

    :raises SessionError: when it runs on another machine, or a process outlives SIGKILL.
    """
    directory = directory.absolute()
    if not directory.is_dir():
        return False
    with _locked(directory, no_progress):
        state = read_session(directory)
        if state is not None:
            _refuse_elsewhere(state)
        was_alive = state is not None and state.alive()
        return _end_all(directory, state) or was_alive


def _mock_command(service: InferenceServiceSpec, directory: Path) -> Command:
    specification = directory / "mock-service.json"
    content = InferenceServiceSpec.model_validate(
        service.model_dump(mode="json", by_alias=True, include=set(InferenceServiceSpec.model_fields))
    )
    specification.write_text(content.model_dump_json(by_alias=True), encoding="utf-8")
    package = Path(dyff_dagster.__file__).parents[1]
    return Command(
        [sys.executable, "-m", "dyff_dagster.sessions.mock_server", str(specification), "{port}"],
        directory,
        environment={"PYTHONPATH": str(package)},
    )


def _is_still_right(state: SessionState, entity: InferenceSession, fingerprint: str | None) -> bool:
    """Whether a session is the one that is wanted, and answers."""
    hosted = entity.inferenceService.runner is None
    if (
        state.spec_digest != spec_digest(entity)
        or state.service_digest != (fingerprint or service_digest(entity.inferenceService))
        or (not hosted and len(state.replicas) != entity.replicas)
        or (entity.expires is not None and entity.expires != state.deadline)
    ):
        return False
    end = time.monotonic() + ADOPTION_TIMEOUT
    waiting = [replica.port for replica in state.replicas]
    while state.alive():
        waiting = [port for port in waiting if not answers(port, 1.0)]
        if not waiting:
            return state.alive()
        if time.monotonic() >= end:
            return False
        time.sleep(0.1)
    return False


def _let_go(running: list[LocalReplica], state: SessionState) -> None:
    """Write the state, then release the replicas: in that order, so that none runs on unknown."""
    released: list[DetachedProcess] = []
    try:
        for replica in running:
            replica.check("before it was ready")
        write_session(state)
        for replica in running:
            if isinstance(replica.process, AttachedProcess):
                released.append(replica.process.release())
    except BaseException as error:
        terminate_all([*released, *(replica.process for replica in running)])
        if isinstance(error, GuardError):
            raise SessionError(
                f"{state.session_id}: a replica of service '{state.service}' ended as soon as it was ready; "
                f"its log is {running[0].log}",
                session_id=state.session_id,
                log=running[0].log,
            ) from error
        raise


def _end_all(directory: Path, state: SessionState | None) -> bool:
    """End whatever guards are found in a session's directory; whether there were any alive."""
    found = [process for path in directory.glob("replica-*") if (process := adopt_replica(path)) is not None]
    living = [process for process in found if process.poll() is None]
    try:
        # Also those that have ended: a killed guard may have left descendants of its command.
        terminate_all(found)
    except GuardError as error:
        raise SessionError(f"The session in {directory} could not be ended: {error}") from error
    if state is not None and state.ended is None and (living or not state.replicas):
        write_session(replace(state, ended=datetime.now(UTC)))
    return bool(living)


def _refuse_elsewhere(state: SessionState) -> None:
    # Neither its ports nor its processes can be reached from here; a second one would hide the first.
    if state.host != platform.node() and state.ended is None and datetime.now(UTC) < state.deadline:
        raise SessionError(
            f"{state.session_id}: the session was started on the machine '{state.host}' and lives until "
            f"{moment(state.deadline)}; use or end it there, or, if that machine is gone, remove "
            f"{state.directory / 'session.json'}",
            session_id=state.session_id,
        )


def _replica_state(replica: LocalReplica) -> ReplicaState:
    process = adopt_replica(replica.directory)
    identity = process.guard_identity if process is not None else ""
    return ReplicaState(replica.port, replica.process.pid, replica.process.guard_pid, identity)


@contextmanager
def _locked(directory: Path, progress: Progress) -> Generator[None, None, None]:
    """Only one process at a time starts or ends the session of a directory."""
    with (directory / "session.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("waiting for another run that starts or ends this session", None, None)
            fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_UN)
